//! Connections of this host that are stranded: TCP sockets keep the address that they have begun with, and where its uplink
//! does not carry any more they hang for a quarter of an hour, or for good if they only listen. They are ended, so that
//! programs begin anew by another uplink: where the uplink is cut, and where it has been down for as long.

mod sockets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use tracing::{debug, info};

use super::health::Key;
use super::links::{LinkView, Links, Status};
use crate::config::Config;
use crate::model::names::Family;

/// What is to be ended, and where its packets would have to go: by the uplinks that carry, and not to the LAN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ending {
    /// Sources.
    pub(super) from: Vec<IpNet>,
    /// Indices of interfaces.
    pub(super) by: Vec<u32>,
}

/// Ends the connections, and says how many there were. Whatever keeps it from that is no reason to do nothing else.
pub(super) fn end(ending: &Ending) {
    match sockets::end(ending) {
        Ok(0) => {}
        Ok(1) => info!("1 connection of this host had lost its uplink, and was ended"),
        Ok(ended) => info!("{ended} connections of this host had lost their uplink, and were ended"),
        Err(e) => debug!("connections of this host that have lost their uplink are not ended: {e}"),
    }
}

/// Sources that their uplink does not carry. Pure.
#[derive(Debug, Default)]
pub(super) struct Stranded {
    /// When connections from there are to be ended.
    left: BTreeMap<(Key, IpNet), Duration>,
}

impl Stranded {
    /// Notes which sources are carried no longer, and which are again.
    pub(super) fn follow(&mut self, config: &Config, before: &Links, after: &Links, now: Duration) {
        let Some(check) = &config.check else { return self.left.clear() };
        for (link, family) in config.checked().flat_map(|link| Family::BOTH.map(|family| (link, family))) {
            let (Some(was), Some(is)) = (before.get(&link.name, family), after.get(&link.name, family)) else {
                continue;
            };
            let due = if is.status == Status::Cut { now } else { now + check.cut_after };
            let (had, has) = (carried(was), carried(is));
            let key = Key { uplink: link.name.clone(), family };
            for source in had.iter().filter(|source| !has.contains(source)) {
                self.left.insert((key.clone(), *source), due);
            }
            for source in has {
                self.left.remove(&(key.clone(), *source));
            }
        }
    }

    /// When something is to be ended; `None`: not before an uplink has changed.
    pub(super) fn wake(&self, links: &Links) -> Option<Duration> {
        let ready = self.left.iter().filter(|((key, _), _)| links.up(key.family).next().is_some());
        ready.map(|(_, due)| *due).min()
    }

    /// What is to be ended now. Without an uplink that carries it may wait: the next may have the same address.
    pub(super) fn take_due(&mut self, links: &Links, now: Duration) -> Ending {
        let mut ending = Ending::default();
        self.left.retain(|(key, source), due| {
            let is_due = now >= *due && links.up(key.family).next().is_some();
            ending.from.extend(is_due.then_some(*source));
            !is_due
        });
        for view in Family::BOTH.into_iter().flat_map(|family| links.up(family)) {
            // Two uplinks may have one address.
            ending.from.retain(|source| !carried(view).contains(source));
            ending.by.extend(view.way.as_ref().map(|(next_hop, _)| next_hop.device.index));
        }
        ending
    }
}

/// The sources of connections that go on by the uplink. One that is drained may live after all, and a drill puts its link
/// back.
fn carried(view: &LinkView) -> &[IpNet] {
    let goes_on = match view.status {
        Status::Up | Status::Drained | Status::Held | Status::NoGateway => true,
        Status::Cut | Status::Down | Status::Stale | Status::Dead | Status::NoCarrier => false,
    };
    view.way.as_ref().filter(|_| goes_on).map_or(&[], |(_, sources)| sources)
}
