//! Connections stay on the link that they leave by, whatever they came in by, and what main reaches by a link's own
//! Ethernet is reached there.

use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::support::filter::*;
use crate::support::internet::*;
use crate::support::segment::*;
use crate::support::*;

fn tracked(mark: &str) -> usize {
    let output = ok(Command::new("conntrack").args(["-L", "-p", "tcp", "--mark", mark]));
    String::from_utf8(output.stdout).unwrap().lines().count()
}

/// A connection to each of some hosts of the Internet.
fn connect_all(from: &Namespace, net: u8, count: u8) -> Vec<(TcpStream, Ipv4Addr)> {
    let to: Vec<_> = (0..count).map(|n| format!("100.64.{net}.{n}")).collect();
    from.run(|| to.iter().map(|host| connect_tcp((host, ECHO)).expect("a new connection")).collect())
}

fn talking(streams: &mut [(TcpStream, Ipv4Addr)]) -> usize {
    streams.iter_mut().filter_map(|(stream, _)| talks(stream).then_some(())).count()
}

fn by(line: Line, streams: &[(TcpStream, Ipv4Addr)]) -> usize {
    let local: Ipv4Addr = line.local.parse().unwrap();
    streams.iter().filter(|(_, seen)| *seen == local).count()
}

/// Nearly everything new goes by the second uplink.
fn turn(server: &Server, config: &str) {
    server.configure(&config.replace("weight = 1\n", "weight = 256\n"));
    server.apply();
}

#[test]
fn a_lan_on_the_routers_own_ethernet_stays_where_its_connections_began() {
    let (server, internet, segment) = one_armed();
    let host = &segment.hosts[2];
    server.apply();
    let mut streams = connect_all(host, 1, 30);
    assert_eq!(by(Line { local: OWN, ..ISP1 }, &streams), 30);
    internet.connect(ISP2);
    ok(&mut server.hook(UP, ISP2));
    assert_eq!(talking(&mut streams), 30);

    streams.extend(connect_all(host, 2, 30));
    let lte = by(ISP2, &streams);
    assert!(lte > 5 && lte < 25, "{lte}");
    assert_eq!((tracked("0x1/0x3"), tracked("0x2/0x3")), (60 - lte, lte));
    turn(&server, ONE_ARMED);
    assert_eq!(talking(&mut streams), 60);

    // To the server and back: no link has to do with it.
    let own = Namespace::here();
    own.serve_echo(9);
    let answers = host.run(|| [ask_tcp((OWN, 9)), ask_udp((OWN, 9))]);
    assert_eq!(answers, [Some(HOST.parse().unwrap()); 2]);
    host.serve_echo(11);
    assert!((0..3).all(|_| ask_tcp((HOST, 11)) == Some(OWN.parse().unwrap())));
    // From the Internet, by both lines, to a host on that Ethernet.
    for (line, proto) in [OWN, ISP2.local].iter().flat_map(|line| ["tcp", "udp"].map(|proto| (line, proto))) {
        iptables(&format!("-t nat -A PREROUTING -d {line} -p {proto} --dport 8080 -j DNAT --to {HOST}:11"));
    }
    for line in [OWN, ISP2.local] {
        for n in 0..12 {
            let client = format!("100.64.3.{n}:0");
            let answer = internet.world.run(|| ask_udp_from(&client, (line, 8080)));
            assert!(answer.is_some(), "{line}, {client}");
        }
        assert!(internet.world.run(|| ask_tcp((line, 8080))).is_some(), "{line}");
    }
}

#[test]
fn the_gateways_own_errors_reach_the_host_that_they_are_about() {
    let (server, internet, segment) = one_armed();
    server.apply();
    segment.hosts[0].ip("link set wan mtu 1400");
    let learnt = segment.hosts[2].run(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        assert!(ask_again(&socket, ("100.64.5.5", ECHO)).is_some());
        socket.send_to(&[0; 1440], "100.64.5.5:7").unwrap();
        std::thread::sleep(Duration::from_millis(100));
        ip("route get 100.64.5.5")
    });
    assert!(learnt.contains("mtu 1400"), "{learnt}");
    drop(internet);
}

