//! Managed chains of the packet filter: desired and observed.
//!
//! The first rule of each chain bears a comment, its *fingerprint*, with a hash of all managed rules of the table. By
//! it a pass sees that another program has flushed or changed the rules, or restored them from an old file, and nothing
//! needs to be remembered.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

mod rule;

pub use rule::{ChainRule, LinkMatch, Match, Verdict};

/// Options of iptables-restore(8): keep other rules; wait up to 5 seconds for the lock of the legacy variant.
pub(crate) const RESTORE_OPTIONS: [&str; 3] = ["--noflush", "-w", "5"];

/// Prefix of all managed chains. In other chains only the jumps to these are changed.
pub(crate) const PREFIX: &str = "MULTIHOME";

/// A table of iptables(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Marks.
    Mangle,
    Nat,
}

impl Table {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Mangle, Self::Nat];

    /// As iptables(8) calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mangle => "mangle",
            Self::Nat => "nat",
        }
    }
}

/// A managed chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Chain {
    pub name: String,
    /// The built-in chain that jumps to it; `None`: only other managed chains do.
    pub hook: Option<&'static str>,
    /// The jump must be the last rule: the connection mark overrides marks that were set before.
    pub last: bool,
    /// At least one.
    pub rules: Vec<ChainRule>,
}

/// The desired managed chains of a table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ruleset {
    pub table: Table,
    /// Empty: the table should have no managed chain.
    pub chains: Vec<Chain>,
    /// Rules match interface names only, because the kernel or iptables lacks device groups.
    pub by_name: bool,
}

impl Ruleset {
    /// The comment of the first rule of each chain.
    pub fn fingerprint(&self) -> Fingerprint {
        // Stable within a build; another build loads the rules once more at its first event.
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        Fingerprint { hash: hasher.finish(), by_name: self.by_name }
    }
}

/// The hash of a table's managed rules, as the comment of each chain's first rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    hash: u64,
    by_name: bool,
}

impl Fingerprint {
    const GROUPS: &str = "multihome:";
    const NAMES: &str = "multihome, by name:";
    const DIGITS: usize = 16;

    /// Finds a fingerprint anywhere in `rule`, which is a line of iptables-save(8) or a netlink message.
    pub fn find(rule: &[u8]) -> Option<Self> {
        if let Some(hash) = Self::hash_after(Self::GROUPS, rule) {
            return Some(Self { hash, by_name: false });
        }
        Self::hash_after(Self::NAMES, rule).map(|hash| Self { hash, by_name: true })
    }

    /// The digits behind the first `label` in `rule`.
    fn hash_after(label: &str, rule: &[u8]) -> Option<u64> {
        let (label, first) = (label.as_bytes(), label.as_bytes().first()?);
        // The first byte by itself: comparing each place with the whole label was a fifth of an event.
        let at = rule.windows(label.len()).position(|w| w[0] == *first && w == label)? + label.len();
        let digits = std::str::from_utf8(rule.get(at..at + Self::DIGITS)?).ok()?;
        u64::from_str_radix(digits, 16).ok()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = if self.by_name { Self::NAMES } else { Self::GROUPS };
        write!(f, "{label}{:0width$x}", self.hash, width = Self::DIGITS)
    }
}

/// A rule as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundChainRule {
    /// A jump to a chain, without conditions.
    Jump(String),
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
    pub tables: BTreeMap<Table, FoundChains>,
    /// Managed chains in the variant that the machine's iptables does not use.
    pub leftover: Option<Leftover>,
    /// The packet filter could not be read without privileges; nothing is known.
    pub hidden: bool,
    /// Foreign rules may rewrite source addresses.
    pub foreign_nat: bool,
}

impl FoundFirewall {
    /// Whether a managed rule matches interface names because device groups are lacking.
    pub(crate) fn by_name(&self) -> bool {
        let mut rules = self.tables.values().flat_map(BTreeMap::values).flatten();
        rules.any(|rule| matches!(rule, FoundChainRule::Fingerprint(fingerprint) if fingerprint.by_name))
    }

    /// Whether connections get the marks of their links: the kernel's chains lead to ours.
    pub(crate) fn marks_connections(&self) -> bool {
        let mangle = self.tables.get(&Table::Mangle).into_iter().flatten();
        let mut rules = mangle.filter(|(chain, _)| !is_ours(chain)).flat_map(|(_, rules)| rules);
        rules.any(|rule| matches!(rule, FoundChainRule::Jump(to) if is_ours(to)))
    }

    /// Whether there is any managed chain.
    pub fn any(&self) -> bool {
        any(&self.tables)
    }
}

fn any(tables: &BTreeMap<Table, FoundChains>) -> bool {
    tables.values().flat_map(BTreeMap::keys).any(|name| is_ours(name))
}

/// A variant of iptables(8); a kernel can hold rules of both at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The one that the names `iptables-save` and `iptables-restore` lead to.
    Usual,
    /// `ip_tables`.
    Legacy,
    /// `nf_tables`.
    Nft,
}

impl Variant {
    /// Name of the program that loads rules.
    pub fn restore(self) -> &'static str {
        match self {
            Self::Usual => "iptables-restore",
            Self::Legacy => "iptables-legacy-restore",
            Self::Nft => "iptables-nft-restore",
        }
    }

    /// Name of the program that prints rules.
    pub fn save(self) -> &'static str {
        match self {
            Self::Usual => "iptables-save",
            Self::Legacy => "iptables-legacy-save",
            Self::Nft => "iptables-nft-save",
        }
    }
}

/// Managed chains in the variant that the machine's iptables does not use (any more). The kernel still obeys them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub variant: Variant,
    pub tables: BTreeMap<Table, FoundChains>,
}

impl Leftover {
    /// Whether there is any managed chain in it.
    pub fn any(&self) -> bool {
        any(&self.tables)
    }
}

/// Input of one run of `iptables-restore --noflush`, which applies all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub variant: Variant,
    pub table: Table,
    pub text: String,
    /// It matches device groups, which old kernels lack.
    pub by_group: bool,
}

impl fmt::Display for Batch {
    /// As a command for a shell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = RESTORE_OPTIONS.join(" ");
        write!(f, "{} {options} <<'END'\n{}END", self.variant.restore(), self.text)
    }
}

/// Whether the chain is managed.
pub fn is_ours(chain: &str) -> bool {
    chain.starts_with(PREFIX)
}
