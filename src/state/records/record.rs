//! Records, and how an event changes them. Pure.

use crate::config::Config;
use crate::event::{Addresses, Event, EventKind, Family};
use crate::model::names::{IfName, LinkName};
use crate::state::clock::Moment;

/// Names are kept up to this length, in characters: a link's has 64 at most, and this one is none yet.
const LONGEST_NAME: usize = 65;

/// What a caller said about one address family of an interface. One file in the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The name that the caller gave.
    pub interface: IfName,
    /// The index tells it from a later interface of the same name.
    pub index: u32,
    /// The caller's names for the link, best first.
    pub names: Vec<String>,
    /// Process of the caller that brought the link up.
    pub session: Option<u32>,
    pub since: Moment,
    /// The link according to the configuration at that time; `None`: the configuration was invalid.
    pub link: Option<LinkName>,
    pub addresses: Addresses,
}

impl Record {
    /// The address family; each has a file of its own.
    pub fn family(&self) -> Family {
        self.addresses.family
    }

    /// Whether both have the same interface and family, and so the same file.
    fn is_place_of(&self, other: &Self) -> bool {
        self.interface == other.interface && self.family() == other.family()
    }

    /// Whether this repeats `old` for the same session, by hand perhaps.
    fn continues(&self, old: &Self) -> bool {
        let is_same_link = old.is_place_of(self) && old.index == self.index && old.link == self.link;
        is_same_link && (self.session.is_none() || self.session == old.session)
    }
}

/// All records, at most one for each interface and family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    pub(super) all: Vec<Record>,
    /// Links with a file of version 0.1, whose records are among `all`.
    pub(super) old: Vec<LinkName>,
}

/// The effect of an event on the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write this record, over an older one.
    Put(Record),
    /// Remove this record.
    Remove(Record),
    /// None: there is no record for the interface and family.
    NotUp,
    /// None: this record is of a newer session.
    Stale(Record),
}

impl Records {
    /// The record of an interface and family.
    pub fn on(&self, interface: &IfName, family: Family) -> Option<&Record> {
        self.all.iter().find(|record| record.interface == *interface && record.family() == family)
    }

    /// Whether there are files of version 0.1 ([`super::Store::convert_old`]).
    pub(crate) fn have_old(&self) -> bool {
        !self.old.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Record> {
        self.all.iter()
    }

    /// The effect of `event`. `index` is that of its interface; without an interface nothing can come up.
    pub fn effect(&self, event: &Event, index: Option<u32>, config: Option<&Config>, now: Moment) -> Effect {
        match &event.kind {
            EventKind::Up(addresses) => match index {
                Some(index) => Effect::Put(self.came_up(event, addresses.clone(), index, config, now)),
                None => Effect::NotUp,
            },
            EventKind::Down(family) => self.went_down(event, *family, index, config),
        }
    }

    fn came_up(&self, event: &Event, addresses: Addresses, index: u32, config: Option<&Config>, now: Moment) -> Record {
        let link = config.and_then(|config| self.recognise(event, config)).map(|link| link.name.clone());
        let mut record = Record {
            interface: event.interface.clone(),
            index,
            names: event.names.iter().map(|name| name.chars().take(LONGEST_NAME).collect()).collect(),
            session: event.session,
            since: now,
            link,
            addresses,
        };
        if let Some(old) = self.all.iter().find(|old| record.continues(old)) {
            record.session = old.session;
            record.since.unix = old.since.unix;
        }
        record
    }

    fn went_down(&self, event: &Event, family: Family, index: Option<u32>, config: Option<&Config>) -> Effect {
        // The interface may have been renamed.
        let by_name = self.on(&event.interface, family);
        let record = by_name.or_else(|| self.all.iter().find(|old| Some(old.index) == index && old.family() == family));
        let Some(record) = record else { return Effect::NotUp };
        if self.is_about(event, record, config) {
            Effect::Remove(record.clone())
        } else {
            Effect::Stale(record.clone())
        }
    }

    /// Whether a down event ends the session of the record. Without a session in both, it does if both are about the
    /// same link.
    fn is_about(&self, event: &Event, record: &Record, config: Option<&Config>) -> bool {
        if let (Some(one), Some(other)) = (event.session, record.session) {
            return one == other;
        }
        match config {
            Some(config) => self.recognise(event, config) == record.link(config),
            None => event.names.is_empty() || record.names.iter().any(|name| event.names.contains(name)),
        }
    }

    /// Carries out `effect`, unless there is a newer record by now.
    pub fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Put(new) => {
                let old = self.all.iter().find(|old| old.is_place_of(new));
                if old.is_none_or(|old| old.since.since_boot <= new.since.since_boot) {
                    self.all.retain(|old| !old.is_place_of(new));
                    self.all.push(new.clone());
                }
            }
            Effect::Remove(gone) => self.all.retain(|record| record != gone),
            Effect::NotUp | Effect::Stale(_) => {}
        }
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = &'a Record;
    type IntoIter = std::slice::Iter<'a, Record>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
