//! Points in time, by the wall clock and by the clock since boot, which cannot be set.

use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// A point in time within a boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970.
    pub unix: u64,
    /// Nanoseconds since boot, time asleep included (`CLOCK_BOOTTIME` of `clock_gettime(2)`).
    pub since_boot: u64,
    /// Boot id (random(4)); empty if `/proc` is missing.
    pub boot: String,
}

impl Moment {
    /// The present.
    pub fn now() -> Self {
        // Linux has this clock since 2.6.39, so it cannot fail. If it did, the first event would count.
        let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| {
            u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
        });
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Self { unix, since_boot, boot: boot_id() }
    }
}

/// The id of the running boot. It does not change while a process lives, and is asked for once.
pub(crate) fn boot_id() -> String {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned())
        .clone()
}
