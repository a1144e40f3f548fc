//! Other programs that look after routes: systemd-networkd and NetworkManager.

use std::collections::BTreeMap;

use super::{Finding, ends, ifupdown, ini, ini_all};
use crate::config::{Config, Link, NexthopMode};
use crate::ctl::tree::Tree;
use crate::model::sh::quoted;

/// Where systemd looks for configuration, the strongest first (systemd.unit(5), networkd.conf(5)).
const SYSTEMD: [&str; 4] = ["/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"];
/// The drop-in that setup writes.
const DROP_IN: &str = "/etc/systemd/networkd.conf.d/multihome.conf";

/// The configuration of networkd, as it is read: of files of one name the strongest only, the main file first.
fn networkd_conf(tree: &Tree) -> Vec<(String, String)> {
    let mains = SYSTEMD.iter().map(|dir| format!("{dir}/networkd.conf"));
    let main = mains.filter(|path| tree.has(path)).map(|path| (path.clone(), tree.text(&path))).next();
    let mut drop_ins = BTreeMap::new();
    for dir in SYSTEMD.iter().rev().map(|dir| format!("{dir}/networkd.conf.d")) {
        for (name, text) in tree.files(&dir).into_iter().filter(|(name, _)| ends(name, "conf")) {
            drop_ins.insert(name.clone(), (format!("{dir}/{name}"), text));
        }
    }
    main.into_iter().chain(drop_ins.into_values()).collect()
}

