//! Tables of iptables(8) and ip6tables(8), the variants of the two, and the input of their restore programs.

use std::collections::BTreeMap;
use std::fmt;

use super::{FoundChains, is_ours};
use crate::model::names::Family;

/// Options of iptables-restore(8): keep other rules; wait up to 5 seconds for the lock of the legacy variant.
pub(crate) const RESTORE_OPTIONS: [&str; 3] = ["--noflush", "-w", "5"];

/// What a table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableKind {
    /// Marks.
    Mangle,
    Nat,
}

/// A table of iptables(8) or, for IPv6, of ip6tables(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    pub family: Family,
    pub kind: TableKind,
}

impl Table {
    /// Those of both families.
    pub const ALL: [Self; 4] = [
        Self { family: Family::V4, kind: TableKind::Mangle },
        Self { family: Family::V4, kind: TableKind::Nat },
        Self { family: Family::V6, kind: TableKind::Mangle },
        Self { family: Family::V6, kind: TableKind::Nat },
    ];

    /// The tables of a family.
    pub(crate) fn of(family: Family) -> [Self; 2] {
        let [mangle4, nat4, mangle6, nat6] = Self::ALL;
        match family {
            Family::V4 => [mangle4, nat4],
            Family::V6 => [mangle6, nat6],
        }
    }

    /// As iptables(8) calls it.
    pub fn name(self) -> &'static str {
        match self.kind {
            TableKind::Mangle => "mangle",
            TableKind::Nat => "nat",
        }
    }

    /// The family of iptables-nft's table of that name, as nft(8) calls it.
    pub(crate) fn nft_family(self) -> &'static str {
        match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    pub(crate) fn is_nat_of_ipv4(self) -> bool {
        self.family == Family::V4 && self.kind == TableKind::Nat
    }
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
    /// For messages.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Usual => "iptables",
            Self::Legacy => "legacy iptables",
            Self::Nft => "iptables-nft",
        }
    }

    /// Name of the program that loads rules of a family.
    pub fn restore(self, family: Family) -> &'static str {
        match (family, self) {
            (Family::V4, Self::Usual) => "iptables-restore",
            (Family::V4, Self::Legacy) => "iptables-legacy-restore",
            (Family::V4, Self::Nft) => "iptables-nft-restore",
            (Family::V6, Self::Usual) => "ip6tables-restore",
            (Family::V6, Self::Legacy) => "ip6tables-legacy-restore",
            (Family::V6, Self::Nft) => "ip6tables-nft-restore",
        }
    }

    /// Name of the program that prints rules of a family.
    pub fn save(self, family: Family) -> &'static str {
        match (family, self) {
            (Family::V4, Self::Usual) => "iptables-save",
            (Family::V4, Self::Legacy) => "iptables-legacy-save",
            (Family::V4, Self::Nft) => "iptables-nft-save",
            (Family::V6, Self::Usual) => "ip6tables-save",
            (Family::V6, Self::Legacy) => "ip6tables-legacy-save",
            (Family::V6, Self::Nft) => "ip6tables-nft-save",
        }
    }
}

/// Managed chains in a variant of iptables that is not in use (any more). The kernel still obeys them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub variant: Variant,
    pub tables: BTreeMap<Table, FoundChains>,
}

impl Leftover {
    /// Whether there is any managed chain in it.
    pub fn any(&self) -> bool {
        self.tables.values().flat_map(BTreeMap::keys).any(|name| is_ours(name))
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

impl Batch {
    /// In a few words.
    pub(crate) fn headline(&self) -> String {
        let program = if self.table.family == Family::V4 { "iptables" } else { "ip6tables" };
        format!("managed chains in {program}' table {}", self.table.name())
    }
}

impl fmt::Display for Batch {
    /// As a command for a shell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = RESTORE_OPTIONS.join(" ");
        write!(f, "{} {options} <<'END'\n{}END", self.variant.restore(self.table.family), self.text)
    }
}