/// A line, its gateway, a second router behind which 10.77.0.0/16 is, and a route to that in main.
#[test]
fn a_route_of_main_by_another_router_on_an_uplinks_ethernet_holds_for_every_packet() {
    let (server, internet, segment) = one_armed();
    let (second, server_side) = (&segment.hosts[1], Namespace::here());
    let beyond = Namespace::new();
    second.ip("link add far type veth peer name near");
    second.run(|| beyond.adopt("near"));
    second.ip("addr add 10.77.0.1/24 dev far");
    second.ip("link set far up");
    second.sysctl("ipv4/ip_forward", "1");
    second.ip(&format!("route add default via {OWN}"));
    beyond.ip("addr add 10.77.0.5/24 dev near");
    beyond.ip("link set near up");
    beyond.ip("route add default via 10.77.0.1");
    beyond.serve_echo(ECHO);
    server_side.serve_echo(ECHO);
    // What main reaches by the gateway is as the link's table has it.
    ip(&format!("route add 100.64.99.0/24 via {ROUTER}"));
    ip(&format!("route add 10.77.0.0/16 via {SECOND_ROUTER}"));
    server.apply();
    internet.connect(ISP2);
    ok(&mut server.hook(UP, ISP2));
    let own: Option<Ipv4Addr> = OWN.parse().ok();
    let counts = || {
        let out = (0..3).filter(|_| ask_tcp(("10.77.0.5", ECHO)) == own).count();
        let lan = internet.lan.run(|| (0..3).filter(|_| ask_tcp(("10.77.0.5", ECHO)) == own).count());
        let into = beyond.run(|| (0..3).filter(|_| ask_tcp((OWN, ECHO)).is_some()).count());
        [out, lan, into]
    };
    assert_eq!(counts(), [3; 3]);
    // The Internet is reached from there as from anywhere, and stays where it was.
    let mut streams = connect_all(&beyond, 4, 30);
    let lte = by(ISP2, &streams);
    assert!(lte > 0 && lte < 30, "{lte}");
    turn(&server, ONE_ARMED);
    assert_eq!(talking(&mut streams), 30);
    assert_eq!(ask_tcp(("100.64.99.1", ECHO)), own);

    // A route that comes later holds from the next event on, for connections too that were marked meanwhile.
    ip("route del 10.77.0.0/16");
    server.apply();
    ip(&format!("route add 10.77.0.0/24 metric 5 nexthop via {SECOND_ROUTER}"));
    let stuck = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let _ = ask_again(&stuck, ("10.77.0.5", ECHO));
    server.apply();
    assert_eq!(ask_again(&stuck, ("10.77.0.5", ECHO)), own);
    assert_eq!(counts(), [3; 3]);
}

#[test]
fn peers_of_a_tap_tunnel_with_a_gateway_are_reached_directly() {
    let tunnel = "[[tunnel]]\nname = \"vpn\"\ninterface = \"tap0\"\ngateway = \"10.9.0.1\"\n";
    let server = Server::new(&format!("{ONE_ARMED}{tunnel}"));
    let internet = Internet::new();
    let segment = Segment::new("tap0", "10.9.0.2", &["10.9.0.1", "10.9.0.5", "10.9.0.6"]);
    internet.server.serve_echo(ECHO);
    for host in &segment.hosts {
        host.serve_echo(ECHO);
    }
    server.apply();
    let seen: Option<Ipv4Addr> = "10.9.0.2".parse().ok();
    assert_eq!(["10.9.0.5", "10.9.0.6"].map(|peer| ask_tcp((peer, ECHO))), [seen; 2]);
    assert_eq!(segment.hosts[1].run(|| ask_tcp(("10.9.0.2", ECHO))), "10.9.0.5".parse().ok());
}

