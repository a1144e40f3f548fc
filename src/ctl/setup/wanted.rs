//! What setup wants to be in the tree. Pure, but for looking whether a package has brought the units.

use std::fmt::Write;
use std::path::Path;

use super::distribution::{Distribution, Hook};
use super::manifest::{Content, Item};
use super::networkd;
use crate::config::Config;
use crate::ctl::tree::Tree;

const TABLES: &str = "/etc/iproute2/rt_tables.d/multihome.conf";
/// Name of our protocol.
const PROTOCOLS: &str = "/etc/iproute2/rt_protos.d/multihome.conf";
/// Where the administrator's units are.
pub(super) const UNITS: &str = "/etc/systemd/system";
/// A unit, the target that starts it, and its text.
const UNIT_FILES: [(&str, Option<&str>, &str); 4] = [
    ("multihome.service", Some("multi-user.target"), include_str!("../../../systemd/multihome.service")),
    ("multihome-online.service", Some("multi-user.target"), include_str!("../../../systemd/multihome-online.service")),
    ("multihome.timer", Some("timers.target"), include_str!("../../../systemd/multihome.timer")),
    // A program that stays is the administrator's to start.
    (WATCH, None, include_str!("../../../systemd/mh-watch.service")),
];
/// The unit of mh-watch.
pub(super) const WATCH: &str = "mh-watch.service";
/// There where that is enabled.
pub(super) const WATCH_ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/mh-watch.service";
/// Directory of the executables that the unit files name.
pub(super) const SBIN: &str = "/usr/sbin";
/// Events of pppd, and whose executable they run.
pub(in crate::ctl) const EVENTS: [(&str, &str); 4] =
    [("ip-up", "mh-ip-up"), ("ip-down", "mh-ip-down"), ("ipv6-up", "mh-ip-up"), ("ipv6-down", "mh-ip-down")];

/// Whether `found`, which is somebody else's, does what the item is for: a script that runs the executable, such as a
/// package's or one with the line that we said to add, a unit that systemctl(1) has enabled, or what doctor said to
/// write for networkd.
pub(super) fn serves(found: &Content, item: &Item) -> bool {
    match (&item.content, found) {
        (Content::Link(wanted), Content::Link(found)) => {
            item.path.contains(".wants/") && Path::new(wanted).file_name() == Path::new(found).file_name()
        }
        (Content::Link(program), Content::Script(text)) => runs(text, program),
        (Content::Text(wanted), Content::Text(text)) => item.path == networkd::PATH && networkd::serves(wanted, text),
        (Content::Script(wanted), Content::Script(text)) => wanted.lines().last().is_some_and(|l| runs(text, l)),
        _ => false,
    }
}

/// Whether a script has a line, other than a comment, with `command` in it.
pub(in crate::ctl) fn runs(script: &str, command: &str) -> bool {
    script.lines().any(|line| !line.trim_start().starts_with('#') && line.contains(command))
}

/// The hooks of pppd.
pub(super) fn hooks(distribution: Distribution, bin: &str) -> Vec<Item> {
    let mut items = Vec::new();
    for (event, program) in EVENTS {
        let Some((path, hook)) = distribution.hook(event) else { continue };
        let content = match hook {
            Hook::Link => Content::Link(format!("{bin}/{program}")),
            Hook::Script => Content::Script(format!("#!/bin/sh\n{bin}/{program} \"$@\"\n")),
        };
        items.push(Item { path, content });
    }
    items
}

/// Names of the configuration's tables and of its protocol, for ip(8).
pub(super) fn names(config: &Config) -> Vec<Item> {
    let head = "# Made by `mhctl setup` from the configuration; `mhctl setup` renews it.\n";
    let mut tables = head.to_owned();
    for link in &config.links {
        // Writing to a String cannot fail.
        let _ = writeln!(tables, "{}\t{}", link.table, link.name);
    }
    let protocols = format!("{head}{}\tmultihome\n", config.settings.protocol);
    let files = [(TABLES, tables), (PROTOCOLS, protocols)];
    files.map(|(path, text)| Item { path: path.to_owned(), content: Content::Text(text) }).into()
}

/// Whether the item depends on the configuration.
pub(super) fn is_names(path: &str) -> bool {
    path == TABLES || path == PROTOCOLS
}

/// The units, most of them enabled as systemctl(1) does: those that a package or `make install` has put beside the executables, or
/// else the administrator's own.
pub(super) fn units(tree: &Tree, bin: &str) -> Vec<Item> {
    let prefix = bin.rsplit_once('/').map_or("", |(prefix, _)| prefix);
    let mut items = Vec::new();
    for (name, target, text) in UNIT_FILES {
        let installed = format!("{prefix}/lib/systemd/system/{name}");
        let is_installed = tree.has(&installed);
        let path = if is_installed { installed } else { format!("{UNITS}/{name}") };
        if !is_installed {
            items.push(Item { path: path.clone(), content: Content::Text(text.replace(SBIN, bin)) });
        }
        if let Some(target) = target {
            items.push(Item { path: format!("{UNITS}/{target}.wants/{name}"), content: Content::Link(path) });
        }
    }
    items
}
