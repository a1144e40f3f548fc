//! Ethernet uplinks of which nobody knows a router: not used while another uplink has one.

use crate::support::*;

const LINKS: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nweight = 9\n\
                     [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\n\
                     [[policy]]\nname = \"web\"\nproto = \"tcp\"\nvia = [\"isp2\", \"isp1\"]\n";
const MODES: [&str; 2] = ["objects", "multipath"];

fn up_without_gateway(server: &Server) -> String {
    let output = ok(server.bare(CTL).args(["-v", "link", "up", "isp2", "--local", ISP2.local]));
    String::from_utf8(output.stderr).unwrap()
}

fn said(server: &Server, command: &str) -> String {
    String::from_utf8(server.bare(CTL).args(command.split(' ')).output().unwrap().stdout).unwrap()
}

#[test]
fn it_is_not_used_while_another_uplink_carries() {
    for mode in MODES {
        apart(move || {
            let server = Server::new(&with_settings(LINKS, &format!("nexthops = {mode:?}")));
            server.up(ISP1);
            let alone = held();
            ISP2.create();
            let warned = up_without_gateway(&server);
            assert!(warned.contains("isp2 is not used: it has no gateway, and ppp1 is an Ethernet"), "{warned}");
            assert!(warned.contains("links up: isp1;"), "{warned}");
            let mut now = held();
            now.retain(|line| !line.starts_with("203.0.113.1 dev ppp1 proto 2 "));
            assert_eq!(now, alone, "{mode}");

            let status = said(&server, "status");
            assert!(status.contains("isp2  no-gateway  ppp1"), "{status}");
            assert!(status.contains("Default route  isp1\n") && status.contains("in sync"), "{status}");
            assert!(status.contains("by isp1, without isp2"), "{status}");
            let reason = status.lines().skip_while(|line| !line.starts_with("  isp2: ")).take(3).collect::<String>();
            assert!(reason.contains("no router is known") && reason.contains("or write gateway"), "{status}");
            let doctor = said(&server, "doctor");
            assert!(doctor.contains("ppp1 of isp2 is an Ethernet, and no router is known"), "{doctor}");

            // The router is known now.
            ok(server.bare(CTL).args(["link", "up", "isp2", "--local", ISP2.local, "--gateway", ISP2.remote]));
            assert!(defaults("main")[0].contains("via 203.0.113.1 dev ppp1 weight 1"), "{:?}", held());
            assert!(!said(&server, "doctor").contains("no router is known"));
        });
    }
}

#[test]
fn it_is_better_than_nothing() {
    for mode in MODES {
        apart(move || {
            let server = Server::new(&with_settings(LINKS, &format!("nexthops = {mode:?}\nsettle-timeout = \"0s\"")));
            server.up(ISP1);
            ISP2.create();
            up_without_gateway(&server);
            let prober = Prober::start();
            finish(server.down(ISP1));
            assert_eq!(prober.stop().unreachable, 0, "{mode}");
            assert!(defaults("main")[0].contains("dev ppp1"), "{:?}", held());
            let doctor = said(&server, "doctor");
            assert!(doctor.contains("each host of the Internet is looked for on it by ARP"), "{doctor}");
            // And then the good one is back.
            server.up(ISP1);
            assert!(!defaults("main")[0].contains("dev ppp1"), "{:?}", held());
        });
    }
}

#[test]
fn nothing_is_taken_from_a_line_that_needs_no_router() {
    let server = Server::new(LINKS);
    server.up(ISP1);
    ISP2.create();
    ip("link set ppp1 arp off");
    assert!(!up_without_gateway(&server).contains("is an Ethernet"));
    assert!(defaults("main")[0].contains("dev ppp1 weight 1"), "{:?}", held());
}
