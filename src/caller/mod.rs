//! Who calls us, and what that says: argv and environment become an `Event`. Pure.

use std::net::Ipv6Addr;

use crate::types::{HostAddr, IfName};

/// What a caller says about one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Up or down.
    pub change: Change,
    /// The interface it is about.
    pub interface: IfName,
    /// Names by which the caller knows the link, best first (pppd: ipparam, then LINKNAME).
    pub names: Vec<String>,
    /// Which process brought the link up, such as `PPPD_PID` or OpenVPN's `daemon_pid`: a *down*
    /// is about its own session only. `None` by hand.
    pub session: Option<u32>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The link came up, with these addresses.
    Up(Addresses),
    /// The link went down for the address family.
    Down(Family),
}

/// Address family of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Addresses of a link as its caller gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// IPv4.
    V4 {
        /// Our address.
        local: Option<HostAddr>,
        /// The peer or router through which the Internet is reached; `None`: the device itself.
        gateway: Option<HostAddr>,
    },
    /// IPv6: recorded, not yet routed.
    V6 {
        /// Our address.
        local: Ipv6Addr,
        /// The peer's.
        remote: Ipv6Addr,
    },
}