/// A boolean as systemd takes it (`parse_boolean()`).
fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// networkd that deletes what it does not know.
pub(super) fn networkd(tree: &Tree, config: &Config) -> Option<Finding> {
    let used = tree.has("/run/systemd/netif/state")
        || ["/etc/systemd/network", "/run/systemd/network"]
            .iter()
            .any(|dir| tree.files(dir).iter().any(|(name, _)| ends(name, "network")));
    if !used {
        return None;
    }
    // The last is known since systemd 256; those before only warn of it.
    let mut keys = vec!["ManageForeignRoutingPolicyRules", "ManageForeignRoutes"];
    if config.settings.nexthops != NexthopMode::Multipath {
        keys.push("ManageForeignNextHops");
    }
    let conf = networkd_conf(tree);
    let mut on = Vec::new();
    let mut overriding = Vec::new();
    for key in &keys {
        // What is no boolean is passed over.
        let values = conf.iter().flat_map(|(path, text)| {
            ini_all(text, "Network", key).into_iter().filter_map(move |value| Some((path, boolean(value)?)))
        });
        match values.last() {
            Some((_, false)) => {}
            Some((path, true)) if name(path) > name(DROP_IN) && path.contains(".conf.d/") => {
                on.push(*key);
                overriding.push(format!("take {key}= out of {path}"));
            }
            _ => on.push(*key),
        }
    }
    if on.is_empty() {
        return None;
    }
    // All of them, whatever is missing: the file may hold the others.
    let lines = keys.join("=no\\n") + "=no\\n";
    let write = format!(
        "mkdir -p /etc/systemd/networkd.conf.d; printf '[Network]\\n{lines}' >{DROP_IN}; \
         systemctl restart systemd-networkd"
    );
    let fix = if overriding.len() == on.len() { overriding.join(", and ") } else { write };
    Some(Finding::trouble(
        format!("systemd-networkd has {} on", on.join(" and ")),
        "when it restarts, it deletes rules, routes and nexthops that are not its own",
        fix,
    ))
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// NetworkManager's configuration and profiles.
struct NetworkManager {
    conf: String,
    /// Name and text.
    profiles: Vec<(String, String)>,
}

impl NetworkManager {
    /// Of files of one name the strongest only, in the order that NetworkManager.conf(5) says.
    fn read(tree: &Tree) -> Option<Self> {
        let mut profiles = BTreeMap::new();
        for dir in ["/usr/lib", "/run", "/etc"] {
            profiles.extend(tree.files(&format!("{dir}/NetworkManager/system-connections")));
        }
        if !tree.has("/run/NetworkManager") && profiles.is_empty() {
            return None;
        }
        let etc = tree.files("/etc/NetworkManager/conf.d");
        let run = tree.files("/run/NetworkManager/conf.d");
        let lib = tree.files("/usr/lib/NetworkManager/conf.d");
        let mut conf = String::new();
        for (name, text) in lib.iter().filter(|(name, _)| !has_file(&run, name) && !has_file(&etc, name)) {
            add_conf(&mut conf, name, text);
        }
        for (name, text) in run.iter().filter(|(name, _)| !has_file(&etc, name)) {
            add_conf(&mut conf, name, text);
        }
        add_conf(&mut conf, "NetworkManager.conf", &tree.text("/etc/NetworkManager/NetworkManager.conf"));
        for (name, text) in &etc {
            add_conf(&mut conf, name, text);
        }
        Some(Self { conf, profiles: profiles.into_iter().collect() })
    }

    /// Whether it leaves an interface alone.
    fn leaves_alone(&self, interface: &str, tree: &Tree) -> bool {
        let mut unmanaged = ini_all(&self.conf, "keyfile", "unmanaged-devices+");
        unmanaged.extend(ini(&self.conf, "keyfile", "unmanaged-devices"));
        if matches_device(&unmanaged.join(";"), interface) {
            return true;
        }
        let mut section_matches = false;
        let mut managed = true;
        for line in self.conf.lines().map(str::trim) {
            if line.starts_with('[') {
                section_matches = false;
            } else if let Some((key, value)) = line.split_once('=') {
                match key.trim() {
                    "match-device" => section_matches = matches_device(value, interface),
                    "managed" if section_matches => managed = boolean(value.trim()).unwrap_or(true),
                    _ => {}
                }
            }
        }
        // Debian's: what interfaces(5) configures is ifupdown's.
        let plugins = ini(&self.conf, "main", "plugins").unwrap_or_default();
        let ifupdown = plugins.split(',').any(|plugin| plugin.trim() == "ifupdown")
            && ini(&self.conf, "ifupdown", "managed").and_then(boolean) != Some(true)
            && ifupdown::configures(tree, interface);
        !managed || ifupdown
    }

    /// Metric of the default route that a profile makes; none: it makes none.
    fn metric(&self, profile: &str) -> Option<u32> {
        /// That of Ethernet, which is the lowest of all but VPNs'.
        const ETHERNET: u32 = 100;
        let method = ini(profile, "ipv4", "method").unwrap_or("auto");
        let never = ini(profile, "ipv4", "never-default").and_then(boolean) == Some(true);
        if never || !["auto", "manual"].contains(&method) {
            return None;
        }
        let own = ini(profile, "ipv4", "route-metric");
        let general = ini(&self.conf, "connection", "ipv4.route-metric");
        // -1 stands for the metric of the type.
        Some([own, general].into_iter().flatten().find_map(|metric| metric.parse().ok()).unwrap_or(ETHERNET))
    }

    fn link(&self, link: &Link, config: &Config) -> Vec<Finding> {
        let mut found = Vec::new();
        let interface = link.interface.as_str();
        let highest = ifupdown::highest_metric(config);
        let mut has_profile = false;
        for (name, text) in &self.profiles {
            if ini(text, "connection", "interface-name") != Some(interface) {
                continue;
            }
            has_profile = true;
            // Behind ours it carries only while none of ours is there.
            if let Some(metric) = self.metric(text).filter(|metric| *metric <= highest) {
                let id = ini(text, "connection", "id").unwrap_or(name.as_str());
                // The id is the network's SSID unless somebody has changed it.
                let which = match ini(text, "connection", "uuid") {
                    Some(uuid) => format!("uuid {}", quoted(uuid)),
                    None => format!("id {}", quoted(id)),
                };
                found.push(Finding::trouble(
                    format!(
                        "NetworkManager's connection {id:?} makes a default route of metric {metric} on {interface}"
                    ),
                    format!("it is not behind multihome's, and takes the traffic that {} should share", link.name),
                    format!("nmcli connection modify {which} ipv4.never-default yes"),
                ));
            }
        }
        if !has_profile && link.gateway.is_some() {
            found.push(Finding::note(
                format!("NetworkManager runs, and does not leave {interface} alone"),
                "it may set the interface up by itself, with addresses of its own",
                format!("nmcli device set ifname {} managed no", link.interface.quoted()),
            ));
        }
        found
    }
}

fn has_file(files: &[(String, String)], name: &str) -> bool {
    files.iter().any(|(other, _)| other == name)
}

fn add_conf(conf: &mut String, name: &str, text: &str) {
    if ends(name, "conf") {
        conf.push_str(text);
        conf.push('\n');
    }
}

/// Whether a list of devices (NetworkManager.conf(5), "Device List Format") has the interface, by its name.
fn matches_device(list: &str, interface: &str) -> bool {
    let mut matches = false;
    for item in list.split([';', ',']).map(str::trim) {
        let (except, item) = item.strip_prefix("except:").map_or((false, item), |item| (true, item));
        let fits = match item.strip_prefix("interface-name:") {
            Some(name) => name.strip_prefix('=').map_or_else(|| glob(name, interface), |exact| exact == interface),
            None => item == "*",
        };
        if fits && except {
            return false;
        }
        matches |= fits;
    }
    matches
}

/// A pattern of `*` and `?`.
fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    match pattern.next() {
        None => text.next().is_none(),
        Some('*') => {
            let rest = pattern.as_str();
            (0..=text.as_str().len()).any(|at| text.as_str().get(at..).is_some_and(|text| glob(rest, text)))
        }
        Some(c) => text.next().is_some_and(|t| c == '?' || c == t) && glob(pattern.as_str(), text.as_str()),
    }
}

/// NetworkManager that makes default routes before ours on our links, or sets them up by itself.
pub(super) fn network_manager(tree: &Tree, config: &Config) -> Vec<Finding> {
    let Some(manager) = NetworkManager::read(tree) else { return Vec::new() };
    let links = config.links.iter().filter(|link| !manager.leaves_alone(link.interface.as_str(), tree));
    links.flat_map(|link| manager.link(link, config)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_devices_is_read_as_networkmanager_does() {
        for (list, name, expected) in [
            ("interface-name:eth1", "eth1", true),
            ("interface-name:eth1", "eth10", false),
            ("mac:00:11:22:33:44:55;interface-name:eth*", "eth1", true),
            ("interface-name:eth?", "eth1", true),
            ("interface-name:=eth*", "eth1", false),
            ("*,except:interface-name:wlan0", "eth1", true),
            ("*,except:interface-name:wlan0", "wlan0", false),
            ("", "eth1", false),
        ] {
            assert_eq!(matches_device(list, name), expected, "{list}: {name}");
        }
    }
}
