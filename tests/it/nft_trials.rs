//! Our table of `nf_tables` on machines that are not as usual: in a container, with a table of before, for who may not
//! see it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::ctl::{ctl, said};
use crate::support::filter::{feed, nft};
use crate::support::host::Host;
use crate::support::*;

const LINKS: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nmasquerade = true\n\
                     [settings]\nfirewall = \"nftables\"\nsettle-timeout = \"0s\"\n";

/// Root of a container may not make the socket's buffer larger than others may.
#[test]
fn root_of_a_user_namespace_has_the_table_made() {
    let server = Server::new(LINKS);
    // A new user's home is closed to others, and in the namespace its files are another's.
    let apply = server.for_others(&ctl(&server, "apply"));
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-ec", "\"$@\" >&2; exec nft list tables", "sh"]).args(apply);
    assert_eq!(String::from_utf8(ok(&mut command).stdout).unwrap(), "table inet multihome\n");
}

#[test]
fn a_flush_takes_the_table_when_its_chains_are_gone() {
    let server = Server::new(LINKS);
    server.up(ISP1);
    feed("nft", &["-f", "-"], "delete table inet multihome\nadd table inet multihome\n");
    assert!(said(&server, "flush --dry-run").contains("\ndelete table inet multihome\n"));
    ok(&mut ctl(&server, "flush"));
    assert_eq!(nft("list tables"), "");
}

#[test]
fn who_may_not_see_the_packet_filter_is_told_that_a_plan_is_without_it() {
    let server = Server::new(LINKS);
    server.up(ISP1);
    let dir = server.config().parent().unwrap().to_owned();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    for args in ["plan", "flush --dry-run", "apply --dry-run"] {
        let words = server.for_others(&ctl(&server, args));
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(words).current_dir("/");
        let shown = String::from_utf8(ok(&mut nobody).stdout).unwrap();
        assert!(shown.starts_with("# the packet filter shows itself to root only"), "{args}: {shown}");
        assert!(!said(&server, args).contains("root only"), "{args}");
    }
}

/// The administrator's own marks, as docs/firewall.md has them.
#[test]
fn a_mark_that_chooses_a_link_is_let_be_where_it_steers() {
    let host = Host::new(&with_settings(ARTICLE, "firewall = \"nftables\""));
    let before = host.findings();
    let rule = |chain: &str, rule: &str| {
        feed("nft", &["-f", "-"], &format!("table inet adm {{ chain c {{ {chain}; {rule}; }}; }}\n"));
        let found = host.findings();
        feed("nft", &["-f", "-"], "delete table inet adm\n");
        found.len() - before.len()
    };
    let choose = "tcp dport 25 meta mark set meta mark & 0xfffffff8 | 0x2";
    assert_eq!(rule("type route hook output priority mangle", choose), 0);
    assert_eq!(rule("type filter hook prerouting priority mangle", choose), 0);
    assert_eq!(rule("type filter hook prerouting priority dstnat", choose), 1, "behind ours");
    assert_eq!(rule("type filter hook forward priority mangle", choose), 1, "behind the route");
    assert_eq!(rule("type route hook output priority mangle", "meta mark set 0x2"), 1, "all bits");
}

#[test]
fn doctor_names_a_pending_table_in_a_line_and_says_what_to_do_after_a_refusal() {
    let auto = with_settings(ARTICLE, "firewall = \"auto\"");
    let host = Host::new(&auto);
    let before = host.findings();
    nft("delete table inet multihome");
    assert!(
        host.findings()
            .contains(&("trouble".to_owned(), "1 change is pending: table inet multihome in nftables".to_owned()))
    );
    // A chain that we cannot take away.
    feed("nft", &["-f", "-"], "add table inet multihome\nadd map inet multihome m { type ipv4_addr : verdict; }\n");
    feed("nft", &["-f", "-"], "add chain inet multihome c\nadd element inet multihome m { 192.0.2.1 : goto c }\n");
    host.server.apply();
    host.server.apply();
    assert!(!nft("list tables").contains("inet multihome"));
    host.finds("note", "iptables holds multihome's rules: the kernel has refused its table");

    host.server.configure(&auto.replace("auto", "nftables"));
    host.server.apply();
    host.server.configure(&auto);
    host.server.apply();
    assert_eq!((nft("list tables").contains("inet multihome"), host.findings()), (true, before));
}
