//! The state of a link in a word, for whoever tells of it.

use super::LinkState;
use crate::state::drain::Level;

/// The kind of a state, in the words of the glossary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Up,
    Down,
    /// Its interface is gone.
    Stale,
    Dead,
    NoCarrier,
    NoGateway,
    /// By `mh-watch`.
    Drained,
    /// By `mh-watch`.
    Cut,
    /// Drained by a drill.
    Held,
}

impl Status {
    /// The word of JSON (docs/status.md) and of metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Stale => "stale",
            Self::Dead => "dead",
            Self::NoCarrier => "no-carrier",
            Self::NoGateway => "no-gateway",
            Self::Drained => "drained",
            Self::Cut => "cut",
            Self::Held => "held",
        }
    }
}

impl LinkState<'_> {
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Up(_) => Status::Up,
            Self::Down => Status::Down,
            Self::Stale => Status::Stale,
            Self::Dead => Status::Dead,
            Self::NoCarrier(_) => Status::NoCarrier,
            Self::NoGateway(_) => Status::NoGateway,
            Self::Drained(live, _) => match live.level {
                Some(Level::Drained) => Status::Drained,
                Some(Level::Cut) => Status::Cut,
                Some(Level::Held) | None => Status::Held,
            },
        }
    }
}
