//! Rules of the routing policy database, in the terms of ip-rule(8).

use std::fmt;
use std::sync::LazyLock;

use ipnet::IpNet;

use crate::model::names::{Family, IfName, TableId};

/// A rule. The derived order follows the kernel's only in the priorities.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Rules are tried in rising order.
    pub priority: u32,
    pub family: Family,
    pub selector: Selector,
    pub action: Action,
}

/// The selector of a rule. All given parts must match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Selector {
    pub from: Option<IpNet>,
    pub to: Option<IpNet>,
    /// Incoming interface.
    pub iif: Option<IfName>,
    /// Mark under its mask.
    pub fwmark: Option<FwMark>,
    pub uid: Option<UidRange>,
    pub proto: Option<u8>,
    pub sport: Option<PortRange>,
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
    pub start: u32,
    /// Last uid, not below `start`.
    pub end: u32,
}

/// A mark and the mask under which it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FwMark {
    /// In a managed rule, without bits outside of `mask`.
    pub value: u32,
    /// In a managed rule, not 0.
    pub mask: u32,
}

/// The action of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Look up the destination in a table; without a match, go on with the next rule.
    Lookup {
        table: TableId,
        /// Ignore routes of this prefix length or a shorter one.
        suppress_prefixlength: Option<u32>,
    },
    /// Refuse with "network unreachable".
    Unreachable,
    /// Go on with the first rule of this priority; without such a rule, with the next one.
    Goto(u32),
    /// Drop, with EINVAL to a socket. No managed rule has this action, or any below.
    Blackhole,
    /// Refuse with "administratively prohibited".
    Prohibit,
    /// Go on with the next rule.
    Nop,
    /// Any other, by its number in `linux/fib_rules.h`.
    Other(u8),
}

impl Action {
    /// The table that is looked up, if it is not main.
    pub fn table(self) -> Option<TableId> {
        match self {
            Self::Lookup { table, .. } => Some(table).filter(|table| *table != TableId::MAIN),
            _ => None,
        }
    }

    /// The priority that it leads on to.
    pub fn jump(self) -> Option<u32> {
        if let Self::Goto(priority) = self { Some(priority) } else { None }
    }
}

/// A rule as the kernel holds it (`struct fib_rule`, `struct fib4_rule`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRule {
    /// The part that managed rules can have, too.
    pub rule: Rule,
    /// Who made it: `FRA_PROTOCOL`.
    pub protocol: u8,
    /// Everything else; `None`: nothing.
    pub more: Option<Box<More>>,
}

/// Attributes that no managed rule has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct More {
    /// `not`: the rest of the selector is inverted.
    pub invert: bool,
    /// `iif`, if no interface can have the name.
    pub iif: Option<String>,
    /// `oif`: the interface that a socket is bound to.
    pub oif: Option<String>,
    /// Mask of the source port (Linux 6.15).
    pub sport_mask: Option<u16>,
    /// Mask of the destination port.
    pub dport_mask: Option<u16>,
    /// Mask of the code point.
    pub dscp_mask: Option<u8>,
    /// The older `tos`, of which the kernel compares three bits; 0: none.
    pub tos: u8,
    /// Tunnel id of an incoming packet.
    pub tun_id: Option<u64>,
    /// Only for devices in a VRF.
    pub l3mdev: bool,
    /// Ignore routes by devices of this group.
    pub suppress_ifgroup: Option<u32>,
    /// Attributes of a newer kernel, by number.
    pub unknown: Vec<u16>,
    /// Something that does not affect routing: a realm, a flag.
    pub harmless: bool,
}

impl FoundRule {
    /// Whether it has nothing but `rule`.
    pub fn is_complete(&self) -> bool {
        self.more.is_none()
    }

    /// What it has besides `rule`.
    pub fn more(&self) -> &More {
        static NOTHING: LazyLock<More> = LazyLock::new(More::default);
        self.more.as_deref().unwrap_or(&NOTHING)
    }

    /// Whether it decides about every packet of its family that reaches it: no rule after it is asked, except where its
    /// table has no route.
    pub(crate) fn decides_about_all(&self) -> bool {
        let decides = match self.rule.action {
            Action::Lookup { table, suppress_prefixlength } => {
                suppress_prefixlength.is_none() && ![TableId::LOCAL, TableId::DEFAULT].contains(&table)
            }
            // Another rule decides.
            Action::Goto(_) | Action::Nop => false,
            // A refusal, or an unknown action.
            _ => true,
        };
        decides && self.is_complete() && self.rule.selector == Selector::default()
    }

    /// Incoming interface; `lo` stands for this host's own packets.
    pub fn iif(&self) -> Option<&str> {
        self.rule.selector.iif.as_ref().map(IfName::as_str).or(self.more().iif.as_deref())
    }
}

impl fmt::Display for Rule {
    /// Without the family, an option of ip(8).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "priority {}{} ", self.priority, self.selector)?;
        match self.action {
            Action::Lookup { table, suppress_prefixlength: None } => write!(f, "lookup {table}"),
            Action::Lookup { table, suppress_prefixlength: Some(n) } => {
                write!(f, "lookup {table} suppress_prefixlength {n}")
            }
            Action::Unreachable => f.write_str("type unreachable"),
            Action::Goto(priority) => write!(f, "goto {priority}"),
            Action::Blackhole => f.write_str("type blackhole"),
            Action::Prohibit => f.write_str("type prohibit"),
            Action::Nop => f.write_str("nop"),
            Action::Other(number) => write!(f, "type {number}"),
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
