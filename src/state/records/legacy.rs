//! Files of version 0.1, one for each link: links that are up stay up during an upgrade.

use std::path::PathBuf;

use super::{Effect, Error, LinkRecord, Record, Records, Store, read, remove};
use crate::model::names::LinkName;
use crate::state::clock::Moment;

/// Their time, before that of all new records.
const OLD: u64 = 0;

impl Store {
    /// Adds the old records of `links` for which there is no newer one.
    pub(super) fn add_old(&self, links: &[LinkName], boot: &str, records: &mut Records, errors: &mut Vec<Error>) {
        for link in links {
            match read::<LinkRecord>(self.old_path(link)) {
                Ok(Some(record)) => {
                    records.add_old(link, &record, boot);
                    records.old.push(link.clone());
                }
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
    }

    /// Writes the old records as new files and removes the old files. The caller holds the lock of the records. After a
    /// failure the next event does it again.
    pub fn convert_old(&self, records: &Records) -> Result<(), Error> {
        // A converted record keeps its time.
        if !records.have_old() {
            return Ok(());
        }
        for record in records.iter().filter(|record| record.since.since_boot == OLD) {
            self.write(&Effect::Put(record.clone()))?;
        }
        for link in &records.old {
            remove(&self.old_path(link))?;
        }
        Ok(())
    }

    fn old_path(&self, link: &LinkName) -> PathBuf {
        self.dir.join(format!("{link}.toml"))
    }
}

impl Records {
    fn add_old(&mut self, link: &LinkName, record: &LinkRecord, boot: &str) {
        for addresses in [&record.v4, &record.v6].into_iter().flatten() {
            if self.on(&record.interface, addresses.family).is_some() {
                continue;
            }
            self.all.push(Record {
                interface: record.interface.clone(),
                index: record.index,
                // Version 0.1 recorded the link's name only.
                names: vec![link.to_string()],
                session: record.session,
                since: Moment { unix: record.since, since_boot: OLD, boot: boot.to_owned() },
                link: Some(link.clone()),
                addresses: addresses.clone(),
            });
        }
    }
}
