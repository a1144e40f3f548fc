//! Who calls us, and what that says: argv and environment become an `Event`. Pure.

pub mod openvpn;
pub mod pppd;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

pub use crate::model::names::Family;
use crate::model::names::{HostAddr, IfName, InvalidValue};

/// The environment, handed in so that callers stay pure; `None`: no such variable.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable of this process's environment. What is no text in it becomes U+FFFD, and the variable says
/// something all the same: a name of such bytes is a name.
pub fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// What a caller said and cannot be: one line for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// An IPv4 address at one end, an IPv6 address at the other.
    #[error("local address {local} and remote address {remote} do not belong together: write two of the same family")]
    MixedFamilies { local: IpAddr, remote: IpAddr },
}

/// What a caller says about one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub interface: IfName,
    /// Names by which the caller knows the link, best first (pppd: ipparam, then LINKNAME).
    pub names: Vec<String>,
    /// Which process brought the link up, such as `PPPD_PID` or OpenVPN's `daemon_pid`: a *down*
    /// is about its own session only. `None` by hand.
    pub session: Option<u32>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The link came up, with these addresses.
    Up(Addresses),
    /// The link went down for the address family.
    Down(Family),
}

/// Addresses of a link as its caller gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    V4 {
        local: Option<HostAddr>,
        /// The peer or router through which the Internet is reached; `None`: the device itself.
        gateway: Option<HostAddr>,
    },
    /// IPv6: recorded, not yet routed.
    V6 {
        /// Our address; `::` when it is not known.
        local: Ipv6Addr,
        /// The peer's; `::` when it is not known.
        remote: Ipv6Addr,
    },
}

impl Addresses {
    /// The family that they are of.
    pub fn family(&self) -> Family {
        match self {
            Self::V4 { .. } => Family::V4,
            Self::V6 { .. } => Family::V6,
        }
    }
}

/// A variable of the environment; an empty one says as little as a missing one.
fn var(env: Env, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

/// An argument if it says anything, else the variable `name`.
fn arg_or_var(arg: Option<&str>, env: Env, name: &str) -> Option<String> {
    arg.filter(|arg| !arg.is_empty()).map(str::to_owned).or_else(|| var(env, name))
}

/// The process id in variable `name`. Never an error: without a session an event still counts.
fn session(env: Env, name: &str) -> Option<u32> {
    env(name)?.parse().ok().map(NonZeroU32::get)
}

/// An IPv4 address of a link; 0.0.0.0 says that there is none.
fn host4(what: &'static str, addr: Ipv4Addr) -> Result<Option<HostAddr>, InvalidValue> {
    if addr.is_unspecified() {
        return Ok(None);
    }
    // HostAddr does not know which address it is, and the log line should.
    HostAddr::new(addr).map(Some).map_err(|e| InvalidValue::new(what, &addr.to_string(), e.expected()))
}

/// An IPv6 address of a link; `::` says that there is none.
fn host6(what: &'static str, addr: Ipv6Addr) -> Result<Ipv6Addr, InvalidValue> {
    if addr.is_loopback() || addr.is_multicast() {
        return Err(InvalidValue::new(what, &addr.to_string(), "no host on a line can have it"));
    }
    Ok(addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An environment of these variables only.
    pub fn env_of<'a>(vars: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    }

    /// Addresses as IPv4; empty: none.
    pub fn v4(local: &str, gateway: &str) -> Addresses {
        Addresses::V4 { local: local.parse().ok(), gateway: gateway.parse().ok() }
    }

    /// Addresses as IPv6.
    pub fn v6(local: &str, remote: &str) -> Addresses {
        Addresses::V6 { local: local.parse().unwrap(), remote: remote.parse().unwrap() }
    }

    /// One line, not a flood, and nothing that a terminal would obey.
    pub fn assert_loggable(error: &Error) {
        let text = error.to_string();
        assert!(text.len() < 1000 && !text.chars().any(char::is_control), "{text:?}");
    }

    #[test]
    fn a_session_is_a_process_id_or_nothing() {
        for (value, expected) in [
            ("4711", Some(4711)),
            ("4294967295", Some(u32::MAX)),
            ("", None),
            ("0", None),
            ("-1", None),
            ("4294967296", None),
            ("12 ", None),
            ("1\n2", None),
            ("pid", None),
            ("1;rm -rf /", None),
        ] {
            assert_eq!(session(&env_of(&[("PPPD_PID", value)]), "PPPD_PID"), expected, "{value:?}");
        }
        assert_eq!(session(&env_of(&[]), "PPPD_PID"), None);
    }
}
