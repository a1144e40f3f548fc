use super::*;
use crate::config;
use crate::ctl::lookup::FibNextHop;
use crate::model::names::DeviceName;
use crate::model::observed::Address;
use crate::model::routing::{Action, Device, FoundNextHop, FoundRule, Rule, Selector};
use crate::state::records::LinkRecord;

const CONFIG: &str = "
[[uplink]]
name = 'isp1'
interface = 'ppp0'

[[uplink]]
name = 'cable'
interface = 'eth1'

[[uplink]]
name = 'fixed'
interface = 'eth2'
gateway = '192.0.2.1'

[[tunnel]]
name = 'vpn'
interface = 'tun0'
";

/// An interface that is up, with `address peer-or-subnet`.
fn interface(index: u32, name: &str, arp: bool, address: &str) -> Interface {
    let addresses = address
        .split_once(' ')
        .map(|(local, reaches)| Address { local: local.parse().unwrap(), reaches: reaches.parse().unwrap() });
    Interface {
        device: Device { index, name: name.parse().unwrap() },
        state: InterfaceState::Up,
        arp,
        addresses: addresses.into_iter().collect(),
        addresses6: vec![],
        routes: vec![],
        group: 0,
        strict_rp_filter: false,
        lax_arp: vec![],
        ignores_linkdown: Some(true),
        ignores_linkdown6: Some(true),
    }
}

fn default(device: u32, gateway: Option<&str>, dead: bool) -> FibRoute {
    let gateway = gateway.map(|gateway| gateway.parse().unwrap());
    let hop = FoundNextHop { dead, ..FoundNextHop::new(device, gateway) };
    let next_hop = FibNextHop { hop, name: DeviceName::new("any"), group: 0 };
    FibRoute { metric: 100, protocol: 16, ..FibRoute::default_by(Family::V4, TableId::MAIN, vec![next_hop]) }
}

fn observed(interfaces: &[&Interface]) -> Observed {
    let interfaces = interfaces.iter().map(|&interface| (interface.device.name.clone(), interface.clone())).collect();
    Observed { interfaces, ..Observed::default() }
}

/// The commands that come out.
fn commands(
    interfaces: &[&Interface],
    defaults: &[FibRoute],
    records: &[(&str, LinkRecord)],
    sessions: &[(&str, &[&str])],
) -> Vec<String> {
    let config = config::parse(CONFIG, "test".as_ref()).unwrap();
    let records = records.iter().map(|(name, record)| (name.parse().unwrap(), record.clone())).collect();
    let session = |names: &[&str]| Session { peer: None, names: names.iter().map(|&name| name.to_owned()).collect() };
    let sessions = sessions.iter().map(|(on, names)| (on.parse().unwrap(), session(names))).collect();
    let found = find(&config, &records, &observed(interfaces), defaults, &sessions);
    found.iter().map(|untold| untold.command("mhctl").strip_prefix("mhctl link up ").unwrap().to_owned()).collect()
}

#[test]
fn the_next_hop_is_a_default_routes_gateway_or_the_other_end_or_the_interface_itself() {
    let ppp = interface(3, "ppp0", false, "198.51.100.10 198.51.100.1/32");
    assert_eq!(
        commands(&[&ppp], &[default(3, None, false)], &[], &[]),
        ["isp1 --interface=ppp0 --local=198.51.100.10 --gateway=198.51.100.1"]
    );
    let cable = interface(4, "eth1", true, "192.0.2.10 192.0.2.0/24");
    let router = default(4, Some("192.0.2.1"), false);
    assert_eq!(
        commands(&[&cable, &ppp], &[router], &[], &[]),
        [
            "isp1 --interface=ppp0 --local=198.51.100.10 --gateway=198.51.100.1",
            "cable --interface=eth1 --local=192.0.2.10 --gateway=192.0.2.1"
        ]
    );
    for unknown in [vec![], vec![default(4, Some("192.0.2.1"), true)], vec![default(9, Some("192.0.2.1"), false)]] {
        assert_eq!(
            commands(&[&cable], &unknown, &[], &[]),
            ["cable --interface=eth1 --local=192.0.2.10 --gateway=ROUTER"]
        );
    }
    let tunnel = interface(5, "tun0", false, "10.8.0.2 10.8.0.0/24");
    assert_eq!(commands(&[&tunnel], &[], &[], &[]), ["vpn --interface=tun0 --local=10.8.0.2"]);
    let peerless = interface(5, "ppp0", false, "198.51.100.10 198.51.100.10/32");
    assert_eq!(commands(&[&peerless], &[], &[], &[]), ["isp1 --interface=ppp0 --local=198.51.100.10"]);
}

#[test]
fn whose_a_line_is_pppd_says_before_its_interface_does() {
    let [first, second] = [(3, "ppp0", "198.51.100.10 198.51.100.1/32"), (4, "ppp7", "203.0.113.10 203.0.113.1/32")]
        .map(|(index, name, address)| interface(index, name, false, address));
    let second_is = ["isp1 --interface=ppp7 --local=203.0.113.10 --gateway=203.0.113.1"];
    assert_eq!(commands(&[&first, &second], &[], &[], &[("ppp7", &["isp1"]), ("ppp0", &["vpn"])])[0], second_is[0]);
    // One that pppd knows nothing of, and is nobody's by its interface.
    assert_eq!(commands(&[&second], &[], &[], &[]), [""; 0]);
    assert_eq!(commands(&[&second], &[], &[], &[("ppp7", &[])]), [""; 0]);
}

