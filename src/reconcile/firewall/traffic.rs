//! Counts what leaves by the uplinks that `mh-watch` judges in the original direction of its connection, and what answers
//! that: an uplink by which packets leave and no replies come may be dead. Our answers to others expect none. Pure. In
//! nftables only; of iptables' rules nobody could read the counters cheaply.

use super::matched::MatchedLink;
use crate::model::firewall::{Chain, ChainName, ChainRule, Match, Verdict};
use crate::model::names::Family;

/// The chains that count, one for each direction; none, if no uplink is judged.
pub(super) fn chains(links: &[MatchedLink<'_>], families: &[Family]) -> Vec<Chain> {
    let (mut sent, mut replies) = (Vec::new(), Vec::<ChainRule>::new());
    for link in links.iter().filter(|link| link.configured.check) {
        // IPv6 of a link that is not used for it is nobody's.
        for family in families.iter().filter(|family| link.configured.ipv6 || **family == Family::V4) {
            let of_family = Match::Family(*family);
            let to = Match::To(link.known_by.clone());
            sent.push(ChainRule::new([of_family.clone(), to, Match::Original], Verdict::Count));
            let from = Match::From(link.known_by.clone());
            replies.push(ChainRule::new([of_family, from, Match::Reply], Verdict::Count));
        }
    }
    let mut chains = Vec::new();
    if !replies.is_empty() {
        // conntrack counts a router's ICMP error as a reply, but it says that the router has no route.
        let errors = families.iter().map(|family| ChainRule::new([Match::IcmpError(*family)], Verdict::Return));
        replies.splice(..0, errors);
    }
    for (name, rules) in [(ChainName::Sent, sent), (ChainName::Replies, replies)] {
        if !rules.is_empty() {
            chains.push(Chain { name, last: false, rules });
        }
    }
    chains
}
