//! A server with two uplinks of one tier, one of another, and a tunnel; tests take pieces away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::super::facts::{Clock, Facts, Seen};
use super::super::text;
use crate::config::{self, Config};
use crate::ctl::counters::Counters;
use crate::ctl::detours;
use crate::ctl::show::Screen;
use crate::event::Addresses;
use crate::model::names::{Family, HostAddr, IfName, TableId, Weight};
use crate::model::observed::{Address, Interface, InterfaceState, Observed};
use crate::model::routing::{
    Action, Device, FoundRoute, FoundRule, FoundTarget, NextHop, NexthopKind, NexthopObject, Rule, Selector, Target,
    WeightedNextHop,
};
use crate::reconcile::desired::{DefaultRouteMode, Desired};
use crate::reconcile::link_state::LinkStates;
use crate::state::records::{LinkRecord, LinkRecords};
use crate::watch::memory::Report;

pub(super) const CONFIG: &str = r#"
[settings]
firewall = "none"
[[uplink]]
name = "fibre"
interface = "ppp0"
weight = 2
[[uplink]]
name = "cable"
interface = "eth1"
gateway = "203.0.113.1"
[[uplink]]
name = "lte"
interface = "wwan0"
tier = 2
[[tunnel]]
name = "office"
interface = "wg0"
[[policy]]
name = "mail"
proto = "tcp"
dport = 25
via = ["fibre"]
[[policy]]
name = "telephones of the house, which need the line of least delay"
from = "192.168.7.0/24"
via = ["cable", "fibre"]
[[policy]]
name = "work"
to = "10.0.0.0/8"
via = ["office"]
otherwise = "unreachable"
"#;
pub(super) const NOW: u64 = 1_800_000_000;

pub(super) struct Server {
    pub(super) config: Config,
    pub(super) records: LinkRecords,
    pub(super) observed: Observed,
    pub(super) counters: BTreeMap<IfName, Counters>,
    pub(super) ways: detours::Found,
    /// Default routes that the kernel has made of advertisements.
    advertised: Vec<FoundRoute>,
    pub(super) since6: BTreeMap<u32, u64>,
    pub(super) silent: BTreeSet<(Family, IfName)>,
    pub(super) report: Option<Report>,
}

/// As every kernel starts with it.
fn main_rule(family: Family) -> FoundRule {
    let action = Action::Lookup { table: TableId::MAIN, suppress_prefixlength: None };
    let rule = Rule { family, priority: 32766, selector: Selector::default(), action };
    FoundRule { rule, protocol: 2, more: None }
}

impl Server {
    pub(super) fn new() -> Self {
        let mut server = Self {
            config: config::parse(CONFIG, Path::new("f")).unwrap(),
            records: LinkRecords::new(),
            observed: Observed {
                nexthops: Some(BTreeMap::new()),
                rules: Family::BOTH.map(main_rule).to_vec(),
                ..Observed::default()
            },
            counters: BTreeMap::new(),
            ways: detours::Found::default(),
            silent: BTreeSet::new(),
            advertised: Vec::new(),
            since6: BTreeMap::new(),
            report: None,
        };
        for (index, name, address, bytes) in [
            (1, "ppp0", "198.51.100.10", 1_234_567_890),
            (2, "eth1", "203.0.113.10", 98_765),
            (3, "wwan0", "192.0.2.77", 999),
            (4, "wg0", "10.9.0.2", 0),
        ] {
            let name: IfName = name.parse().unwrap();
            let local: HostAddr = address.parse().unwrap();
            let device = Device { index, name: name.clone() };
            let addresses =
                vec![Address { local, reaches: format!("{address}/24").parse::<ipnet::IpNet>().unwrap().trunc() }];
            let interface = Interface {
                device,
                state: InterfaceState::Up,
                arp: false,
                addresses,
                addresses6: vec![],
                routes: vec![],
                strict_rp_filter: false,
                ignores_linkdown: Some(true),
                ignores_linkdown6: Some(true),
                lax_arp: vec![],
                group: 0,
            };
            server.observed.interfaces.insert(name.clone(), interface);
            server.counters.insert(
                name,
                Counters { index, received_packets: 0, sent_packets: 0, received: bytes, sent: bytes / 10 },
            );
        }
        for (index, link, interface, local, gateway, age) in [
            (1, "fibre", "ppp0", "198.51.100.10", Some("198.51.100.1"), 2 * 86400 + 4 * 3600 + 60),
            (3, "lte", "wwan0", "192.0.2.77", Some("192.0.2.1"), 3 * 3600 + 61),
            (4, "office", "wg0", "10.9.0.2", None, 42),
        ] {
            let (local, gateway) = (local.parse().ok(), gateway.map(|g| g.parse().unwrap()));
            let v4 = Addresses { local, gateway, ..Addresses::none(Family::V4) };
            let interface = interface.parse().unwrap();
            let record = LinkRecord { interface, index, session: None, since: NOW - age, v4: Some(v4), v6: None };
            server.records.insert(link.parse().unwrap(), record);
        }
        server.apply();
        server
    }

