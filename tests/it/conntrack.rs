//! Connections that are tracked: which of them a line's end frees, and what a connection mark must not keep from working.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};

use crate::support::internet::{ECHO, Namespace, ask_again, ask_udp};
use crate::support::*;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

const LINKS: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\n\
                     [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\n[settings]\nsettle-timeout = \"0s\"\n";

#[test]
fn neighbours_of_a_static_line_are_reached_without_its_gateway_although_connections_are_sticky() {
    let server = Server::new("[[uplink]]\nname = \"cable\"\ninterface = \"eth1\"\ngateway = \"192.168.100.1\"\n");
    // A modem with a page of its own, and a gateway that passes nothing back to where it came from.
    let (modem, gateway) = (Namespace::new(), Namespace::new());
    ip("link add eth1 type veth peer name port1");
    ip("addr add 192.168.100.2/24 dev eth1");
    ip("link set eth1 up");
    ip("link add eth0 type veth peer name port2");
    gateway.adopt("eth0");
    gateway.ip("addr add 192.168.100.1/24 dev eth0");
    gateway.ip("link set eth0 up");
    modem.ip("link add br0 type bridge");
    modem.ip("addr add 192.168.100.254/24 dev br0");
    modem.ip("link set br0 up");
    for port in ["port1", "port2"] {
        modem.adopt(port);
        modem.ip(&format!("link set {port} master br0"));
        modem.ip(&format!("link set {port} up"));
    }
    modem.serve_echo(ECHO);
    gateway.serve_echo(ECHO);
    ok(&mut server.with_args(CTL, &["apply"]));
    assert_eq!(defaults("main"), ["default nhid 7100 via 192.168.100.1 dev eth1 proto 77"]);
    // The bridge takes a moment.
    until("the modem and the gateway answer", || {
        ["192.168.100.254", "192.168.100.1"].iter().all(|host| ask_udp((host, ECHO)).is_some())
    });
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for neighbour in ["192.168.100.254", "192.168.100.1"] {
        for _ in 0..3 {
            assert!(ask_again(&socket, (neighbour, ECHO)).is_some(), "{neighbour}");
        }
    }
}

/// `IPCTNL_MSG_CT_NEW` for one UDP connection with a mark.
fn entry(n: u32, mark: u32, v6: bool) -> Vec<u8> {
    fn nla(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut all = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        all.resize(all.len().next_multiple_of(4), 0);
        all
    }
    const NESTED: u16 = 1 << 15;
    let client = Ipv4Addr::from(0x0a00_0000 + n);
    let server = Ipv4Addr::new(192, 0, 2, 1);
    let bytes = |addr: Ipv4Addr| if v6 { addr.to_ipv6_mapped().octets().to_vec() } else { addr.octets().to_vec() };
    let (src, dst) = if v6 { (3, 4) } else { (1, 2) };
    let tuple = |kind, a: Ipv4Addr, b: Ipv4Addr, sport: u16, dport: u16| {
        let ip = nla(1 | NESTED, &[nla(src, &bytes(a)), nla(dst, &bytes(b))].concat());
        let ports = [nla(1, &[17]), nla(2, &sport.to_be_bytes()), nla(3, &dport.to_be_bytes())].concat();
        nla(kind | NESTED, &[ip, nla(2 | NESTED, &ports)].concat())
    };
    let body = [
        vec![if v6 { 10 } else { 2 }, 0, 0, 0],
        tuple(1, client, server, 1000, 53),
        tuple(2, server, client, 53, 1000),
        nla(7, &600_u32.to_be_bytes()),
        nla(8, &mark.to_be_bytes()),
    ]
    .concat();
    let length = u32::try_from(16 + body.len()).unwrap();
    // NEW in ctnetlink; request, create.
    let header = [&length.to_ne_bytes()[..], &(1_u16 << 8).to_ne_bytes(), &0x401_u16.to_ne_bytes(), &[0; 8]].concat();
    [header, body].concat()
}

#[test]
fn of_a_hundred_thousand_connections_just_the_dead_lines_go() {
    let server = Server::new(LINKS);
    for line in [ISP1, ISP2] {
        line.create();
        ok(&mut server.hook(UP, line));
    }
    let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
    socket.bind_auto().unwrap();
    socket.connect(&SocketAddr::new(0, 0)).unwrap();
    let send = |range: std::ops::Range<u32>, mark, v6| {
        let all: Vec<_> = range.map(|n| entry(n, mark, v6)).collect();
        for some in all.chunks(100) {
            socket.send(&some.concat(), 0).unwrap();
        }
    };
    // Somebody else's, with and without other bits; sticky to the line that lives; to the one that dies; IPv6.
    send(0..99_000, 0x40000, false);
    send(100_000..100_300, 0x1, false);
    send(101_000..101_500, 0x40002, false);
    send(0..50, 0x2, true);
    let count = || -> usize {
        fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap().trim().parse().unwrap()
    };
    let before = count();
    assert!(before >= 99_850, "{before}");
    ISP2.hang_up();
    ISP2.unregister();
    finish(server.down(ISP2));
    // A few may have timed out meanwhile that were there before.
    assert_eq!(before - count(), 500);
}
