//! Who changes things: what the last notices of each thing say of it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::watch::notice::{Notice, Process, Thing};

/// Directories of iproute2's names, the administrator's first.
const NAMES: [&str; 4] = [
    "/etc/iproute2/rt_protos",
    "/etc/iproute2/rt_protos.d",
    "/usr/share/iproute2/rt_protos",
    "/usr/share/iproute2/rt_protos.d",
];

/// Those of linux/rtnetlink.h, where iproute2 is not installed.
const KNOWN: [(u8, &str); 12] = [
    (1, "redirect"),
    (3, "boot"),
    (4, "static"),
    (8, "gated"),
    (9, "ra"),
    (11, "zebra"),
    (12, "bird"),
    (14, "xorp"),
    (16, "dhcp"),
    (42, "babel"),
    (186, "bgp"),
    (188, "ospf"),
];

/// Who has changed a thing, as far as notices say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::watch) struct Origin {
    /// Of what it has made.
    pub(in crate::watch) protocol: Option<u8>,
    pub(in crate::watch) process: Option<Process>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Process { pid, name }) = &self.process {
            write!(f, "{name} (pid {pid})")?;
        } else {
            f.write_str("another program")?;
        }
        match self.protocol {
            Some(protocol) => match name_of(protocol) {
                Some(name) => write!(f, ", whose routes have protocol {protocol} ({name})"),
                None => write!(f, ", whose routes have protocol {protocol}"),
            },
            None => Ok(()),
        }
    }
}

/// The last of each thing. There are as many things as rules and tables of ours.
#[derive(Debug, Default)]
pub(in crate::watch) struct Origins(BTreeMap<Thing, (Origin, Duration)>);

impl Origins {
    /// Keeps what a notice says of who has caused it. Our own programs are nobody to be named.
    pub(in crate::watch) fn add(&mut self, notice: &Notice, now: Duration) {
        let process = notice.process.clone().or_else(|| of_port(notice.port));
        let process = process.filter(|process| !is_ours(&process.name));
        if process.is_none() && notice.protocol.is_none() {
            return;
        }
        let (before, at) = self.0.entry(notice.thing).or_insert((Origin { protocol: None, process: None }, now));
        *at = now;
        // A deletion of what is ours names no protocol of another's.
        before.protocol = notice.protocol.or(before.protocol);
        before.process = process.or(before.process.take());
    }

    pub(in crate::watch) fn of(&self, thing: Thing) -> Option<&Origin> {
        self.0.get(&thing).map(|(origin, _)| origin)
    }

    /// Forgets what was noticed before this time: a pass that began then has found nothing to be repaired.
    pub(in crate::watch) fn forget_before(&mut self, time: Duration) {
        self.0.retain(|_, (_, at)| *at >= time);
    }
}

/// The process that has this netlink port: the first socket of each process has its pid. It may have ended.
fn of_port(port: u32) -> Option<Process> {
    // The ports of further sockets are above all pids.
    if port == 0 || port > 1 << 22 {
        return None;
    }
    let name = fs::read_to_string(Path::new("/proc").join(port.to_string()).join("comm")).ok()?;
    Some(Process { pid: port, name: printable(name.trim_end()) })
}

/// A process may call itself anything.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn is_ours(name: &str) -> bool {
    ["mh-watch", "mh-ip-up", "mh-ip-down", "mh-vpn-up", "mhctl"].contains(&name)
}

/// The name of a protocol number, as ip-route(8) shows it.
fn name_of(protocol: u8) -> Option<String> {
    for path in NAMES {
        let path = Path::new(path);
        let mut files = vec![path.to_owned()];
        if path.extension().is_some_and(|extension| extension == "d") {
            files = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        }
        for text in files.iter().filter_map(|file| fs::read_to_string(file).ok()) {
            if let Some(name) = name_in(&text, protocol) {
                return Some(name);
            }
        }
    }
    KNOWN.iter().find(|(number, _)| *number == protocol).map(|(_, name)| (*name).to_owned())
}

/// The same, from a file of iproute2: a number, decimal or hexadecimal, and a name on each line.
pub(super) fn name_in(text: &str, protocol: u8) -> Option<String> {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(number), Some(name)) = (words.next(), words.next()) else { continue };
        let number = match number.strip_prefix("0x") {
            Some(digits) => u8::from_str_radix(digits, 16),
            None => number.parse(),
        };
        if number == Ok(protocol) {
            return Some(printable(name));
        }
    }
    None
}
