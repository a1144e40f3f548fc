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

/// The uplinks that do not carry. Pure.
#[derive(Debug, Default)]
pub(super) struct Stranded {
    /// The sources that each had, and when connections from there are to be ended.
    left: BTreeMap<Key, (Vec<IpNet>, Duration)>,
}

impl Stranded {
    /// Notes which uplinks carry no longer, and which do again.
    pub(super) fn follow(&mut self, config: &Config, before: &Links, after: &Links, now: Duration) {
        let Some(check) = &config.check else { return self.left.clear() };
        for (link, family) in config.checked().flat_map(|link| Family::BOTH.map(|family| (link, family))) {
            let key = Key { uplink: link.name.clone(), family };
            let (Some(was), Some(is)) = (before.get(&link.name, family), after.get(&link.name, family)) else {
                continue;
            };
            let had = sources(was);
            match (State::of(was), State::of(is)) {
                (State::Carries, State::Carries) => self.renumber(key, had, &sources(is), now),
                (State::Carries | State::Lost, State::Cut) => {
                    let (had, _) = self.left.remove(&key).unwrap_or((had, now));
                    self.left.insert(key, (had, now));
                }
                (State::Carries, State::Lost) => {
                    self.left.insert(key, (had, now + check.cut_after));
                }
                (State::Cut | State::Lost, State::Carries) => {
                    if let Some((had, _)) = self.left.remove(&key) {
                        self.renumber(key, had, &sources(is), now);
                    }
                }
                (State::Cut, State::Cut | State::Lost) | (State::Lost, State::Lost) => {}
            }
        }
    }

    /// The uplink carries, by other addresses perhaps: nothing will ever be answered to the old ones.
    fn renumber(&mut self, key: Key, mut had: Vec<IpNet>, has: &[IpNet], now: Duration) {
        had.retain(|source| !has.contains(source));
        if !had.is_empty() {
            self.left.insert(key, (had, now));
        }
    }

    /// When something is to be ended; `None`: not before an uplink has changed.
    pub(super) fn wake(&self, links: &Links) -> Option<Duration> {
        let ready = self.left.iter().filter(|(key, _)| links.up(key.family).next().is_some());
        ready.map(|(_, (_, due))| *due).min()
    }

    /// What is to be ended now. Without an uplink that carries it may wait: the next may have the same address.
    pub(super) fn take_due(&mut self, links: &Links, now: Duration) -> Ending {
        let mut ending = Ending::default();
        let is_due = |key: &Key, due: Duration| now >= due && links.up(key.family).next().is_some();
        for (_, (sources, _)) in self.left.extract_if(.., |key, (_, due)| is_due(key, *due)) {
            ending.from.extend(sources);
        }
        let carrying: Vec<_> = Family::BOTH.into_iter().flat_map(|family| links.up(family)).collect();
        // Two uplinks may have one address.
        ending.from.retain(|source| !carrying.iter().any(|view| sources(view).contains(source)));
        ending.by = carrying.iter().filter_map(|view| Some(view.way.as_ref()?.0.device.index)).collect();
        ending
    }
}

/// Whether connections go on.
#[derive(Debug, Clone, Copy)]
enum State {
    /// As far as anybody knows: one that is drained may live after all, and a drill puts its link back.
    Carries,
    Cut,
    Lost,
}

impl State {
    fn of(view: &LinkView) -> Self {
        match view.status {
            Status::Up | Status::Drained | Status::Held | Status::NoGateway => Self::Carries,
            Status::Cut => Self::Cut,
            Status::Down | Status::Stale | Status::Dead | Status::NoCarrier => Self::Lost,
        }
    }
}

fn sources(view: &LinkView) -> Vec<IpNet> {
    view.way.as_ref().map(|(_, sources)| sources.clone()).unwrap_or_default()
}
