//! The drains that `mh-watch` has: each holds for a minute and is renewed, so that one that stands still keeps no link out
//! of use for longer.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::hook::pass::{self, Pass};
use crate::model::names::{Family, LinkName};
use crate::state::drain::{Drain, DrainLock, Level, uptime};

/// How long a drain holds, in seconds.
const HOLDS: u64 = 60;

/// When it is renewed.
pub(super) const RENEWED: Duration = Duration::from_secs(20);

/// How far links are to be out of use, IPv4 and IPv6. Links that are not here are in full use.
pub(super) type Levels = BTreeMap<LinkName, [Option<Level>; 2]>;

/// Adds the level of a family of a link.
pub(super) fn add(levels: &mut Levels, link: &LinkName, family: Family, level: Level) {
    levels.entry(link.clone()).or_default()[usize::from(family == Family::V6)] = Some(level);
}

/// The drains in force.
#[derive(Debug, Default)]
pub(super) struct Drains {
    all: BTreeMap<LinkName, (Drain, DrainLock)>,
}

impl Drains {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Makes, renews and ends drains, so that they are as wanted. A link that a drill holds is left to it. Whether one had
    /// lapsed that is wanted still: this process has stood still, and others may have used the link again.
    pub(super) fn set(&mut self, wanted: &Levels, pass: &Pass<'_>) -> Result<bool, pass::Error> {
        let over: Vec<_> = self.all.keys().filter(|link| !wanted.contains_key(*link)).cloned().collect();
        if over.is_empty() && wanted.is_empty() {
            return Ok(false);
        }
        let _lock = pass.lock("records.lock")?;
        for link in over {
            if let Some((_, lock)) = self.all.remove(&link) {
                pass.store.undrain(&link, lock)?;
            }
        }
        let now = uptime().unwrap_or_default();
        let mut have_lapsed = false;
        for (link, [v4, v6]) in wanted {
            let Some(mut drain) = Drain::by_me(HOLDS, false) else { continue };
            (drain.v4, drain.v6) = (*v4, *v6);
            if let Some((old, lock)) = self.all.get_mut(link) {
                have_lapsed |= old.until <= now;
                pass.store.redrain(link, &drain, lock)?;
                *old = drain;
            } else if let Some(lock) = pass.store.drain(link, &drain)? {
                self.all.insert(link.clone(), (drain, lock));
            }
        }
        Ok(have_lapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::state::records::Store;

    #[test]
    fn a_drain_that_has_lapsed_is_made_anew_and_told_of_once() {
        let dir = tempfile::tempdir().unwrap();
        let config = config::parse("uplink = [{ name = 'a', interface = 'a0' }]", "test".as_ref()).unwrap();
        let pass = Pass { config: &config, store: Store::new(dir.path()), who: "test".to_owned() };
        let link: LinkName = "a".parse().unwrap();
        let mut wanted = Levels::new();
        add(&mut wanted, &link, Family::V4, Level::Drained);
        let mut drains = Drains::default();
        for have_lapsed in [false, false, true, false] {
            if have_lapsed {
                drains.all.get_mut(&link).unwrap().0.until = uptime().unwrap();
            }
            assert_eq!(drains.set(&wanted, &pass).unwrap(), have_lapsed);
            assert!(pass.link_records().drain(&link, Family::V4).is_some());
        }
        assert!(!drains.set(&Levels::new(), &pass).unwrap() && drains.is_empty());
    }
}
