//! `mhctl why` on a server with the article's links: its texts, and that `--if-down` foretells what
//! is so when the link is really down.

use std::process::Output;

use crate::support::*;

fn why(server: &Server, args: &str) -> Output {
    server.bare(CTL).arg("why").args(args.split_whitespace()).output().unwrap()
}

fn text(server: &Server, args: &str) -> String {
    let output = why(server, args);
    assert!(output.status.success(), "{args}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn article() -> Server {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    ip("link add lan type veth peer name lan-far");
    ip("link set lan-far up");
    ip("link set lan up");
    ip("addr add 192.168.2.1/24 dev lan");
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    server
}

#[test]
fn a_policy_is_explained_rule_by_rule() {
    let server = article();
    assert_eq!(
        text(&server, "203.0.113.99 --proto udp --dport 1130 --uid 0"),
        "\
New udp connection from this host to 203.0.113.99 port 1130:

    0  lookup local                         no: no route to it there
  100  fwmark 0x4/0x4 lookup vpn            no: it has no mark
  101  fwmark 0x1/0x1 lookup isp1           no: it has no mark
  102  fwmark 0x2/0x2 lookup isp2           no: it has no mark
  190  lookup main suppress_prefixlength 0  no: only a default there
  191  from 198.51.100.10 lookup isp1       no: its source is not chosen yet
  192  from 203.0.113.10 lookup isp2        no: its source is not chosen yet
  200  ipproto tcp dport 25 lookup isp1     no: it is udp
  201  ipproto tcp dport 465 lookup isp1    no: it is udp
  202  ipproto tcp dport 587 lookup isp1    no: it is udp
  203  to 203.0.113.99 ipproto udp dport 1130 lookup isp1
                                            yes

Route       default in table isp1
Leaves by   isp1 (ppp0) via 198.51.100.1
Because of  policy \"company tunnel goes out by isp1\"
The kernel  says the same, source 198.51.100.10
Then        rule 191 for source 198.51.100.10 keeps it on isp1 (ppp0)
"
    );
}

#[test]
fn a_connection_without_a_policy_is_shared_out() {
    let server = article();
    let text = text(&server, "8.8.8.8 --uid 0");
    let end = text.split_once("32766").unwrap().1;
    let (before, kernel) = end.split_once("The kernel  says the same, and picks isp").unwrap();
    assert_eq!(
        before,
        "  lookup main                          yes

Route       default nhid 7100 in table main
Leaves by   one of these, chosen by a hash:
             80 %  isp1 (ppp0) via 198.51.100.1
             20 %  isp2 (ppp1) via 203.0.113.1
"
    );
    assert!(kernel.contains("Then        rule 19"), "{kernel}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn a_machine_of_the_lan_is_forwarded_from_where_it_is() {
    let server = article();
    let told = text(&server, "8.8.8.8 --from 192.168.2.30");
    assert!(told.starts_with("New tcp connection from 192.168.2.30, in by lan, to 8.8.8.8:\n"), "{told}");
    assert!(told.contains("  206  from 192.168.2.30 lookup isp1        yes\n"), "{told}");
    assert!(told.ends_with("Because of  policy \"one machine of the LAN\"\nThe kernel  says the same\n"), "{told}");

    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    let output = why(&server, "8.8.8.8 --from 192.168.2.30");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("DIFFERS: it refuses with \"No route to host\""), "{told}");
    assert!(told.contains("sysctl -w net.ipv4.ip_forward=1"), "{told}");
}

#[test]
fn a_broadcast_that_comes_in_stays_here_and_one_of_our_own_goes_out() {
    let server = article();
    let told = text(&server, "192.168.2.255 --from 192.168.2.30 --iif lan");
    assert!(told.contains("It stays    on this host\nThe kernel  says the same\n"), "{told}");
    let told = text(&server, "192.168.2.255");
    assert!(told.contains("Leaves by   lan\nThe kernel  says the same"), "{told}");
}

#[test]
fn what_cannot_be_told_is_said() {
    let server = article();
    ip("rule add l3mdev priority 50");
    let output = why(&server, "8.8.8.8");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("rule 50 asks for VRF devices (l3mdev), which are not simulated"), "{told}");
    assert!(told.contains("The kernel  sends it by isp"), "{told}");
    ip("rule del priority 50");
    let told = text(&server, "192.168.2.77 --proto 47");
    assert!(told.contains("The kernel  cannot be asked: it answers for tcp, udp and icmp only"), "{told}");
}

