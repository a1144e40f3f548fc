//! Our table of `nf_tables`: what the kernel holds, and what others do to it.

use std::fs;
use std::process::Command;

use multihome::model::firewall::Fingerprint;

use crate::support::ctl::{ctl, json, said};
use crate::support::files::own_files;
use crate::support::filter::{feed, listed, nft, of_iptables, table};
use crate::support::host::Host;
use crate::support::*;

const LINKS: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nmasquerade = true\n\
                     [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\n\
                     [[tunnel]]\nname = \"vpn\"\ninterface = \"tun0\"\n[settings]\nsettle-timeout = \"0s\"\n\
                     firewall = \"nftables\"\n";

/// What a person sees who lists the table.
const LISTED: &str = include_str!("../golden/nft/listed.txt");

#[test]
fn what_the_kernel_lists_after_the_events_of_two_lines_and_a_tunnel_is_readable() {
    let server = Server::new(LINKS);
    server.up(ISP1);
    let first = listed();
    server.up(ISP2);
    VPN0.create();
    ok(server.openvpn(VPN0, "up").option("--strict"));
    // An event changes device groups only.
    assert_eq!(listed(), first);
    let fingerprint = Fingerprint::find(first.as_bytes()).unwrap().to_string();
    // It is one, and of no two tables the same.
    assert_eq!(first.matches("multihome:").count(), first.matches(&fingerprint).count());
    assert_eq!(first.replace(&fingerprint, "multihome:0123456789abcdef"), LISTED);
    assert_eq!(of_iptables(), [""; 0]);
}

#[test]
fn an_event_that_changes_nothing_in_it_runs_no_program_and_sends_nothing() {
    let server = Server::new(LINKS);
    ISP1.create();
    let file = server.config().with_file_name("sent");
    let batches = |line: Line| {
        let sent = strace::log(&server.hook(UP, line), "-f -e trace=sendto,sendmsg", &file);
        sent.matches("NFNL_MSG_BATCH_BEGIN").count()
    };
    assert_eq!(strace::programs(&server, &server.hook(UP, ISP1)), [""; 0]);
    assert_eq!(batches(ISP1), 0);
    nft("flush table inet multihome");
    assert_eq!(batches(ISP1), 1, "this test would see it");
    ISP2.create();
    assert_eq!(batches(ISP2), 0);
    assert_eq!(strace::programs(&server, &server.hook(UP, ISP2)), [""; 0]);
    // Another line's end, others' rules.
    feed("nft", &["-f", "-"], FOREIGN);
    assert_eq!(batches(ISP2), 0);
    assert!(said(&server, "plan").contains("nothing to change"));
}

/// Others' tables: one with the names of our chains, one of another family with the name of our table.
const FOREIGN: &str = "\
table inet fw4 {
	chain prerouting {
		type filter hook prerouting priority mangle; policy accept;
		iifname \"eth9\" meta mark set meta mark & 0xff08ffff | 0x00080000
	}

	chain restore {
		ct mark 0x00080000 return
	}
}
table ip multihome {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname \"eth9\" masquerade
	}
}
";

/// The handle of the last rule in a chain of our table.
fn last_handle(chain: &str) -> String {
    let chain = nft(&format!("-a list chain inet multihome {chain}"));
    let mut handles =
        chain.lines().filter(|line| line.starts_with("\t\t")).filter_map(|line| line.split("# handle ").nth(1));
    handles.next_back().unwrap().to_owned()
}

/// The same chain, after which the kernel routes nothing again.
fn of_type_filter(chain: &str) -> String {
    let listed = nft(&format!("list chain inet multihome {chain}")).replace("type route", "type filter");
    let (_, from) = listed.split_once('\n').unwrap();
    from.trim_end().trim_end_matches('}').to_owned()
}

