//! The wait of `mh-ip-down` for the removal of its interface: pppd runs the hook before that, and the modem decides how
//! long it takes. A state machine; the caller passes the time.

use std::time::{Duration, Instant};

/// Something that happens during the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// An interface was unregistered (`RTM_DELLINK`).
    Removed { index: u32 },
    /// An interface got an IPv4 address (`RTM_NEWADDR`).
    AddressAdded { index: u32 },
    /// Notices were lost; `exists`: whether the interface still exists.
    Overrun { exists: bool },
    /// SIGTERM: pppd sends it when it exits.
    Terminated,
}

/// Why the wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitOutcome {
    /// The interface is gone, and the kernel has removed its routes.
    Removed,
    /// The interface has an address again. pppd runs ip-up only after this hook has ended.
    Restored,
    /// The caller has sent SIGTERM.
    Terminated,
    /// The interface still existed at the deadline: a renegotiation, `demand`, or a call by hand.
    TimedOut,
}

/// The wait for one interface.
#[derive(Debug)]
pub struct Wait {
    index: u32,
    deadline: Instant,
}

impl Wait {
    /// A wait from `now`, for at most `timeout`, for the removal of the interface `index`.
    pub fn new(index: u32, now: Instant, timeout: Duration) -> Self {
        // A year, if the clock cannot represent the deadline.
        let deadline = now.checked_add(timeout).unwrap_or(now + Duration::from_hours(365 * 24));
        Self { index, deadline }
    }

    /// Time left at `now`; `None`: the deadline has passed.
    pub(crate) fn remaining(&self, now: Instant) -> Option<Duration> {
        self.deadline.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// The outcome after a notice; `None`: the wait goes on.
    pub fn notice(&self, notice: Notice) -> Option<WaitOutcome> {
        match notice {
            Notice::Removed { index } if index == self.index => Some(WaitOutcome::Removed),
            Notice::AddressAdded { index } if index == self.index => Some(WaitOutcome::Restored),
            Notice::Overrun { exists: false } => Some(WaitOutcome::Removed),
            Notice::Terminated => Some(WaitOutcome::Terminated),
            Notice::Removed { .. } | Notice::AddressAdded { .. } | Notice::Overrun { exists: true } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_device_ends_it() {
        let wait = Wait::new(7, Instant::now(), Duration::from_secs(10));
        for (notice, outcome) in [
            (Notice::Removed { index: 8 }, None),
            (Notice::AddressAdded { index: 8 }, None),
            (Notice::Overrun { exists: true }, None),
            (Notice::Removed { index: 7 }, Some(WaitOutcome::Removed)),
            (Notice::AddressAdded { index: 7 }, Some(WaitOutcome::Restored)),
            (Notice::Overrun { exists: false }, Some(WaitOutcome::Removed)),
            (Notice::Terminated, Some(WaitOutcome::Terminated)),
        ] {
            assert_eq!(wait.notice(notice), outcome, "{notice:?}");
        }
    }

    #[test]
    fn the_deadline_holds_whatever_comes() {
        let start = Instant::now();
        let wait = Wait::new(7, start, Duration::from_secs(10));
        assert_eq!(wait.remaining(start), Some(Duration::from_secs(10)));
        assert_eq!(wait.remaining(start + Duration::from_secs(9)), Some(Duration::from_secs(1)));
        assert_eq!(wait.remaining(start + Duration::from_secs(10)), None);
        assert_eq!(wait.remaining(start + Duration::from_secs(11)), None);
        assert_eq!(Wait::new(7, start, Duration::ZERO).remaining(start), None);
        assert!(Wait::new(7, start, Duration::MAX).remaining(start).is_some());
    }
}
