//! pppd's peers whose events would be nobody's: they have the interface of a link, and a name that names none.

use super::Finding;
use crate::config::Config;
use crate::ctl::pppd::{is_example, value, words};
use crate::ctl::tree::Tree;

/// Peers that call themselves by a name that the configuration does not know.
pub(super) fn unknown(tree: &Tree, config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for (peer, text) in tree.files("/etc/ppp/peers").into_iter().filter(|(_, text)| !is_example(text)) {
        let words = words(&text);
        let names: Vec<_> = ["ipparam", "linkname"].iter().filter_map(|option| value(&words, option)).collect();
        if names.is_empty() || names.iter().any(|name| config.links.iter().any(|link| link.ipparam == *name)) {
            continue;
        }
        let unit = value(&words, "unit").map(|n| format!("ppp{n}"));
        let interface = value(&words, "ifname").or(unit.as_deref());
        let Some(link) = config.links.iter().find(|link| Some(link.interface.as_str()) == interface) else { continue };
        found.push(Finding::note(
            format!(
                "/etc/ppp/peers/{peer} has the interface of {} ({}), and its name {:?} is no link's",
                link.name, link.interface, names[0]
            ),
            "an event whose name no link has is passed over: if this is the line, multihome does not notice it",
            format!("write ipparam {:?} in it, or give {} in multihome.toml that `ipparam`", link.ipparam, link.name),
        ));
    }
    found
}
