//! What mh-watch has counted since its start.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::page::{Kind, Page, sample};
use crate::watch::health::Key;
use crate::watch::tell;

/// What only a process that stays can know.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    events: BTreeMap<&'static str, u64>,
    last: Option<SystemTime>,
    /// How often a link was found dead.
    detections: BTreeMap<Key, u64>,
}

impl Counts {
    pub(in crate::watch) fn add(&mut self, kind: tell::Kind, time: SystemTime) {
        *self.events.entry(kind.as_str()).or_default() += 1;
        self.last = Some(time);
    }

    /// Whether any event was told since there were so many.
    pub(in crate::watch) fn events(&self) -> u64 {
        self.events.values().sum()
    }

    /// The same with the detections of each uplink that is checked.
    pub(in crate::watch) fn with_detections(&self, detections: BTreeMap<Key, u64>) -> Self {
        Self { detections, ..self.clone() }
    }

    fn of(&self, kind: tell::Kind) -> u64 {
        self.events.get(kind.as_str()).copied().unwrap_or_default()
    }

    pub(super) fn add_to(&self, page: &mut Page) {
        let name = "multihome_repairs_total";
        let help = "How often what other programs had changed was repaired.";
        page.add(name, Kind::Counter, help, vec![sample(&[], self.of(tell::Kind::Repair))]);
        let events = tell::Kind::ALL.map(|kind| sample(&[("kind", kind.as_str())], self.of(kind)));
        page.add("multihome_events_total", Kind::Counter, "Events of mh-watch.", events.into());
        let last = self.last.and_then(|last| last.duration_since(UNIX_EPOCH).ok());
        let last = last.map(|last| sample(&[], format!("{:.3}", last.as_secs_f64())));
        let help = "When the last event of mh-watch was.";
        page.add("multihome_last_event_timestamp_seconds", Kind::Gauge, help, last.into_iter().collect());
        let mut detections = Vec::with_capacity(self.detections.len());
        for (key, count) in &self.detections {
            let labels = [("link", key.uplink.as_str()), ("family", key.family.word())];
            detections.push(sample(&labels, count));
        }
        page.add(
            "multihome_detections_total",
            Kind::Counter,
            "How often mh-watch has found the link dead.",
            detections,
        );
    }
}
