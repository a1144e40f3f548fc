//! Failback: when a better tier carries again, connections leave the metered uplinks that carried meanwhile.

use super::links::Links;
use crate::config::Config;
use crate::kernel::{self, Kernel, Linux};
use crate::model::change::Change;
use crate::model::names::Family;
use crate::model::routing::FwMark;

/// Families and marks of connections.
pub(super) type Leaving = Vec<(Family, FwMark)>;

/// Connections that are to leave: those of metered uplinks of a worse tier than the one that carries
/// from now on.
pub(super) fn leaving(config: &Config, before: &Links, after: &Links) -> Leaving {
    let mut leaving = Leaving::new();
    for family in Family::BOTH {
        let (Some(then), Some(now)) = (before.tier(family), after.tier(family)) else { continue };
        if now >= then {
            continue;
        }
        for link in config.uplinks().filter(|link| link.metered && link.tier() > Some(now)) {
            leaving.push((family, FwMark { value: link.mark.get(), mask: config.marks() }));
        }
    }
    leaving
}

/// Flushes them: their next packets go where new connections go.
pub(super) fn flush(leaving: &[(Family, FwMark)], config: &Config) -> Result<(), kernel::Error> {
    if leaving.is_empty() {
        return Ok(());
    }
    let mut kernel = Linux::open()?;
    for (family, mark) in leaving {
        kernel.apply(&Change::FlushConnections(*family, *mark), config.settings.protocol)?;
    }
    Ok(())
}