/// What others can do to our table.
fn harms() -> Vec<String> {
    let [postrouting, prerouting] = ["postrouting", "prerouting"].map(last_handle);
    let ours = "inet multihome";
    [
        "flush ruleset".to_owned(),
        format!("flush table {ours}"),
        format!("delete table {ours}"),
        format!("flush chain {ours} output"),
        format!("flush chain {ours} restore"),
        format!("delete rule {ours} postrouting handle {postrouting}"),
        format!("add rule {ours} output meta mark set 0x2"),
        format!("insert rule {ours} from-isp1 accept"),
        format!("delete rule {ours} prerouting handle {prerouting}; insert rule {ours} prerouting accept"),
        format!("flush chain {ours} prerouting; delete chain {ours} prerouting"),
        format!(
            "flush chain {ours} output; delete chain {ours} output; \
             add chain {ours} output {{ type route hook output priority 0; }}"
        ),
        format!("flush chain {ours} input; delete chain {ours} input; add chain {ours} input"),
        format!("add chain {ours} theirs; add rule {ours} theirs accept; add rule {ours} forward jump theirs"),
        format!("add chain {ours} theirs {{ type filter hook forward priority 0; policy drop; }}"),
        format!("add chain {ours} forward {{ policy drop; }}"),
        format!("delete chain {ours} output; table {ours} {{ {} }}", of_type_filter("output")),
        format!("delete rule {ours} postrouting handle {postrouting}; add rule {ours} postrouting accept"),
        format!("add table {ours} {{ flags dormant; }}"),
        format!("delete table {ours}; add table {ours} {{ flags dormant; }}"),
    ]
    .into()
}

#[test]
fn whatever_others_do_to_it_the_next_event_and_apply_make_it_whole() {
    let server = Server::new(LINKS);
    server.up(ISP1);
    server.up(ISP2);
    let whole = table();
    for mend in ["event", "apply"] {
        for n in 0..harms().len() {
            // Handles are others by now.
            let harm = &harms()[n];
            if !nft("list tables").contains("fw4") {
                feed("nft", &["-f", "-"], FOREIGN);
            }
            let foreign = ["inet fw4", "ip multihome"].map(|table| nft(&format!("-a list table {table}")));
            feed("nft", &["-f", "-"], &format!("{harm}\n"));
            assert_ne!(table(), whole, "{harm}");
            match mend {
                "event" => drop(ok(&mut server.hook(UP, ISP1))),
                _ => server.apply(),
            }
            assert_eq!(table(), whole, "{harm}, {mend}");
            assert!(said(&server, "plan").contains("nothing to change"), "{harm}, {mend}");
            if harm != "flush ruleset" {
                let now = ["inet fw4", "ip multihome"].map(|table| nft(&format!("-a list table {table}")));
                assert_eq!(now, foreign, "{harm}, {mend}");
            }
        }
    }
    // Nor does a flush of ours take theirs.
    feed("nft", &["-f", "-"], &format!("flush ruleset\n{FOREIGN}"));
    server.apply();
    ok(&mut ctl(&server, "flush"));
    assert_eq!(nft("-s list ruleset"), FOREIGN);
}

/// Routers have no iptables, and hooks need none.
#[test]
fn no_iptables_program_is_needed() {
    let host = Host::new(&LINKS.replace("firewall = \"nftables\"\n", ""));
    own_files();
    for directory in ["/usr/sbin", "/usr/bin", "/usr/local/sbin"] {
        for entry in fs::read_dir(directory).into_iter().flatten().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if name.contains("tables") || name == "nft" {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
    assert!(Command::new("iptables").status().is_err() && Command::new("nft").status().is_err());
    let server = &host.server;
    let status = json(server, "status --json");
    assert_eq!(status["kernel"]["firewall"], "nftables", "{status:#}");
    assert_eq!(status["links"][0]["state"], "up", "{status:#}");
    assert_eq!(said(server, "plan"), "# nothing to change\n");
    server.lose(ISP2);
    ISP2.create();
    for hook in [server.hook(UP, ISP2).option("-v"), server.bare(CTL).args(["apply", "-v"])] {
        let output = ok(hook);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!told.contains("WARN") && !told.contains("tables"), "{told}");
    }
    for finding in host.findings() {
        assert!(finding.1.starts_with("rules of nf_tables were not looked at: nft(8) is not there"), "{finding:?}");
    }
    assert!(said(server, "flush --dry-run").contains("\ndelete table inet multihome\n"));
    ok(&mut ctl(server, "flush"));
    assert!(said(server, "plan").contains("add table inet multihome"));
    server.apply();
    assert_eq!(said(server, "plan"), "# nothing to change\n");
    // Who asks for it is told of the other way.
    server.configure(&LINKS.replace("\"nftables\"", "\"iptables\""));
    assert!(fails(1, &mut server.hook(UP, ISP2)).contains("or write firewall = \"nftables\" in [settings]"));
}
