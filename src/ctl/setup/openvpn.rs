//! OpenVPN's configurations: which there are, and what is to be added to them.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::has_tunnels;
use crate::config::Config;
use crate::ctl::tree::Tree;

/// Where distributions keep them.
const DIRECTORIES: [&str; 3] = ["/etc/openvpn", "/etc/openvpn/client", "/etc/openvpn/server"];

/// An OpenVPN configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub path: String,
    pub text: String,
}

impl Found {
    /// What follows an option, of the last time that it is given.
    pub fn value(&self, option: &str) -> Option<&str> {
        let lines = self.text.lines().rev().map(|line| line.trim().trim_start_matches("--"));
        let mut options = lines.filter_map(|line| line.split_once(char::is_whitespace));
        options.find(|(key, _)| *key == option).map(|(_, value)| value.trim())
    }
}

/// All of them, in the order of their paths.
pub fn find(root: &Path) -> Vec<Found> {
    let tree = Tree::new(root);
    let mut found = Vec::new();
    for dir in DIRECTORIES {
        let Ok(entries) = fs::read_dir(tree.at(dir)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_conf = Path::new(&name).extension().is_some_and(|e| e == "conf" || e == "ovpn");
            // One that cannot be read as text is none.
            if let (true, Ok(text)) = (is_conf, fs::read_to_string(entry.path())) {
                found.push(Found { path: format!("{dir}/{name}"), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Says which lines to add where.
pub(super) fn advise(tree: &Tree, config: &Config, bin: &str, out: &mut impl Write) -> io::Result<()> {
    if !has_tunnels(config) {
        return Ok(());
    }
    let all = find(&tree.at("/"));
    let without: Vec<_> = all.iter().filter(|conf| !conf.text.contains("mh-vpn-up")).collect();
    let names: Vec<_> = without.iter().map(|conf| conf.path.as_str()).collect();
    match (all.is_empty(), names.is_empty()) {
        (false, true) => return Ok(()),
        (true, _) => writeln!(out, "\nTo the configuration of an OpenVPN tunnel add:")?,
        (false, false) => writeln!(out, "\nTo {} add, if it is a tunnel of the configuration:", names.join(", "))?,
    }
    writeln!(out, "  script-security 2\n  up {bin}/mh-vpn-up\n  route-pre-down {bin}/mh-vpn-up")
}