#[test]
fn what_is_down_or_told_or_needs_no_word_is_left_as_it_is() {
    let ppp = interface(3, "ppp0", false, "198.51.100.10 198.51.100.1/32");
    let down = Interface { state: InterfaceState::NoCarrier, ..ppp.clone() };
    let bare = interface(3, "ppp0", false, "");
    let fixed = interface(5, "eth2", true, "192.0.2.10 192.0.2.0/24");
    assert_eq!(commands(&[&down, &fixed], &[], &[], &[]), [""; 0]);
    assert_eq!(commands(&[&bare], &[], &[], &[]), [""; 0]);
    let record = |index| LinkRecord {
        interface: "ppp0".parse().unwrap(),
        index,
        session: None,
        since: 0,
        v4: Some(Addresses::none(Family::V4)),
        v6: None,
    };
    assert_eq!(commands(&[&ppp], &[], &[("isp1", record(3))], &[]), [""; 0]);
    assert_eq!(commands(&[&ppp], &[], &[("vpn", record(3))], &[]), [""; 0]);
    // Of an interface that is gone.
    assert_eq!(commands(&[&ppp], &[], &[("isp1", record(2))], &[]).len(), 1);
}

/// Whoever dials in is nobody's, whichever interface he gets: a server's pppd says his name.
#[test]
fn a_client_that_has_dialled_in_is_no_link() {
    let ppp = interface(3, "ppp0", false, "10.0.0.1 203.0.113.77/32");
    assert_eq!(commands(&[&ppp], &[], &[], &[("ppp0", &["203.0.113.77"])]), [""; 0]);
    assert_eq!(commands(&[&ppp], &[], &[], &[("ppp0", &[])]).len(), 1);
}

/// What is told of IPv6, where all of IPv4 is told of.
fn of_ipv6(interface: &Interface, defaults: &[FibRoute], v6: Option<Addresses>) -> Vec<String> {
    let config = config::parse(CONFIG, "test".as_ref()).unwrap();
    let (name, index) = (interface.device.name.clone(), interface.device.index);
    let link = config.link_on(&name).unwrap().name.clone();
    let local = interface.addresses.first().map(|address| address.local);
    let v4 = Some(Addresses { local, gateway: "198.51.100.1".parse().ok(), ..Addresses::none(Family::V4) });
    let record = LinkRecord { interface: name, index, session: None, since: 0, v4, v6 };
    let records = [(link, record)].into_iter().collect();
    let local = Action::Lookup { table: TableId::LOCAL, suppress_prefixlength: None };
    let rule = Rule { family: Family::V6, priority: 0, selector: Selector::default(), action: local };
    let observed = Observed { rules: vec![FoundRule { rule, protocol: 2, more: None }], ..observed(&[interface]) };
    let found = find(&config, &records, &observed, defaults, &BTreeMap::new());
    found.iter().map(|untold| untold.command("mhctl").strip_prefix("mhctl link up ").unwrap().to_owned()).collect()
}

#[test]
fn ipv6_of_a_link_that_nobody_has_told_of_is_found() {
    let with = |index, name, arp, address: &str, own: &[&str]| {
        let addresses6 = own.iter().map(|net| {
            let net: ipnet::IpNet = net.parse().unwrap();
            Address { local: HostAddr::new(net.addr()).unwrap(), reaches: net.trunc() }
        });
        Interface { addresses6: addresses6.collect(), ..interface(index, name, arp, address) }
    };
    let ppp = |own: &[&str]| with(3, "ppp0", false, "198.51.100.10 198.51.100.1/32", own);
    assert_eq!(of_ipv6(&ppp(&["fe80::a/64"]), &[], None), ["isp1 --interface=ppp0 --ipv6"]);
    assert_eq!(of_ipv6(&ppp(&[]), &[], None), [""; 0]);
    let told = Addresses { local: "fe80::a".parse().ok(), ..Addresses::none(Family::V6) };
    assert_eq!(of_ipv6(&ppp(&["fe80::a/64"]), &[], Some(told)), [""; 0]);
    let cable = |own: &[&str]| with(4, "eth1", true, "192.0.2.10 192.0.2.0/24", own);
    assert_eq!(of_ipv6(&cable(&["fe80::b/64"]), &[], None), [""; 0], "each Ethernet has one");
    let global = ["fe80::b/64", "2001:db8:2::10/64"];
    assert_eq!(of_ipv6(&cable(&global), &[], None), ["cable --interface=eth1 --ipv6 --gateway6=ROUTER"]);
    let tunnel = |own: &[&str]| with(5, "tun0", false, "10.8.0.2 10.8.0.0/24", own);
    assert_eq!(of_ipv6(&tunnel(&["fe80::c/64"]), &[], None), [""; 0], "the kernel makes one");
    assert_eq!(of_ipv6(&tunnel(&["fe80::c/64", "fd00::2/64"]), &[], None), ["vpn --interface=tun0 --ipv6"]);
}
