//! The pppds that run now, as they wrote it down themselves: which interface is whose.

use std::collections::BTreeMap;
use std::fs;

use super::pppd::{value, words};
use super::tree::Tree;
use crate::model::names::IfName;

/// A pppd at work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Session {
    /// Its file in /etc/ppp/peers, if it was called with one.
    pub peer: Option<String>,
    /// What it tells its hooks, best first: ipparam, linkname.
    pub names: Vec<String>,
}

/// All of them, by their interfaces. pppd writes its number into /run/ppp0.pid; one that has died leaves the file, and
/// the number may be another process's by now.
pub(super) fn sessions(tree: &Tree) -> BTreeMap<IfName, Session> {
    let Ok(entries) = fs::read_dir(tree.at("/run")) else { return BTreeMap::new() };
    let mut all = BTreeMap::new();
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some(Ok(interface)) = name.strip_suffix(".pid").map(str::parse::<IfName>) else { continue };
        let number = fs::read_to_string(tree.at(&format!("/run/{name}"))).ok();
        let Some(pid) = number.and_then(|text| text.trim().parse::<u32>().ok()) else { continue };
        let Ok(command) = fs::read(tree.at(&format!("/proc/{pid}/cmdline"))) else { continue };
        if let Some(session) = session(&String::from_utf8_lossy(&command), tree) {
            all.insert(interface, session);
        }
    }
    all
}

/// The session of a command line whose words end in NUL; `None`: it is no pppd's.
fn session(command: &str, tree: &Tree) -> Option<Session> {
    let mut line = command.split_terminator('\0');
    if line.next()?.rsplit('/').next() != Some("pppd") {
        return None;
    }
    let line: Vec<_> = line.collect();
    // A name with a slash would lead out of the directory, and pppd refuses it.
    let peer = value(&line, "call").filter(|name| !name.contains('/'));
    let options = peer.and_then(|name| fs::read_to_string(tree.at(&format!("/etc/ppp/peers/{name}"))).ok());
    let options = options.unwrap_or_default();
    // The last word counts.
    let all: Vec<_> = words(&options).into_iter().chain(line.iter().copied()).collect();
    let names = ["ipparam", "linkname"].into_iter().filter_map(|option| value(&all, option));
    Some(Session { peer: peer.map(str::to_owned), names: names.map(str::to_owned).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pppd_is_told_by_what_it_wrote_down_and_by_how_it_was_called() {
        let root = tempfile::TempDir::new().unwrap();
        for (path, text) in [
            ("etc/ppp/peers/dsl", "plugin rp-pppoe.so eth1\nipparam telekom\nlinkname dsl\n"),
            ("run/ppp0.pid", "101\n"),
            ("proc/101/cmdline", "/usr/sbin/pppd\0call\0dsl\0"),
            ("run/ppp1.pid", "102\n"),
            ("proc/102/cmdline", "pppd\0call\0dsl\0ipparam\0second\0"),
            ("run/ppp2.pid", "103\n"),
            ("proc/103/cmdline", "/usr/sbin/pppd\0local\0ipparam\x00203.0.113.5\0"),
            // Somebody else's by now, one that has died, and what is no number.
            ("run/ppp3.pid", "104\n"),
            ("proc/104/cmdline", "/usr/bin/vi\0pppd\0"),
            ("run/ppp4.pid", "105\n"),
            ("run/ppp5.pid", "../../etc\n"),
            ("run/ppp6.pid", "106\n"),
            ("proc/106/cmdline", "/usr/sbin/pppd\0call\0../shadow\0"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let session = |peer: Option<&str>, names: &[&str]| Session {
            peer: peer.map(str::to_owned),
            names: names.iter().map(|&name| name.to_owned()).collect(),
        };
        let expected = [
            ("ppp0", session(Some("dsl"), &["telekom", "dsl"])),
            ("ppp1", session(Some("dsl"), &["second", "dsl"])),
            ("ppp2", session(None, &["203.0.113.5"])),
            ("ppp6", session(None, &[])),
        ];
        let expected = expected.map(|(interface, session)| (interface.parse().unwrap(), session));
        assert_eq!(sessions(&Tree::new(root.path())), expected.into());
    }
}
