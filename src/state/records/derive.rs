//! Which link an entry, or an event, is about: derived from the configuration each time, so that a link may be renamed
//! while it is up. Pure.

use super::{Entries, Entry, Record, Records, V4, V6};
use crate::config::{Config, Link};
use crate::event::{Addresses, Change, Event, Family};
use crate::model::names::IfName;

impl Entry {
    /// The link that the entry is about. The caller's names decide; a name that no link has (any more) is that of a link
    /// only where it was one when the entry was written.
    pub fn link<'a>(&self, config: &'a Config) -> Option<&'a Link> {
        let by_name = by_names(&self.names, config);
        if by_name.is_some() || self.link.is_none() && !self.names.is_empty() {
            return by_name;
        }
        let by_interface = by_interface(&self.interface, config);
        let by_old_name = self.link.as_ref().and_then(|name| config.links.iter().find(|link| link.name == *name));
        if self.names.is_empty() { by_interface.or(by_old_name) } else { by_old_name.or(by_interface) }
    }
}

impl Entries {
    /// The link that an event is about: by the caller's names for it, best first; by interface only where the caller has
    /// none. `None`: it is no link of ours, as a client that dials in is none, whichever interface it gets.
    ///
    /// A *down* without names is about the link that was said to be up on the interface, rather than the one that is
    /// configured on it. With names that no link has (any more), an event is about that one only in the same session.
    pub fn recognise<'a>(&self, event: &Event, config: &'a Config) -> Option<&'a Link> {
        if let Some(link) = by_names(&event.names, config) {
            return Some(link);
        }
        let family = match event.change {
            Change::Up(addresses) => addresses.family(),
            Change::Down(family) => family,
        };
        let before = self.on(&event.interface, family).or_else(|| self.on(&event.interface, other(family)));
        if !event.names.is_empty() {
            let own = before.filter(|entry| event.session.is_some() && entry.session == event.session);
            return own.and_then(|entry| entry.link(config));
        }
        let before = before.filter(|_| matches!(event.change, Change::Down(_)));
        before.and_then(|entry| entry.link(config)).or_else(|| by_interface(&event.interface, config))
    }

    /// The entries by link: of several the newest.
    pub fn records(&self, config: &Config) -> Records {
        let mut newest: Vec<_> = self.entries.iter().collect();
        // IPv4 first: IPv6 of another interface is not that of the same connection.
        newest.sort_by_key(|entry| (entry.family(), std::cmp::Reverse((entry.since.since_boot, entry.index))));
        let mut records = Records::new();
        for entry in newest {
            let Some(link) = entry.link(config) else { continue };
            let record = records.entry(link.name.clone()).or_insert_with(|| Record::of(entry));
            if record.interface != entry.interface || record.index != entry.index {
                continue;
            }
            match entry.addresses {
                Addresses::V4 { local, gateway } => _ = record.v4.get_or_insert(V4 { local, gateway }),
                Addresses::V6 { local, remote } => _ = record.v6.get_or_insert(V6 { local, remote }),
            }
        }
        records
    }
}

impl Record {
    /// Without addresses yet.
    fn of(entry: &Entry) -> Self {
        Self {
            interface: entry.interface.clone(),
            index: entry.index,
            session: entry.session,
            since: entry.since.unix,
            v4: None,
            v6: None,
        }
    }
}

/// The link that a caller's names say, best first.
pub(crate) fn by_names<'a>(names: &[String], config: &'a Config) -> Option<&'a Link> {
    names.iter().find_map(|name| config.links.iter().find(|link| link.ipparam == *name))
}

fn other(family: Family) -> Family {
    match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    }
}

fn by_interface<'a>(interface: &IfName, config: &'a Config) -> Option<&'a Link> {
    config.links.iter().find(|link| link.interface == *interface)
}
