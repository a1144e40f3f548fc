//! Links that an event displaces, or cannot displace. The newest event counts, with a warning: two callers may use the
//! same name, and a caller without a name gets the link of its interface.

use std::fmt;

use thiserror::Error;

use super::pass::Pass;
use super::recorded::Recorded;
use crate::config::{Config, Link};
use crate::event::{Event, EventKind};
use crate::kernel::Linux;
use crate::model::names::{IfName, LinkName};
use crate::state::records::{Effect, LinkRecord, Record};

/// What to do if it is not intended.
const ADVICE: &str = "the newest event counts; if these are two lines, have each say a name of its own (pppd: ipparam)";

/// A link that loses its interface while the interface is up, or keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Displaced {
    /// The event's own link was up elsewhere.
    #[error("{link} moves from {}, which is still up{}, to {to}{session}: {ADVICE}", from.interface, Process(from.session))]
    Moved { link: LinkName, from: LinkRecord, to: IfName, session: Process },
    /// Another link was up on the event's interface.
    #[error("{interface} was {old}'s{}, and is {new}'s now{session}: {ADVICE}", Process(*before))]
    Taken { interface: IfName, old: LinkName, before: Option<u32>, new: LinkName, session: Process },
    /// The interface is that of a static link, which keeps it.
    #[error(
        "{interface} is {owner}'s, which is up while its interface is, by its gateway in the configuration: {link} is \
         recorded there, and not used there"
    )]
    Kept { interface: IfName, owner: LinkName, link: LinkName },
}

/// A link that an event without a name cannot have, because a caller has reported it up by name on another interface.
/// The event may come from a client on a modem that got the link's interface by chance.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the caller of {interface} says no name, and {link} is up on {} by its name{}: nothing is done; if it is {link}, \
     have it say so (pppd: ipparam)", by.interface, Process(by.session)
)]
pub(super) struct Occupied {
    interface: IfName,
    link: LinkName,
    by: Record,
}

/// Checks whether the link of an event without a name is up by its name on another interface.
pub(super) fn by_name_elsewhere(pass: &Pass<'_>, event: &Event, link: &Link, kernel: &mut Linux) -> Option<Occupied> {
    let EventKind::Up(addresses) = &event.kind else { return None };
    if !event.names.is_empty() {
        return None;
    }
    let (records, _) = pass.store.records();
    for by in records.iter().filter(|record| record.family() == addresses.family && record.interface != event.interface)
    {
        let is_its_own = !by.names.is_empty() && by.link(pass.config) == Some(link);
        // If the kernel cannot be asked, the event still counts.
        if is_its_own && kernel.is_up(&by.interface, by.index).unwrap_or(false) {
            return Some(Occupied { interface: event.interface.clone(), link: link.name.clone(), by: by.clone() });
        }
    }
    None
}

/// Shown behind what the process has reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process(Option<u32>);

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, " (process {pid})"))
    }
}

impl Recorded<'_> {
    /// The links that the events displace. The kernel is asked only if the link changes its interface.
    pub(super) fn displaced(&self, config: &Config, index: Option<u32>, kernel: &mut Linux) -> Vec<Displaced> {
        // What is new in one family is so in the other: they have the interface in common.
        let new = self.told().find_map(|(_, effect)| if let Effect::Put(new) = effect { Some(new) } else { None });
        let Some(new) = new else { return Vec::new() };
        if let Some(owner) = new.static_owner(self.link, config) {
            let (owner, link) = (owner.name.clone(), self.link.name.clone());
            return vec![Displaced::Kept { interface: new.interface.clone(), owner, link }];
        }
        let session = Process(new.session);
        let mut displaced = Vec::new();
        let elsewhere =
            self.before.record(&self.link.name, new.family()).filter(|record| record.interface != new.interface);
        // If the kernel cannot be asked, there is no warning.
        if let Some(from) = elsewhere.filter(|record| kernel.is_up(&record.interface, record.index).unwrap_or(false)) {
            let (link, to) = (self.link.name.clone(), new.interface.clone());
            displaced.push(Displaced::Moved { link, from: from.clone(), to, session });
        }
        for (old, record) in self.before.iter().filter(|(old, _)| **old != self.link.name) {
            // A record with another index is about an interface that is gone.
            if record.interface == new.interface && Some(record.index) == index {
                let (interface, new) = (new.interface.clone(), self.link.name.clone());
                displaced.push(Displaced::Taken { interface, old: old.clone(), before: record.session, new, session });
            }
        }
        displaced
    }
}
