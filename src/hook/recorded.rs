//! The events of a call after they have been recorded: the link records before and after them.

use tracing::{error, warn};

use super::pass::{self, Pass};
use crate::config::{Config, Link};
use crate::event::{Event, EventKind, Family};
use crate::kernel::Linux;
use crate::model::names::IfName;
use crate::state::clock::Moment;
use crate::state::records::{self, Effect, LinkRecord, LinkRecords, Records, Store};

/// Writes events down, under the lock of the records: what was recorded before, what each of them makes of it, and
/// whether that could be written.
pub(super) fn write_down(
    store: &Store,
    events: &[Event],
    index: Option<u32>,
    config: Option<&Config>,
) -> (Records, Vec<Effect>, Result<(), records::Error>) {
    let (records, _) = store.records();
    let effects = effects(&records, events, index, config);
    let written = store.convert_old(&records).and_then(|()| effects.iter().try_for_each(|effect| store.write(effect)));
    (records, effects, written)
}

/// The effect of each event. Each is about a family of its own, and so none depends on another.
pub(super) fn effects(records: &Records, events: &[Event], index: Option<u32>, config: Option<&Config>) -> Vec<Effect> {
    let now = Moment::now();
    events.iter().map(|event| records.effect(event, index, config, now.clone())).collect()
}

/// Recorded events of one interface, at least one.
pub(super) struct Recorded<'a> {
    pub(super) events: &'a [Event],
    pub(super) link: &'a Link,
    /// By event.
    effects: Vec<Effect>,
    pub(super) before: LinkRecords,
    pub(super) after: LinkRecords,
    /// Why the record could not be written: then it counts for this hook only.
    pub(super) unwritten: Option<records::Error>,
}

impl<'a> Recorded<'a> {
    /// Records the events. The records have a lock of their own, held only briefly: even if a hook hangs with the other
    /// lock, they are recorded, and the next pass sees them.
    pub(super) fn record(
        pass: &Pass<'_>,
        events: &'a [Event],
        link: &'a Link,
        index: Option<u32>,
    ) -> Result<Self, pass::Error> {
        let _lock = pass.lock("records.lock")?;
        let (mut records, effects, written) = write_down(&pass.store, events, index, Some(pass.config));
        let mut before = records.by_link(pass.config);
        if events.iter().any(|event| matches!(event.kind, EventKind::Up(_))) {
            // The pass logs the errors of drains.
            let _ = pass.store.add_drained(pass.config, &mut before);
        }
        for effect in &effects {
            records.carry_out(effect);
        }
        let after = records.by_link(pass.config);
        Ok(Self { events, link, effects, before, after, unwritten: written.err() })
    }

    /// Logs that a record could not be written, and which links the events displace.
    pub(super) fn log_problems(&self, config: &Config, index: Option<u32>, kernel: &mut Linux) {
        if let Some(error) = &self.unwritten {
            error!("{error}; until that is fixed, the next event will not know of this one");
        }
        for displaced in self.displaced(config, index, kernel) {
            warn!("{displaced}");
        }
    }

    /// The events with their effects.
    pub(super) fn told(&self) -> impl Iterator<Item = (&Event, &Effect)> {
        self.events.iter().zip(&self.effects)
    }

    /// The interface that all of them are about.
    pub(super) fn interface(&self) -> &IfName {
        &self.events[0].interface
    }

    /// The families that they are about.
    pub(super) fn families(&self) -> impl Iterator<Item = Family> {
        self.events.iter().map(|event| event.kind.family())
    }

    /// The effects that no file holds.
    pub(super) fn unwritten_effects(&self) -> &[Effect] {
        if self.unwritten.is_some() { &self.effects } else { &[] }
    }

    /// Where the link is still up after a down event: in another session, on another interface perhaps.
    pub(super) fn still_up(&self, event: &Event) -> Option<&LinkRecord> {
        let EventKind::Down(family) = event.kind else { return None };
        self.after.record(&self.link.name, family)
    }

    /// Whether all of them are about a session that is over.
    pub(super) fn is_stale(&self) -> bool {
        self.events.iter().all(|event| self.still_up(event).is_some())
    }

    /// Index of the interface whose removal has to be waited for: only the end of IPv4 foretells it.
    pub(super) fn dying(&self, index: Option<u32>) -> Option<u32> {
        let (event, effect) = self.told().find(|(event, _)| event.kind == EventKind::Down(Family::V4))?;
        match effect {
            _ if self.still_up(event).is_some() => None,
            Effect::Remove(record) => Some(record.index),
            Effect::NotUp => index,
            Effect::Put(_) | Effect::Stale(_) => None,
        }
    }
}
