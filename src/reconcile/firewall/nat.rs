//! Source NAT: which packets that leave by a link get its address. Pure.
//!
//! `masquerade` of an uplink is about IPv4, that of a tunnel about both families. `nat6` of an uplink is about IPv6: what
//! has a source of none of its prefixes cannot be answered. These have a chain of their own, which is made when the uplink
//! has IPv6 prefixes for the first time, and stays: what uses an uplink before that, by routes of others, is not ours to
//! translate. In nftables they are in a named set, so that a new prefix leaves the rules as they are. iptables has no sets:
//! there is a rule for each, and while the uplink is down the chain stays as it is.

use ipnet::{IpNet, Ipv6Net};

use super::matched::MatchedLink;
use super::sticky::{LINK_LOCAL, MULTICAST};
use crate::config::{Config, Link, Nat6};
use crate::model::firewall::nft::{Command, FoundTable, Transaction};
use crate::model::firewall::set::{AddressSet, Element, End};
use crate::model::firewall::{Chain, ChainName, ChainRule, FoundFirewall, Match, Table, TableKind, Verdict};
use crate::model::names::Family;
use crate::reconcile::link_state::{Live, LiveLink};

/// The chains of source NAT; none, if nothing is translated.
pub(super) fn chains(
    config: &Config,
    links: &[MatchedLink<'_>],
    live: &Live<'_>,
    found: &FoundFirewall,
    is_nft: bool,
) -> Vec<Chain> {
    let (mut v4, mut v6, mut of_uplinks) = (Vec::new(), Vec::new(), Vec::new());
    for link in links {
        let configured = link.configured;
        let to = Match::To(link.known_by.clone());
        if configured.masquerade {
            v4.push(ChainRule::new([Match::Family(Family::V4), to.clone()], Verdict::Masquerade));
        }
        if has_chain(configured, live, found, is_nft) {
            v6.push(ChainRule::new([Match::Family(Family::V6), to], Verdict::Goto(chain_of(configured))));
            let rules = if is_nft {
                let id = first_id(config) + count(&of_uplinks);
                but_from(vec![Match::InSet(End::Source, AddressSet::prefixes(&configured.name, id))])
            } else if let Some(live) = translating(configured, live) {
                but_from(prefixes(live).into_iter().map(|net| Match::Source(IpNet::V6(net))).collect())
            } else {
                Vec::new()
            };
            of_uplinks.push(Chain { name: chain_of(configured), last: false, rules });
        } else if translates_all(configured) {
            v6.push(ChainRule::new([Match::Family(Family::V6), to], Verdict::Masquerade));
        }
    }
    if !v6.is_empty() {
        let never = [
            Match::Destination(IpNet::V6(MULTICAST)),
            Match::Destination(IpNet::V6(LINK_LOCAL)),
            Match::Source(IpNet::V6(LINK_LOCAL)),
        ];
        v4.extend(never.map(|condition| ChainRule::new([condition], Verdict::Return)));
    }
    let rules = [v4, v6].concat();
    if rules.is_empty() {
        return Vec::new();
    }
    // The position of the jump does not matter: rules of the administrator that come before it match first.
    let base = Chain { name: ChainName::Masquerade, last: false, rules };
    [base].into_iter().chain(of_uplinks).collect()
}

/// Rules that translate what matches none of `own`.
fn but_from(own: Vec<Match>) -> Vec<ChainRule> {
    let mut rules: Vec<_> = own.into_iter().map(|own| ChainRule::new([own], Verdict::Return)).collect();
    rules.push(ChainRule::new([], Verdict::Masquerade));
    rules
}

/// Whether all IPv6 packets that leave by the link get its address.
fn translates_all(link: &Link) -> bool {
    link.ipv6 && if link.is_uplink() { link.nat6 == Nat6::All } else { link.masquerade }
}

fn chain_of(link: &Link) -> ChainName {
    ChainName::Nat6(link.name.clone())
}

/// The number of the first set of prefixes, behind those of policies: nft(8) counts the sets that it makes.
fn first_id(config: &Config) -> u32 {
    1 + count(&super::sets::all(config))
}

/// How many there are: at most twice as many sets as policies name, and as many uplinks as there are marks.
fn count<T>(all: &[T]) -> u32 {
    u32::try_from(all.len()).unwrap_or(u32::MAX)
}

/// Whether the uplink's prefixes decide what is translated.
fn is_by_prefixes(link: &Link) -> bool {
    link.ipv6 && link.is_uplink() && link.nat6 == Nat6::Foreign
}

/// The uplink with prefixes, by which foreign sources leave translated.
fn translating<'a>(link: &Link, live: &'a Live<'_>) -> Option<&'a LiveLink<'a>> {
    let mut live = live.v6.iter().filter(|l| l.link.name == link.name && !l.prefixes.is_empty());
    live.next().filter(|_| is_by_prefixes(link))
}

