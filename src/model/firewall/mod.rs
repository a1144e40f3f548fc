//! Our chains in the packet filter, as they should be and as they were found.
//!
//! A chain says itself what it was made from: the first rule of each bears a comment, its *seal*,
//! with a hash of all our rules of the table. So nothing has to be remembered, and rules that
//! somebody else has flushed, changed or restored from an old file are seen.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

mod rule;

pub use rule::{LinkMatch, Match, Rule, Verdict};

/// Options of iptables-restore(8): add to what is there; wait this many seconds for other users of the legacy variant's
/// lock.
pub const RESTORE_OPTIONS: [&str; 3] = ["--noflush", "-w", "5"];

/// All our chains begin so; no other chain is ever touched, but for the jumps to ours.
pub const PREFIX: &str = "MULTIHOME";

/// A table of iptables(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Marks, before the packet is routed.
    Mangle,
    /// Addresses.
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
pub struct Chain {
    /// Its name.
    pub name: String,
    /// The kernel's chain that jumps to it; `None`: only other chains of ours do.
    pub hook: Option<&'static str>,
    /// Nothing may come after that jump: the pin of a connection has the last word.
    pub last: bool,
    /// Its rules. At least one.
    pub rules: Vec<Rule>,
}

/// What a table should hold of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ruleset {
    /// The table.
    pub table: Table,
    /// Its chains; none: nothing of ours.
    pub chains: Vec<Chain>,
    /// Links are told by interface names only, since the kernel or iptables lacks device groups.
    pub by_name: bool,
}

impl Ruleset {
    /// The comment of the first rule of each chain.
    pub fn seal(&self) -> Seal {
        // Stable within a build; another build loads the rules once more at its first event.
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        Seal { hash: hasher.finish(), by_name: self.by_name }
    }
}

/// What a seal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    hash: u64,
    by_name: bool,
}

impl Seal {
    const GROUPS: &str = "multihome:";
    const NAMES: &str = "multihome, by name:";
    const DIGITS: usize = 16;

    /// Looks for a seal anywhere in `rule`, whose form differs between the ways to look at it.
    pub fn find(rule: &[u8]) -> Option<Self> {
        let after = |mark: &str| {
            let (mark, first) = (mark.as_bytes(), mark.as_bytes().first()?);
            // The first byte by itself: comparing each place with the whole mark was a fifth of an event.
            let at = rule.windows(mark.len()).position(|w| w[0] == *first && w == mark)? + mark.len();
            let digits = std::str::from_utf8(rule.get(at..at + Self::DIGITS)?).ok()?;
            u64::from_str_radix(digits, 16).ok()
        };
        let seal = |by_name| move |hash| Self { hash, by_name };
        after(Self::GROUPS).map(seal(false)).or_else(|| after(Self::NAMES).map(seal(true)))
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.by_name { Self::NAMES } else { Self::GROUPS };
        write!(f, "{mark}{:0width$x}", self.hash, width = Self::DIGITS)
    }
}

/// A rule as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundRule {
    /// Nothing but a jump to a chain.
    Jump(String),
    /// Bears a seal of ours.
    Sealed(Seal),
    /// Any other.
    Other,
}

/// Rules by chain.
pub type FoundChains = BTreeMap<String, Vec<FoundRule>>;

/// What was found in the packet filter: our chains, and the kernel's own that may jump to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Chains by table.
    pub tables: BTreeMap<Table, FoundChains>,
    /// What there is of ours besides.
    pub leftover: Option<Leftover>,
    /// It could not be looked at for want of privileges, and nothing is known.
    pub hidden: bool,
    /// Somebody else's rules may rewrite the source of what leaves.
    pub foreign_nat: bool,
}

impl Found {
    /// Whether rules have to name interfaces, since device groups were found to be lacking.
    pub fn by_name(&self) -> bool {
        let sealed = |rule: &FoundRule| matches!(rule, FoundRule::Sealed(seal) if seal.by_name);
        self.tables.values().flat_map(BTreeMap::values).flatten().any(sealed)
    }

    /// Whether connections get the marks of their links: the kernel's chains lead to ours.
    pub fn marks_connections(&self) -> bool {
        let mangle = self.tables.get(&Table::Mangle).into_iter().flatten();
        let mut rules = mangle.filter(|(chain, _)| !is_ours(chain)).flat_map(|(_, rules)| rules);
        rules.any(|rule| matches!(rule, FoundRule::Jump(to) if is_ours(to)))
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
    /// Which.
    pub variant: Variant,
    /// Chains by table.
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
    /// The packet filter that it is for.
    pub variant: Variant,
    /// The table that it is for.
    pub table: Table,
    /// Its lines.
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
