//! What strangers and routers send is no answer.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::channel;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, SockaddrStorage,
    bind, recvfrom, sendto, socket,
};

use super::{Say, Scene, serve_dns, serve_tcp};
use crate::support::filter::feed;
use crate::support::internet::Namespace;

fn sockaddr(address: IpAddr) -> Box<dyn SockaddrLike> {
    match SocketAddr::new(address, 0) {
        SocketAddr::V4(address) => Box::new(SockaddrIn::from(address)),
        SocketAddr::V6(address) => Box::new(SockaddrIn6::from(address)),
    }
}

/// A socket that sends and receives ICMP as it is, by this address.
fn raw(address: IpAddr) -> OwnedFd {
    let (family, protocol) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let fd = socket(family, SockType::Raw, SockFlag::empty(), protocol).unwrap();
    bind(fd.as_raw_fd(), &*sockaddr(address)).unwrap();
    fd
}

/// Sum of 16-bit words, as the header of ICMP has it; the kernel makes that of IPv6 itself.
fn with_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    packet[2..4].fill(0);
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Answers each echo request to `address` with these changes of the right reply: from another address, and bytes that are
/// flipped; at last, if asked for, with the right one twice.
fn forge(far: &Namespace, address: &'static str, other: &'static str, is_right_at_last: bool) {
    far.sysctl("ipv4/icmp_echo_ignore_all", "1");
    far.sysctl("ipv6/icmp/echo_ignore_all", "1");
    let (ready, wait) = channel();
    far.spawn(move || {
        let [address, other]: [IpAddr; 2] = [address.parse().unwrap(), other.parse().unwrap()];
        let (own, elsewhere) = (raw(address), raw(other));
        ready.send(()).unwrap();
        let mut buffer = [0; 256];
        loop {
            let (length, from) = recvfrom::<SockaddrStorage>(own.as_raw_fd(), &mut buffer).unwrap();
            let from = from.unwrap();
            // IPv4 comes with its header.
            let mut packet = buffer[if address.is_ipv4() { 20 } else { 0 }..length].to_vec();
            let (request, reply) = if address.is_ipv4() { (8, 0) } else { (128, 129) };
            if packet[0] != request {
                continue;
            }
            packet[0] = reply;
            let send = |by: &OwnedFd, packet: Vec<u8>| {
                sendto(by.as_raw_fd(), &with_checksum(packet), &from, MsgFlags::empty()).unwrap();
            };
            send(&elsewhere, packet.clone());
            // Identifier, sequence number, and the payload's first and last byte.
            for at in [4, 5, 6, 7, 8, 15] {
                let mut wrong = packet.clone();
                wrong[at] ^= 1;
                send(&own, wrong);
            }
            send(&own, packet[..8].to_vec());
            send(&own, [&packet[..], &[0; 8]].concat());
            if is_right_at_last {
                send(&own, packet.clone());
                send(&own, packet);
            }
        }
    });
    wait.recv().unwrap();
}

const TARGETS: [(&str, &str, &str); 2] =
    [("192.0.2.1", "192.0.2.1", "192.0.2.2"), ("[2001:db8:f::1]", "2001:db8:f::1", "2001:db8:f::2")];

#[test]
fn forged_echoes_do_not_count() {
    for (target, address, other) in TARGETS {
        let scene = Scene::new();
        forge(&scene.far[1], address, other, false);
        let mut prober = scene.prober(Scene::binding(1, None));
        scene.asks_in_vain(&mut prober, target, 1);
        scene.asks_in_vain(&mut prober, target, 2);
    }
}

#[test]
fn the_right_echo_counts_once_whatever_came_before_it() {
    for (target, address, other) in TARGETS {
        let scene = Scene::new();
        forge(&scene.far[1], address, other, true);
        let mut prober = scene.prober(Scene::binding(1, None));
        for probe in 1..=3 {
            scene.asks(&mut prober, target, probe);
        }
        assert_eq!(scene.answer(&mut prober, super::LONG), None, "{target}");
    }
}

#[test]
fn forged_answers_of_dns_do_not_count() {
    for say in [Say::OtherId, Say::Question, Say::FromPort, Say::FromAddress] {
        let scene = Scene::new();
        serve_dns(&scene.far[1], "192.0.2.53", "192.0.2.54", say);
        serve_dns(&scene.far[1], "2001:db8:f::53", "2001:db8:f::54", say);
        let mut prober = scene.prober(Scene::binding(1, None));
        for probe in 1..=2 {
            scene.asks_in_vain(&mut prober, "dns:192.0.2.53", probe);
            scene.asks_in_vain(&mut prober, "dns:[2001:db8:f::53]", probe);
        }
    }
}

#[test]
fn a_router_that_refuses_a_question_does_not_answer_it() {
    const REASONS: [&str; 3] = ["port-unreachable", "host-unreachable", "admin-prohibited"];
    const REASONS6: [&str; 3] = ["port-unreachable", "addr-unreachable", "admin-prohibited"];
    let targets = ["192.0.2.1", "dns:192.0.2.53", "tcp:192.0.2.80:80"];
    let targets6 = ["[2001:db8:f::1]", "dns:[2001:db8:f::53]", "tcp:[2001:db8:f::80]:80"];
    let scene = Scene::new();
    let far = &scene.far[1];
    // Not limited in number.
    far.sysctl("ipv4/icmp_ratelimit", "0");
    far.sysctl("ipv6/icmp/ratelimit", "0");
    serve_dns(far, "192.0.2.53", "192.0.2.54", Say::Right);
    serve_dns(far, "2001:db8:f::53", "2001:db8:f::54", Say::Right);
    serve_tcp(far, "192.0.2.80", 80);
    serve_tcp(far, "2001:db8:f::80", 80);
    let mut prober = scene.prober(Scene::binding(1, None));
    for (reason, reason6) in REASONS.iter().zip(REASONS6) {
        let rules = format!(
            "table inet refuse {{
                counter refused {{ }}
                chain in {{
                    type filter hook input priority 0;
                    ip daddr 192.0.2.0/24 counter name refused reject with icmp type {reason}
                    ip6 daddr 2001:db8:f::/64 counter name refused reject with icmpv6 type {reason6}
                }}
            }}"
        );
        far.run(|| feed("nft", &["-f", "-"], &rules));
        for target in targets.iter().chain(&targets6) {
            scene.asks_in_vain(&mut prober, target, 1);
        }
        // All were asked, and refused.
        let listed = far.run(|| crate::support::filter::nft("list counter inet refuse refused"));
        assert!(!listed.contains("packets 0 "), "{listed}");
        far.run(|| crate::support::filter::nft("delete table inet refuse"));
        for (probe, target) in (2..).zip(targets.iter().chain(&targets6)) {
            scene.asks(&mut prober, target, probe);
        }
    }
}
