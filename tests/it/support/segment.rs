//! An Ethernet with several hosts on it: a LAN, its routers and the server, which has no other.

use super::Server;
use super::internet::{Internet, Namespace, sysctl};

/// The server's only Ethernet, a LAN's and its DSL router's: addresses.
pub const OWN: &str = "192.168.1.2";
pub const ROUTER: &str = "192.168.1.1";
pub const SECOND_ROUTER: &str = "192.168.1.254";
pub const HOST: &str = "192.168.1.30";

pub const ONE_ARMED: &str = "[[uplink]]\nname = \"dsl\"\ninterface = \"eth0\"\ngateway = \"192.168.1.1\"\nmasquerade = true\n\
                         [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\nweight = 1\nmasquerade = true\n";

/// An Ethernet with these hosts on it, each a namespace with one device, `eth0`; the server's is `device`.
pub struct Segment {
    _switch: Namespace,
    pub hosts: Vec<Namespace>,
}

impl Segment {
    pub fn new(device: &str, own: &str, hosts: &[&str]) -> Self {
        let switch = Namespace::new();
        switch.ip("link add br0 type bridge");
        switch.ip("link set br0 up");
        let plug = |from: &Namespace, device: &str, address: &str, n: usize| {
            from.ip(&format!("link add {device} type veth peer name port{n}"));
            from.run(|| switch.adopt(&format!("port{n}")));
            switch.ip(&format!("link set port{n} up master br0"));
            from.ip(&format!("addr add {address}/24 dev {device}"));
            from.ip(&format!("link set {device} up"));
        };
        plug(&Namespace::here(), device, own, 0);
        let hosts: Vec<_> = hosts.iter().map(|_| Namespace::new()).zip(hosts).collect();
        for (n, (host, address)) in hosts.iter().enumerate() {
            plug(host, "eth0", address, n + 1);
        }
        Self { _switch: switch, hosts: hosts.into_iter().map(|(host, _)| host).collect() }
    }
}

/// The first host is a router, and leads to the Internet.
fn uplink(internet: &Internet, segment: &Segment) {
    let router = &segment.hosts[0];
    internet.world.ip("link add dsl type veth peer name wan");
    internet.world.run(|| router.adopt("wan"));
    internet.world.ip("addr add 10.5.0.2/30 dev dsl");
    internet.world.ip("link set dsl up");
    internet.world.ip("route add 192.168.1.0/24 via 10.5.0.1");
    router.ip("addr add 10.5.0.1/30 dev wan");
    router.ip("link set wan up");
    router.ip("route add default via 10.5.0.2");
    router.sysctl("ipv4/ip_forward", "1");
}

/// A server whose LAN is on the Ethernet of its first uplink: routers first, then a host.
pub fn one_armed() -> (Server, Internet, Segment) {
    let server = Server::new(ONE_ARMED);
    let internet = Internet::new();
    let segment = Segment::new("eth0", OWN, &[ROUTER, SECOND_ROUTER, HOST]);
    uplink(&internet, &segment);
    // The hosts' way is the server's to choose, and it does not send them elsewhere.
    for device in ["all", "eth0"] {
        sysctl(&format!("ipv4/conf/{device}/send_redirects"), "0");
    }
    segment.hosts[2].ip(&format!("route add default via {OWN}"));
    (server, internet, segment)
}
