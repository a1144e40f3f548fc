//! Which link a record or an event is about. It is derived from the configuration each time, so a link can be renamed
//! while it is up. Pure.

use super::{LinkRecord, LinkRecords, Record, Records};
use crate::config::{Config, Link};
use crate::event::{Event, EventKind, Family};

impl Record {
    /// The link of the record. The caller's names decide. If no link has one of these names, the record counts for a
    /// link only if it did when it was written.
    pub fn link<'a>(&self, config: &'a Config) -> Option<&'a Link> {
        let by_name = by_names(&self.names, config);
        if by_name.is_some() || self.link.is_none() && !self.names.is_empty() {
            return by_name;
        }
        let by_interface = config.link_on(&self.interface);
        let by_old_name = self.link.as_ref().and_then(|name| config.link(name));
        if self.names.is_empty() { by_interface.or(by_old_name) } else { by_old_name.or(by_interface) }
    }

    /// The static link that the interface belongs to, unless that is `link`: it is up while the interface is, and no
    /// other link can be.
    pub(crate) fn static_owner<'a>(&self, link: &Link, config: &'a Config) -> Option<&'a Link> {
        config.link_on(&self.interface).filter(|owner| owner.is_static() && owner.name != link.name)
    }
}

impl Records {
    /// The link of an event: by the caller's names, best first, and by interface only if the caller gives no name.
    /// `None`: no configured link, such as a client that dials in.
    ///
    /// A down event without names is about the link that was reported up on the interface rather than the one that is
    /// configured on it. An event with names that no link has is about that link only if it is of the same session.
    pub(crate) fn recognise<'a>(&self, event: &Event, config: &'a Config) -> Option<&'a Link> {
        if let Some(link) = by_names(&event.names, config) {
            return Some(link);
        }
        let family = event.kind.family();
        let before = self.on(&event.interface, family).or_else(|| self.on(&event.interface, family.other()));
        if !event.names.is_empty() {
            let own = before.filter(|record| event.session.is_some() && record.session == event.session);
            return own.and_then(|record| record.link(config));
        }
        let before = before.filter(|_| matches!(event.kind, EventKind::Down(_)));
        before.and_then(|record| record.link(config)).or_else(|| config.link_on(&event.interface))
    }

    /// The newest record of each link.
    pub fn by_link(&self, config: &Config) -> LinkRecords {
        // IPv4 first: the IPv6 record of another interface is one of another connection.
        let mut newest: Vec<_> = self.all.iter().filter(|record| self.is_newest(record)).collect();
        newest.sort_by_key(|record| (record.family(), std::cmp::Reverse((record.since.since_boot, record.index))));
        let mut link_records = LinkRecords::new();
        for record in newest {
            let Some(link) = record.link(config).filter(|link| record.static_owner(link, config).is_none()) else {
                continue;
            };
            let so_far = link_records.entry(link.name.clone()).or_insert_with(|| LinkRecord::of(record));
            if so_far.interface == record.interface && so_far.index == record.index {
                so_far.add(record);
            } else if record.family() == Family::V6 && so_far.v6.is_none() {
                let elsewhere = link_records.v6_elsewhere.entry(link.name.clone());
                elsewhere.or_insert_with(|| LinkRecord::of(record)).add(record);
            }
        }
        link_records
    }

    /// Whether no newer record is about the same interface and family. The file of an older one has the name that the
    /// interface had before it was renamed.
    fn is_newest(&self, record: &Record) -> bool {
        let mut others =
            self.all.iter().filter(|other| other.index == record.index && other.family() == record.family());
        // Of equal age are only those of version 0.1.
        let order = (record.since.since_boot, &record.interface);
        others.all(|other| (other.since.since_boot, &other.interface) <= order)
    }
}

impl LinkRecord {
    /// Adds what the record says of its family, unless a newer one has said something.
    fn add(&mut self, record: &Record) {
        let said = match record.family() {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        said.get_or_insert_with(|| record.addresses.clone());
    }

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

/// The link with one of the caller's names, best first.
pub(crate) fn by_names<'a>(names: &[String], config: &'a Config) -> Option<&'a Link> {
    names.iter().find_map(|name| config.links.iter().find(|link| link.ipparam == *name))
}
