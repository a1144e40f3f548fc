//! What setup wants to be in the tree. Pure.

use std::fmt::Write;

use super::distribution::{Distribution, Hook};
use super::manifest::Content;
use crate::config::Config;

/// Names of routing tables.
const TABLES: &str = "/etc/iproute2/rt_tables.d/multihome.conf";
/// Name of our protocol.
const PROTOCOLS: &str = "/etc/iproute2/rt_protos.d/multihome.conf";
/// Where the administrator's units are.
const UNITS: &str = "/etc/systemd/system";
/// A unit, and the target that starts it.
const UNIT_FILES: [(&str, &str, &str); 2] = [
    ("multihome.service", "multi-user.target", include_str!("../../../systemd/multihome.service")),
    ("multihome.timer", "timers.target", include_str!("../../../systemd/multihome.timer")),
];
/// Directory of the executables that the unit files name.
const SBIN: &str = "/usr/sbin";
/// Events of pppd, and whose executable they run.
pub(in crate::ctl) const EVENTS: [(&str, &str); 4] =
    [("ip-up", "mh-ip-up"), ("ip-down", "mh-ip-down"), ("ipv6-up", "mh-ip-up"), ("ipv6-down", "mh-ip-down")];

/// A file or a link, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub path: String,
    pub content: Content,
}

/// The hooks of pppd.
pub(super) fn hooks(distribution: Distribution, bin: &str) -> Vec<Item> {
    let hook = |(event, program): &(&str, &str)| {
        let (path, hook) = distribution.hook(event)?;
        let content = match hook {
            Hook::Link => Content::Link(format!("{bin}/{program}")),
            Hook::Script => Content::Script(format!("#!/bin/sh\n{bin}/{program} \"$@\"\n")),
        };
        Some(Item { path, content })
    };
    EVENTS.iter().filter_map(hook).collect()
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
    let item = |path: &str, text| Item { path: path.to_owned(), content: Content::Text(text) };
    vec![item(TABLES, tables), item(PROTOCOLS, protocols)]
}

/// Whether the item depends on the configuration.
pub(super) fn is_names(path: &str) -> bool {
    path == TABLES || path == PROTOCOLS
}

/// The units, enabled as systemctl(1) does.
pub(super) fn units(bin: &str) -> Vec<Item> {
    let unit = |(name, target, text): &(&str, &str, &str)| {
        let text = text.replace(SBIN, bin);
        let file = Item { path: format!("{UNITS}/{name}"), content: Content::Text(text) };
        let link = Content::Link(format!("{UNITS}/{name}"));
        [file, Item { path: format!("{UNITS}/{target}.wants/{name}"), content: link }]
    };
    UNIT_FILES.iter().flat_map(unit).collect()
}
