//! `mhctl why` about IPv6: its texts, and that `--if-down` foretells what is so then.

use std::fs;

use crate::support::six::*;
use crate::support::*;

const CONFIG: &str = r#"
[[uplink]]
name = "isp1"
interface = "ppp0"
weight = 8
prefixes = ["2001:db8:100::/48"]

[[uplink]]
name = "isp2"
interface = "ppp1"
weight = 2

[[policy]]
name = "mail"
proto = "tcp"
dport = 25
via = ["isp1"]

[[policy]]
name = "ping"
proto = "icmp"
via = ["isp2"]

[[policy]]
name = "pages"
to = ["203.0.113.80", "2001:db8:ff::/48"]
via = ["isp2"]
otherwise = "unreachable"
"#;

fn server() -> Server {
    let server = Server::new(CONFIG);
    for (line, six) in [(ISP1, SIX1), (ISP2, SIX2)] {
        server.up(line);
        six.up(&server);
    }
    ip("link add lan type veth peer name lan-far");
    ip("link set lan-far up");
    ip("link set lan up");
    ip("-6 addr add 2001:db8:100:1::1/64 dev lan nodad");
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    server
}

fn why(server: &Server, args: &str) -> String {
    let output = ok(server.bare(CTL).arg("why").args(args.split_whitespace()));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_policy_is_explained_rule_by_rule() {
    let server = server();
    assert_eq!(
        why(&server, "2001:db8:ff::80 --proto icmp --uid 0"),
        "\
New icmpv6 connection from this host to 2001:db8:ff::80:

    0  lookup local                         no: no route to it there
  100  fwmark 0x1/0x1 lookup isp1           no: it has no mark
  101  fwmark 0x2/0x2 lookup isp2           no: it has no mark
  186  lookup main suppress_prefixlength 0  no: only a default there
  189  to 2001:db8:ff::/48 goto 200         yes: on from there
  200  ipproto tcp dport 25 lookup isp1     no: it is icmpv6
  201  ipproto icmpv6 lookup isp2           yes

Route       default metric 1024 in table isp2
Leaves by   isp2 (ppp1) via fe80::2
Because of  policy \"ping\"
The kernel  says the same, source 2001:db8:2::10
"
    );
}

#[test]
fn a_connection_without_a_policy_is_shared_out() {
    let server = server();
    let text = why(&server, "2620:fe::9 --uid 0");
    let end = text.split_once("32765").unwrap().1;
    let (before, kernel) = end.split_once("The kernel  says the same, and picks isp").unwrap();
    assert_eq!(
        before,
        "  lookup default                       yes

Route       default metric 512 in table default
Leaves by   one of these, chosen by a hash:
             80 %  isp1 (ppp0) via fe80::1
             20 %  isp2 (ppp1) via fe80::2
"
    );
    assert!(kernel.contains("Then        rule 19"), "{kernel}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn a_machine_of_the_lan_leaves_by_the_link_of_its_prefix_if_this_host_is_a_router() {
    let server = server();
    let told = why(&server, "2620:fe::9 --from 2001:db8:100:1::30");
    assert!(told.starts_with("New tcp connection from 2001:db8:100:1::30, in by lan, to 2620:fe::9:\n"), "{told}");
    assert!(told.contains("191  from 2001:db8:100::/48 lookup isp1   yes\n"), "{told}");
    let end = "Leaves by   isp1 (ppp0) via fe80::1\nBecause of  its source: isp1 has what comes from 2001:db8:100::/48\n\
               The kernel  says the same\n";
    assert!(told.ends_with(end), "{told}");

    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "0").unwrap();
    let output = server.bare(CTL).args(["why", "2620:fe::9", "--from", "2001:db8:100:1::30"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.ends_with("DIFFERS: it forwards no IPv6: sysctl -w net.ipv6.conf.all.forwarding=1\n"), "{told}");
}

#[test]
fn a_gateway_that_does_not_answer_is_passed_over_by_a_host_that_is_no_router() {
    let server = server();
    ip("-6 neigh replace fe80::1 dev ppp0 nud failed");
    for (forwarding, shares) in [("0", "  0 %  isp1 (ppp0) via fe80::1\n            100 %  isp2"), ("1", " 80 %  isp1")]
    {
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", forwarding).unwrap();
        let told = why(&server, "2620:fe::9");
        assert!(told.contains(shares), "{forwarding}: {told}");
        assert!(told.contains("But         gateway fe80::1 does not answer neighbour discovery:"), "{told}");
        let ends = if forwarding == "0" { "the kernel passes isp1 over" } else { "nothing gets through by isp1" };
        assert!(told.contains(ends), "{forwarding}: {told}");
    }
}

#[test]
fn wrong_use_is_refused_with_2() {
    let server = server();
    for args in ["fe80::1", "ff02::1", "::", "::ffff:192.0.2.1", "2620:fe::9 --from 192.0.2.1", "8.8.8.8 --from ::1"] {
        let output = server.bare(CTL).arg("why").args(args.split(' ')).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args}: {output:?}");
    }
}

/// Where each of many connections ends, as JSON.
fn ends(server: &Server, more: &str) -> Vec<serde_json::Value> {
    let mut ends = Vec::new();
    for to in
        ["2620:fe::9", "2001:db8:ff::80", "2001:db8:100:1::9", "2001:db8:1::1", "2001:db8:2::10", "2001:db8:f0::9"]
    {
        for keys in ["", "--proto tcp --dport 25", "--proto icmp", "--mark 1", "--mark 2", "--from 2001:db8:100:1::30"]
        {
            let output = server.bare(CTL).args(format!("why {to} {keys} {more} --json").split_whitespace()).output();
            let report: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
            ends.push(serde_json::json!([to, keys, report["end"], report["steps"]]));
        }
    }
    ends
}

#[test]
fn if_down_foretells_what_is_so_then() {
    let server = server();
    // Somebody else's multipath route: of it the kernel takes away just the next hop by the device.
    ip("-6 route add 2001:db8:f0::/48 nexthop via fe80::1 dev ppp0 nexthop via fe80::2 dev ppp1");
    let before = ends(&server, "");
    let one = ends(&server, "--if-down isp1");
    let both = ends(&server, "--if-down isp1 --if-down isp2");
    assert!(before != one && one != both);
    for (six, foretold) in [(SIX1, one), (SIX2, both)] {
        let downs = [server.down(six.line), start(&mut six.hook(&server, DOWN))];
        six.line.hang_up();
        six.line.unregister();
        downs.into_iter().for_each(finish);
        for (now, foretold) in ends(&server, "").into_iter().zip(foretold) {
            assert_eq!(now, foretold, "{} down", six.line.link);
        }
    }
}

#[test]
fn if_down_of_an_ethernet_is_the_loss_of_its_carrier() {
    let isp2 = "name = \"isp2\"\ninterface = \"ppp1\"\n";
    let server = Server::new(&CONFIG.replace(isp2, &format!("{isp2}gateway = '203.0.113.1'\ngateway6 = 'fe80::2'\n")));
    server.up(ISP1);
    SIX1.up(&server);
    ISP2.create();
    SIX2.create();
    server.apply();
    ip("-6 route add 2001:db8:f0::/48 nexthop via fe80::1 dev ppp0 nexthop via fe80::2 dev ppp1");
    let before = ends(&server, "");
    let foretold = ends(&server, "--if-down isp2");
    assert_ne!(before, foretold);
    ISP2.lose_carrier();
    // At once, and after the event that comes some time.
    for event in [false, true] {
        if event {
            server.apply();
        }
        for (now, foretold) in ends(&server, "").into_iter().zip(&foretold) {
            assert_eq!(now, *foretold, "event: {event}");
        }
    }
    ISP2.regain_carrier();
    server.apply();
    assert_eq!(ends(&server, ""), before);
}

/// Any root of this host names devices, also one of a container that hands one over.
#[test]
fn a_devices_name_is_harmless_to_a_terminal() {
    let server = server();
    ip("link add a\u{1b}[31mb type veth peer name far");
    ip("link set far up");
    ip("link set a\u{1b}[31mb up");
    ip("-6 addr add 2001:db8:777::1/64 dev a\u{1b}[31mb nodad");
    for args in ["2001:db8:ffff::1 --from 2001:db8:777::5", "2001:db8:777::5"] {
        let shown = why(&server, args);
        assert!(!shown.contains('\u{1b}') && shown.contains("a\\u{1b}[31mb"), "{shown}");
    }
}
