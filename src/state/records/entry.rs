//! What callers have said of interfaces that are up, and what an event makes of it. Pure.

use crate::config::Config;
use crate::event::{Addresses, Change, Event, Family};
use crate::model::names::{IfName, LinkName};
use crate::state::clock::Moment;

/// What a caller said of one address family of an interface: one file of the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The interface, by the name that the caller gave.
    pub interface: IfName,
    /// Its index: another interface by the same name is another line.
    pub index: u32,
    /// The caller's names for the link, best first.
    pub names: Vec<String>,
    /// Process that brought the link up.
    pub session: Option<u32>,
    /// When it came up.
    pub since: Moment,
    /// The link that it was by the configuration of that time; `None`: nobody could read that.
    pub link: Option<LinkName>,
    /// What it came up with.
    pub addresses: Addresses,
}

impl Entry {
    /// Address family, by which the interface has a file of its own.
    pub fn family(&self) -> Family {
        self.addresses.family()
    }

    /// Whether both are about one family of one interface, and so the same file.
    fn is_place_of(&self, other: &Self) -> bool {
        self.interface == other.interface && self.family() == other.family()
    }
}

/// All that callers have said, each interface and family once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    pub(super) entries: Vec<Entry>,
    /// Links with a record of version 0.1, which holds some of them.
    pub(super) old: Vec<LinkName>,
}

/// What an event does to the entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// This takes the place of what was said of the interface.
    Put(Entry),
    /// This is no longer so.
    Remove(Entry),
    /// Nothing: nobody has said that the interface is up with this family.
    NotUp,
    /// Nothing: the interface has come up in another session since, which said this.
    Stale(Entry),
}

impl Entries {
    /// What was said of a family of an interface.
    pub fn on(&self, interface: &IfName, family: Family) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.interface == *interface && entry.family() == family)
    }

    /// Whether there are records of version 0.1 ([`super::Store::convert_old`]).
    pub fn have_old(&self) -> bool {
        !self.old.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// What `event` does. `index` is that of its interface, if there is one: what does not exist cannot come up.
    pub fn effect(&self, event: &Event, index: Option<u32>, config: Option<&Config>, now: Moment) -> Effect {
        match event.change {
            Change::Up(addresses) => match index {
                Some(index) => Effect::Put(self.came_up(event, addresses, index, config, now)),
                None => Effect::NotUp,
            },
            Change::Down(family) => self.went_down(event, family, index, config),
        }
    }

    fn came_up(&self, event: &Event, addresses: Addresses, index: u32, config: Option<&Config>, now: Moment) -> Entry {
        let link = config.and_then(|config| self.recognise(event, config)).map(|link| link.name.clone());
        let mut entry = Entry {
            interface: event.interface.clone(),
            index,
            names: event.names.clone(),
            session: event.session,
            since: now,
            link,
            addresses,
        };
        // Said once more, by hand perhaps, of a session that goes on.
        let same = |old: &&Entry| old.is_place_of(&entry) && old.index == index && old.link == entry.link;
        let goes_on = |old: &&Entry| entry.session.is_none() || entry.session == old.session;
        if let Some(old) = self.entries.iter().find(same).filter(goes_on) {
            entry.session = old.session;
            entry.since.unix = old.since.unix;
        }
        entry
    }

    fn went_down(&self, event: &Event, family: Family, index: Option<u32>, config: Option<&Config>) -> Effect {
        // An interface can be renamed while it is up.
        let by_index = || self.entries.iter().find(|entry| Some(entry.index) == index && entry.family() == family);
        let Some(entry) = self.on(&event.interface, family).or_else(by_index) else { return Effect::NotUp };
        if self.is_about(event, entry, config) { Effect::Remove(entry.clone()) } else { Effect::Stale(entry.clone()) }
    }

    /// Whether an interface that goes down does so for the caller that said the entry: in its session, or where one of
    /// the two names none, as the same link.
    fn is_about(&self, event: &Event, entry: &Entry, config: Option<&Config>) -> bool {
        if let (Some(one), Some(other)) = (event.session, entry.session) {
            return one == other;
        }
        match config {
            Some(config) => self.recognise(event, config) == entry.link(config),
            None => event.names.is_empty() || entry.names.iter().any(|name| event.names.contains(name)),
        }
    }

    /// Carries out `effect`, unless something newer was said in between.
    pub fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Put(new) => {
                let is_newer = |old: &Entry| old.is_place_of(new) && old.since.since_boot > new.since.since_boot;
                if !self.entries.iter().any(is_newer) {
                    self.entries.retain(|old| !old.is_place_of(new));
                    self.entries.push(new.clone());
                }
            }
            Effect::Remove(gone) => self.entries.retain(|entry| entry != gone),
            Effect::NotUp | Effect::Stale(_) => {}
        }
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
