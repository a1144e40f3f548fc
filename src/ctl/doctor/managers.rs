//! Other programs that look after routes: systemd-networkd and NetworkManager.

use super::{Finding, ends, files, ini, text};
use crate::config::{Config, NexthopMode};
use crate::ctl::setup::manifest::Tree;
use crate::sh::quoted;

/// Where drop-ins of networkd are, the weakest first.
const NETWORKD_DIRS: [&str; 3] =
    ["/usr/lib/systemd/networkd.conf.d", "/run/systemd/networkd.conf.d", "/etc/systemd/networkd.conf.d"];

/// networkd that deletes what it does not know.
pub(super) fn networkd(tree: &Tree, config: &Config) -> Option<Finding> {
    let used = tree.has("/run/systemd/netif/state")
        || ["/etc/systemd/network", "/run/systemd/network"]
            .iter()
            .any(|dir| files(tree, dir).iter().any(|(name, _)| ends(name, "network")));
    if !used {
        return None;
    }
    let mut texts = vec![text(tree, "/etc/systemd/networkd.conf")];
    // Drop-ins apply by the order of their names, wherever they are.
    let mut drop_ins: Vec<_> = NETWORKD_DIRS.iter().flat_map(|dir| files(tree, dir)).collect();
    drop_ins.sort_by(|a, b| a.0.cmp(&b.0));
    texts.extend(drop_ins.into_iter().filter(|(name, _)| ends(name, "conf")).map(|(_, text)| text));
    let off = |key: &str| {
        let last = texts.iter().rev().find_map(|text| ini(text, "Network", key));
        last.is_some_and(|value| ["no", "false", "off", "0", "n", "f"].contains(&value.to_lowercase().as_str()))
    };
    // The last is known since systemd 256; those before only warn of it.
    let mut keys = vec!["ManageForeignRoutingPolicyRules", "ManageForeignRoutes"];
    if config.settings.nexthops != NexthopMode::Multipath {
        keys.push("ManageForeignNextHops");
    }
    let on: Vec<_> = keys.into_iter().filter(|key| !off(key)).collect();
    if on.is_empty() {
        return None;
    }
    let lines = on.join("=no\\n") + "=no\\n";
    Some(Finding::trouble(
        format!("systemd-networkd has {} on", on.join(" and ")),
        "when it restarts, it deletes rules, routes and nexthops that are not its own",
        format!(
            "mkdir -p /etc/systemd/networkd.conf.d; printf '[Network]\\n{lines}' \
             >/etc/systemd/networkd.conf.d/multihome.conf; systemctl restart systemd-networkd"
        ),
    ))
}

/// NetworkManager that makes default routes on our links.
pub(super) fn network_manager(tree: &Tree, config: &Config) -> Vec<Finding> {
    const PROFILES: &str = "/etc/NetworkManager/system-connections";
    let mut found = Vec::new();
    let profiles = files(tree, PROFILES);
    if !tree.has("/run/NetworkManager") && profiles.is_empty() {
        return found;
    }
    let mut conf = text(tree, "/etc/NetworkManager/NetworkManager.conf");
    for (_, more) in files(tree, "/etc/NetworkManager/conf.d").into_iter().filter(|(name, _)| ends(name, "conf")) {
        conf = conf + "\n" + &more;
    }
    let unmanaged = ini(&conf, "keyfile", "unmanaged-devices").unwrap_or_default().to_owned();
    for link in &config.links {
        let interface = link.interface.as_str();
        if unmanaged.split([';', ',']).any(|part| part.trim().trim_start_matches("interface-name:") == interface) {
            continue;
        }
        let own: Vec<_> =
            profiles.iter().filter(|(_, text)| ini(text, "connection", "interface-name") == Some(interface)).collect();
        for (name, text) in &own {
            let never = ini(text, "ipv4", "never-default") == Some("true");
            let disabled = ini(text, "ipv4", "method") == Some("disabled");
            if !never && !disabled {
                let id = ini(text, "connection", "id").unwrap_or(name.as_str());
                // The id is the network's SSID unless somebody has changed it.
                let which = match ini(text, "connection", "uuid") {
                    Some(uuid) => format!("uuid {}", quoted(uuid)),
                    None => format!("id {}", quoted(id)),
                };
                found.push(Finding::trouble(
                    format!("NetworkManager's connection {id:?} makes a default route on {interface}"),
                    format!("it stands beside ours and takes the traffic that {} should share", link.name),
                    format!("nmcli connection modify {which} ipv4.never-default yes"),
                ));
            }
        }
        if own.is_empty() && link.gateway.is_some() {
            found.push(Finding::note(
                format!("NetworkManager runs, and does not leave {interface} alone"),
                "it may set the interface up by itself, with a default route of its own",
                format!("nmcli device set ifname {} managed no", link.interface.quoted()),
            ));
        }
    }
    found
}
