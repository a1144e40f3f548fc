//! `[settings]`: what has a default and concerns no single link.

use std::time::Duration;

use super::Firewall;
use crate::model::numbering::Numbering;

/// `[settings]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The first number of each kind.
    pub numbers: Numbering,
    /// Protocol number of managed routes, rules and nexthop objects.
    pub protocol: u8,
    pub nexthops: NexthopMode,
    /// How long `mh-ip-down` waits for the removal of the interface.
    pub settle_timeout: Duration,
    /// How long a hook waits for the lock.
    pub lock_timeout: Duration,
    pub firewall: Firewall,
    /// `net.ipv4.fib_multipath_hash_policy`, 0 to 3; `None`: unchanged.
    pub hash_policy: Option<u8>,
    /// A program by its absolute path, and its arguments, which mh-watch runs for each of its events; empty: none.
    pub event_command: Vec<String>,
}

/// How the default route is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NexthopMode {
    /// Nexthop objects if the kernel supports them, otherwise a multipath route.
    #[default]
    Auto,
    /// Nexthop objects (Linux 5.3 and later).
    Objects,
    /// A multipath route.
    Multipath,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            numbers: Numbering::default(),
            protocol: 77,
            nexthops: NexthopMode::default(),
            settle_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(30),
            firewall: Firewall::default(),
            hash_policy: None,
            event_command: Vec::new(),
        }
    }
}
