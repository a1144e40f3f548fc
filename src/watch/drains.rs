//! The drains that `mh-watch` has: each holds for a minute and is renewed, so that one that stands still keeps no link out
//! of use for longer.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::hook::pass::{self, Pass};
use crate::model::names::{Family, LinkName};
use crate::state::drain::{Drain, DrainLock, Level};

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

    /// Makes, renews and ends drains, so that they are as wanted. A link that a drill holds is left to it.
    pub(super) fn set(&mut self, wanted: &Levels, pass: &Pass<'_>) -> Result<(), pass::Error> {
        let over: Vec<_> = self.all.keys().filter(|link| !wanted.contains_key(*link)).cloned().collect();
        if over.is_empty() && wanted.is_empty() {
            return Ok(());
        }
        let _lock = pass.lock("records.lock")?;
        for link in over {
            if let Some((_, lock)) = self.all.remove(&link) {
                pass.store.undrain(&link, lock)?;
            }
        }
        for (link, [v4, v6]) in wanted {
            let Some(mut drain) = Drain::by_me(HOLDS, false) else { continue };
            (drain.v4, drain.v6) = (*v4, *v6);
            if let Some((old, lock)) = self.all.get_mut(link) {
                pass.store.redrain(link, &drain, lock)?;
                *old = drain;
            } else if let Some(lock) = pass.store.drain(link, &drain)? {
                self.all.insert(link.clone(), (drain, lock));
            }
        }
        Ok(())
    }
}
