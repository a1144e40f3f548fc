//! What the kernel learns of the path to a host takes none of its packets past the rules.

use std::io::{Read, Write};

use super::internet::*;
use crate::support::internet::ECHO;
use crate::support::*;

/// UDP to these hosts leaves by the second line only.
const POLICY: &str = "[[policy]]\nname = \"second\"\nto = \"2001:db8:f:5::/64\"\nproto = \"udp\"\nvia = [\"isp2\"]\n\
                      otherwise = \"unreachable\"\n";
const HOSTS: u8 = 12;
/// Of a line behind each provider.
const NARROW: usize = 1400;

fn hosts() -> impl Iterator<Item = String> {
    (1..=HOSTS).map(|n| format!("2001:db8:f:5::{n:x}"))
}

/// To each host the server sends much by TCP, and learns by a router's "packet too big" how much a packet may hold.
fn learn_paths(six: &Six) {
    for (provider, line) in six.internet.providers.iter().zip([SIX1, SIX2]) {
        // The router sends its errors from there, as a neighbour on the line.
        provider.ip(&format!("-6 addr add {} dev customer nodad", line.prefix.replace("::/48", "::1/64")));
        provider.sysctl("ipv6/icmp/ratelimit", "0");
        provider.ip(&format!("link set veth0 mtu {NARROW}"));
    }
    for host in hosts() {
        let (mut stream, _) = connect_from("::", (&host, ECHO)).expect("a connection");
        stream.write_all(&[0; 10 * NARROW]).unwrap();
        stream.read_exact(&mut [0; 10 * NARROW]).unwrap();
    }
    let learnt = ip("-6 route show cache table all");
    assert!(hosts().all(|host| learnt.contains(&format!("{host} "))), "{learnt}");
}

/// The kernel keeps it as an exception of the default route, a /128, which is not passed over as the default is.
#[test]
fn a_path_that_is_learnt_takes_no_packet_past_a_policy_or_a_kill_switch() {
    let server = Server::new(&format!("{LINKS}{POLICY}"));
    let six = Six::new();
    for line in [SIX1, SIX2] {
        six.begin(&server, line);
    }
    learn_paths(&six);
    for host in hosts() {
        assert!(ask_from("::", &host).is_some_and(|seen| SIX2.has(seen)), "{host}");
    }
    SIX2.lose(&server);
    for host in hosts() {
        assert_eq!(ask_from("::", &host), None, "{host}");
        assert!(connect_from("::", (&host, ECHO)).is_some_and(|(_, seen)| SIX1.has(seen)), "{host}");
    }
}
