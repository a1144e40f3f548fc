//! `mhctl doctor` where nft(8) is not there to list the rules of others.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::support::host::Host;
use crate::support::*;

/// A file that nobody can run stands in its place, for this thread and what it starts.
fn hide_nft() {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    for path in ["/usr/sbin/nft", "/usr/bin/nft"].into_iter().filter(|path| Path::new(path).exists()) {
        mount(Some("/dev/null"), path, none, MsFlags::MS_BIND, none).unwrap();
    }
}

#[test]
fn without_nft_doctor_says_that_rules_were_not_looked_at_where_there_are_any() {
    let host = Host::new(&with_settings(ARTICLE, "firewall = \"none\""));
    host.server.apply();
    ip("link add lan type veth peer name lan-far");
    ip("addr add 192.168.7.1/24 dev lan");
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    hide_nft();
    let whats = || host.findings().into_iter().map(|(weight, what)| format!("{weight}: {what}")).collect::<Vec<_>>();
    let said = whats();
    assert!(said.len() == 2 && said.iter().all(|what| what.contains("nothing translates")), "{said:?}");
    iptables::new(false).unwrap().append("nat", "POSTROUTING", "-o ppp+ -j MASQUERADE").unwrap();
    assert_eq!(whats(), [""; 0], "iptables-save has shown it");
    nft::add_rule("filter", "meta mark set 0x1");
    let note = "note: rules of nf_tables were not looked at: nft(8) is not there, or cannot list them as JSON";
    assert_eq!(whats(), [note]);
}
