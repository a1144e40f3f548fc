//! What there is to tell of a link.

use std::time::Duration;

use super::{Clock, DefaultFacts, HealthFacts, Ipv6Facts, LinkFacts, Seen};
use crate::config::{Link, LinkKind};
use crate::ctl::prefixes;
use crate::model::names::{Family, HostAddr, IfName};
use crate::model::observed::{Interface, InterfaceState};
use crate::reconcile::link_state::{LinkState, LiveLink, Status};
use crate::state::drain::Level;
use crate::state::records::LinkRecord;
use crate::watch::memory::{Judged, UplinkReport};

/// A family of a link, and the interface that it is on.
struct Place<'a> {
    link: &'a Link,
    family: Family,
    record: Option<&'a LinkRecord>,
    interface: &'a IfName,
    found: Option<&'a Interface>,
}

impl Place<'_> {
    fn state(&self) -> Option<InterfaceState> {
        self.found.map(|found| found.state)
    }
}

impl Seen<'_> {
    /// The link with its IPv4.
    pub(super) fn link(&self, link: &Link, defaults: &[DefaultFacts], clock: Clock) -> LinkFacts {
        // A caller may have told of IPv6 only, on this interface.
        let record = self.records.get(&link.name);
        let interface = record.map_or(&link.interface, |record| &record.interface);
        let found = self.observed.interfaces.get(interface);
        let place = Place { link, family: Family::V4, record, interface, found };
        let state = self.states.state(link, Family::V4).status();
        // A table of routes is only consulted for a link that has one.
        let v4 = record.and_then(|record| record.v4.as_ref());
        let first = found.and_then(|found| found.addresses.first()).map(|address| address.local);
        let local = v4.and_then(|v4| v4.local).or(if record.is_none() { first } else { None });
        let counters = self.counters.get(interface);
        let (weight, tier) = match link.kind {
            LinkKind::Uplink { weight, tier } => (Some(weight.get()), Some(tier.get())),
            LinkKind::Tunnel => (None, None),
        };
        LinkFacts {
            name: link.name.to_string(),
            kind: if tier.is_some() { "uplink" } else { "tunnel" },
            state,
            reason: self.reason(&place, clock),
            interface: interface.to_string(),
            index: counters.map(|counters| counters.index),
            local: local.and_then(HostAddr::v4),
            gateway: v4.and_then(|v4| v4.gateway).or(link.gateway).and_then(HostAddr::v4),
            age: record.filter(|record| record.v4.is_some()).and_then(|record| age(record.since, clock)),
            share_percent: share(link, state, defaults),
            health: self.health(link, Family::V4),
            ipv6: None,
            lacks_ipv6: link.is_uplink() && link.ipv6 && *self.states.state(link, Family::V6) == LinkState::Down,
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

    /// Its IPv6.
    pub(super) fn ipv6(&self, link: &Link, defaults: &[DefaultFacts], clock: Clock) -> Option<Ipv6Facts> {
        let state = self.states.state(link, Family::V6);
        let is_wanted = link.ipv6 && link.gateway6.is_some() && self.observed.has_ipv6();
        let refused = prefixes::refused(self.config, link, self.observed);
        if *state == LinkState::Down && !is_wanted && refused.is_empty() {
            return None;
        }
        let record = self.records.record(&link.name, Family::V6);
        let said = record.and_then(|record| record.v6.as_ref());
        let live = state.routed();
        let interface = match (live, record.or(self.records.get(&link.name))) {
            (Some(live), _) => &live.next_hop.device.name,
            (None, Some(record)) => &record.interface,
            (None, None) => &link.interface,
        };
        let found = self.observed.interfaces.get(interface);
        let place = Place { link, family: Family::V6, record, interface, found };
        let gateway = match live {
            Some(live) => live.next_hop.gateway,
            None => said.and_then(|said| said.gateway).or(link.gateway6),
        };
        let since = record.and_then(|record| self.since6.get(&record.index));
        Some(Ipv6Facts {
            state: state.status(),
            reason: self.reason(&place, clock),
            interface: interface.to_string(),
            local: live.and_then(|live| live.local).or(said.and_then(|said| said.local)).and_then(HostAddr::v6),
            gateway: gateway.and_then(HostAddr::v6),
            prefixes: live.iter().flat_map(|live| &live.prefixes).map(ToString::to_string).collect(),
            age: since.and_then(|since| age(*since, clock)),
            share_percent: share(link, state.status(), defaults),
            health: self.health(link, Family::V6),
            refused: refused.iter().map(ToString::to_string).collect(),
        })
    }

    /// Why it is not up, or what is wrong with it although it is.
    fn reason(&self, place: &Place<'_>, clock: Clock) -> Option<String> {
        let Place { link, family, interface, .. } = place;
        let is_v4 = *family == Family::V4;
        Some(match self.states.state(link, *family) {
            LinkState::Up(live) => return self.silence(live).or_else(|| self.doubt(link, *family)),
            LinkState::Down => self.why_down(place),
            LinkState::Stale if place.found.is_none() => format!("{interface} is gone"),
            LinkState::Stale => {
                format!("{interface} is another interface by the same name; no caller has reported that one up")
            }
            LinkState::Dead if place.state() == Some(InterfaceState::Down) => format!("{interface} is down"),
            LinkState::Dead if is_v4 => format!("{interface} has lost its address"),
            LinkState::Dead => format!("{interface} has lost its IPv6 addresses"),
            LinkState::NoCarrier(_) => format!("{interface} has no carrier"),
            LinkState::NoGateway(_) => {
                let key = if is_v4 { "gateway" } else { "gateway6" };
                format!(
                    "not used while another uplink is up: {interface} is an Ethernet, and no router is known; have the \
                     caller say the router's address, or write {key}"
                )
            }
            LinkState::Drained(live, drain) if live.level.is_some() => {
                let what = if live.level == Some(Level::Cut) { "cut off" } else { "drained" };
                let told = self.told_of(link, *family).filter(|told| told.state == Judged::Dead);
                let since = told.map(since).unwrap_or_default();
                format!("{what} by mh-watch (process {}): nothing is answered there{since}", drain.pid)
            }
            LinkState::Drained(_, drain) => {
                let left = clock.uptime.map_or(0, |now| drain.until.saturating_sub(now));
                format!("drained by a drill (process {}) for {left} s more", drain.pid)
            }
        })
    }

    /// What mh-watch knows of a family that it looks at.
    fn told_of(&self, link: &Link, family: Family) -> Option<&UplinkReport> {
        let state = self.states.state(link, family);
        self.report.filter(|_| state.is_looked_at()).and_then(|report| report.of(link.name.as_str(), family))
    }

    fn health(&self, link: &Link, family: Family) -> HealthFacts {
        let Some(told) = self.told_of(link, family) else { return HealthFacts::default() };
        HealthFacts {
            rtt_ms: told.rtt().map(|rtt| rtt.as_secs_f64() * 1000.0),
            loss_percent: told.loss().map(|loss| loss * 100.0),
            health: Some(told.state),
            health_for: told.since().map(|since| since.as_secs()),
        }
    }

    /// Why mh-watch does not take a link for good, which is used all the same.
    fn doubt(&self, link: &Link, family: Family) -> Option<String> {
        let told = self.told_of(link, family)?;
        match told.state {
            Judged::Good => None,
            Judged::Unknown => {
                Some("mh-watch cannot tell whether it lives: no target of [check] has answered by it".to_owned())
            }
            Judged::Suspected => Some(format!("mh-watch suspects it: nothing is answered there{}", since(told))),
            Judged::Dead => {
                Some(format!("nothing is answered there{}, and mh-watch knows of no better uplink", since(told)))
            }
        }
    }

    fn why_down(&self, place: &Place<'_>) -> String {
        let Place { link, family, record, interface, .. } = place;
        let has_ipv6 = self.states.state(link, Family::V6).routed().is_some();
        let is_static = *family == Family::V6 || link.gateway.is_some();
        match place.state() {
            _ if *family == Family::V4 && record.is_some() && has_ipv6 => format!("{interface} has IPv6 only"),
            _ if *family == Family::V4 && record.is_some() => format!("IPv6 only has been reported, on {interface}"),
            None if is_static => format!("there is no {interface}"),
            Some(InterfaceState::Down) if is_static => format!("{interface} is down"),
            Some(_) if *family == Family::V6 => format!("{interface} has no IPv6 address"),
            Some(_) if is_static => format!("{interface} has no address"),
            None => format!("no caller has reported it up, and there is no {interface}"),
            Some(_) => {
                format!("{interface} exists, but no caller has reported it up: `{} link up {}`", self.mhctl, link.name)
            }
        }
    }

    /// What is wrong with a link that is up.
    fn silence(&self, live: &LiveLink<'_>) -> Option<String> {
        let device = (live.family, live.next_hop.device.name.clone());
        let gateway = live.next_hop.gateway.filter(|_| self.silent.contains(&device))?;
        let question = if live.family == Family::V4 { "ARP" } else { "neighbour discovery" };
        let follows = if live.family == Family::V6 && self.forwards6 {
            "nothing gets through by it"
        } else {
            "the default route passes it over if another does"
        };
        Some(format!("its gateway {gateway} does not answer {question}; {follows}"))
    }
}

/// How long something has been so, as the end of a sentence.
fn since(told: &UplinkReport) -> String {
    let time = told.since().map(|since| humantime::format_duration(Duration::from_secs(since.as_secs())));
    time.map(|time| format!(", for {time} now")).unwrap_or_default()
}

/// Of an uplink that is up, its part of the first default route.
fn share(link: &Link, state: Status, defaults: &[DefaultFacts]) -> Option<f64> {
    let mut next_hops = defaults.first().into_iter().flat_map(|first| &first.next_hops);
    let share = next_hops
        .find(|next_hop| next_hop.link.as_deref() == Some(link.name.as_str()))
        .map(|next_hop| next_hop.percent);
    link.tier().filter(|_| state == Status::Up).map(|_| share.unwrap_or_default())
}

/// Seconds since `since`; none if the clock was set in between. A record does not survive a boot.
fn age(since: u64, clock: Clock) -> Option<u64> {
    let age = clock.unix.checked_sub(since)?;
    clock.uptime.is_none_or(|uptime| age <= uptime.saturating_add(1)).then_some(age)
}
