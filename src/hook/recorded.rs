//! What a caller has said, and what that has changed of what was said before.

use super::pass::{self, Pass};
use crate::config::{Config, Link};
use crate::event::{Addresses, Event, EventKind};
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

/// An event that is written down.
pub(super) struct Recorded<'a> {
    pub(super) event: &'a Event,
    /// The link that it is about.
    pub(super) link: &'a Link,
    pub(super) effect: Effect,
    /// What was said before, by link.
    pub(super) before: LinkRecords,
    /// What is said now.
    pub(super) after: LinkRecords,
    /// Why it could not be written down, if it could not: then it counts for this hook alone.
    pub(super) unwritten: Option<records::Error>,
}

impl<'a> Recorded<'a> {
    /// Writes the event down. That has a lock of its own, held for an instant only: it is done even when somebody sits on
    /// the other one, and whoever reconciles next sees it.
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
            // What is wrong with a drain is told by the pass.
            let _ = pass.store.add_drained(pass.config, &mut before);
        }
        records.carry_out(&effect);
        let after = records.by_link(pass.config);
        Ok(Self { event, link, effect, before, after, unwritten: written.err() })
    }

    /// What of it is in no file.
    pub(super) fn unwritten_effect(&self) -> &Effect {
        if self.unwritten.is_some() { &self.effect } else { &Effect::NotUp }
    }

    /// Whether the link has come up with IPv4.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.event.kind, EventKind::Up(Addresses::V4 { .. }))
    }

    /// Where the link is up, although it is said to be down: in another session, by another interface perhaps.
    pub(super) fn still_up(&self) -> Option<&LinkRecord> {
        let EventKind::Down(family) = self.event.kind else { return None };
        self.after.get(&self.link.name).filter(|record| record.has(family))
    }

    /// Whether the event is about a session that has been followed by another.
    pub(super) fn is_stale(&self) -> bool {
        self.still_up().is_some()
    }

    /// Index of the interface to wait for: that of the session that has ended.
    pub(super) fn dying(&self, index: Option<u32>) -> Option<u32> {
        match &self.effect {
            _ if self.is_stale() => None,
            Effect::Remove(record) => Some(record.index),
            Effect::NotUp => index,
            Effect::Put(_) | Effect::Stale(_) => None,
        }
    }
}
