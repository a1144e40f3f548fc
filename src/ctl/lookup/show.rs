//! Rules and errors in words.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;

use super::{FibRule, Masked, Ports, Refusal, RuleAction};
use crate::kernel::netlink::constants::{IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP};
use crate::model::sh::quoted;

/// Names of tables.
pub type Names = BTreeMap<u32, String>;

/// The name of who made a rule or a route (rtnetlink.h).
pub fn protocol_name(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        2 => "kernel",
        3 => "boot",
        4 => "static",
        11 => "zebra",
        12 => "bird",
        16 => "dhcp",
        18 => "keepalived",
        42 => "babel",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        192 => "eigrp",
        196 => "openr",
        _ => return None,
    })
}

/// Who is known to make such a rule.
pub fn owner(rule: &FibRule) -> Option<&'static str> {
    const TAILSCALE: u32 = 52;
    match (rule.mark, rule.action) {
        (Some(Masked { mask: 0x00ff_0000, .. }), _) | (_, RuleAction::Lookup { table: TAILSCALE, .. }) => {
            Some("tailscale")
        }
        (Some(Masked { value: 51820, .. }), _) => Some("wg-quick"),
        (Some(Masked { value: 0x4000 | 0x8000, .. }), _) => Some("kube-proxy"),
        _ => protocol_name(rule.protocol).filter(|name| !["kernel", "boot", "static"].contains(name)),
    }
}

/// The kernel's error in words.
pub fn errno_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// A rule without its priority, as ip-rule(8) writes it.
pub fn rule_text(rule: &FibRule, names: &Names) -> String {
    let mut text = String::new();
    let mut add = |part: String| {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&part);
    };
    if rule.invert {
        add("not".to_owned());
    }
    match rule.from {
        Some(from) if from.prefix_len() == 32 => add(format!("from {}", from.addr())),
        Some(from) => add(format!("from {from}")),
        None => {}
    }
    match rule.to {
        Some(to) if to.prefix_len() == 32 => add(format!("to {}", to.addr())),
        Some(to) => add(format!("to {to}")),
        None => {}
    }
    if rule.tos != 0 {
        add(format!("tos {:#x}", rule.tos));
    }
    if let Some(Masked { value, mask }) = rule.mark {
        add(if mask == u32::MAX { format!("fwmark {value:#x}") } else { format!("fwmark {value:#x}/{mask:#x}") });
    }
    if let Some(name) = &rule.iif {
        add(format!("iif {}", quoted(name)));
    }
    if let Some(name) = &rule.oif {
        add(format!("oif {}", quoted(name)));
    }
    if rule.l3mdev {
        add("l3mdev".to_owned());
    }
    if let Some((start, end)) = rule.uid {
        add(format!("uidrange {start}-{end}"));
    }
    if let Some(proto) = rule.proto {
        add(format!("ipproto {}", proto_text(proto)));
    }
    for (word, ports) in [("sport", rule.sport), ("dport", rule.dport)] {
        match ports {
            Some(Ports::Range(start, end)) if start == end => add(format!("{word} {start}")),
            Some(Ports::Range(start, end)) => add(format!("{word} {start}-{end}")),
            Some(Ports::Masked(Masked { value, mask })) => add(format!("{word} {value}/{mask:#x}")),
            None => {}
        }
    }
    if let Some(Masked { value, mask }) = rule.dscp {
        add(if mask == 0x3f { format!("dscp {value}") } else { format!("dscp {value:#x}/{mask:#x}") });
    }
    if rule.tunnel {
        add("tun_id".to_owned());
    }
    for n in &rule.unknown {
        add(format!("attribute-{n}"));
    }
    if text == "not" {
        text.push_str(" from all");
    }
    if text.is_empty() { action_text(rule.action, names) } else { text + " " + &action_text(rule.action, names) }
}

/// The command of ip(8) that deletes a rule. Without a number of its own, which 0 is, the first that is alike goes.
pub fn rule_deletion(rule: &FibRule) -> String {
    let text = rule_text(rule, &Names::new());
    let protocol = if rule.protocol == 0 { String::new() } else { format!(" protocol {}", rule.protocol) };
    format!("ip rule del priority {} {text}{protocol}", rule.priority)
}

/// A protocol's usual name.
pub fn proto_text(proto: u8) -> String {
    match proto {
        IPPROTO_ICMP => "icmp".to_owned(),
        IPPROTO_TCP => "tcp".to_owned(),
        IPPROTO_UDP => "udp".to_owned(),
        n => n.to_string(),
    }
}

fn action_text(action: RuleAction, names: &Names) -> String {
    match action {
        RuleAction::Lookup { table, suppress_prefixlength, suppress_ifgroup } => {
            let name = names.get(&table).cloned().unwrap_or_else(|| table.to_string());
            let mut text = format!("lookup {name}");
            // Writing to a String cannot fail.
            if let Some(n) = suppress_prefixlength {
                let _ = write!(text, " suppress_prefixlength {n}");
            }
            if let Some(n) = suppress_ifgroup {
                let _ = write!(text, " suppress_ifgroup {n}");
            }
            text
        }
        RuleAction::Goto(target) => format!("goto {target}"),
        RuleAction::Nop => "nop".to_owned(),
        RuleAction::Refuse(Refusal::Blackhole) => "blackhole".to_owned(),
        RuleAction::Refuse(Refusal::Unreachable) => "unreachable".to_owned(),
        RuleAction::Refuse(Refusal::Prohibit) => "prohibit".to_owned(),
        RuleAction::Other(n) => format!("action-{n}"),
    }
}
