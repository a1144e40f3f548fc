//! The table `inet multihome` of `nf_tables`, and the transaction that makes it, in the syntax of nft(8).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;

use super::rule::{LinkMatch, Match};
use super::set::{AddressSet, Element, End};
use super::{ChainName, Fingerprint, FoundChainRule, FoundChains, Table};
use crate::model::names::Family;

/// Name of our table, in the family `inet`.
pub const TABLE: &str = "multihome";

/// What the name of an uplink's chain of source NAT in IPv6 has before the uplink's.
const NAT6: &str = "nat6-";

/// Names of the chains that count.
pub(crate) const SENT: &str = "sent";
pub(crate) const REPLIES: &str = "replies";

/// Where the kernel calls a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Base {
    pub kind: Kind,
    pub hook: Hook,
    pub priority: i32,
}

/// Type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Filter,
    /// Packets of this host are routed again where the chain has changed their mark.
    Route,
    Nat,
}

impl Kind {
    /// As nft(8) and the kernel call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Route => "route",
            Self::Nat => "nat",
        }
    }
}

/// A hook of the kernel, with its number (`enum nf_inet_hooks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

impl Hook {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        }
    }
}

impl ChainName {
    /// Where the kernel calls it; `None`: only other chains of ours lead to it. Marks of others come before ours, at
    /// `mangle` (-150) or behind it (firewalld's: -140), and so does their source NAT, at `srcnat` (100).
    pub fn base(&self) -> Option<Base> {
        const BEFORE_DSTNAT: i32 = -101;
        const BEHIND_SRCNAT: i32 = 101;
        let (kind, hook, priority) = match self {
            Self::Prerouting | Self::Replies => (Kind::Filter, Hook::Prerouting, BEFORE_DSTNAT),
            Self::Input => (Kind::Filter, Hook::Input, BEFORE_DSTNAT),
            Self::Forward => (Kind::Filter, Hook::Forward, BEFORE_DSTNAT),
            Self::Output => (Kind::Route, Hook::Output, BEFORE_DSTNAT),
            Self::Postrouting | Self::Sent => (Kind::Filter, Hook::Postrouting, BEFORE_DSTNAT),
            Self::Masquerade => (Kind::Nat, Hook::Postrouting, BEHIND_SRCNAT),
            Self::Arrived | Self::Restore | Self::From(_) | Self::Nat6(_) => return None,
        };
        Some(Base { kind, hook, priority })
    }

    /// Its name in our table.
    pub fn nft(&self) -> String {
        match self {
            Self::Masquerade => "nat-postrouting".to_owned(),
            Self::Arrived => "arrived".to_owned(),
            Self::Restore => "restore".to_owned(),
            Self::From(link) => format!("from-{link}"),
            Self::Nat6(link) => format!("{NAT6}{link}"),
            Self::Sent => SENT.to_owned(),
            Self::Replies => REPLIES.to_owned(),
            base => base.base().map(|base| base.hook.name().to_owned()).unwrap_or_default(),
        }
    }
}

/// What a rule does with a packet that matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Statement {
    /// Return to where the chain was called.
    Return,
    /// Go on in another chain, and do not return here.
    Goto(ChainName),
    /// Set the bits of the mask in the packet's mark to this value.
    Mark { value: u32, mask: u32 },
    /// Set the bits of the mask in the connection mark to this value.
    MarkConnection { value: u32, mask: u32 },
    /// Give the packet the address of its outgoing interface.
    Masquerade,
    /// Count the packet, and go on.
    Count,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    pub conditions: Vec<Match>,
    pub statement: Statement,
    /// For people who list the rules, and for [`Fingerprint`]; may be empty.
    pub comment: String,
}

/// A chain of our table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Chain {
    pub name: ChainName,
    /// At least one.
    pub rules: Vec<Rule>,
}

/// The observed table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundTable {
    /// It exists, maybe without chains, and no process owns it.
    pub is_there: bool,
    /// The kernel does not call its chains (`NFT_TABLE_F_DORMANT`).
    pub is_dormant: bool,
    pub chains: FoundChains,
    /// The base chains.
    pub bases: BTreeMap<String, FoundBase>,
    /// Chains whose rules were not made by one transaction: somebody has moved one, or put another in its place.
    pub patched: BTreeSet<String>,
    /// What is in the sets of the prefixes of uplinks that have a chain of their own.
    pub prefixes: BTreeMap<String, Vec<Element>>,
}

