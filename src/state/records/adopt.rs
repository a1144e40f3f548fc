//! Records under names that are no configured link's. A link that is renamed in the configuration while it is up is
//! the same line still: its record goes on under the new name.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;

use super::{Error, Record, Records, Store, read, remove};
use crate::config::Config;
use crate::model::names::{IfName, LinkName};

/// A record under a name that is no configured link's.
#[derive(Debug)]
pub(super) struct Orphan {
    name: LinkName,
    record: Record,
}

/// What becomes of an orphan.
enum Fate {
    /// It is this link's.
    Adopted(LinkName),
    /// Another link has come up on its interface since.
    Outdated,
}

/// A record that goes on under another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// The name it had.
    pub old: LinkName,
    /// Whose it is now.
    pub new: LinkName,
    /// The interface that it is up on.
    pub interface: IfName,
}

impl fmt::Display for Adopted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, new, interface } = self;
        write!(f, "{new} goes on with the record of {old}, which is no link any more: it is up on {interface}")
    }
}

impl Store {
    /// The orphans in the directory, newest first. What is no record of ours is no orphan either, and a directory
    /// that cannot be listed has none: nobody has to be kept from anything by it.
    pub(super) fn orphans(&self, config: &Config) -> Vec<Orphan> {
        let orphan = |name: LinkName| {
            let record = read(self.path(&name)).ok()??;
            Some(Orphan { name, record })
        };
        let mut all: Vec<_> = self.orphaned(config).filter_map(orphan).collect();
        // An index is never used twice, and grows.
        all.sort_by_key(|orphan| std::cmp::Reverse((orphan.record.index, orphan.record.since)));
        all
    }

    /// Whether there is an orphan, perhaps. One look at the directory: nothing is read.
    pub fn has_orphans(&self, config: &Config) -> bool {
        self.orphaned(config).next().is_some()
    }

    /// Names of what may be orphans.
    fn orphaned<'a>(&self, config: &'a Config) -> impl Iterator<Item = LinkName> + use<'a> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".toml")?.parse().ok());
        names.filter(|name| config.links.iter().all(|link| link.name != *name))
    }

    /// Gives the orphans on disk to whom [`Store::load`] gives them, and removes those that are outdated. Under the
    /// records' lock. Where that fails, `load` does the same once more.
    pub fn adopt(&self, config: &Config) -> Vec<Result<Adopted, Error>> {
        if !self.has_orphans(config) {
            return Vec::new();
        }
        let orphans = self.orphans(config);
        let (mut records, unread, _) = self.own(config);
        let fates = fates(config, &mut records, &unread, orphans);
        let carried_out = fates.into_iter().filter_map(|(orphan, fate)| self.carry_out(orphan, fate).transpose());
        carried_out.collect()
    }

    fn carry_out(&self, orphan: Orphan, fate: Fate) -> Result<Option<Adopted>, Error> {
        let old = self.path(&orphan.name);
        let Fate::Adopted(new) = fate else {
            return remove(&old).map(|()| None);
        };
        let path = self.path(&new);
        // Never over another; and under one name or the other it is there at every instant.
        match fs::hard_link(&old, &path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            linked => linked.map_err(Error::io("link", &path))?,
        }
        // Else it would be adopted once more after the link has gone down.
        remove(&old)?;
        Ok(Some(Adopted { old: orphan.name, new, interface: orphan.record.interface }))
    }
}

/// Puts those of `orphans` among the `records` that a configured link can go on with.
pub(super) fn adopt(config: &Config, records: &mut Records, unread: &BTreeSet<LinkName>, orphans: Vec<Orphan>) {
    drop(fates(config, records, unread, orphans));
}

/// What becomes of `orphans`; one that is nobody's stays as it is, and is not returned. `unread` are the links whose
/// own record is there, whatever it holds.
fn fates(
    config: &Config,
    records: &mut Records,
    unread: &BTreeSet<LinkName>,
    orphans: Vec<Orphan>,
) -> Vec<(Orphan, Fate)> {
    let mut fates = Vec::new();
    for orphan in orphans {
        let interface = &orphan.record.interface;
        if records.on(interface, config).is_some() {
            fates.push((orphan, Fate::Outdated));
            continue;
        }
        // As an event's link is found: pppd's ipparam, which was the name unless it was configured, stays what it was.
        let by_ipparam = || config.links.iter().find(|link| link.ipparam == orphan.name.as_str());
        let by_interface = || config.links.iter().find(|link| link.interface == *interface);
        let Some(link) = by_ipparam().or_else(by_interface) else { continue };
        // A link with a gateway needs no record to be up, and is not to be taken down by an old one.
        if link.gateway.is_none() && !records.contains_key(&link.name) && !unread.contains(&link.name) {
            records.insert(link.name.clone(), orphan.record.clone());
            fates.push((orphan, Fate::Adopted(link.name.clone())));
        }
    }
    fates
}