/// Whether the uplink has a chain of its own, or is to get it.
fn has_chain(link: &Link, live: &Live<'_>, found: &FoundFirewall, is_nft: bool) -> bool {
    let chain = chain_of(link);
    let is_there = if is_nft {
        found.nft.as_ref().is_some_and(|table| table.chains.contains_key(&chain.nft()))
    } else {
        let table = found.tables.get(&Table { family: Family::V6, kind: TableKind::Nat });
        table.is_some_and(|chains| chains.contains_key(&chain.iptables()))
    };
    is_by_prefixes(link) && is_there || translating(link, live).is_some()
}

/// An uplink's prefixes. They are to be the same however they are written.
fn prefixes(live: &LiveLink<'_>) -> Vec<Ipv6Net> {
    let mut nets = Vec::new();
    for net in &live.prefixes {
        if let IpNet::V6(net) = net {
            nets.push(*net);
        }
    }
    let mut aggregated = Ipv6Net::aggregate(&nets);
    aggregated.sort();
    aggregated
}

/// What the set of an uplink's prefixes holds.
fn elements(live: &LiveLink<'_>) -> Vec<Element> {
    prefixes(live).into_iter().map(|net| Element::new(IpNet::V6(net), None)).collect()
}

/// The commands that make the sets which the chains name. Sets of uplinks whose chain is new are new as well, and filled.
pub(super) fn made(config: &Config, live: &Live<'_>, table: &FoundTable, wanted: &[ChainName]) -> Vec<Command> {
    let mut commands = Vec::new();
    let uplinks = config.uplinks().filter(|link| wanted.contains(&chain_of(link)));
    for (id, link) in (first_id(config)..).zip(uplinks) {
        let set = AddressSet::prefixes(&link.name, id);
        commands.push(Command::AddSet(set.clone()));
        if !table.chains.contains_key(&chain_of(link).nft())
            && let Some(live) = translating(link, live)
        {
            commands.extend(filled(&set, &elements(live)));
        }
    }
    commands
}

/// The commands that fill an empty set. The kernel takes no longer list in one request than 64 KiB of it.
fn filled(set: &AddressSet, elements: &[Element]) -> Vec<Command> {
    const MOST: usize = 500;
    let mut commands = Vec::new();
    for (index, part) in elements.chunks(MOST).enumerate() {
        commands.push(Command::AddElements { set: set.clone(), elements: part.to_vec(), is_empty: index == 0 });
    }
    commands
}

/// The commands that delete the sets whose chains go, after these: a chain that comes again fills its set.
pub(super) fn deleted(table: &FoundTable, unwanted: &[String]) -> Vec<Command> {
    let sets = table.sets_of_prefixes().into_iter().filter(|(chain, _)| unwanted.contains(chain));
    sets.map(|(_, set)| Command::DeleteSet(set)).collect()
}

/// The transaction that fills the sets of live uplinks whose prefixes have changed; the others' stay as they are.
pub(super) fn refilled(config: &Config, live: &Live<'_>, table: &FoundTable) -> Option<Transaction> {
    let (mut commands, mut id) = (Vec::new(), 1);
    for link in config.uplinks().filter(|link| table.chains.contains_key(&chain_of(link).nft())) {
        let Some(live) = translating(link, live) else { continue };
        let (set, elements) = (AddressSet::prefixes(&link.name, id), elements(live));
        match table.prefixes.get(&set.name) {
            Some(found) if are_same(found, &elements) => continue,
            Some(_) => commands.push(Command::FlushSet(set.clone())),
            None => commands.push(Command::AddSet(set.clone())),
        }
        commands.extend(filled(&set, &elements));
        id += 1;
    }
    (!commands.is_empty()).then_some(Transaction(commands))
}

/// Whether they are the same addresses.
fn are_same(found: &[Element], wanted: &[Element]) -> bool {
    found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| found.is_of(wanted))
}

/// The chains that translate what leaves by live links in a family.
pub(super) fn own_chains(live: &Live<'_>, family: Family) -> Vec<ChainName> {
    live.of(family).iter().filter_map(|l| own_chain(l, live)).collect()
}

/// The chain that translates what leaves by the link in its family, if any does.
fn own_chain(l: &LiveLink<'_>, live: &Live<'_>) -> Option<ChainName> {
    match l.family {
        Family::V4 => l.link.masquerade.then_some(ChainName::Masquerade),
        Family::V6 if translates_all(l.link) => Some(ChainName::Masquerade),
        Family::V6 => translating(l.link, live).map(|l| chain_of(l.link)),
    }
}
