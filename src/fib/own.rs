//! Rules of ours in the kernel's full words.

use super::{FibRule, Masked, Ports, Refusal, RuleAction};
use crate::state::{Action, Rule};

impl FibRule {
    /// A rule of ours as the kernel gives it back.
    pub fn of(rule: &Rule, protocol: u8) -> Self {
        let s = &rule.selector;
        Self {
            priority: rule.priority,
            protocol,
            invert: false,
            from: s.from,
            to: s.to,
            iif: s.iif.as_ref().map(ToString::to_string),
            oif: None,
            mark: s.fwmark.map(|m| Masked { value: m.value, mask: m.mask }),
            uid: s.uid.map(|u| (u.start, u.end)),
            proto: s.proto,
            sport: s.sport.map(|p| Ports::Range(p.start, p.end)),
            dport: s.dport.map(|p| Ports::Range(p.start, p.end)),
            dscp: s.dscp.map(|value| Masked { value, mask: 0x3f }),
            tos: 0,
            tunnel: false,
            l3mdev: false,
            unknown: Vec::new(),
            action: match rule.action {
                Action::Lookup { table, suppress_prefixlength } => {
                    RuleAction::Lookup { table: table.get(), suppress_prefixlength, suppress_ifgroup: None }
                }
                Action::Unreachable => RuleAction::Refuse(Refusal::Unreachable),
            },
        }
    }
}