/// Two uplinks, nothing new by the second at first, and a tunnel; all masqueraded.
const MASQUERADED: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nmasquerade = true\n\
                           [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\nweight = 1\nmasquerade = true\n\
                           [[tunnel]]\nname = \"vpn\"\ninterface = \"tun0\"\nmasquerade = true\n\
                           [[policy]]\nname = \"site\"\nto = \"10.9.0.0/24\"\nvia = [\"vpn\"]\n";

fn scene(lines: &[Line]) -> (Server, Internet) {
    let server = Server::new(MASQUERADED);
    let internet = Internet::new();
    for line in lines {
        internet.connect(*line);
        ok(&mut server.hook(UP, *line));
    }
    (server, internet)
}

/// Each of 12 clients of each line asks for a port forward to `host`: how many got an answer.
fn forwarded(internet: &Internet, host: &str) -> [usize; 2] {
    [ISP1, ISP2].map(|line| {
        iptables(&format!("-t nat -A PREROUTING -d {} -p udp --dport 8080 -j DNAT --to {host}:7", line.local));
        let asked = |n: &u8| ask_udp_from(&format!("100.64.3.{n}:0"), (line.local, 8080)).is_some();
        internet.world.run(|| (0..12).filter(asked).count())
    })
}

#[test]
fn a_port_forward_to_a_host_behind_the_tunnel_answers_by_the_line_that_the_question_came_by() {
    let (server, internet) = scene(&[ISP1, ISP2]);
    internet.tunnel();
    ok(&mut server.openvpn(TUN, "up"));
    assert_eq!(forwarded(&internet, "10.9.0.5"), [12, 12]);
}

#[test]
fn a_port_forward_to_a_host_of_the_internet_answers_by_the_line_that_the_question_came_by() {
    let (_server, internet) = scene(&[ISP1, ISP2]);
    assert_eq!(forwarded(&internet, "100.64.77.7"), [12, 12]);
}

#[test]
fn a_tunnels_clients_stay_on_the_uplink_that_their_connections_leave_by() {
    let (server, internet) = scene(&[ISP1]);
    let client = Namespace::new();
    TUN.create();
    client.adopt("tun0-far");
    for args in
        ["link set tun0-far up", "addr add 10.8.0.1 peer 10.8.0.2 dev tun0-far", "route add default via 10.8.0.2"]
    {
        client.ip(args);
    }
    ok(&mut server.openvpn(TUN, "up"));
    let mut streams = connect_all(&client, 1, 30);
    internet.connect(ISP2);
    ok(&mut server.hook(UP, ISP2));
    assert_eq!(talking(&mut streams), 30);
    streams.extend(connect_all(&client, 2, 30));
    let second = by(ISP2, &streams);
    assert!(second > 5 && second < 25, "{second}");
    turn(&server, MASQUERADED);
    assert_eq!(talking(&mut streams), 60);
    // Its own services and the server's, which no uplink has to do with.
    internet.server.serve_echo(ECHO);
    client.serve_echo(ECHO);
    assert!(client.run(|| ask_tcp((TUN.local, ECHO))).is_some());
    assert!(ask_tcp((TUN.remote, ECHO)).is_some());
}

/// Providers announce a network of ours both, and what leaves by one is answered by the other.
#[test]
fn an_answer_that_comes_by_another_line_than_the_question_left_by_reaches_the_lan() {
    let (_server, internet) = scene(&[ISP1, ISP2]);
    iptables("-t nat -I POSTROUTING -s 192.0.2.0/24 -j ACCEPT");
    ip("route add 192.0.2.0/24 dev eth2");
    internet.lan.ip("addr add 192.0.2.30/32 dev eth0");
    for (provider, line) in internet.providers.iter().zip([ISP1, ISP2]) {
        provider.ip(&format!("route add 192.0.2.0/24 via {}", line.local));
    }
    internet.world.ip("route add 192.0.2.0/24 via 10.1.0.1");
    let ask = |n: &u8| ask_udp_from("192.0.2.30:0", (&format!("100.64.6.{n}"), ECHO)).is_some();
    assert_eq!(internet.lan.run(|| (0..20).filter(ask).count()), 20);
    let talk = |n: u8| {
        internet.lan.run(|| {
            let socket = std::net::UdpSocket::bind("192.0.2.30:0").unwrap();
            (0..5).filter(|_| ask_again(&socket, (&format!("100.64.7.{n}"), ECHO)).is_some()).count()
        })
    };
    assert_eq!((0..20).map(talk).sum::<usize>(), 100);
    assert!(tracked_udp("0x1/0x7") > 5, "some leave by the first line");
    // A host of the Internet that begins is answered by the line that it came by.
    internet.lan.serve_echo(ECHO);
    let client = |n: &u8| ask_udp_from(&format!("100.64.8.{n}:0"), ("192.0.2.30", ECHO)).is_some();
    assert_eq!(internet.world.run(|| (0..12).filter(client).count()), 12);
    assert!(tracked_udp("0x2/0x7") >= 12);
}

fn tracked_udp(mark: &str) -> usize {
    let output = ok(Command::new("conntrack").args(["-L", "-p", "udp", "--mark", mark]));
    String::from_utf8(output.stdout).unwrap().lines().count()
}

#[test]
fn connections_that_began_while_our_rules_were_away_are_sticky_from_their_next_packet_on() {
    let server = Server::new(&format!("{MASQUERADED}[settings]\nfirewall = \"none\"\n"));
    let internet = Internet::new();
    // The administrator's own; the first event that may load rules comes later.
    iptables("-t nat -A POSTROUTING -o ppp+ -j MASQUERADE");
    internet.connect(ISP1);
    ok(&mut server.hook(UP, ISP1));
    let mut streams = connect_all(&internet.lan, 1, 20);
    server.configure(MASQUERADED);
    ok(&mut server.hook(UP, ISP1));
    // A firewall that is loaded anew flushes what others have in it.
    flush_marks();
    streams.extend(connect_all(&internet.lan, 2, 20));
    ok(&mut server.hook(UP, ISP1));
    assert_eq!(talking(&mut streams), 40);
    internet.connect(ISP2);
    ok(&mut server.hook(UP, ISP2));
    assert_eq!(talking(&mut streams), 40);
    turn(&server, MASQUERADED);
    assert_eq!(talking(&mut streams), 40);
}

/// Somebody has flushed our rules, and nobody sends anything until the event that restores them brings a second uplink.
#[test]
fn connections_that_began_while_our_rules_were_away_stay_where_they_are_though_they_are_silent() {
    let (server, internet) = scene(&[ISP1]);
    internet.lan.serve_echo(ECHO);
    Namespace::here().serve_echo(9);
    iptables(&format!("-t nat -A PREROUTING -d {} -p tcp --dport 8080 -j DNAT --to {LAN_HOST}:7", ISP1.local));
    flush_marks();
    let mut streams = connect_all(&internet.lan, 1, 30);
    streams.extend(connect_all(&internet.server, 2, 10));
    let client = || connect_tcp((ISP1.local, 8080)).expect("a port forward");
    streams.extend(internet.world.run(|| (0..10).map(|_| client()).collect::<Vec<_>>()));
    // The uplink's address is at one end of this, and the uplink has nothing to do with it.
    streams.push(internet.lan.run(|| connect_tcp((ISP1.local, 9)).expect("the router")));
    internet.connect(ISP2);
    ok(&mut server.hook(UP, ISP2));
    assert_eq!(tracked("0x1/0x7"), 50);
    turn(&server, MASQUERADED);
    assert_eq!(talking(&mut streams), 51);
}

/// What is due when ISP2 comes up while our chains are away.
fn due_without_chains(config: &str) -> Vec<String> {
    let (server, internet) = scene(&[ISP1]);
    server.configure(config);
    server.apply();
    flush_marks();
    internet.connect(ISP2);
    let mut hook = server.bare(UP);
    hook.args(["--dry-run", ISP2.device, "/dev/pts/7", "115200", ISP2.local, ISP2.remote, ISP2.link]);
    let said = String::from_utf8(ok(&mut hook).stdout).unwrap();
    said.lines().filter(|l| l.starts_with("conntrack") || l.starts_with("ip nexthop")).map(str::to_owned).collect()
}

/// Its packets have been refused since; with a mark they would leave.
#[test]
fn connections_without_marks_get_none_where_there_is_a_kill_switch() {
    let marks = format!("conntrack -U -f ipv4 --reply-dst {} --mark 0x1/0x7", ISP1.local);
    let due = due_without_chains(MASQUERADED);
    assert!(due.len() > 1 && due[0] == marks, "{due:?}");
    let due = due_without_chains(&format!("{MASQUERADED}otherwise = \"unreachable\"\n"));
    assert!(!due.is_empty() && due.iter().all(|line| line.starts_with("ip ")), "{due:?}");
}

/// What an earlier release has loaded: marks of new connections by the link that they came in by, then by that they left by.
const EARLIER: &str = "\
*mangle
:MULTIHOME-PREROUTING - [0:0]
:MULTIHOME-OUTPUT - [0:0]
:MULTIHOME-POSTROUTING - [0:0]
-A PREROUTING -j MULTIHOME-PREROUTING
-A OUTPUT -j MULTIHOME-OUTPUT
-A POSTROUTING -j MULTIHOME-POSTROUTING
-A MULTIHOME-PREROUTING -m devgroup --src-group 7000 -m conntrack --ctstate NEW -m connmark --mark 0/7 -j CONNMARK --set-xmark 1/7
-A MULTIHOME-PREROUTING -m devgroup --src-group 7000 -j RETURN
-A MULTIHOME-PREROUTING -m connmark ! --mark 0/7 -j CONNMARK --restore-mark --nfmask 7 --ctmask 7
-A MULTIHOME-OUTPUT -m connmark ! --mark 0/7 -j CONNMARK --restore-mark --nfmask 7 --ctmask 7
-A MULTIHOME-POSTROUTING -m devgroup --dst-group 7000 -m conntrack --ctstate NEW -m connmark --mark 0/7 -j CONNMARK --set-xmark 1/7
COMMIT
";

#[test]
fn connections_that_an_earlier_release_has_marked_stay_where_they_are() {
    let (server, internet) = scene(&[ISP1]);
    flush_marks();
    feed("iptables-restore", &["-n"], EARLIER);
    internet.lan.serve_echo(ECHO);
    iptables(&format!("-t nat -A PREROUTING -d {} -p tcp --dport 8080 -j DNAT --to {LAN_HOST}:7", ISP1.local));

    let mut streams = connect_all(&internet.lan, 1, 20);
    streams.extend(connect_all(&internet.server, 2, 4));
    let client = || connect_tcp((ISP1.local, 8080)).expect("a port forward");
    streams.extend(internet.world.run(|| (0..8).map(|_| client()).collect::<Vec<_>>()));
    ok(&mut server.hook(UP, ISP1));
    internet.connect(ISP2);
    ok(&mut server.hook(UP, ISP2));
    turn(&server, MASQUERADED);
    assert_eq!(talking(&mut streams), 32);
}

/// The lines of the plan of a line's first event that load rules, and that change the default.
fn order(server: &Server, line: Line) -> (usize, usize) {
    line.create();
    let mut hook = server.bare(UP);
    hook.args(["--dry-run", line.device, "/dev/pts/7", "115200", line.local, line.remote, line.link]);
    let said = String::from_utf8(ok(&mut hook).stdout).unwrap();
    let at = |what: &str| said.lines().position(|l| l.starts_with(what)).unwrap_or_else(|| panic!("{what}: {said}"));
    let loads = if firewall() == "auto" { "nft -f" } else { "iptables-restore" };
    (at(loads), at("ip nexthop replace"))
}

/// One event loads the rules and changes the routes: connections under way have to be marked in between.
#[test]
fn rules_are_loaded_before_another_line_can_take_a_connection_and_after_the_first_default() {
    let server = Server::new(ARTICLE);
    // Nobody is kept waiting by a packet filter that is locked.
    let (rules, routes) = order(&server, ISP1);
    assert!(rules > routes);
    ok(&mut server.hook(UP, ISP1));
    flush_marks();
    let (rules, routes) = order(&server, ISP2);
    assert!(rules < routes);
}

/// What leaves untranslated stays so for as long as its connection lives.
#[test]
fn what_masquerades_is_loaded_before_the_first_default() {
    let server = Server::new(MASQUERADED);
    let (rules, routes) = order(&server, ISP1);
    assert!(rules < routes);
}
