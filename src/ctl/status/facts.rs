//! What there is to tell, put together from configuration, records and kernel. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::Serialize;

use crate::config::{Config, Firewall, Link, LinkKind, Otherwise, Policy};
use crate::ctl::counters::Counters;
use crate::ctl::detours::{self, Detour, Elsewhere};
use crate::ctl::lookup::{observed_next_hops, pass_over};
use crate::model::firewall::Lacking;
use crate::model::names::{HostAddr, IfName, TableId};
use crate::model::observed::{InterfaceState, Observed};
use crate::model::routing::{FoundRoute, FoundTarget, NextHop};
use crate::reconcile::link_state::{LinkState, LinkStates, LiveLink};
use crate::reconcile::plan::{Plan, PolicyRules};
use crate::state::records::LinkRecords;

/// What was looked at.
pub(super) struct Seen<'a> {
    pub(super) config: &'a Config,
    pub(super) records: &'a LinkRecords,
    pub(super) observed: &'a Observed,
    pub(super) states: &'a LinkStates<'a>,
    pub(super) counters: &'a BTreeMap<IfName, Counters>,
    /// What the kernel said of where traffic goes.
    pub(super) ways: &'a detours::Found,
    /// Devices of links that are up and whose gateway does not answer ARP.
    pub(super) silent: &'a BTreeSet<IfName>,
    /// How to call mhctl for the same.
    pub(super) mhctl: &'a str,
}

/// When it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Seconds since 1970.
    pub(super) unix: u64,
    /// Seconds since boot.
    pub(super) uptime: Option<u64>,
}

/// All that there is to tell.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    pub(super) links: Vec<LinkFacts>,
    /// Default routes of the main table, the one in use first.
    pub(super) default_routes: Vec<DefaultFacts>,
    pub(super) policies: Vec<PolicyFacts>,
    pub(super) kernel: KernelFacts,
    /// How to call mhctl for the same.
    #[serde(skip)]
    pub(super) mhctl: String,
    /// Records that cannot be read.
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    Up,
    Down,
    Stale,
    Dead,
    NoCarrier,
    NoGateway,
    #[serde(rename = "held")]
    Drained,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct LinkFacts {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) state: State,
    /// Why it is not up, or what is wrong with it although it is.
    pub(super) reason: Option<String>,
    pub(super) interface: String,
    /// Index of the interface whose counters these are.
    #[serde(skip)]
    pub(super) index: Option<u32>,
    pub(super) local: Option<Ipv4Addr>,
    pub(super) gateway: Option<Ipv4Addr>,
    /// Seconds since it came up.
    pub(super) age: Option<u64>,
    /// Of an uplink that is up, what it carries now of new connections that no policy is about: 0 where it waits for
    /// a better tier to go.
    pub(super) share_percent: Option<f64>,
    pub(super) weight: Option<u16>,
    pub(super) tier: Option<u8>,
    pub(super) received_bytes: Option<u64>,
    pub(super) sent_bytes: Option<u64>,
    pub(super) received_packets: Option<u64>,
    pub(super) sent_packets: Option<u64>,
    /// While watching.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) received_bytes_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sent_bytes_per_second: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct DefaultFacts {
    pub(super) metric: u32,
    pub(super) ours: bool,
    /// Whether it is a spare of ours.
    pub(super) spare: bool,
    /// Whether it carries traffic, or would if those before it were lost.
    pub(super) carries: bool,
    /// As ip-route(8) has it.
    pub(super) target: String,
    pub(super) legs: Vec<LegFacts>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct LegFacts {
    /// Link, if it is one of ours.
    pub(super) link: Option<String>,
    pub(super) interface: String,
    pub(super) percent: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct PolicyFacts {
    pub(super) name: String,
    pub(super) via: Vec<String>,
    /// Link that its traffic takes now; none: what `otherwise` says, or that cannot be told since rules are missing.
    pub(super) link: Option<String>,
    pub(super) otherwise: &'static str,
    /// How many rules it has, and how many of them the kernel does not hold.
    pub(super) rules: usize,
    pub(super) rules_missing: usize,
    /// Where the kernel sends a packet of it, if not by `link` or as `otherwise` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) elsewhere: Option<Elsewhere>,
}

#[derive(Debug, Serialize)]
pub(super) struct KernelFacts {
    pub(super) as_wanted: bool,
    /// The packet filter that holds our rules; `None` with `firewall = "none"`.
    pub(super) firewall: Option<&'static str>,
    /// The packet filter is not part of that, since only root may look at it.
    pub(super) firewall_hidden: bool,
    /// What an apply would do.
    pub(super) changes: Vec<String>,
    /// What an apply cannot mend.
    pub(super) problems: Vec<String>,
    /// Somebody else's rules and routes that take traffic, as the kernel itself was asked.
    pub(super) detours: Vec<Detour>,
}

impl Facts {
    pub(super) fn new(seen: &Seen<'_>, clock: Clock, warnings: Vec<String>) -> Self {
        let Seen { config, observed, .. } = seen;
        let routed = seen.states.routed();
        let plan = Plan::new(config, &routed, observed);
        let rules = plan.policy_rules(config, &routed, observed);
        let mut defaults: Vec<_> = observed.routes.iter().filter(|route| route.table == TableId::MAIN).collect();
        // The kernel's order is kept within a metric: there the first is in use.
        defaults.sort_by_key(|route| route.metric);
        let default_routes: Vec<_> = defaults.into_iter().map(|route| seen.default_route(route)).collect();
        let carrying = default_routes.first().map_or(&[][..], |first| &first.legs);
        Self {
            links: seen.states.iter().map(|(link, state)| seen.link(link, state, carrying, clock)).collect(),
            default_routes,
            policies: (0..)
                .zip(rules)
                .zip(&config.policies)
                .map(|((at, rules), p)| seen.policy(at, p, rules))
                .collect(),
            kernel: KernelFacts {
                firewall: packet_filter(config, observed),
                firewall_hidden: observed.firewall.hidden,
                as_wanted: plan.changes.is_empty() && plan.problems.is_empty() && seen.ways.detours.is_empty(),
                changes: plan.changes.iter().map(|c| c.command(config.settings.protocol).to_string()).collect(),
                problems: plan.problems.iter().map(ToString::to_string).collect(),
                detours: seen.ways.detours.clone(),
            },
            mhctl: seen.mhctl.to_owned(),
            warnings,
        }
    }
}

fn packet_filter(config: &Config, observed: &Observed) -> Option<&'static str> {
    let wanted = config.settings.firewall;
    let is_nft = observed.firewall.uses_nftables(wanted, Lacking::default());
    (wanted != Firewall::None).then_some(if is_nft { "nftables" } else { "iptables" })
}

