//! Connections that really travel, from the server and from its LAN, by two providers that drop
//! what does not come from their own customer.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use crate::support::filter::iptables;
use crate::support::internet::*;
use crate::support::*;

/// Two uplinks 8:2 and a tunnel, all masqueraded; `more` follows.
pub fn masqueraded(more: &str) -> String {
    let links = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nweight = 8\nmasquerade = true\n\
                 [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\nweight = 2\nmasquerade = true\n\
                 [[tunnel]]\nname = \"vpn\"\ninterface = \"tun0\"\nmasquerade = true\n";
    format!("{links}{more}")
}

pub fn scene(config: &str) -> (Server, Internet) {
    let server = Server::new(config);
    let internet = Internet::new();
    for line in [ISP1, ISP2] {
        internet.connect(line);
        ok(&mut server.hook(UP, line));
    }
    (server, internet)
}

pub fn addr(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// The answer of an echo service that has heard us by the line.
#[allow(clippy::unnecessary_wraps)]
pub fn by(line: Line) -> Option<Ipv4Addr> {
    Some(addr(line.local))
}

/// The address that the server itself would use towards `to`, before any packet and any NAT.
pub fn source_towards(to: (&str, u16)) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(to).ok()?;
    let std::net::IpAddr::V4(source) = socket.local_addr().unwrap().ip() else { return None };
    Some(source)
}

#[test]
fn new_connections_are_shared_out_by_weight_and_every_one_is_answered() {
    let (_server, internet) = scene(&masqueraded(""));
    let hosts: Vec<_> = (0..256).map(|n| format!("100.64.{}.{}", n % 7, n)).collect();
    let ask = |ask: fn((&str, u16)) -> Option<Ipv4Addr>| {
        let seen: Vec<_> = hosts.iter().map(|host| ask((host, ECHO))).collect();
        let count = |line| seen.iter().filter(|s| **s == by(line)).count();
        (count(ISP1), count(ISP2))
    };
    for (what, shares) in [
        ("server UDP", ask(ask_udp)),
        ("server TCP", ask(ask_tcp)),
        ("LAN UDP", internet.lan.run(|| ask(ask_udp))),
        ("LAN TCP", internet.lan.run(|| ask(ask_tcp))),
    ] {
        assert_eq!(shares.0 + shares.1, 256, "{what}: {shares:?}");
        // Expected are 204.8; the standard deviation is 6.4, and 35 are more than five of it.
        assert!((170..=240).contains(&shares.0), "{what}: {shares:?}");
    }
}

#[test]
fn every_kind_of_policy_takes_its_link_with_the_right_source_at_once() {
    let policies = r#"
[[policy]]
name = "mail"
proto = "tcp"
dport = [25, 465]
via = ["isp2"]
[[policy]]
name = "to"
to = "100.64.80.0/24"
via = ["isp2"]
[[policy]]
name = "from"
from = "192.168.2.31"
via = ["isp2"]
[[policy]]
name = "iif"
iif = "eth2"
to = "100.64.81.0/24"
via = ["isp2"]
[[policy]]
name = "sport"
proto = "udp"
sport = "4000-4010"
via = ["isp2"]
[[policy]]
name = "uid"
uid = 4242
via = ["isp2"]
[[policy]]
name = "fwmark"
fwmark = "0x100/0xff00"
via = ["isp2"]
[[policy]]
name = "the tunnel's own packets"
to = "100.64.200.1"
via = ["isp2", "isp1"]
[[policy]]
name = "kill switch"
to = "10.9.0.0/24"
via = ["vpn"]
otherwise = "unreachable"
"#;
    // Weights that leave nothing to chance: all else goes by the first.
    let config = masqueraded(policies).replace("weight = 8", "weight = 256").replace("weight = 2\n", "weight = 1\n");
    let (server, internet) = scene(&config);
    let lan = &internet.lan;
    internet.world.serve_echo(25);
    internet.world.serve_echo(7777);

    // Somewhere that goes by the first line when no policy says otherwise.
    let plain = |n: u8| format!("100.64.7.{n}");
    let ordinary = (0..20).find(|n| ask_udp((&plain(*n), ECHO)) == by(ISP1)).unwrap();
    let host = plain(ordinary);

    assert_eq!(source_towards(("100.64.80.9", ECHO)), by(ISP2));
    assert_eq!(ask_tcp((&host, 25)), by(ISP2), "mail");
    assert_eq!(lan.run(|| ask_tcp((&host, 25))), by(ISP2), "mail of the LAN");
    for (what, answer) in [("UDP", ask_udp(("100.64.80.9", ECHO))), ("TCP", ask_tcp(("100.64.80.9", ECHO)))] {
        assert_eq!(answer, by(ISP2), "to, {what}");
    }
    assert_eq!(lan.run(|| ask_udp(("100.64.80.9", ECHO))), by(ISP2), "to, LAN");
    let lan_host = (0..20).map(plain).find(|h| lan.run(|| ask_udp((h, ECHO))) == by(ISP1)).unwrap();
    assert_eq!(lan.run(|| ask_udp_from("192.168.2.31:0", (&lan_host, ECHO))), by(ISP2), "from");
    assert_eq!(lan.run(|| ask_tcp(("100.64.81.9", ECHO))), by(ISP2), "iif");
    assert_eq!(ask_udp_from("0.0.0.0:4005", (&host, ECHO)), by(ISP2), "sport");
    let as_user = internet.server.run(|| {
        nix::unistd::setfsuid(4242.into());
        ask_udp((&host, ECHO))
    });
    assert_eq!(as_user, by(ISP2), "uid");
    iptables("-t mangle -A OUTPUT -p udp --dport 7777 -j MARK --set-xmark 0x100/0xff00");
    iptables("-t mangle -A PREROUTING -i eth2 -p udp --dport 7777 -j MARK --set-xmark 0x100/0xff00");
    assert_eq!(ask_udp((&host, 7777)), by(ISP2), "fwmark");
    assert_eq!(lan.run(|| ask_udp((&lan_host, 7777))), by(ISP2), "fwmark, LAN");

    // The kill switch: no way out while the tunnel is down, though everything there would answer.
    let refused = |from: &Namespace| {
        from.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            ask_again(&socket, ("10.9.0.5", ECHO)).is_none() && ask_tcp(("10.9.0.5", ECHO)).is_none()
        })
    };
    assert!(refused(&internet.server) && refused(lan));
    internet.tunnel();
    ok(&mut server.openvpn(TUN, "up"));
    assert_eq!(ask_udp(("10.9.0.5", ECHO)), by(TUN), "the tunnel");
    assert_eq!(lan.run(|| ask_tcp(("10.9.0.5", ECHO))), by(TUN), "the tunnel, LAN");
    let stream = lan.run(|| connect_tcp(("10.9.0.5", ECHO)));
    let (mut stream, _) = stream.unwrap();
    for _ in 0..20 {
        assert!(talks(&mut stream), "a sticky connection in packets of a sticky one");
    }
    ip("link del tun0");
    ok(&mut server.openvpn(TUN, "down"));
    assert!(refused(&internet.server) && refused(lan), "the kill switch, again");
}

