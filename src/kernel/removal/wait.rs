//! Waiting out the race at the end of `mh-ip-down`: pppd runs it before the device is gone, and
//! how long that takes is the modem's affair. A state machine with the clock handed in.

use std::time::{Duration, Instant};

/// Something that happened while waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// An interface was unregistered (`RTM_DELLINK`).
    Removed { index: u32 },
    /// An interface got an IPv4 address (`RTM_NEWADDR`).
    AddressAdded { index: u32 },
    /// Notices were lost; `exists` says whether the interface is there after all.
    Overrun { exists: bool },
    /// Somebody wants us to end: pppd sends SIGTERM when it exits itself.
    Terminated,
}

/// Why waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitOutcome {
    /// The device is gone, and the kernel has flushed what led by it.
    Removed,
    /// The line is back on the same device. Its ip-up waits for us to end.
    Restored,
    /// Whoever called us will not wait any longer.
    Terminated,
    /// The device outlived the deadline: a renegotiation, `demand`, or a call by hand.
    TimedOut,
}

/// Waits for the end of one device.
#[derive(Debug)]
pub struct Wait {
    index: u32,
    deadline: Instant,
}

impl Wait {
    /// Waits from `now` for at most `timeout` for interface `index` to go.
    pub fn new(index: u32, now: Instant, timeout: Duration) -> Self {
        // A timeout beyond what the clock can say is as good as a year.
        let deadline = now.checked_add(timeout).unwrap_or(now + Duration::from_hours(365 * 24));
        Self { index, deadline }
    }

    /// How long to wait for the next notice at `now`; `None`: the deadline has passed.
    pub(crate) fn remaining(&self, now: Instant) -> Option<Duration> {
        self.deadline.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// What a notice means: `None`, wait on.
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
