//! Events of callers, from their arguments and environment. Pure.

pub mod openvpn;
pub mod pppd;
pub(crate) mod resolvers;

use std::net::IpAddr;
use std::num::NonZeroU32;

use ipnet::Ipv6Net;

pub use crate::model::names::Family;
use crate::model::names::{HostAddr, IfName, InvalidValue};

/// Looks up a variable of the environment; `None`: there is no such variable.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable of this process's environment. Bytes that are no UTF-8 become U+FFFD: a name of such bytes is still a
/// name.
pub fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Why a caller's event is invalid: one line for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// One address is IPv4, the other IPv6.
    #[error("local address {local} and remote address {remote} do not belong together: write two of the same family")]
    MixedFamilies { local: IpAddr, remote: IpAddr },
}

/// What a caller reports about one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub interface: IfName,
    /// The caller's names for the link, best first (pppd: ipparam, then LINKNAME).
    pub names: Vec<String>,
    /// The process that brought the link up: `PPPD_PID`, or OpenVPN's `daemon_pid`. A down event counts for its own
    /// session only. `None` by hand.
    pub session: Option<u32>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// The link came up, with these addresses.
    Up(Addresses),
    /// The link went down for the address family.
    Down(Family),
}

/// Addresses of a link as its caller gives them, all of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    pub family: Family,
    pub local: Option<HostAddr>,
    /// `None`: the device leads to one peer.
    pub gateway: Option<HostAddr>,
    /// IPv6 prefixes that the provider routes to this host.
    pub prefixes: Vec<Ipv6Net>,
    /// The provider's resolvers, best first, a few at most.
    pub resolvers: Vec<HostAddr>,
}

impl Addresses {
    /// None is known.
    pub fn none(family: Family) -> Self {
        Self { family, local: None, gateway: None, prefixes: Vec::new(), resolvers: Vec::new() }
    }
}

impl EventKind {
    /// The family that it is about.
    pub fn family(&self) -> Family {
        match self {
            Self::Up(addresses) => addresses.family,
            Self::Down(family) => *family,
        }
    }
}

/// A variable of the environment that is not empty.
fn var(env: Env, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

/// The argument if it is not empty, otherwise the variable `name`.
fn arg_or_var(arg: Option<&str>, env: Env, name: &str) -> Option<String> {
    arg.filter(|arg| !arg.is_empty()).map(str::to_owned).or_else(|| var(env, name))
}

/// The process id in the variable `name`. Never an error: an event counts without a session, too.
fn session(env: Env, name: &str) -> Option<u32> {
    env(name)?.parse().ok().map(NonZeroU32::get)
}

/// An address of a link; unspecified: none.
fn host(what: &'static str, addr: IpAddr) -> Result<Option<HostAddr>, InvalidValue> {
    if addr.is_unspecified() {
        return Ok(None);
    }
    // The error of HostAddr does not say which address it is.
    HostAddr::new(addr).map(Some).map_err(|e| InvalidValue::new(what, &addr.to_string(), e.expected()))
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
        Addresses { local: local.parse().ok(), gateway: gateway.parse().ok(), ..Addresses::none(Family::V4) }
    }

    /// Addresses as IPv6; empty: none.
    pub fn v6(local: &str, gateway: &str) -> Addresses {
        Addresses { local: local.parse().ok(), gateway: gateway.parse().ok(), ..Addresses::none(Family::V6) }
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
