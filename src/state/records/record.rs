//! What callers have said of interfaces that are up, and what an event makes of it. Pure.

use crate::config::Config;
use crate::event::{Addresses, Event, EventKind, Family};
use crate::model::names::{IfName, LinkName};
use crate::state::clock::Moment;

/// Names are kept up to this length, in characters: a link's has 64 at most, and this one is none yet.
const LONGEST_NAME: usize = 65;

/// What a caller said of one address family of an interface: one file of the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The interface, by the name that the caller gave.
    pub interface: IfName,
    /// Its index: another interface by the same name is another line.
    pub index: u32,
    /// The caller's names for the link, best first.
    pub names: Vec<String>,
    /// Process that brought the link up.
    pub session: Option<u32>,
    pub since: Moment,
    /// The link that it was by the configuration of that time; `None`: nobody could read that.
    pub link: Option<LinkName>,
    pub addresses: Addresses,
}

impl Record {
    /// Address family, by which the interface has a file of its own.
    pub fn family(&self) -> Family {
        self.addresses.family()
    }

    /// Whether both are about one family of one interface, and so the same file.
    fn is_place_of(&self, other: &Self) -> bool {
        self.interface == other.interface && self.family() == other.family()
    }

    /// Whether this repeats `old`, perhaps by hand, for the same session.
    fn continues(&self, old: &Self) -> bool {
        let is_same_link = old.is_place_of(self) && old.index == self.index && old.link == self.link;
        is_same_link && (self.session.is_none() || self.session == old.session)
    }
}

/// All that callers have said, each interface and family once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    pub(super) all: Vec<Record>,
    /// Links with a record of version 0.1, which holds some of them.
    pub(super) old: Vec<LinkName>,
}

/// What an event does to the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// This takes the place of what was said of the interface.
    Put(Record),
    /// This is no longer so.
    Remove(Record),
    /// Nothing: nobody has said that the interface is up with this family.
    NotUp,
    /// Nothing: the interface has come up in another session since, which said this.
    Stale(Record),
}

impl Records {
    /// What was said of a family of an interface.
    pub fn on(&self, interface: &IfName, family: Family) -> Option<&Record> {
        self.all.iter().find(|record| record.interface == *interface && record.family() == family)
    }

    /// Whether there are records of version 0.1 ([`super::Store::convert_old`]).
    pub(crate) fn have_old(&self) -> bool {
        !self.old.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Record> {
        self.all.iter()
    }

    /// What `event` does. `index` is that of its interface, if there is one: what does not exist cannot come up.
    pub fn effect(&self, event: &Event, index: Option<u32>, config: Option<&Config>, now: Moment) -> Effect {
        match event.kind {
            EventKind::Up(addresses) => match index {
                Some(index) => Effect::Put(self.came_up(event, addresses, index, config, now)),
                None => Effect::NotUp,
            },
            EventKind::Down(family) => self.went_down(event, family, index, config),
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
        // An interface can be renamed while it is up.
        let by_name = self.on(&event.interface, family);
        let record = by_name.or_else(|| self.all.iter().find(|old| Some(old.index) == index && old.family() == family));
        let Some(record) = record else { return Effect::NotUp };
        if self.is_about(event, record, config) {
            Effect::Remove(record.clone())
        } else {
            Effect::Stale(record.clone())
        }
    }

    /// Whether an interface that goes down does so for the caller that said the record: in its session, or where one of
    /// the two names none, as the same link.
    fn is_about(&self, event: &Event, record: &Record, config: Option<&Config>) -> bool {
        if let (Some(one), Some(other)) = (event.session, record.session) {
            return one == other;
        }
        match config {
            Some(config) => self.recognise(event, config) == record.link(config),
            None => event.names.is_empty() || record.names.iter().any(|name| event.names.contains(name)),
        }
    }

    /// Carries out `effect`, unless something newer was said in between.
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
