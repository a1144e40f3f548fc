//! Rules of the routing policy database, in the terms of ip-rule(8).

use std::fmt;

use ipnet::IpNet;

use crate::model::names::{Family, IfName, TableId};

/// A rule. Their order is that of the kernel as far as the priorities go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Rules are tried in rising order.
    pub priority: u32,
    /// The packets that it is for.
    pub family: Family,
    /// What it matches.
    pub selector: Selector,
    /// What it does.
    pub action: Action,
}

/// What a rule matches: everything that is given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Selector {
    /// Source prefix.
    pub from: Option<IpNet>,
    /// Destination prefix.
    pub to: Option<IpNet>,
    /// Interface by which the packet came in.
    pub iif: Option<IfName>,
    /// Mark under its mask.
    pub fwmark: Option<FwMark>,
    /// Owner of the socket.
    pub uid: Option<UidRange>,
    /// IP protocol.
    pub proto: Option<u8>,
    /// Source port.
    pub sport: Option<PortRange>,
    /// Destination port.
    pub dport: Option<PortRange>,
    /// Differentiated services code point.
    pub dscp: Option<u8>,
}

/// Inclusive range of ports; a single port has equal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// First port, not 0.
    pub start: u16,
    /// Last port, not below `start`, and not 65535: the kernel's rules refuse it.
    pub end: u16,
}

/// Inclusive range of user ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UidRange {
    /// First uid.
    pub start: u32,
    /// Last uid, not below `start`.
    pub end: u32,
}

/// A mark and the mask under which it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FwMark {
    /// The value; no bit outside of `mask`.
    pub value: u32,
    /// Not 0.
    pub mask: u32,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Look the destination up in a table; no match: the next rule.
    Lookup {
        /// The table.
        table: TableId,
        /// Ignore routes of this prefix length or a shorter one.
        suppress_prefixlength: Option<u32>,
    },
    /// Refuse with "network unreachable".
    Unreachable,
    /// Go on at the first rule of this priority; while there is none, at the next rule.
    Goto(u32),
}

impl Action {
    /// The table, other than main, that is looked up.
    pub fn table(self) -> Option<TableId> {
        match self {
            Self::Lookup { table, .. } => Some(table).filter(|table| *table != TableId::MAIN),
            Self::Unreachable | Self::Goto(_) => None,
        }
    }
}

/// A rule as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRule {
    /// What of it can be said in our words.
    pub rule: Rule,
    /// Who made it: `FRA_PROTOCOL`.
    pub protocol: u8,
    /// Whether `rule` is all of it.
    pub complete: bool,
}

impl fmt::Display for Rule {
    /// Without the family, which ip(8) takes as an option.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "priority {}{} ", self.priority, self.selector)?;
        match self.action {
            Action::Lookup { table, suppress_prefixlength: None } => write!(f, "lookup {table}"),
            Action::Lookup { table, suppress_prefixlength: Some(n) } => {
                write!(f, "lookup {table} suppress_prefixlength {n}")
            }
            Action::Unreachable => f.write_str("type unreachable"),
            Action::Goto(priority) => write!(f, "goto {priority}"),
        }
    }
}

impl fmt::Display for Selector {
    /// Each part with a space before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(from) = self.from {
            write!(f, " from {from}")?;
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if let Some(iif) = &self.iif {
            write!(f, " iif {}", iif.quoted())?;
        }
        if let Some(FwMark { value, mask }) = self.fwmark {
            write!(f, " fwmark {value:#x}/{mask:#x}")?;
        }
        if let Some(UidRange { start, end }) = self.uid {
            write!(f, " uidrange {start}-{end}")?;
        }
        if let Some(proto) = self.proto {
            write!(f, " ipproto {proto}")?;
        }
        if let Some(ports) = self.sport {
            write!(f, " sport {}-{}", ports.start, ports.end)?;
        }
        if let Some(ports) = self.dport {
            write!(f, " dport {}-{}", ports.start, ports.end)?;
        }
        if let Some(dscp) = self.dscp {
            write!(f, " dscp {dscp}")?;
        }
        Ok(())
    }
}
