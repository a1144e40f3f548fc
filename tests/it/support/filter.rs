//! The rules of the packet filter, by nft(8) and iptables-save(8), and what others do to ours.

use std::io::Write;
use std::process::{Command, Stdio};

use super::ok;

/// Runs iptables(8), which has to succeed; its output.
pub fn iptables(args: &str) -> String {
    String::from_utf8(ok(Command::new("iptables").args(args.split_whitespace())).stdout).unwrap()
}

/// Runs ip6tables(8), which has to succeed; its output.
pub fn ip6tables(args: &str) -> String {
    String::from_utf8(ok(Command::new("ip6tables").args(args.split_whitespace())).stdout).unwrap()
}

/// Runs nft(8), which has to succeed; its output.
pub fn nft(args: &str) -> String {
    String::from_utf8(ok(Command::new("nft").args(args.split_whitespace())).stdout).unwrap()
}

/// Gives nft(8) or iptables-restore(8) these commands, which have to succeed.
pub fn feed(program: &str, args: &[&str], commands: &str) {
    let mut child = Command::new(program).args(args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{program}: {commands}");
}

/// Our table of nftables as nft(8) lists it, without the counts of packets; empty: it is not there.
pub fn listed() -> String {
    let output = Command::new("nft").args(["-s", "-y", "list", "table", "inet", "multihome"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The rules of our table, each behind the name of its chain, and the types of the chains. Chains that were made anew
/// come last in the kernel; here they stand in the order of their names.
pub fn table() -> Vec<String> {
    let listed = listed();
    let (mut chain, mut rules) = ("", Vec::new());
    for line in listed.lines().map(str::trim) {
        match line.strip_prefix("chain ") {
            Some(name) => chain = name.trim_end_matches(" {"),
            None if ["", "}"].contains(&line) || line.starts_with("table ") => {}
            None => rules.push((chain, line)),
        }
    }
    rules.sort_by_key(|(chain, _)| *chain);
    rules.into_iter().map(|(chain, rule)| format!("{chain}: {rule}")).collect()
}

/// The rules of iptables and ip6tables, ours and others', without the counts of packets.
pub fn of_iptables() -> Vec<String> {
    let saved =
        ["iptables-save", "ip6tables-save"].map(|save| String::from_utf8(ok(&mut Command::new(save)).stdout).unwrap());
    saved.concat().lines().filter(|line| line.starts_with("-A ")).map(str::to_owned).collect()
}

/// All rules of iptables, and our table.
pub fn rules() -> Vec<String> {
    [of_iptables(), table()].concat()
}

/// Those of `rules` that are ours.
pub fn managed() -> Vec<String> {
    let mut rules = rules();
    rules.retain(|line| !line.starts_with("-A ") || line.contains("MULTIHOME"));
    rules
}

/// Somebody empties our chains of marks, whichever packet filter holds them; source NAT stays.
pub fn flush_marks() {
    let listed = listed();
    if listed.is_empty() {
        for run in [iptables, ip6tables] {
            run("-w -t mangle -F");
            run("-w -t mangle -X");
        }
        return;
    }
    let chains = listed.lines().filter_map(|line| line.trim().strip_prefix("chain ")?.strip_suffix(" {"));
    let marks = chains.filter(|chain| !chain.starts_with("nat"));
    let commands: Vec<_> = marks.map(|chain| format!("flush chain inet multihome {chain}\n")).collect();
    feed("nft", &["-f", "-"], &commands.concat());
}
