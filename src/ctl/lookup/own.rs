//! Rules of ours in the kernel's full words.

use ipnet::{IpNet, Ipv4Net};

use super::{FibRule, Masked, Ports, Refusal, RuleAction};
use crate::model::names::Family;
use crate::model::routing::{Action, Rule};

impl FibRule {
    /// A rule that looks all packets up in a table.
    pub fn lookup(priority: u32, table: u32) -> Self {
        Self {
            priority,
            protocol: 0,
            invert: false,
            from: None,
            to: None,
            iif: None,
            oif: None,
            mark: None,
            uid: None,
            proto: None,
            sport: None,
            dport: None,
            dscp: None,
            tos: 0,
            tunnel: false,
            l3mdev: false,
            unknown: Vec::new(),
            action: RuleAction::Lookup { table, suppress_prefixlength: None, suppress_ifgroup: None },
        }
    }

    /// An IPv4 rule of ours as the kernel gives it back; nothing for one of IPv6.
    pub fn of(rule: &Rule, protocol: u8) -> Option<Self> {
        let s = &rule.selector;
        (rule.family == Family::V4).then(|| Self {
            protocol,
            from: s.from.and_then(ipv4),
            to: s.to.and_then(ipv4),
            iif: s.iif.as_ref().map(ToString::to_string),
            mark: s.fwmark.map(|m| Masked { value: m.value, mask: m.mask }),
            uid: s.uid.map(|u| (u.start, u.end)),
            proto: s.proto,
            sport: s.sport.map(|p| Ports::Range(p.start, p.end)),
            dport: s.dport.map(|p| Ports::Range(p.start, p.end)),
            dscp: s.dscp.map(|value| Masked { value, mask: 0x3f }),
            action: match rule.action {
                Action::Lookup { table, suppress_prefixlength } => {
                    RuleAction::Lookup { table: table.get(), suppress_prefixlength, suppress_ifgroup: None }
                }
                Action::Unreachable => RuleAction::Refuse(Refusal::Unreachable),
                Action::Goto(priority) => RuleAction::Goto(priority),
            },
            ..Self::lookup(rule.priority, 0)
        })
    }
}

fn ipv4(net: IpNet) -> Option<Ipv4Net> {
    if let IpNet::V4(net) = net { Some(net) } else { None }
}
