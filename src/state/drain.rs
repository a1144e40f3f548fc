//! A link that is kept out of use for a while although it is up (`mhctl drill`). The hold names the
//! process that wants it and an end: when either has come, it counts for nothing, so that no way of
//! dying leaves a link out of use for longer than until the next event. Nor does it count while it
//! would leave the server without any uplink, unless it was forced.

use std::fs;
use std::path::Path;

/// A hold on one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Process that wants it.
    pub pid: u32,
    /// When that process started, in clock ticks since boot: another one by the same number is
    /// another process.
    pub started: u64,
    /// Its end, in seconds since boot: nobody sets that clock.
    pub until: u64,
    /// Even while no other uplink is up.
    pub force: bool,
}

impl Hold {
    /// A hold by this process for `seconds` from now; `None`: there is no `/proc` to vouch for it.
    pub fn by_me(seconds: u64, force: bool) -> Option<Self> {
        let pid = std::process::id();
        Some(Self { pid, started: started(pid)?, until: uptime()?.saturating_add(seconds), force })
    }

    /// Whether it counts at `uptime`, `started` being when the process of its pid started, if there is one.
    fn counts(&self, uptime: u64, started: Option<u64>) -> bool {
        uptime < self.until && started == Some(self.started)
    }

    /// Whether it counts now.
    pub fn is_in_force(&self) -> bool {
        uptime().is_some_and(|now| self.counts(now, started(self.pid)))
    }
}

/// Seconds since boot (proc(5), `/proc/uptime`).
pub fn uptime() -> Option<u64> {
    fs::read_to_string("/proc/uptime").ok()?.split('.').next()?.parse().ok()
}

/// When a process started, in clock ticks since boot (proc(5), `/proc/PID/stat`); none if it has ended.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    start_time(&stat)
}

/// Field 22. The second is the program's name in parentheses, and may hold both blanks and
/// parentheses; the third says whether it has ended and only waits for its parent to notice.
fn start_time(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    fields.nth(18).filter(|_| !ended)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_ends_with_its_time_or_with_its_process() {
        let hold = Hold { pid: 7, started: 500, until: 100, force: false };
        assert!(hold.counts(99, Some(500)));
        assert!(!hold.counts(100, Some(500)));
        assert!(!hold.counts(99, None));
        assert!(!hold.counts(99, Some(501)), "another process by the same number");
    }

    #[test]
    fn mine_is_in_force() {
        assert!(Hold::by_me(60, false).unwrap().is_in_force());
        assert!(!Hold::by_me(0, false).unwrap().is_in_force());
        let mine = Hold::by_me(60, false).unwrap();
        assert!(!Hold { started: mine.started + 1, ..mine }.is_in_force());
    }

    #[test]
    fn a_programs_name_cannot_disguise_its_start() {
        let stat = "42 (a) S 1 2 (b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 99 1\n";
        assert_eq!(start_time(stat), Some(12345));
        assert_eq!(start_time(&stat.replace(") S 1 42", ") Z 1 42")), None, "a zombie holds nothing");
        assert_eq!(start_time("42 (a"), None);
    }
}
