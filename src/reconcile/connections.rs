//! Flushing of connections whose link is gone and that other links can carry.

use super::{Carrying, FlushScope};
use crate::config::{Config, Firewall, Link};
use crate::kernel::{self, Kernel};
use crate::model::change::Change;
use crate::model::names::Family;
use crate::model::routing::FwMark;
use crate::state::records::LinkRecords;

/// The changes that flush the connections of links that are gone, if there are such connections.
pub(super) fn flushes(
    config: &Config,
    records: &LinkRecords,
    carrying: &Carrying,
    flush_scope: &FlushScope,
    kernel: &mut impl Kernel,
) -> Result<Vec<Change>, kernel::Error> {
    let mut changes = Vec::new();
    for family in Family::BOTH {
        for link in gone(config, records, family, carrying, flush_scope) {
            let mark = FwMark { value: link.mark.get(), mask: config.marks() };
            if kernel.has_connections(family, mark)? {
                changes.push(Change::FlushConnections(family, mark));
            }
        }
    }
    Ok(changes)
}

/// Links that are gone and whose connections others can carry. The kernel walks all tracked connections to find those
/// of a link, so this returns only links for which it may be necessary: the link of the event; all, if that link is the
/// only live one; and links that are gone although they are recorded as up.
fn gone<'a>(
    config: &'a Config,
    records: &LinkRecords,
    family: Family,
    carrying: &Carrying,
    flush_scope: &FlushScope,
) -> Vec<&'a Link> {
    let live = carrying.of_family(family);
    let takers: Vec<_> = config.uplinks().filter(|link| live.contains(&link.name)).collect();
    if config.settings.firewall == Firewall::None || takers.is_empty() {
        return Vec::new();
    }
    let mut gone = Vec::new();
    for link in config.links.iter().filter(|link| !carrying.keeps_connections(family, &link.name)) {
        let is_concerned = match flush_scope {
            FlushScope::All => true,
            FlushScope::Link(name) => {
                let is_first = matches!(takers[..], [only] if only.name == *name);
                is_first || link.name == *name || records.record(&link.name, family).is_some()
            }
            FlushScope::None => false,
        };
        if is_concerned {
            gone.push(link);
        }
    }
    gone
}
