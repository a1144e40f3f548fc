//! Failback: when a better tier carries again, connections leave the metered uplinks that carried meanwhile.

use std::collections::BTreeSet;

use super::links::Links;
use crate::config::{Config, Link};
use crate::kernel::{self, Kernel, Linux};
use crate::model::change::Change;
use crate::model::names::{Family, LinkName};
use crate::model::routing::FwMark;

/// Uplinks whose connections of a family are to leave.
pub(super) type Leaving = BTreeSet<(Family, LinkName)>;

/// The metered uplinks of a worse tier than the one that carries from now on.
pub(super) fn leaving(config: &Config, before: &Links, after: &Links) -> Leaving {
    let mut leaving = Leaving::new();
    for family in Family::BOTH {
        if after.tier(family).is_some() && after.tier(family) < before.tier(family) {
            let worse = config.uplinks().filter(|link| is_left(link, family, after));
            leaving.extend(worse.map(|link| (family, link.name.clone())));
        }
    }
    leaving
}

/// Whether connections of the family are not to stay on the link.
fn is_left(link: &Link, family: Family, links: &Links) -> bool {
    link.metered && links.tier(family).is_some_and(|carrying| link.tier() > Some(carrying))
}

/// Flushes their connections, if they are still to leave: their next packets go where new connections go.
pub(super) fn flush(leaving: &Leaving, links: &Links, config: &Config) -> Result<(), kernel::Error> {
    if leaving.is_empty() {
        return Ok(());
    }
    let mut kernel = Linux::open()?;
    for (family, name) in leaving {
        if let Some(link) = config.link(name).filter(|link| is_left(link, *family, links)) {
            let mark = FwMark { value: link.mark.get(), mask: config.marks() };
            kernel.apply(&Change::FlushConnections(*family, mark), config.settings.protocol)?;
        }
    }
    Ok(())
}
