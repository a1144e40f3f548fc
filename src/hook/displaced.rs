//! Whose place an event takes. The newest event counts, and never in silence: two callers may call themselves the same,
//! and one that says no name gets the link of its interface.

use std::fmt;

use thiserror::Error;

use super::{Hook, Noted};
use crate::event::Change;
use crate::kernel::Linux;
use crate::model::names::{IfName, LinkName};
use crate::state::records::{Effect, Record};

/// What to do where it is not meant.
const ADVICE: &str = "the newest event counts; if these are two lines, have each say a name of its own (pppd: ipparam)";

/// A link that loses its interface while that is up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Displaced {
    /// The event's own link was up elsewhere.
    #[error("{link} moves from {}, which is still up{}, to {to}{session}: {ADVICE}", from.interface, Process(from.session))]
    Moved { link: LinkName, from: Record, to: IfName, session: Process },
    /// Another link was up on the event's interface.
    #[error("{interface} was {old}'s{}, and is {new}'s now{session}: {ADVICE}", Process(*before))]
    Taken { interface: IfName, old: LinkName, before: Option<u32>, new: LinkName, session: Process },
}

/// A process as it stands behind what it has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process(Option<u32>);

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, " (process {pid})"))
    }
}

impl Hook<'_> {
    /// Which links lose their interfaces to the event's. A look at the kernel only where the link changes its interface.
    pub(super) fn displaced(&self, noted: &Noted, index: Option<u32>, kernel: &mut Linux) -> Vec<Displaced> {
        let (Change::Up(_), Effect::Put(_)) = (self.event.change, &noted.effect) else { return Vec::new() };
        let session = Process(self.event.session);
        let mut displaced = Vec::new();
        let elsewhere = noted.before.as_ref().filter(|record| record.interface != self.event.interface);
        // An event is not lost because of a warning.
        if let Some(from) = elsewhere.filter(|record| kernel.is_up(&record.interface, record.index).unwrap_or(false)) {
            let (link, to) = (self.link.name.clone(), self.event.interface.clone());
            displaced.push(Displaced::Moved { link, from: from.clone(), to, session });
        }
        // One of another index is about a device that is gone.
        for (old, record) in noted.others.iter().filter(|(_, record)| Some(record.index) == index) {
            let (interface, new) = (self.event.interface.clone(), self.link.name.clone());
            displaced.push(Displaced::Taken { interface, old: old.clone(), before: record.session, new, session });
        }
        displaced
    }
}
