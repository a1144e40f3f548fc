//! dhclient's leases, as dhclient.leases(5) has them. Pure, but for reading the tree.

use std::collections::BTreeMap;
use std::fs;

use crate::ctl::tree::Tree;
use crate::model::names::{HostAddr, IfName};

/// Where Debian's ifupdown has them.
const DIRECTORY: &str = "/var/lib/dhcp";

/// What a DHCP server has given for an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub interface: IfName,
    pub address: HostAddr,
    pub router: HostAddr,
}

/// The last lease of each interface that has a router.
pub(super) fn leases(tree: &Tree) -> Vec<Lease> {
    let Ok(entries) = fs::read_dir(tree.at(DIRECTORY)) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "leases"));
    paths.sort();
    let texts = paths.iter().filter_map(|path| fs::read_to_string(path).ok());
    let mut last = BTreeMap::new();
    for lease in texts.flat_map(|text| parse(&text)) {
        last.insert(lease.interface.clone(), lease);
    }
    last.into_values().collect()
}

/// The leases of a file that have what is needed, in its order: the file is appended to.
fn parse(text: &str) -> Vec<Lease> {
    let blocks = text.split("lease {").skip(1).filter_map(|rest| rest.split('}').next());
    blocks.filter_map(lease).collect()
}

fn lease(block: &str) -> Option<Lease> {
    Some(Lease {
        interface: value(block, "interface")?.trim_matches('"').parse().ok()?,
        address: value(block, "fixed-address")?.parse().ok()?,
        // Of several the first, as the hook takes it.
        router: value(block, "option routers")?.split(',').next()?.parse().ok()?,
    })
}

fn value<'a>(block: &'a str, key: &str) -> Option<&'a str> {
    let mut lines = block.lines().map(|line| line.trim().trim_end_matches(';'));
    lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_read_as_dhclient_writes_them() {
        let lease = |interface: &str, address: &str, routers: &str| {
            format!(
                "lease {{\n  interface \"{interface}\";\n  fixed-address {address};\n  option subnet-mask 255.255.255.0;\n\
                 {routers}  option domain-name \"a}}b;\";\n  renew 2 2026/11/24 10:00:00;\n}}\n"
            )
        };
        let text = [
            "default-duid \"\\000\\001\";\n".to_owned(),
            lease("eth1", "203.0.113.50", "  option routers 203.0.113.1,203.0.113.2;\n"),
            lease("eth1", "203.0.113.51", "  option routers 203.0.113.3;\n"),
            lease("eth2", "203.0.113.52", ""),
            lease("eth/3", "203.0.113.53", "  option routers 203.0.113.3;\n"),
            lease("eth4", "203.0.113.54", "  option routers localhost;\n"),
            "lease {\n  interface \"eth5\";\n".to_owned(),
        ];
        let read = |address: &str, router: &str| Lease {
            interface: "eth1".parse().unwrap(),
            address: address.parse().unwrap(),
            router: router.parse().unwrap(),
        };
        assert_eq!(parse(&text.concat()), [read("203.0.113.50", "203.0.113.1"), read("203.0.113.51", "203.0.113.3")]);
    }
}