/// Where the kernel calls a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBase {
    pub kind: String,
    pub hook: u32,
    pub priority: i32,
    /// Its policy accepts what no rule decides.
    pub accepts: bool,
}

impl FoundTable {
    /// The sets of prefixes that chains of uplinks name, and these chains.
    pub(crate) fn sets_of_prefixes(&self) -> Vec<(String, AddressSet)> {
        let mut sets = Vec::new();
        for chain in self.chains.keys() {
            if let Some(link) = chain.strip_prefix(NAT6).and_then(|link| link.parse().ok()) {
                sets.push((chain.clone(), AddressSet::prefixes(&link, 0)));
            }
        }
        sets
    }

    /// Whether it holds just these chains, with this fingerprint, and they are in force.
    pub(crate) fn is(&self, chains: &[Chain], fingerprint: Fingerprint) -> bool {
        let is_complete = chains.iter().all(|chain| self.has(chain, fingerprint) && self.is_based(&chain.name));
        !self.is_dormant && is_complete && self.chains.len() == chains.len()
    }

    fn has(&self, chain: &Chain, fingerprint: Fingerprint) -> bool {
        let name = chain.name.nft();
        let rules = self.chains.get(&name).map(Vec::as_slice).unwrap_or_default();
        let is_whole =
            rules.len() == chain.rules.len() && rules.first() == Some(&FoundChainRule::Fingerprint(fingerprint));
        is_whole && !self.patched.contains(&name) && self.bases.get(&name).is_none_or(|base| base.accepts)
    }

    /// Whether connections get the marks of their links.
    pub(crate) fn marks_connections(&self) -> bool {
        let rules = self.chains.get(&ChainName::Postrouting.nft());
        !self.is_dormant && rules.is_some_and(|rules| !rules.is_empty())
    }

    /// Whether the kernel calls the chain where it should.
    pub(crate) fn is_based(&self, name: &ChainName) -> bool {
        match (name.base(), self.bases.get(&name.nft())) {
            (None, None) => true,
            (Some(wanted), Some(found)) => {
                (found.kind.as_str(), found.hook, found.priority)
                    == (wanted.kind.name(), wanted.hook as u32, wanted.priority)
            }
            _ => false,
        }
    }
}

/// A command of nft(8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    AddTable,
    AddChain(ChainName),
    /// Empties a chain of our table.
    Flush(String),
    AddRule(ChainName, Rule),
    DeleteChain(String),
    DeleteTable,
    /// Makes a set, unless it is there.
    AddSet(AddressSet),
    /// Adds elements to a set, in the order of their addresses.
    AddElements {
        set: AddressSet,
        elements: Vec<Element>,
        /// Whether there is none in it yet.
        is_empty: bool,
    },
    DeleteElements(AddressSet, Vec<Element>),
    FlushSet(AddressSet),
    DeleteSet(AddressSet),
    /// Deletes a jump of iptables-nft's built-in chain.
    Unhook {
        table: Table,
        chain: String,
        handle: u64,
    },
    /// Empties a chain of ours in a table of iptables-nft.
    FlushOld(Table, String),
    DeleteOld(Table, String),
}

/// Commands that take effect at once, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction(pub Vec<Command>);

impl Transaction {
    /// Whether it makes our table.
    pub(crate) fn makes_table(&self) -> bool {
        self.0.contains(&Command::AddTable)
    }

    /// In a few words.
    pub(crate) fn headline(&self) -> String {
        let fills_sets = self.0.iter().any(|command| matches!(command, Command::AddElements { .. }));
        let what = match self.makes_table() {
            true => "table inet multihome",
            false if fills_sets => "the sets of uplinks' prefixes",
            false => "managed chains that are left over",
        };
        format!("{what} in nftables")
    }
}

