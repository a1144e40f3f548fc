//! Whose place an event takes. The newest event counts, and never in silence: two callers may call themselves the same,
//! and one that says no name gets the link of its interface.

use std::fmt;

use thiserror::Error;

use super::pass::Pass;
use super::recorded::Recorded;
use crate::config::Link;
use crate::event::{Event, EventKind};
use crate::kernel::Linux;
use crate::model::names::{IfName, LinkName};
use crate::state::records::{Effect, LinkRecord, Record};

/// What to do where it is not meant.
const ADVICE: &str = "the newest event counts; if these are two lines, have each say a name of its own (pppd: ipparam)";

/// A link that loses its interface while that is up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Displaced {
    /// The event's own link was up elsewhere.
    #[error("{link} moves from {}, which is still up{}, to {to}{session}: {ADVICE}", from.interface, Process(from.session))]
    Moved { link: LinkName, from: LinkRecord, to: IfName, session: Process },
    /// Another link was up on the event's interface.
    #[error("{interface} was {old}'s{}, and is {new}'s now{session}: {ADVICE}", Process(*before))]
    Taken { interface: IfName, old: LinkName, before: Option<u32>, new: LinkName, session: Process },
}

/// A link that an event without a name cannot have: whoever gets the link's interface by chance, as a caller on a modem,
/// is not the line that is up elsewhere, and has said its name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{interface} says no name, and {link} is up on {} by its name{}: nothing is done; if it is {link}, have it say so \
     (pppd: ipparam)", by.interface, Process(by.session)
)]
pub(super) struct Occupied {
    interface: IfName,
    link: LinkName,
    by: Record,
}

/// The link of an event without a name, where it is up elsewhere by its name.
pub(super) fn by_name_elsewhere(pass: &Pass<'_>, event: &Event, link: &Link, kernel: &mut Linux) -> Option<Occupied> {
    let EventKind::Up(addresses) = event.kind else { return None };
    if !event.names.is_empty() {
        return None;
    }
    let (records, _) = pass.store.records();
    for by in
        records.iter().filter(|record| record.family() == addresses.family() && record.interface != event.interface)
    {
        let is_its_own = !by.names.is_empty() && by.link(pass.config) == Some(link);
        // An event is not lost because of a question that fails.
        if is_its_own && kernel.is_up(&by.interface, by.index).unwrap_or(false) {
            return Some(Occupied { interface: event.interface.clone(), link: link.name.clone(), by: by.clone() });
        }
    }
    None
}

/// A process as it stands behind what it has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process(Option<u32>);

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, " (process {pid})"))
    }
}

impl Recorded<'_> {
    /// Which links lose their interfaces to the event's. A look at the kernel only where the link changes its interface.
    pub(super) fn displaced(&self, index: Option<u32>, kernel: &mut Linux) -> Vec<Displaced> {
        let Effect::Put(new) = &self.effect else { return Vec::new() };
        let session = Process(self.event.session);
        let mut displaced = Vec::new();
        let elsewhere = self.before.get(&self.link.name).filter(|record| record.interface != new.interface);
        // An event is not lost because of a warning.
        if let Some(from) = elsewhere.filter(|record| kernel.is_up(&record.interface, record.index).unwrap_or(false)) {
            let (link, to) = (self.link.name.clone(), new.interface.clone());
            displaced.push(Displaced::Moved { link, from: from.clone(), to, session });
        }
        for (old, record) in self.before.iter().filter(|(old, _)| **old != self.link.name) {
            // One of another index is about a device that is gone.
            if record.interface == new.interface && Some(record.index) == index {
                let (interface, new) = (new.interface.clone(), self.link.name.clone());
                displaced.push(Displaced::Taken { interface, old: old.clone(), before: record.session, new, session });
            }
        }
        displaced
    }
}