#[test]
fn wrong_use_is_refused_with_2() {
    let server = article();
    for args in
        ["www.example.org", "224.0.0.1", "0.0.0.0", "8.8.8.8 --iif lan", "8.8.8.8 --proto x", "8.8.8.8 --dscp 64", ""]
    {
        assert_eq!(why(&server, args).status.code(), Some(2), "{args}");
    }
    // What another host sends has no user here, whether --iif is said or found out.
    for iif in ["", "--iif lan"] {
        assert_eq!(why(&server, &format!("8.8.8.8 --from 192.168.2.30 --uid 1000 {iif}")).status.code(), Some(2));
    }
    assert!(why(&server, "8.8.8.8 --from 198.51.100.10 --uid 1000").status.success());
    assert_eq!(why(&server, "8.8.8.8 --if-down isp9").status.code(), Some(1));
}

/// Where each of many connections ends, as JSON.
fn ends(server: &Server, more: &str) -> Vec<serde_json::Value> {
    let mut ends = Vec::new();
    for to in [
        "8.8.8.8",
        "203.0.113.99",
        "203.0.113.80",
        "192.168.2.9",
        "198.51.100.1",
        "203.0.113.1",
        "203.0.113.10",
        "192.0.2.9",
    ] {
        for keys in [
            "",
            "--proto tcp --dport 25",
            "--proto udp --dport 1130",
            "--mark 1",
            "--mark 2",
            "--mark 4",
            "--from 192.168.2.30",
        ] {
            let output = why(server, &format!("{to} {keys} {more} --json"));
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            // Whether it still asks is told by "kernel"; the rest has to be the same.
            ends.push(serde_json::json!([to, keys, report["end"], report["steps"]]));
        }
    }
    ends
}

#[test]
fn if_down_foretells_what_is_so_then() {
    for nexthops in ["objects", "multipath"] {
        let server = article();
        server.configure(&format!("{ARTICLE}\n[settings]\nnexthops = \"{nexthops}\"\n"));
        ok(server.bare(CTL).arg("apply"));
        // Somebody else's multipath route: the kernel deletes it whole when one of its devices goes.
        ip("route add 192.0.2.0/24 nexthop via 198.51.100.1 dev ppp0 nexthop via 203.0.113.1 dev ppp1");
        let before = ends(&server, "");
        let one = ends(&server, "--if-down isp1");
        let both = ends(&server, "--if-down isp1 --if-down isp2");
        assert!(before != one && one != both);
        for (line, foretold) in [(ISP1, one), (ISP2, both)] {
            let down = server.down(line);
            line.hang_up();
            line.unregister();
            finish(down);
            for (now, foretold) in ends(&server, "").into_iter().zip(foretold) {
                assert_eq!(now, foretold, "{nexthops}, {} down", line.link);
            }
        }
    }
}

#[test]
fn if_down_of_an_ethernet_is_the_loss_of_its_carrier() {
    for (nexthops, gateway) in [("objects", true), ("multipath", true), ("objects", false), ("multipath", false)] {
        apart(move || {
            let config = "[[uplink]]\nname = 'isp1'\ninterface = 'ppp0'\n\
                          [[uplink]]\nname = 'isp2'\ninterface = 'ppp1'\n";
            let gateway = if gateway { "gateway = '203.0.113.1'\n" } else { "" };
            let policy = "[[policy]]\nname = 'udp'\nproto = 'udp'\nvia = ['isp2']\notherwise = 'unreachable'\n";
            let settings = format!("nexthops = \"{nexthops}\"");
            let server = Server::new(&with_settings(&format!("{config}{gateway}{policy}"), &settings));
            server.up(ISP1);
            ISP2.create();
            // A DHCP client says the same of a line that nothing is configured of.
            if gateway.is_empty() {
                let said = "link up isp2 --local 203.0.113.10 --gateway 203.0.113.1";
                ok(server.bare(CTL).args(said.split(' ')));
            }
            server.apply();
            ip("route add 192.0.2.0/24 nexthop via 198.51.100.1 dev ppp0 nexthop via 203.0.113.1 dev ppp1");
            let before = ends(&server, "");
            let foretold = ends(&server, "--if-down isp2");
            assert_ne!(before, foretold);
            ISP2.lose_carrier();
            // At once, and after the event that comes some time.
            for event in [false, true] {
                if event {
                    server.apply();
                }
                for ((now, foretold), before) in ends(&server, "").into_iter().zip(&foretold).zip(&before) {
                    assert_eq!(now, *foretold, "{nexthops}, {gateway:?}, event: {event}, before: {before}");
                }
            }
            ISP2.regain_carrier();
            server.apply();
            assert_eq!(ends(&server, ""), before);
        });
    }
}
