//! Who calls us, and what that says: argv and environment become an `Event`. Pure.

pub mod openvpn;
pub mod pppd;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use crate::config::{Config, Link};
pub use crate::model::names::Family;
use crate::model::names::{HostAddr, IfName, Invalid};

/// The environment, handed in so that callers stay pure; `None`: no such variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable of this process's environment. What is no text in it becomes U+FFFD, and the variable says
/// something all the same: a name of such bytes is a name.
pub fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// What a caller said and cannot be: one line for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// One value is wrong by itself.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// An IPv4 address at one end, an IPv6 address at the other.
    #[error("local address {local} and remote address {remote} do not belong together: write two of the same family")]
    MixedFamilies {
        /// Our end.
        local: IpAddr,
        /// The peer's.
        remote: IpAddr,
    },
}

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

/// Who is recorded on an interface.
#[derive(Debug, Clone, Copy)]
pub struct Occupant<'a> {
    /// The link.
    pub link: &'a Link,
    /// Which process brought it up there.
    pub session: Option<u32>,
}

/// The link that the event is about: by the caller's names for it, best first; by interface only where the caller has
/// none. `None`: it is no link of ours, as a client that dials in is none, whichever interface he gets.
///
/// Without names a *down* is about the link that is `recorded` on the interface rather than the one that is configured
/// on it: another may have come up there by its names. With names that the configuration does not know (any more), an
/// event is about a recorded link only in the session that is recorded.
pub fn recognise<'a>(
    event: &Event,
    config: &'a Config,
    recorded: impl FnOnce() -> Option<Occupant<'a>>,
) -> Option<&'a Link> {
    if let Some(link) = event.names.iter().find_map(|name| config.links.iter().find(|link| link.ipparam == *name)) {
        return Some(link);
    }
    if !event.names.is_empty() {
        let is_its_own = |occupant: &Occupant<'_>| event.session.is_some() && occupant.session == event.session;
        return recorded().filter(is_its_own).map(|occupant| occupant.link);
    }
    let occupant = if matches!(event.change, Change::Down(_)) { recorded() } else { None };
    let configured = || config.links.iter().find(|link| link.interface == event.interface);
    occupant.map(|occupant| occupant.link).or_else(configured)
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
fn host4(what: &'static str, addr: Ipv4Addr) -> Result<Option<HostAddr>, Invalid> {
    if addr.is_unspecified() {
        return Ok(None);
    }
    // HostAddr does not know which address it is, and the log line should.
    HostAddr::new(addr).map(Some).map_err(|e| Invalid::new(what, &addr.to_string(), e.expected()))
}

/// An IPv6 address of a link; `::` says that there is none.
fn host6(what: &'static str, addr: Ipv6Addr) -> Result<Ipv6Addr, Invalid> {
    if addr.is_loopback() || addr.is_multicast() {
        return Err(Invalid::new(what, &addr.to_string(), "no host on a line can have it"));
    }
    Ok(addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LinkKind, Settings};
    use crate::model::names::{Mark, TableId};

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

    fn link(n: u32, name: &str, interface: &str, ipparam: &str) -> Link {
        Link {
            name: name.parse().unwrap(),
            position: 0,
            kind: LinkKind::Tunnel,
            interface: interface.parse().unwrap(),
            ipparam: ipparam.to_owned(),
            table: TableId::new(n).unwrap(),
            mark: Mark::new(1 << n).unwrap(),
            masquerade: false,
            gateway: None,
        }
    }

    #[test]
    fn a_link_is_recognised_by_the_callers_names_and_by_interface_only_without_any() {
        let links = vec![link(1, "isp1", "ppp0", "isp1"), link(2, "isp2", "ppp1", "second")];
        let config = Config { links, policies: vec![], settings: Settings::default() };
        let (up, down) = (Change::Up(v4("198.51.100.10", "198.51.100.1")), Change::Down(Family::V4));
        for (names, interface, expected) in [
            (&[][..], "ppp0", Some("isp1")),
            (&[], "ppp1", Some("isp2")),
            (&[], "ppp9", None),
            // A name goes before the interface, which another link may have had first.
            (&["second"], "ppp0", Some("isp2")),
            (&["second"], "ppp9", Some("isp2")),
            // In the caller's order, not the configuration's.
            (&["second", "isp1"], "ppp9", Some("isp2")),
            (&["unknown", "isp1"], "ppp1", Some("isp1")),
            // The name of the link is not its ipparam where that is given.
            (&["isp2"], "ppp1", None),
            // Somebody who dials in, on whatever interface.
            (&["203.0.113.77"], "ppp0", None),
            (&["unknown", "client"], "ppp1", None),
            (&["unknown"], "ppp9", None),
        ] {
            let event = |change| Event {
                change,
                interface: interface.parse().unwrap(),
                names: names.iter().map(|&name| name.to_owned()).collect(),
                session: Some(77),
            };
            let found = |change, recorded: Option<(usize, Option<u32>)>| {
                let recorded = || recorded.map(|(n, session)| Occupant { link: &config.links[n], session });
                recognise(&event(change), &config, recorded).map(|link| link.name.as_str())
            };
            for change in [up, down] {
                assert_eq!(found(change, None), expected, "{change:?} {names:?} {interface}");
            }
            let named = names.iter().any(|name| ["isp1", "second"].contains(name));
            for (n, name) in ["isp1", "isp2"].into_iter().enumerate() {
                // A record says nothing to who comes up without a name; of who goes down it says more than the
                // configuration does.
                for session in [None, Some(78)] {
                    assert_eq!(found(up, Some((n, session))), expected, "{names:?} {interface}");
                    let at_down = if names.is_empty() { Some(name) } else { expected };
                    assert_eq!(found(down, Some((n, session))), at_down, "{names:?} {interface}");
                }
                // A name that has left the configuration, of a session that is known.
                let at_up = if named || names.is_empty() { expected } else { Some(name) };
                assert_eq!(found(up, Some((n, Some(77)))), at_up, "{names:?} {interface}");
                assert_eq!(found(down, Some((n, Some(77)))), if named { expected } else { Some(name) }, "{names:?}");
            }
        }
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
