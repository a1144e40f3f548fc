//! ifupdown's `gateway` lines, which add a default route beside ours.

use std::net::Ipv4Addr;

use super::Finding;
use crate::config::{Config, Link};
use crate::ctl::tree::Tree;
use crate::model::names::Family;
use crate::model::names::IfName;

const MAIN: &str = "/etc/network/interfaces";
const MORE: &str = "/etc/network/interfaces.d";

/// An `iface` stanza of a static address.
#[derive(Debug, PartialEq, Eq)]
struct Stanza {
    file: String,
    interface: IfName,
    gateway: Option<Ipv4Addr>,
    metric: u32,
}

/// The static IPv4 stanzas of a file.
fn stanzas(file: &str, text: &str) -> Vec<Stanza> {
    /// Words that end a stanza (interfaces(5)).
    const KEYWORDS: [&str; 7] = ["iface", "auto", "mapping", "source", "source-directory", "rename", "template"];
    let mut all: Vec<Stanza> = Vec::new();
    let mut inside = false;
    let joined = text.replace("\\\n", " ");
    for line in joined.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["iface", interface, "inet", "static", ..] => {
                inside = false;
                if let Ok(interface) = interface.parse() {
                    all.push(Stanza { file: file.to_owned(), interface, gateway: None, metric: 0 });
                    inside = true;
                }
            }
            [first, ..] if KEYWORDS.contains(&first) || first.starts_with("allow-") || first.starts_with("no-") => {
                inside = false;
            }
            ["gateway", gateway, ..] if inside => {
                if let Some(stanza) = all.last_mut() {
                    stanza.gateway = gateway.parse().ok();
                }
            }
            ["metric", metric, ..] if inside => {
                if let Some(stanza) = all.last_mut() {
                    stanza.metric = metric.parse().unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    all
}

/// All files of interfaces(5).
fn texts(tree: &Tree) -> Vec<(String, String)> {
    let more = tree.files(MORE).into_iter().map(|(name, text)| (format!("{MORE}/{name}"), text));
    std::iter::once((MAIN.to_owned(), tree.text(MAIN))).chain(more).collect()
}

/// Whether a stanza of any kind is about the interface.
pub(super) fn configures(tree: &Tree, interface: &str) -> bool {
    texts(tree).iter().flat_map(|(_, text)| text.lines()).any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("iface") && words.next() == Some(interface)
    })
}

/// `gateway` at a metric of ours.
pub(super) fn gateways(tree: &Tree, config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for Stanza { file, interface, gateway, metric } in texts(tree).iter().flat_map(|(file, text)| stanzas(file, text)) {
        let (Some(gateway), true) = (gateway, metric <= highest_metric(config)) else { continue };
        let fix = match config.link_on(&interface) {
            Some(link) if link.gateway.is_some() => {
                format!("take the line `gateway {gateway}` out of {file}: multihome.toml has it")
            }
            Some(link) => format!(
                "take the line `gateway {gateway}` out of {file}, and write gateway = \"{gateway}\" for {} in multihome.toml",
                link.name
            ),
            None => format!("write `metric 1000` below it, or take it out and make {interface} an [[uplink]]"),
        };
        found.push(Finding::trouble(
            format!("{file} has `gateway {gateway}` for {interface}"),
            "ifup adds that default route itself: while multihome's stands it fails with \"File exists\", and leaves \
             the interface half configured",
            fix,
        ));
    }
    found
}

/// The metric of the last tier's default route.
pub(super) fn highest_metric(config: &Config) -> u32 {
    let last = config.links.iter().filter_map(Link::tier).max();
    config.settings.numbers.tier_metric(Family::V4, last.unwrap_or_default())
}
