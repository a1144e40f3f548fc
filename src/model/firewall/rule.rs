//! Rules of managed chains, in the syntax of iptables(8).

use std::fmt;

use ipnet::IpNet;

use super::ChainName;
use super::set::{AddressSet, End};
use crate::model::names::{Family, IfName};

/// How a rule matches a link's packets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LinkMatch {
    /// Its interface's device group.
    Group(u32),
    /// Its interface's name.
    Name(IfName),
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Match {
    /// The packet came in by a link.
    From(LinkMatch),
    /// The packet leaves by a link.
    To(LinkMatch),
    /// It is of this family.
    Family(Family),
    /// Its source is in this network.
    Source(IpNet),
    /// Its destination is in this network.
    Destination(IpNet),
    /// The address at this end of it is in a set of nftables.
    InSet(End, AddressSet),
    /// Its connection's mark is this one under the mask.
    Marked(u32, u32),
    /// Its connection's mark is any but this one under the mask.
    NotMarked(u32, u32),
    /// It travels in the reply direction of its connection.
    Reply,
    /// Its connection is a port forward.
    Forwarded,
    /// Its connection is no port forward.
    NotForwarded,
    /// It is an error of ICMP, of its family, about a packet of its connection.
    IcmpError(Family),
    /// It travels in the original direction of its connection.
    Original,
    /// Its own mark has these bits.
    Bears(u32),
}

/// The target of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Return to the calling chain.
    Return,
    /// Go on in another managed chain, and do not return here.
    Goto(ChainName),
    /// Copy the connection mark to the packet, under the mask.
    Restore(u32),
    /// Set the connection mark to this value under the mask.
    MarkConnection(u32, u32),
    /// Clear the bits of the mask in the packet's mark.
    Unmark(u32),
    /// Give the packet the address of its outgoing interface.
    Masquerade,
    /// Count the packet, and go on.
    Count,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChainRule {
    pub matches: Vec<Match>,
    pub verdict: Verdict,
}

impl ChainRule {
    /// A rule with these conditions, all of which must match.
    pub fn new(matches: impl Into<Vec<Match>>, verdict: Verdict) -> Self {
        Self { matches: matches.into(), verdict }
    }

    /// The only family whose packets can match; `None`: either.
    pub(crate) fn family(&self) -> Option<Family> {
        self.matches.iter().find_map(|condition| match condition {
            Match::Family(family) | Match::IcmpError(family) => Some(*family),
            Match::Source(net) | Match::Destination(net) => Some(Family::of(net.addr())),
            Match::InSet(_, set) => Some(set.family),
            _ => None,
        })
    }

    /// The rule as iptables(8) gets it, whose packets are all of one family; `None`: none of these can match.
    pub(crate) fn of(&self, family: Family) -> Option<Self> {
        if self.family() == Some(family.other()) {
            return None;
        }
        let mut rule = self.clone();
        rule.matches.retain(|condition| *condition != Match::Family(family));
        Some(rule)
    }

    /// Whether it matches device groups.
    pub(crate) fn by_group(&self) -> bool {
        self.matches.iter().any(|m| matches!(m, Match::From(LinkMatch::Group(_)) | Match::To(LinkMatch::Group(_))))
    }
}

impl fmt::Display for ChainRule {
    /// The arguments of iptables-restore(8) after the name of the chain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for condition in &self.matches {
            write!(f, "{condition} ")?;
        }
        self.verdict.fmt(f)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(LinkMatch::Group(group)) => write!(f, "-m devgroup --src-group {group:#x}"),
            Self::From(LinkMatch::Name(name)) => write!(f, "-i {name}"),
            Self::To(LinkMatch::Group(group)) => write!(f, "-m devgroup --dst-group {group:#x}"),
            Self::To(LinkMatch::Name(name)) => write!(f, "-o {name}"),
            Self::Family(Family::V4) => f.write_str("--ipv4"),
            Self::Family(Family::V6) => f.write_str("--ipv6"),
            // In iptables(8) it would be a set of ipset(8).
            Self::InSet(End::Source, set) => write!(f, "-m set --match-set {} src", set.name),
            Self::InSet(End::Destination, set) => write!(f, "-m set --match-set {} dst", set.name),
            Self::Source(net) => write!(f, "-s {net}"),
            Self::Destination(net) => write!(f, "-d {net}"),
            Self::Marked(value, mask) => write!(f, "-m connmark --mark {value:#x}/{mask:#x}"),
            Self::NotMarked(value, mask) => write!(f, "-m connmark ! --mark {value:#x}/{mask:#x}"),
            Self::Reply => f.write_str("-m conntrack --ctdir REPLY"),
            Self::Original => f.write_str("-m conntrack --ctdir ORIGINAL"),
            Self::Bears(bits) => write!(f, "-m mark --mark {bits:#x}/{bits:#x}"),
            Self::Forwarded => f.write_str("-m conntrack --ctstate DNAT"),
            Self::NotForwarded => f.write_str("-m conntrack ! --ctstate DNAT"),
            Self::IcmpError(Family::V4) => f.write_str("-p icmp -m conntrack --ctstate RELATED"),
            Self::IcmpError(Family::V6) => f.write_str("-p ipv6-icmp -m conntrack --ctstate RELATED"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Return => f.write_str("-j RETURN"),
            Self::Goto(chain) => write!(f, "-g {}", chain.iptables()),
            Self::Restore(mask) => write!(f, "-j CONNMARK --restore-mark --nfmask {mask:#x} --ctmask {mask:#x}"),
            Self::MarkConnection(value, mask) => write!(f, "-j CONNMARK --set-xmark {value:#x}/{mask:#x}"),
            Self::Unmark(mask) => write!(f, "-j MARK --set-xmark 0x0/{mask:#x}"),
            Self::Masquerade => f.write_str("-j MASQUERADE"),
            // Every rule of iptables(8) counts.
            Self::Count => Ok(()),
        }
    }
}
