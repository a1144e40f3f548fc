//! Which link a record, or an event, is about: derived from the configuration each time, so that a link may be renamed
//! while it is up. Pure.

use super::{LinkRecord, LinkRecords, Record, Records, V4, V6};
use crate::config::{Config, Link};
use crate::event::{Addresses, Event, EventKind, Family};
use crate::model::names::IfName;

impl Record {
    /// The link that the record is about. The caller's names decide; a name that no link has (any more) is that of a link
    /// only where it was one when the record was written.
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

impl Records {
    /// The link that an event is about: by the caller's names for it, best first; by interface only where the caller has
    /// none. `None`: it is no link of ours, as a client that dials in is none, whichever interface it gets.
    ///
    /// A *down* without names is about the link that was said to be up on the interface, rather than the one that is
    /// configured on it. With names that no link has (any more), an event is about that one only in the same session.
    pub(crate) fn recognise<'a>(&self, event: &Event, config: &'a Config) -> Option<&'a Link> {
        if let Some(link) = by_names(&event.names, config) {
            return Some(link);
        }
        let family = match event.kind {
            EventKind::Up(addresses) => addresses.family(),
            EventKind::Down(family) => family,
        };
        let before = self.on(&event.interface, family).or_else(|| self.on(&event.interface, other(family)));
        if !event.names.is_empty() {
            let own = before.filter(|record| event.session.is_some() && record.session == event.session);
            return own.and_then(|record| record.link(config));
        }
        let before = before.filter(|_| matches!(event.kind, EventKind::Down(_)));
        before.and_then(|record| record.link(config)).or_else(|| by_interface(&event.interface, config))
    }

    /// The records by link: of several the newest.
    pub fn by_link(&self, config: &Config) -> LinkRecords {
        let mut newest: Vec<_> = self.all.iter().collect();
        // IPv4 first: IPv6 of another interface is not that of the same connection.
        newest.sort_by_key(|record| (record.family(), std::cmp::Reverse((record.since.since_boot, record.index))));
        let mut link_records = LinkRecords::new();
        for record in newest {
            let Some(link) = record.link(config) else { continue };
            let so_far = link_records.entry(link.name.clone()).or_insert_with(|| LinkRecord::of(record));
            if so_far.interface != record.interface || so_far.index != record.index {
                continue;
            }
            match record.addresses {
                Addresses::V4 { local, gateway } => _ = so_far.v4.get_or_insert(V4 { local, gateway }),
                Addresses::V6 { local, remote } => _ = so_far.v6.get_or_insert(V6 { local, remote }),
            }
        }
        link_records
    }
}

impl LinkRecord {
    /// Without addresses yet.
    fn of(record: &Record) -> Self {
        Self {
            interface: record.interface.clone(),
            index: record.index,
            session: record.session,
            since: record.since.unix,
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
