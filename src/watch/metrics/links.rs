//! Metrics of links: from configuration, records, kernel, and what mh-watch knows.

use std::collections::BTreeSet;

use super::page::{Kind, Page, Sample, sample};
use crate::config::{Config, Link, LinkKind};
use crate::kernel::netlink::socket::Socket;
use crate::kernel::{self, interface};
use crate::model::names::{Family, IfName};
use crate::reconcile::link_state::{LinkState, LinkStates, Live};
use crate::state::drain::Level;
use crate::state::records::LinkRecords;
use crate::watch::memory::{Report, UplinkReport};

/// A family of a link.
struct Row<'a> {
    link: &'a Link,
    family: Family,
    state: &'a LinkState<'a>,
    interface: &'a IfName,
    told: Option<&'a UplinkReport>,
}

impl Row<'_> {
    /// With the labels that all of them have, and perhaps one more.
    fn sample(&self, more: Option<(&str, &str)>, value: impl std::fmt::Display) -> Sample {
        let mut labels = vec![
            ("link", self.link.name.as_str()),
            ("family", self.family.word()),
            ("interface", self.interface.as_str()),
        ];
        labels.extend(more);
        sample(&labels, value)
    }

    /// Whether it is out of use by mh-watch, at least so far.
    fn is_out(&self, level: Level) -> bool {
        matches!(self.state, LinkState::Drained(live, _) if live.level.is_some_and(|is| is >= level))
    }
}

/// All links that there is something to say about.
pub(super) struct Seen<'a> {
    rows: Vec<Row<'a>>,
    live: Live<'a>,
}

impl<'a> Seen<'a> {
    pub(super) fn new(
        config: &'a Config,
        records: &'a LinkRecords,
        states: &'a LinkStates<'a>,
        report: Option<&'a Report>,
    ) -> Self {
        let mut rows = Vec::new();
        for link in &config.links {
            for family in Family::BOTH {
                let state = states.state(link, family);
                let has_ipv6 = *state != LinkState::Down || link.ipv6 && link.gateway6.is_some();
                if family == Family::V6 && !has_ipv6 {
                    continue;
                }
                let record = records.record(&link.name, family).or(records.get(&link.name));
                let recorded = record.map_or(&link.interface, |record| &record.interface);
                let interface = state.routed().map_or(recorded, |live| &live.next_hop.device.name);
                let told = report.and_then(|report| report.of(link.name.as_str(), family));
                let told = told.filter(|_| state.is_looked_at());
                rows.push(Row { link, family, state, interface, told });
            }
        }
        Self { rows, live: states.live() }
    }

    pub(super) fn add_to(&self, page: &mut Page) -> Result<(), kernel::Error> {
        self.add(page, "multihome_link_up", "Whether the link can carry traffic.", |row| {
            Some(row.sample(None, u8::from(matches!(row.state, LinkState::Up(_)))))
        });
        self.add(page, "multihome_link_state", "State of the link, as mhctl status has it.", |row| {
            Some(row.sample(Some(("state", row.state.status().word())), 1))
        });
        self.add(page, "multihome_link_drained", "Whether mh-watch keeps new connections off the link.", |row| {
            Some(row.sample(None, u8::from(row.is_out(Level::Drained))))
        });
        self.add(page, "multihome_link_cut", "Whether mh-watch keeps all connections off the link.", |row| {
            Some(row.sample(None, u8::from(row.is_out(Level::Cut))))
        });
        self.add(page, "multihome_link_share_ratio", "Part of new connections that the uplink is to carry.", |row| {
            self.share(row).map(|share| row.sample(None, share))
        });
        self.add(page, "multihome_link_health", "What mh-watch takes the uplink for.", |row| {
            row.told.map(|told| row.sample(Some(("health", told.state.as_str())), 1))
        });
        self.add(page, "multihome_link_rtt_seconds", "Smoothed round-trip time of the quickest target.", |row| {
            Some(row.sample(None, row.told?.rtt()?.as_secs_f64()))
        });
        self.add(page, "multihome_link_probe_loss_ratio", "Part of the last 100 probes that was lost.", |row| {
            Some(row.sample(None, row.told?.loss()?))
        });
        self.add_traffic(page)
    }

    /// A gauge of those rows that have it.
    fn add(&self, page: &mut Page, name: &str, help: &str, of: impl Fn(&Row<'a>) -> Option<Sample>) {
        page.add(name, Kind::Gauge, help, self.rows.iter().filter_map(of).collect());
    }

    /// By weight, among those of the best tier that can carry traffic; `None`: it is a tunnel, or not up.
    fn share(&self, row: &Row<'_>) -> Option<f64> {
        let own = row.state.live().filter(|live| live.carries_default())?;
        let carrying = self.live.of(row.family).iter().filter(|live| live.carries_default());
        let best = carrying.clone().filter_map(|live| live.link.tier()).min();
        let sum: f64 = carrying.filter(|live| live.link.tier() == best).map(|live| weight(live.link)).sum();
        Some(if own.link.tier() == best { weight(own.link) / sum } else { 0.0 })
    }

    /// What interfaces have counted, of both families together.
    fn add_traffic(&self, page: &mut Page) -> Result<(), kernel::Error> {
        let mut socket = Socket::open().map_err(kernel::Error::Open)?;
        let (mut received, mut sent) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for Row { link, interface, .. } in &self.rows {
            if !seen.insert((&link.name, *interface)) {
                continue;
            }
            let found = interface::with_counters(&mut socket, interface)?;
            if let Some([.., into, out]) = found.and_then(|found| found.counters) {
                let labels = [("link", link.name.as_str()), ("interface", interface.as_str())];
                received.push(sample(&labels, into));
                sent.push(sample(&labels, out));
            }
        }
        let (name, help) = ("multihome_link_receive_bytes_total", "Bytes received by the link's interface.");
        page.add(name, Kind::Counter, help, received);
        let (name, help) = ("multihome_link_transmit_bytes_total", "Bytes sent by the link's interface.");
        page.add(name, Kind::Counter, help, sent);
        Ok(())
    }
}

fn weight(link: &Link) -> f64 {
    match link.kind {
        LinkKind::Uplink { weight, .. } => weight.get().into(),
        LinkKind::Tunnel => 0.0,
    }
}
