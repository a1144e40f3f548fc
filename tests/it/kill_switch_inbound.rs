//! What comes in by another line for somebody whom a kill switch is about: who is answered there, and who is not.

use std::process::Command;

use crate::support::internet::*;
use crate::support::*;

const CONFIG: &str = r#"
[[uplink]]
name = "isp1"
interface = "ppp0"
masquerade = true
[[uplink]]
name = "isp2"
interface = "ppp1"
[[tunnel]]
name = "vpn"
interface = "tun0"
[[policy]]
name = "user"
uid = 4242
via = "vpn"
otherwise = "unreachable"
[[policy]]
name = "lan"
iif = "eth2"
via = "vpn"
otherwise = "unreachable"
"#;

const FORWARD: &str = "-t nat -A PREROUTING -d 198.51.100.10 -p tcp --dport 8080 -j DNAT --to 192.168.2.30:7";

/// The kernel routes what a socket sends before OUTPUT gives it its connection's mark, and what it forwards after
/// PREROUTING has.
#[test]
fn a_users_own_sockets_answer_only_while_their_link_is_up_and_port_forwards_always() {
    let server = Server::new(CONFIG);
    let internet = Internet::new();
    internet.connect(ISP1);
    ok(&mut server.hook(UP, ISP1));
    internet.lan.serve_echo(ECHO);
    internet.server.serve_echo(ECHO);
    internet.server.serve_echo_as(4242, 4242);
    ok(Command::new("iptables").args(FORWARD.split(' ')));
    let by_tcp = |port| internet.world.run(|| ask_tcp((ISP1.local, port))).is_some();
    let by_udp = |port| internet.world.run(|| ask_udp((ISP1.local, port))).is_some();

    assert!(by_tcp(ECHO) && by_udp(ECHO), "root's");
    assert!(by_tcp(8080), "of the LAN");
    assert!(!by_tcp(4242) && !by_udp(4242), "the user's");
    internet.tunnel();
    ok(&mut server.openvpn(TUN, "up"));
    assert!(by_tcp(4242) && by_udp(4242), "the user's, while the tunnel is up");
    assert!(by_tcp(8080), "of the LAN, while the tunnel is up");
}
