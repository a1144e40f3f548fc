//! systemd-networkd's drop-in. When it starts, networkd deletes routes, rules and nexthops that are not its own, unless
//! that is turned off.

use std::fs;

use super::manifest::{Content, Item, Tree};

/// The drop-in.
pub(super) const PATH: &str = "/etc/systemd/networkd.conf.d/multihome.conf";
/// Where networkd is.
const PROGRAMS: [&str; 2] = ["/usr/lib/systemd/systemd-networkd", "/lib/systemd/systemd-networkd"];
/// Where the files are that say what it has to look after.
const NETWORKS: [&str; 2] = ["/etc/systemd/network", "/run/systemd/network"];

/// A key since systemd 256; an older one complains of what it does not know.
const NEXTHOPS: &str = "ManageForeignNextHops";

/// What setup wants where networkd is there, whether it is in use yet or not.
pub(super) fn drop_in(tree: &Tree) -> Option<Item> {
    let program = PROGRAMS.into_iter().find_map(|path| fs::read(tree.at(path)).ok());
    if program.is_none() && !is_running(tree) && !NETWORKS.iter().any(|dir| has_networks(tree, dir)) {
        return None;
    }
    let mut text = "\
# Made by `mhctl setup`: what networkd has not made itself, such as multihome's routes, stays when it starts.
[Network]
ManageForeignRoutes=no
ManageForeignRoutingPolicyRules=no
"
    .to_owned();
    if program.is_some_and(|program| program.windows(NEXTHOPS.len()).any(|part| part == NEXTHOPS.as_bytes())) {
        text += NEXTHOPS;
        text += "=no\n";
    }
    Some(Item { path: PATH.to_owned(), content: Content::Text(text) })
}

/// Whether it runs. It reads its configuration at its start only.
pub(super) fn is_running(tree: &Tree) -> bool {
    tree.has("/run/systemd/netif/state")
}

/// Whether the text of a file that is there already turns off all that `wanted` does.
pub(super) fn serves(wanted: &str, found: &str) -> bool {
    let mut settings = wanted.lines().filter(|line| line.contains('=') && !line.starts_with('#'));
    settings.all(|setting| found.lines().any(|line| line.trim() == setting))
}

fn has_networks(tree: &Tree, dir: &str) -> bool {
    let Ok(entries) = fs::read_dir(tree.at(dir)) else { return false };
    entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "network"))
}