#[test]
fn replies_leave_by_the_line_that_the_question_came_by() {
    let (_server, internet) = scene(&masqueraded(""));
    internet.server.serve_echo(ECHO);
    internet.lan.serve_echo(ECHO);
    // A port forward on both lines, and by the public address from inside as well.
    for line in [ISP1, ISP2] {
        for proto in ["tcp", "udp"] {
            iptables(&format!(
                "-t nat -A PREROUTING -d {} -p {proto} --dport 8080 -j DNAT --to {LAN_HOST}:7",
                line.local
            ));
        }
    }
    iptables("-t nat -A POSTROUTING -s 192.168.2.0/24 -o eth2 -j MASQUERADE");
    // The provider's staff sits in the subnet of the other line.
    ip("route add 203.0.113.0/24 dev ppp1");

    for line in [ISP1, ISP2] {
        // Many clients: chance would send some of the answers the wrong way.
        for n in 0..24 {
            let client = format!("100.64.3.{n}");
            let ask = |port| ask_udp_from(&format!("{client}:0"), (line.local, port));
            assert_eq!(internet.world.run(|| ask(ECHO)), Some(addr(&client)), "{}", line.link);
            assert_eq!(internet.world.run(|| ask(8080)), Some(addr(&client)), "{} forwarded", line.link);
        }
        for port in [ECHO, 8080] {
            assert!(internet.world.run(|| ask_tcp((line.local, port))).is_some(), "{} TCP {port}", line.link);
        }
        // Nobody listens there: the error, too, comes back by the line.
        let refused = internet.world.run(|| {
            let socket = UdpSocket::bind("100.64.3.99:0").unwrap();
            socket.connect((line.local, 9)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.send(b"?").unwrap();
            socket.recv(&mut [0; 9]).map_err(|e| e.kind())
        });
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused), "{}", line.link);
        // From inside by the public address, to the server and back into the LAN.
        let inside = |port| internet.lan.run(|| ask_tcp((line.local, port)));
        assert_eq!(inside(ECHO), Some(addr(LAN_HOST)));
        assert_eq!(inside(8080), Some(addr(LAN_GATEWAY)), "hairpin");
    }
    let staff = |port| {
        let local = format!("{STAFF}:0");
        internet.providers[1].run(|| ask_udp_from(&local, (ISP1.local, port)))
    };
    assert_eq!(staff(ECHO), Some(addr(STAFF)));
    assert_eq!(staff(8080), Some(addr(STAFF)));
}
