//! Managed chains of the packet filter: desired and observed.
//!
//! The first rule of each chain bears a comment, its *fingerprint*, with a hash of the chain's rules in iptables, and of
//! all managed rules in nftables. By it a pass sees that another program has flushed or changed the rules, or restored them
//! from an old file, and nothing needs to be remembered.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::model::names::{Family, LinkName};

mod iptables;
pub mod nft;
mod rule;
pub mod set;

pub(crate) use iptables::RESTORE_OPTIONS;
pub use iptables::{Batch, Leftover, Table, TableKind, Variant};
pub use rule::{ChainRule, LinkMatch, Match, Verdict};

/// Prefix of all managed chains. In other chains only the jumps to these are changed.
pub(crate) const PREFIX: &str = "MULTIHOME";

/// Which packet filter holds the managed rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Firewall {
    /// nftables where the kernel has it, otherwise iptables.
    #[default]
    Auto,
    Nftables,
    Iptables,
    /// There are none.
    None,
}

/// A managed chain, whatever the packet filter calls it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ChainName {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    /// Source NAT.
    Masquerade,
    /// Marks a connection by the link that its packet arrived by.
    Arrived,
    /// Restores the mark of a connection to its packet.
    Restore,
    /// Packets of marked connections that come in by this link.
    From(LinkName),
    /// Source NAT of IPv6 packets that leave by this uplink.
    Nat6(LinkName),
    /// Counts what leaves by uplinks; in nftables only.
    Sent,
    /// Counts what answers that, by the uplink that it comes in by; in nftables only.
    Replies,
}

impl ChainName {
    /// The built-in chain of iptables(8) that jumps to it; `None`: only other managed chains do.
    pub(crate) fn hook(&self) -> Option<&'static str> {
        match self {
            Self::Prerouting => Some("PREROUTING"),
            Self::Input => Some("INPUT"),
            Self::Forward => Some("FORWARD"),
            Self::Output => Some("OUTPUT"),
            Self::Postrouting | Self::Masquerade => Some("POSTROUTING"),
            Self::Arrived | Self::Restore | Self::From(_) | Self::Nat6(_) | Self::Sent | Self::Replies => None,
        }
    }

    /// Its name in iptables(8). Names of links have no capitals, as those of the other chains have.
    pub(crate) fn iptables(&self) -> String {
        match (self, self.hook()) {
            (_, Some(hook)) => format!("{PREFIX}-{hook}"),
            // They are in different tables.
            (Self::From(link) | Self::Nat6(link), _) => format!("{PREFIX}-{link}"),
            (Self::Arrived, _) => format!("{PREFIX}-ARRIVED"),
            (Self::Sent, _) => format!("{PREFIX}-SENT"),
            (Self::Replies, _) => format!("{PREFIX}-REPLIES"),
            _ => format!("{PREFIX}-RESTORE"),
        }
    }
}

/// A managed chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Chain {
    pub name: ChainName,
    /// The jump must be the last rule: the connection mark overrides marks that were set before.
    pub last: bool,
    /// None: what is in it stays as it is.
    pub rules: Vec<ChainRule>,
}

impl Chain {
    /// What of it the packets of one family go through; `None`: they do not.
    fn of(&self, family: Family) -> Option<Self> {
        let rules: Vec<_> = self.rules.iter().filter_map(|rule| rule.of(family)).collect();
        let is_of_other = family == Family::V4 && matches!(self.name, ChainName::Nat6(_));
        let is_empty = rules.is_empty() && !self.rules.is_empty();
        (!is_of_other && !is_empty).then(|| Self { name: self.name.clone(), rules, ..*self })
    }

    /// The comment of its first rule in iptables(8).
    pub(crate) fn fingerprint(&self, without: Lacking) -> Fingerprint {
        Fingerprint::of(self, without)
    }
}

/// The desired managed chains of a kind of table, for both families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub kind: TableKind,
    pub chains: Vec<Chain>,
}

impl Ruleset {
    /// The chains of the table of one family, as iptables(8) or ip6tables(8) gets them.
    pub(crate) fn of(&self, family: Family) -> Vec<Chain> {
        self.chains.iter().filter_map(|chain| chain.of(family)).collect()
    }
}

/// What the managed rules do without, because the kernel or iptables has refused it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Lacking {
    /// They match interface names only.
    pub device_groups: bool,
    /// They are iptables', although the configuration leaves the choice.
    pub nftables: bool,
}

impl Lacking {
    /// What either does without.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { device_groups: self.device_groups || other.device_groups, nftables: self.nftables || other.nftables }
    }
}

/// The hash of managed rules, in the comment of a chain's first rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    hash: u64,
    without: Lacking,
}

impl Fingerprint {
    const DIGITS: usize = 16;
    const LABELS: [(&str, Lacking); 4] = [
        ("multihome:", Lacking { device_groups: false, nftables: false }),
        ("multihome, by name:", Lacking { device_groups: true, nftables: false }),
        ("multihome, without nftables:", Lacking { device_groups: false, nftables: true }),
        ("multihome, without nftables, by name:", Lacking { device_groups: true, nftables: true }),
    ];

    /// The fingerprint of these rules.
    pub(crate) fn of(rules: &impl Hash, without: Lacking) -> Self {
        // Stable within a build; another build loads the rules once more at its first event.
        let mut hasher = DefaultHasher::new();
        rules.hash(&mut hasher);
        Self { hash: hasher.finish(), without }
    }

