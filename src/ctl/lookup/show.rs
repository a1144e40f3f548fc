//! Rules and errors in words.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;

use crate::kernel;
use crate::kernel::netlink::constants::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP};
use crate::model::names::TableId;
use crate::model::routing::{Action, FoundRule, FwMark, PortRange, Rule};
use crate::model::sh::quoted;

/// Names of tables.
pub type Names = BTreeMap<TableId, String>;

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
pub fn owner(found: &FoundRule) -> Option<&'static str> {
    const TAILSCALE: u32 = 52;
    match (found.rule.selector.fwmark, found.rule.action.table().map(TableId::get)) {
        (Some(FwMark { mask: 0x00ff_0000, .. }), _) | (_, Some(TAILSCALE)) if has_tailscale() => Some("tailscale"),
        (Some(FwMark { value: 51820, .. }), _) => Some("wg-quick"),
        (Some(FwMark { value: 0x4000 | 0x8000, .. }), _) => Some("kube-proxy"),
        _ => protocol_name(found.protocol).filter(|name| !["kernel", "boot", "static"].contains(name)),
    }
}

/// Whether tailscale is on this machine: its numbers are not its own.
fn has_tailscale() -> bool {
    let programs = ["/usr/sbin/tailscaled", "/usr/bin/tailscale", "/usr/local/bin/tailscale"];
    programs.iter().any(|program| Path::new(program).exists()) || tailscale_interface().is_some()
}

fn tailscale_interface() -> Option<u32> {
    kernel::index(&"tailscale0".parse().ok()?).ok()?
}

/// The kernel's error in words.
pub fn errno_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// A rule without its priority, as ip-rule(8) writes it.
pub fn rule_text(found: &FoundRule, names: &Names) -> String {
    let (Rule { selector, action, .. }, more) = (&found.rule, found.more());
    let mut parts = Vec::new();
    if more.invert {
        parts.push("not".to_owned());
    }
    for (word, net) in [("from", selector.from), ("to", selector.to)] {
        match net {
            Some(net) if net.prefix_len() == net.max_prefix_len() => parts.push(format!("{word} {}", net.addr())),
            Some(net) => parts.push(format!("{word} {net}")),
            None => {}
        }
    }
    if more.tos != 0 {
        parts.push(format!("tos {:#x}", more.tos));
    }
    match selector.fwmark {
        Some(FwMark { value, mask: u32::MAX }) => parts.push(format!("fwmark {value:#x}")),
        Some(FwMark { value, mask }) => parts.push(format!("fwmark {value:#x}/{mask:#x}")),
        None => {}
    }
    parts.extend(found.iif().map(|name| format!("iif {}", quoted(name))));
    parts.extend(more.oif.as_ref().map(|name| format!("oif {}", quoted(name))));
    if more.l3mdev {
        parts.push("l3mdev".to_owned());
    }
    parts.extend(selector.uid.map(|uid| format!("uidrange {}-{}", uid.start, uid.end)));
    parts.extend(selector.proto.map(|proto| format!("ipproto {}", proto_text(proto))));
    parts.extend(selector.sport.map(|ports| format!("sport {}", ports_text(ports, more.sport_mask))));
    parts.extend(selector.dport.map(|ports| format!("dport {}", ports_text(ports, more.dport_mask))));
    match (selector.dscp, more.dscp_mask) {
        (Some(dscp), None) => parts.push(format!("dscp {dscp}")),
        (Some(dscp), Some(mask)) => parts.push(format!("dscp {dscp:#x}/{mask:#x}")),
        (None, _) => {}
    }
    if more.tun_id.is_some() {
        parts.push("tun_id".to_owned());
    }
    parts.extend(more.unknown.iter().map(|n| format!("attribute-{n}")));
    if parts == ["not"] {
        parts.push("from all".to_owned());
    }
    parts.push(action_text(*action, more.suppress_ifgroup, names));
    parts.join(" ")
}

fn ports_text(PortRange { start, end }: PortRange, mask: Option<u16>) -> String {
    match mask {
        Some(mask) => format!("{start}/{mask:#x}"),
        None if start == end => start.to_string(),
        None => format!("{start}-{end}"),
    }
}

/// The command of ip(8) that deletes a rule. Without a number of its own, which 0 is, the first that is alike goes.
pub fn rule_deletion(found: &FoundRule) -> String {
    let text = rule_text(found, &Names::new());
    let protocol = if found.protocol == 0 { String::new() } else { format!(" protocol {}", found.protocol) };
    let ip = found.rule.family.ip();
    format!("{ip} rule del priority {} {text}{protocol}", found.rule.priority)
}

/// A protocol's usual name.
pub fn proto_text(proto: u8) -> String {
    match proto {
        IPPROTO_ICMP => "icmp".to_owned(),
        IPPROTO_ICMPV6 => "icmpv6".to_owned(),
        IPPROTO_TCP => "tcp".to_owned(),
        IPPROTO_UDP => "udp".to_owned(),
        n => n.to_string(),
    }
}

fn action_text(action: Action, suppress_ifgroup: Option<u32>, names: &Names) -> String {
    match action {
        Action::Lookup { table, suppress_prefixlength } => {
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
        Action::Goto(target) => format!("goto {target}"),
        Action::Nop => "nop".to_owned(),
        Action::Blackhole => "blackhole".to_owned(),
        Action::Unreachable => "unreachable".to_owned(),
        Action::Prohibit => "prohibit".to_owned(),
        Action::Other(n) => format!("action-{n}"),
    }
}