impl fmt::Display for Transaction {
    /// As a command for a shell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nft -f - <<'END'\n")?;
        for command in &self.0 {
            writeln!(f, "{command}")?;
        }
        f.write_str("END")
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddTable => write!(f, "add table inet {TABLE}"),
            Self::AddChain(name) => {
                write!(f, "add chain inet {TABLE} {}", name.nft())?;
                let Some(Base { kind, hook, priority }) = name.base() else { return Ok(()) };
                let (kind, hook) = (kind.name(), hook.name());
                write!(f, " {{ type {kind} hook {hook} priority {priority}; policy accept; }}")
            }
            Self::Flush(chain) => write!(f, "flush chain inet {TABLE} {chain}"),
            Self::AddRule(chain, rule) => write!(f, "add rule inet {TABLE} {} {rule}", chain.nft()),
            Self::DeleteChain(chain) => write!(f, "delete chain inet {TABLE} {chain}"),
            Self::DeleteTable => write!(f, "delete table inet {TABLE}"),
            Self::AddSet(set) => {
                write!(f, "add set inet {TABLE} {} {{ type {}; flags interval,timeout; }}", set.name, set.kind())
            }
            Self::AddElements { set, elements, .. } => {
                write!(f, "add element inet {TABLE} {} {{ {} }}", set.name, listed(elements))
            }
            Self::DeleteElements(set, elements) => {
                write!(f, "delete element inet {TABLE} {} {{ {} }}", set.name, listed(elements))
            }
            Self::FlushSet(set) => write!(f, "flush set inet {TABLE} {}", set.name),
            Self::DeleteSet(set) => write!(f, "delete set inet {TABLE} {}", set.name),
            Self::Unhook { table, chain, handle } => {
                write!(f, "delete rule {} {} {chain} handle {handle}", table.nft_family(), table.name())
            }
            Self::FlushOld(table, chain) => {
                write!(f, "flush chain {} {} {chain}", table.nft_family(), table.name())
            }
            Self::DeleteOld(table, chain) => {
                write!(f, "delete chain {} {} {chain}", table.nft_family(), table.name())
            }
        }
    }
}

fn listed(elements: &[Element]) -> String {
    elements.iter().map(Element::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for condition in &self.conditions {
            write!(f, "{} ", Condition(condition))?;
        }
        self.statement.fmt(f)?;
        if self.comment.is_empty() { Ok(()) } else { write!(f, " comment \"{}\"", self.comment) }
    }
}

/// A condition in the syntax of nft(8).
struct Condition<'a>(&'a Match);

impl fmt::Display for Condition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Match::Family(family) => write!(f, "meta nfproto {}", family.word()),
            Match::From(LinkMatch::Group(group)) => write!(f, "iifgroup {group}"),
            Match::From(LinkMatch::Name(name)) => write!(f, "iifname \"{name}\""),
            Match::To(LinkMatch::Group(group)) => write!(f, "oifgroup {group}"),
            Match::To(LinkMatch::Name(name)) => write!(f, "oifname \"{name}\""),
            Match::Source(net) => write!(f, "{} saddr {}", header(Family::of(net.addr())), network(*net)),
            Match::Destination(net) => write!(f, "{} daddr {}", header(Family::of(net.addr())), network(*net)),
            Match::InSet(End::Source, set) => write!(f, "{} saddr @{}", header(set.family), set.name),
            Match::InSet(End::Destination, set) => write!(f, "{} daddr @{}", header(set.family), set.name),
            Match::Marked(value, mask) => write!(f, "ct mark & {mask:#x} == {value:#x}"),
            Match::NotMarked(value, mask) => write!(f, "ct mark & {mask:#x} != {value:#x}"),
            Match::Reply => f.write_str("ct direction reply"),
            Match::Original => f.write_str("ct direction original"),
            Match::Bears(bits) => write!(f, "meta mark & {bits:#x} == {bits:#x}"),
            Match::Forwarded => f.write_str("ct status dnat"),
            Match::NotForwarded => f.write_str("ct status ! dnat"),
            Match::IcmpError(Family::V4) => f.write_str("meta l4proto icmp ct state related"),
            Match::IcmpError(Family::V6) => f.write_str("meta l4proto ipv6-icmp ct state related"),
        }
    }
}

/// The header of a family's packets.
fn header(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// A network, without the length of a single address.
fn network(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Return => f.write_str("return"),
            Self::Goto(chain) => write!(f, "goto {}", chain.nft()),
            Self::Mark { value, mask } => write!(f, "meta mark set {}", Masked { of: "meta mark", value, mask }),
            Self::MarkConnection { value, mask } => write!(f, "ct mark set {}", Masked { of: "ct mark", value, mask }),
            Self::Masquerade => f.write_str("masquerade"),
            Self::Count => f.write_str("counter"),
        }
    }
}

/// A mark with new bits under a mask.
struct Masked<'a> {
    of: &'static str,
    value: &'a u32,
    mask: &'a u32,
}

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, value, mask } = *self;
        write!(f, "{of} & {:#x}", !mask)?;
        if *value == 0 { Ok(()) } else { write!(f, " | {value:#x}") }
    }
}
