//! Our chains in the packet filter, as they should be and as they were found.
//!
//! A chain says itself what it was made from: the first rule of each bears a comment, its *fingerprint*,
//! with a hash of all our rules of the table. So nothing has to be remembered, and rules that
//! somebody else has flushed, changed or restored from an old file are seen.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

mod rule;

pub use rule::{ChainRule, LinkMatch, Match, Verdict};

/// Options of iptables-restore(8): add to what is there; wait this many seconds for other users of the legacy variant's
/// lock.
pub(crate) const RESTORE_OPTIONS: [&str; 3] = ["--noflush", "-w", "5"];

/// All our chains begin so; no other chain is ever touched, but for the jumps to ours.
pub(crate) const PREFIX: &str = "MULTIHOME";

/// A table of iptables(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Marks, before the packet is routed.
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

/// A chain of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Chain {
    pub name: String,
    /// The kernel's chain that jumps to it; `None`: only other chains of ours do.
    pub hook: Option<&'static str>,
    /// Nothing may come after that jump: the pin of a connection has the last word.
    pub last: bool,
    /// Its rules. At least one.
    pub rules: Vec<ChainRule>,
}

/// What a table should hold of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ruleset {
    pub table: Table,
    /// Its chains; none: nothing of ours.
    pub chains: Vec<Chain>,
    /// Links are told by interface names only, since the kernel or iptables lacks device groups.
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

/// What a fingerprint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    hash: u64,
    by_name: bool,
}

impl Fingerprint {
    const GROUPS: &str = "multihome:";
    const NAMES: &str = "multihome, by name:";
    const DIGITS: usize = 16;

    /// Looks for a fingerprint anywhere in `rule`, whose form differs between the ways to look at it.
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

/// A rule as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundChainRule {
    /// Nothing but a jump to a chain.
    Jump(String),
    /// Bears a fingerprint of ours.
    Fingerprint(Fingerprint),
    /// Any other.
    Other,
}

/// Rules by chain.
pub(crate) type FoundChains = BTreeMap<String, Vec<FoundChainRule>>;

/// What was found in the packet filter: our chains, and the kernel's own that may jump to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundFirewall {
    pub tables: BTreeMap<Table, FoundChains>,
    /// What there is of ours besides.
    pub leftover: Option<Leftover>,
    /// It could not be looked at for want of privileges, and nothing is known.
    pub hidden: bool,
    /// Somebody else's rules may rewrite the source of what leaves.
    pub foreign_nat: bool,
}

impl FoundFirewall {
    /// Whether rules have to name interfaces, since device groups were found to be lacking.
    pub(crate) fn by_name(&self) -> bool {
        let sealed =
            |rule: &FoundChainRule| matches!(rule, FoundChainRule::Fingerprint(fingerprint) if fingerprint.by_name);
        self.tables.values().flat_map(BTreeMap::values).flatten().any(sealed)
    }

    /// Whether connections get the marks of their links: the kernel's chains lead to ours.
    pub fn marks_connections(&self) -> bool {
        let mangle = self.tables.get(&Table::Mangle).into_iter().flatten();
        let mut rules = mangle.filter(|(chain, _)| !is_ours(chain)).flat_map(|(_, rules)| rules);
        rules.any(|rule| matches!(rule, FoundChainRule::Jump(to) if is_ours(to)))
    }

    /// Whether any chain of ours is there.
    pub fn any(&self) -> bool {
        any(&self.tables)
    }
}

fn any(tables: &BTreeMap<Table, FoundChains>) -> bool {
    tables.values().flat_map(BTreeMap::keys).any(|name| is_ours(name))
}

/// Which of the packet filters that a kernel can have at once, and so which programs of iptables(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The one that `iptables-save` and `iptables-restore` are about.
    Usual,
    /// That of `ip_tables`.
    Legacy,
    /// That of `nf_tables`.
    Nft,
}

impl Variant {
    /// The program that loads rules.
    pub fn restore(self) -> &'static str {
        match self {
            Self::Usual => "iptables-restore",
            Self::Legacy => "iptables-legacy-restore",
            Self::Nft => "iptables-nft-restore",
        }
    }

    /// The program that shows them.
    pub fn save(self) -> &'static str {
        match self {
            Self::Usual => "iptables-save",
            Self::Legacy => "iptables-legacy-save",
            Self::Nft => "iptables-nft-save",
        }
    }
}

/// Chains of ours in the packet filter that the machine's iptables is not about (any more): they are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub variant: Variant,
    pub tables: BTreeMap<Table, FoundChains>,
}

impl Leftover {
    /// Whether there is any chain.
    pub fn any(&self) -> bool {
        any(&self.tables)
    }
}

/// Input of one run of `iptables-restore --noflush`, which makes all of it or nothing.
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

/// Whether the chain is one of ours.
pub fn is_ours(chain: &str) -> bool {
    chain.starts_with(PREFIX)
}
