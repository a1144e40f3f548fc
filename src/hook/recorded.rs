//! An event after it has been recorded: the link records before and after it.

use tracing::{error, warn};

use super::pass::{self, Pass};
use crate::config::{Config, Link};
use crate::event::{Event, EventKind};
use crate::kernel::Linux;
use crate::state::clock::Moment;
use crate::state::records::{self, Effect, LinkRecord, LinkRecords, Records, Store};

/// Writes an event down, under the lock of the records: what was recorded before, what the event makes of it, and whether
/// that could be written.
pub(super) fn write_down(
    store: &Store,
    event: &Event,
    index: Option<u32>,
    config: Option<&Config>,
) -> (Records, Effect, Result<(), records::Error>) {
    let (records, _) = store.records();
    let effect = records.effect(event, index, config, Moment::now());
    let written = store.convert_old(&records).and_then(|()| store.write(&effect));
    (records, effect, written)
}

/// A recorded event.
pub(super) struct Recorded<'a> {
    pub(super) event: &'a Event,
    pub(super) link: &'a Link,
    pub(super) effect: Effect,
    pub(super) before: LinkRecords,
    pub(super) after: LinkRecords,
    /// Why the record could not be written: then it counts for this hook only.
    pub(super) unwritten: Option<records::Error>,
}

impl<'a> Recorded<'a> {
    /// Records the event. The records have a lock of their own, held only briefly: even if a hook hangs with the other
    /// lock, the event is recorded, and the next pass sees it.
    pub(super) fn record(
        pass: &Pass<'_>,
        event: &'a Event,
        link: &'a Link,
        index: Option<u32>,
    ) -> Result<Self, pass::Error> {
        let _lock = pass.lock("records.lock")?;
        let (mut records, effect, written) = write_down(&pass.store, event, index, Some(pass.config));
        let mut before = records.by_link(pass.config);
        if matches!(event.kind, EventKind::Up(_)) {
            // The pass logs the errors of drains.
            let _ = pass.store.add_drained(pass.config, &mut before);
        }
        records.carry_out(&effect);
        let after = records.by_link(pass.config);
        Ok(Self { event, link, effect, before, after, unwritten: written.err() })
    }

    /// Logs that the record could not be written, and which links the event displaces.
    pub(super) fn log_problems(&self, config: &Config, index: Option<u32>, kernel: &mut Linux) {
        if let Some(error) = &self.unwritten {
            error!("{error}; until that is fixed, the next event will not know of this one");
        }
        for displaced in self.displaced(config, index, kernel) {
            warn!("{displaced}");
        }
    }

    /// The effect that no file holds.
    pub(super) fn unwritten_effect(&self) -> &Effect {
        if self.unwritten.is_some() { &self.effect } else { &Effect::NotUp }
    }

    /// Whether it is an up event.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.event.kind, EventKind::Up(_))
    }

    /// Where the link is still up after a down event: in another session, on another interface perhaps.
    pub(super) fn still_up(&self) -> Option<&LinkRecord> {
        let EventKind::Down(family) = self.event.kind else { return None };
        self.after.record(&self.link.name, family)
    }

    /// Whether the event is about a session that is over.
    pub(super) fn is_stale(&self) -> bool {
        self.still_up().is_some()
    }

    /// Index of the interface whose removal has to be waited for.
    pub(super) fn dying(&self, index: Option<u32>) -> Option<u32> {
        match &self.effect {
            _ if self.is_stale() => None,
            Effect::Remove(record) => Some(record.index),
            Effect::NotUp => index,
            Effect::Put(_) | Effect::Stale(_) => None,
        }
    }
}