    /// IPv6 of fibre as pppd reports it, and of cable as its router advertises it.
    pub(super) fn add_ipv6(&mut self) {
        for (interface, addresses) in
            [("ppp0", ["fe80::a/64", "2001:db8:1::10/64"]), ("eth1", ["fe80::b/64", "2001:db8:2::10/64"])]
        {
            let found = self.observed.interfaces.get_mut(&interface.parse().unwrap()).unwrap();
            for address in addresses {
                let net: ipnet::IpNet = address.parse().unwrap();
                found.addresses6.push(Address { local: HostAddr::new(net.addr()).unwrap(), reaches: net.trunc() });
            }
        }
        let (local, gateway) = ("fe80::a".parse().ok(), "fe80::1".parse().ok());
        let prefixes = vec!["2001:db8:100::/48".parse().unwrap()];
        let v6 = Addresses { local, gateway, prefixes, ..Addresses::none(Family::V6) };
        self.records.get_mut(&"fibre".parse().unwrap()).unwrap().v6 = Some(v6);
        self.since6.insert(1, NOW - 3600);
        let next_hop = NextHop {
            device: self.observed.interfaces[&"eth1".parse::<IfName>().unwrap()].device.clone(),
            gateway: "fe80::2".parse().ok(),
            onlink: false,
        };
        self.advertised.push(FoundRoute {
            family: Family::V6,
            table: TableId::MAIN,
            metric: 1024,
            protocol: 9,
            target: FoundTarget::NextHops(vec![WeightedNextHop { next_hop, weight: Weight::default() }]),
        });
        self.observed.routes.extend(self.advertised.clone());
        self.apply();
    }

    /// The kernel becomes what is wanted.
    pub(super) fn apply(&mut self) {
        let states = LinkStates::new(&self.config, &self.records, &self.observed);
        let protocol = self.config.settings.protocol;
        let desired = Desired::new(&self.config, &states.routed(), DefaultRouteMode::Objects);
        let desired = desired.for_kernel(&self.observed, &self.config);
        let nexthop = |kind| NexthopObject { protocol, kind };
        let singles =
            desired.nexthops.iter().map(|(id, next_hop)| (*id, nexthop(NexthopKind::Single(next_hop.clone()))));
        let groups = desired.groups.iter().map(|(id, all)| (*id, nexthop(NexthopKind::Group(all.clone()))));
        let nexthops: BTreeMap<_, _> = singles.chain(groups).collect();
        let routes = desired.routes.iter().map(|route| FoundRoute {
            family: route.family,
            table: route.table,
            metric: route.metric,
            protocol,
            target: match &route.target {
                Target::Group(id) => FoundTarget::Nexthop { id: *id, devices: vec![] },
                Target::NextHops(hops) => FoundTarget::NextHops(hops.clone()),
            },
        });
        self.observed.routes = routes.chain(self.advertised.clone()).collect();
        let found = |rule| FoundRule { rule, protocol, more: None };
        self.observed.rules = desired.rules.into_iter().map(found).collect();
        self.observed.rules.extend(Family::BOTH.map(main_rule));
        self.observed.nexthops = Some(nexthops);
    }

    pub(super) fn facts(&self) -> Facts {
        let Self { config, records, observed, counters, ways, silent, .. } = self;
        let clock = Clock { unix: NOW, uptime: Some(90 * 86400) };
        let states = &LinkStates::new(config, records, observed);
        let (since6, report, mhctl) = (&self.since6, self.report.as_ref(), "mhctl");
        let forwards6 = true;
        let seen = Seen { config, records, observed, states, counters, ways, silent, forwards6, since6, report, mhctl };
        Facts::new(&seen, clock, vec![])
    }

    pub(super) fn wide(&self, width: usize) -> String {
        let shown = text(&self.facts(), Screen { width: Some(width), ..Screen::PLAIN });
        for line in shown.lines() {
            assert!(line.chars().count() <= width, "{line:?}");
        }
        shown
    }

    /// mh-watch runs, and says this of links in IPv4: state, seconds, microseconds, and lost of 100 probes.
    pub(super) fn watched(&mut self, links: &[(&str, &str, u64, u64, u32)]) {
        let uplink = |(link, state, seconds, rtt_us, lost): &(&str, &str, u64, u64, u32)| {
            serde_json::json!({
                "link": link, "family": 4, "state": state, "for_ms": seconds * 1000, "rtt_us": rtt_us, "lost": lost,
                "probes": 100
            })
        };
        let uplinks: Vec<_> = links.iter().map(uplink).collect();
        let report = serde_json::json!({ "version": 1, "boot": "", "at": u64::MAX, "pid": 1, "uplinks": uplinks, "saved": null });
        self.report = Some(serde_json::from_value(report).unwrap());
    }
}
