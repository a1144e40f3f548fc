//! What others delete or add is repaired at once.

use std::fs;

use crate::support::ctl::{ctl, refused, said};
use crate::support::filter::managed;
use crate::support::*;

use super::{Watcher, both_up, time};

#[test]
fn what_others_delete_is_back() {
    let server = both_up();
    let (before, rules) = (held(), managed());
    let watcher = Watcher::settled(&server);
    let mut slowest = 0;
    for commands in [
        &["route del default"][..],
        &["rule del priority 101"],
        &["rule del priority 191", "rule del priority 192", "rule del priority 190"],
        &["route flush table 1"],
        &["nexthop flush"],
        &["route add default via 203.0.113.1 dev ppp1 metric 3", "route del default metric 0"],
        &["rule add from 192.0.2.1 priority 101 lookup 2 protocol 77"],
        &["link set ppp0 group 0"],
        &["-6 rule del priority 32766"],
    ] {
        for command in commands {
            ip(command);
        }
        let took = time(&format!("{commands:?}"), || {
            held().iter().filter(|line| !line.ends_with("metric 3")).eq(&before) && managed() == rules
        });
        slowest = slowest.max(took.as_millis());
        let _ = std::process::Command::new("ip").args(["route", "del", "default", "metric", "3"]).output();
    }
    for firewall in ["flush ruleset", "delete table inet multihome"] {
        if firewall_is_nftables() {
            ok(std::process::Command::new("nft").args(firewall.split(' ')));
            slowest = slowest.max(time(firewall, || managed() == rules).as_millis());
        }
    }
    fs::write("/proc/sys/net/ipv4/conf/ppp0/rp_filter", "1").unwrap();
    time("rp_filter", || fs::read_to_string("/proc/sys/net/ipv4/conf/ppp0/rp_filter").unwrap() == "2\n");
    println!("the slowest repair took {slowest} ms, with the looks at it");
    let said = watcher.stop();
    assert!(said.contains("repaired") && !said.contains("fight"), "{said}");
}

/// Whether our rules are nftables'.
fn firewall_is_nftables() -> bool {
    firewall() == "auto"
}

#[test]
fn a_flush_is_refused_while_it_runs_and_holds_once_it_has_ended() {
    let server = both_up();
    let before = (held(), managed());
    let watcher = Watcher::settled(&server);
    let told = format!(
        "mh-watch runs, and would put everything back at once: stop it first (systemctl stop mh-watch, or \
                        kill {}",
        watcher.child.id()
    );
    let (status, error) = refused(&server, "flush");
    assert!(status == Some(1) && error.contains(&told), "{error}");
    assert_eq!((held(), managed()), before);
    let shown = said(&server, "flush --dry-run");
    assert!(shown.starts_with(&format!("# {told}")) && shown.contains("\nip rule del "), "{shown}");
    watcher.stop();
    let shown_after = said(&server, "flush --dry-run");
    assert_eq!(shown.split_once('\n').unwrap().1, shown_after);
    ok(&mut ctl(&server, "flush"));
    assert_eq!(said(&server, "flush --dry-run"), "# nothing to take away\n");
}