impl Seen<'_> {
    fn link(&self, link: &Link, state: &LinkState<'_>, carrying: &[LegFacts], clock: Clock) -> LinkFacts {
        let record = self.records.get(&link.name);
        let interface = record.map_or(&link.interface, |record| &record.interface);
        let found = self.observed.interfaces.get(interface);
        let there = found.map(|found| found.state);
        let (state, reason) = match state {
            LinkState::Up(live) => (State::Up, self.silence(live)),
            LinkState::Down => (State::Down, Some(self.why_down(link, record.is_some(), there))),
            LinkState::Stale if there.is_none() => (State::Stale, Some(format!("{interface} is gone"))),
            LinkState::Stale => (
                State::Stale,
                Some(format!("{interface} is another interface by the same name; no caller has reported that one up")),
            ),
            LinkState::Dead if there == Some(InterfaceState::Down) => {
                (State::Dead, Some(format!("{interface} is down")))
            }
            LinkState::Dead => (State::Dead, Some(format!("{interface} has lost its address"))),
            LinkState::NoCarrier(_) => (State::NoCarrier, Some(format!("{interface} has no carrier"))),
            LinkState::NoGateway(_) => (
                State::NoGateway,
                Some(format!(
                    "not used while another uplink is up: {interface} is an Ethernet, and no router is known; \
                     have the caller say the router's address, or write gateway"
                )),
            ),
            LinkState::Drained(drain) => {
                let left = clock.uptime.map_or(0, |now| drain.until.saturating_sub(now));
                (State::Drained, Some(format!("drained by a drill (process {}) for {left} s more", drain.pid)))
            }
        };
        // A table of routes is only consulted for a link that has one.
        let v4 = record.and_then(|record| record.v4.as_ref());
        let first = found.and_then(|found| found.addresses.first()).map(|address| address.local);
        let local = v4.and_then(|v4| v4.local).or(if record.is_none() { first } else { None });
        let counters = self.counters.get(interface);
        let (weight, tier) = match link.kind {
            LinkKind::Uplink { weight, tier } => (Some(weight.get()), Some(tier.get())),
            LinkKind::Tunnel => (None, None),
        };
        let share = carrying.iter().find(|leg| leg.link.as_deref() == Some(link.name.as_str())).map(|leg| leg.percent);
        LinkFacts {
            name: link.name.to_string(),
            kind: if tier.is_some() { "uplink" } else { "tunnel" },
            state,
            reason,
            interface: interface.to_string(),
            index: counters.map(|counters| counters.index),
            local: local.and_then(HostAddr::v4),
            gateway: v4.and_then(|v4| v4.gateway).or(link.gateway).and_then(HostAddr::v4),
            age: record.and_then(|record| age(record.since, clock)),
            share_percent: tier.filter(|_| state == State::Up).map(|_| share.unwrap_or_default()),
            weight,
            tier,
            received_bytes: counters.map(|counters| counters.received),
            sent_bytes: counters.map(|counters| counters.sent),
            received_packets: counters.map(|counters| counters.received_packets),
            sent_packets: counters.map(|counters| counters.sent_packets),
            received_bytes_per_second: None,
            sent_bytes_per_second: None,
        }
    }

    fn why_down(&self, link: &Link, recorded: bool, state: Option<InterfaceState>) -> String {
        let interface = &link.interface;
        match (link.gateway, state) {
            _ if recorded => format!("{interface} has IPv6 only, which is not routed yet"),
            (None, None) => format!("no caller has reported it up, and there is no {interface}"),
            (None, Some(_)) => {
                format!("{interface} exists, but no caller has reported it up: `{} link up {}`", self.mhctl, link.name)
            }
            (Some(_), None) => format!("there is no {interface}"),
            (Some(_), Some(InterfaceState::Down)) => format!("{interface} is down"),
            (Some(_), Some(_)) => format!("{interface} has no address"),
        }
    }

    /// What is wrong with a link that is up.
    fn silence(&self, live: &LiveLink<'_>) -> Option<String> {
        let gateway = live.next_hop.gateway.filter(|_| self.silent.contains(&live.next_hop.device.name))?;
        Some(format!("its gateway {gateway} does not answer ARP; the default route passes it over if another does"))
    }

    fn default_route(&self, route: &FoundRoute) -> DefaultFacts {
        let all = observed_next_hops(&route.target, self.observed);
        let is_refusal = all.is_empty();
        let mut carrying: Vec<(&NextHop, f64)> = Vec::new();
        for (next_hop, weight) in all {
            if self.has_carrier(next_hop.device.index) {
                carrying.push((next_hop, weight.into()));
            }
        }
        if let FoundTarget::Nexthop { .. } = route.target {
            pass_over(&mut carrying, |next_hop| self.silent.contains(&next_hop.device.name));
        }
        let sum: f64 = carrying.iter().map(|(_, share)| share).sum();
        let mut legs = Vec::new();
        for (next_hop, share) in carrying {
            if share > 0.0 {
                let interface = &next_hop.device.name;
                let (link, percent) = (self.link_on(interface), share * 100.0 / sum);
                legs.push(LegFacts { link, interface: interface.to_string(), percent });
            }
        }
        let settings = &self.config.settings;
        let ours = route.protocol == settings.protocol;
        DefaultFacts {
            metric: route.metric,
            ours,
            spare: ours && settings.numbers.is_spare(route.metric),
            carries: is_refusal || !legs.is_empty(),
            target: route.target.to_string(),
            legs,
        }
    }

    /// Whether routes by a device carry traffic, as far as is known.
    fn has_carrier(&self, index: u32) -> bool {
        let mut interfaces = self.observed.interfaces.values();
        interfaces.find(|i| i.device.index == index).is_none_or(|i| i.state == InterfaceState::Up)
    }

    /// The link that is on an interface now, or else would be.
    fn link_on(&self, interface: &IfName) -> Option<String> {
        let recorded = self.records.iter().find(|(_, record)| record.interface == *interface).map(|(name, _)| name);
        recorded.or(self.config.link_on(interface).map(|link| &link.name)).map(ToString::to_string)
    }

    /// Where a policy leads: to the first of its links whose table has a default route by its interface, if the kernel
    /// holds the rules of the policy, and has not said that it sends a packet of it elsewhere.
    fn policy(&self, at: usize, policy: &Policy, rules: PolicyRules) -> PolicyFacts {
        let elsewhere = self.ways.elsewhere.get(&at).cloned();
        let mut via = policy.via.iter().filter_map(|name| self.config.link(name));
        PolicyFacts {
            name: policy.name.clone(),
            via: policy.via.iter().map(ToString::to_string).collect(),
            link: via
                .find(|link| self.observed.routes.iter().any(|route| self.leads_by(route, link)))
                .filter(|_| rules.missing == 0 && elsewhere.is_none())
                .map(|link| link.name.to_string()),
            otherwise: match policy.otherwise {
                Otherwise::Default => "default",
                Otherwise::Unreachable => "unreachable",
            },
            rules: rules.all,
            rules_missing: rules.missing,
            elsewhere,
        }
    }

    /// Whether a route is of the link's table, carries, and leads by no interface but the link's.
    fn leads_by(&self, route: &FoundRoute, link: &Link) -> bool {
        let record = self.records.get(&link.name);
        let interface = record.map_or(&link.interface, |record| &record.interface);
        let now = self.observed.interfaces.get(interface).map(|found| found.device.index);
        let own = [record.map(|record| record.index), now];
        let devices = route.target.devices();
        route.table == link.table
            && !devices.is_empty()
            && devices.into_iter().all(|index| own.contains(&Some(index)) && self.has_carrier(index))
    }
}

/// Seconds since `since`; none if the clock was set in between. A record does not survive a boot.
fn age(since: u64, clock: Clock) -> Option<u64> {
    let age = clock.unix.checked_sub(since)?;
    clock.uptime.is_none_or(|uptime| age <= uptime.saturating_add(1)).then_some(age)
}