    /// Finds a fingerprint anywhere in `rule`, which is a line of iptables-save(8) or a netlink message.
    pub fn find(rule: &[u8]) -> Option<Self> {
        // The first byte by itself: comparing each place with the labels was a fifth of an event.
        let mut places = rule.iter().enumerate().filter(|(_, byte)| **byte == b'm').map(|(at, _)| &rule[at..]);
        places.find_map(Self::at_start)
    }

    fn at_start(text: &[u8]) -> Option<Self> {
        for (label, without) in Self::LABELS {
            let digits = text.strip_prefix(label.as_bytes()).and_then(|rest| rest.get(..Self::DIGITS));
            if let Some(hash) = digits.and_then(|d| u64::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok()) {
                return Some(Self { hash, without });
            }
        }
        None
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = Self::LABELS.iter().find(|(_, without)| *without == self.without).map_or("", |(label, _)| label);
        write!(f, "{label}{:0width$x}", self.hash, width = Self::DIGITS)
    }
}

/// A rule as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundChainRule {
    /// A jump to a chain, without conditions.
    Jump {
        to: String,
        /// The kernel's number of the rule in its table; only where it is read over netlink.
        handle: Option<u64>,
    },
    /// A rule with a fingerprint.
    Fingerprint(Fingerprint),
    /// Any other.
    Other,
}

/// Rules by chain.
pub(crate) type FoundChains = BTreeMap<String, Vec<FoundChainRule>>;

/// The observed packet filter: managed chains, and the built-in chains that may jump to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundFirewall {
    /// Our table of `nf_tables`; `None`: the kernel has no `nf_tables`.
    pub nft: Option<nft::FoundTable>,
    /// Of iptables and ip6tables.
    pub tables: BTreeMap<Table, FoundChains>,
    /// They were read over netlink, so that they are iptables-nft's, whatever the machine's iptables is.
    pub over_netlink: bool,
    /// Managed chains in variants of iptables that are not in use.
    pub leftovers: Vec<Leftover>,
    /// The packet filter could not be read without privileges; nothing is known.
    pub hidden: bool,
    /// Foreign rules may rewrite source addresses.
    pub foreign_nat: bool,
}

impl FoundFirewall {
    /// What the managed rules do without.
    pub(crate) fn without(&self) -> Lacking {
        let mut without = Lacking::default();
        for rule in self.of_any_iptables().flat_map(BTreeMap::values).flat_map(BTreeMap::values).flatten() {
            if let FoundChainRule::Fingerprint(fingerprint) = rule {
                without = without.or(fingerprint.without);
            }
        }
        without
    }

    /// Whether connections of a family get the marks of their links: the kernel's chains lead to ours, or are ours.
    pub(crate) fn marks_connections(&self, family: Family) -> bool {
        if self.nft.as_ref().is_some_and(nft::FoundTable::marks_connections) {
            return true;
        }
        let mangle = self.tables.get(&Table { family, kind: TableKind::Mangle }).into_iter().flatten();
        let mut rules = mangle.filter(|(chain, _)| !is_ours(chain)).flat_map(|(_, rules)| rules);
        rules.any(|rule| matches!(rule, FoundChainRule::Jump { to, .. } if is_ours(to)))
    }

    /// What holds managed chains besides what should.
    pub(crate) fn elsewhere(&self, wanted: Firewall) -> Vec<&'static str> {
        let mut places: Vec<_> = self.leftovers.iter().filter(|l| l.any()).map(|l| l.variant.what()).collect();
        // Of each family.
        places.dedup();
        let is_nft = self.uses_nftables(wanted, Lacking::default());
        if is_nft && self.any_of_iptables() {
            places.push(Variant::Nft.what());
        }
        if !is_nft && self.any_of_nftables() {
            places.push("nftables");
        }
        places
    }

    /// Whether nftables is to hold the managed chains, where not `firewall = "none"`.
    pub(crate) fn uses_nftables(&self, wanted: Firewall, refused: Lacking) -> bool {
        match wanted {
            Firewall::Auto => self.nft.is_some() && !refused.or(self.without()).nftables,
            Firewall::Nftables => true,
            Firewall::Iptables | Firewall::None => false,
        }
    }

    /// Whether a managed rule rewrites IPv4 source addresses.
    pub(crate) fn masquerades(&self) -> bool {
        let chains = self.nft.as_ref().map(|table| &table.chains);
        let nat =
            self.of_any_iptables().filter_map(|tables| tables.get(&Table { family: Family::V4, kind: TableKind::Nat }));
        let mut names = nat.flat_map(BTreeMap::keys);
        chains.is_some_and(|chains| chains.contains_key(&ChainName::Masquerade.nft()))
            || names.any(|name| is_ours(name))
    }

    /// The tables of each variant of iptables.
    fn of_any_iptables(&self) -> impl Iterator<Item = &BTreeMap<Table, FoundChains>> {
        self.leftovers.iter().map(|leftover| &leftover.tables).chain([&self.tables])
    }

    /// Whether our table has any chain.
    pub(crate) fn any_of_nftables(&self) -> bool {
        self.nft.as_ref().is_some_and(|table| !table.chains.is_empty())
    }

    /// Whether iptables has any managed chain.
    pub fn any_of_iptables(&self) -> bool {
        Family::BOTH.into_iter().any(|family| self.any_of(family))
    }

    /// Whether the iptables of a family has any.
    pub(crate) fn any_of(&self, family: Family) -> bool {
        let mut tables = self.tables.iter().filter(|(table, _)| table.family == family);
        tables.any(|(_, chains)| chains.keys().any(|name| is_ours(name)))
    }
}

/// Whether the chain is managed.
pub fn is_ours(chain: &str) -> bool {
    chain.starts_with(PREFIX)
}
