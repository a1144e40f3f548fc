//! The outcome of reconciling: changes, failures and warnings.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use thiserror::Error;

use super::firewall;
use super::link_state::{LinkState, LinkStates, Live};
use super::plan::Problem;
use crate::kernel;
use crate::model::change::Change;
use crate::model::names::{Family, IfName, LinkName};
use crate::model::observed::Observed;
use crate::state::drain::Level;

/// A part of the desired state that reconciling could not reach.
#[derive(Debug, Error)]
pub enum Failure {
    /// Something foreign is in the way.
    #[error(transparent)]
    Problem(Problem),
    /// The kernel refused twice.
    #[error("{error}{}", link.as_ref().map(|l| format!("; link {l} is left out until its next event")).unwrap_or_default())]
    Refused {
        error: kernel::Error,
        /// The link that is left out because of it.
        link: Option<LinkName>,
    },
    /// The kernel accepted the change, and does not hold it.
    #[error(
        "`{0}` had no effect: this kernel is too old for it (ports and protocols in rules need Linux 4.17, \
         dscp needs 6.12), or another program undoes it at once, or has a route of its own there"
    )]
    NoEffect(String),
    /// A link is recorded as up, and no packet can leave by it.
    #[error(
        "{0} is recorded as up, but {1} is down, or has no carrier or no address: \
         once it has, run `mhctl apply`, or have its caller say again that it is up"
    )]
    Dead(LinkName, IfName),
    /// Another program keeps changing the same objects.
    #[error("the routes do not converge: another program keeps changing them; `ip monitor` shows which")]
    NotConverging,
}

/// A part of the configuration that is in force and will not work.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Warning {
    /// Packets of a private network leave by a link with their private source address.
    #[error(
        "{1} is private, packets are forwarded, and nothing rewrites their source where they leave by {0}: \
         its provider will drop them; write masquerade = true there, or add rules of your own"
    )]
    Unmasqueraded(LinkName, Ipv4Net),
    /// nftables was to hold the rules, and iptables does.
    #[error("iptables holds the rules: {0}; write firewall = \"iptables\" in [settings] to have it so")]
    WithoutNftables(String),
    /// iptables holds the rules, and ip6tables none.
    #[error(
        "ip6tables does not hold the rules, so that no IPv6 connection is sticky, and no IPv6 source is translated: {0}"
    )]
    WithoutIp6tables(String),
    /// An Ethernet link has no gateway.
    #[error(
        "{0} has no gateway, and {1} is an Ethernet: each host of the Internet is looked for on it by ARP; \
         have the caller say the router's address, or write gateway there"
    )]
    NoGateway(LinkName, IfName),
    /// The same; it is not used, because another uplink can carry traffic.
    #[error(
        "{0} is not used: it has no gateway, and {1} is an Ethernet; \
         have the caller say the router's address, or write gateway there"
    )]
    Unused(LinkName, IfName),
}

impl Warning {
    /// Whether it is about a refusal of this run, not about what is observed.
    pub(super) fn is_of_refusal(&self) -> bool {
        matches!(self, Self::WithoutNftables(_) | Self::WithoutIp6tables(_))
    }
}

/// The links that carry traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carrying {
    pub v4: Vec<LinkName>,
    pub v6: Vec<LinkName>,
    /// Drained ones, whose connections stay with them.
    pub(super) drained: Vec<(Family, LinkName)>,
}

impl Carrying {
    pub(super) fn of(routed: &Live<'_>) -> Self {
        let mut all = Self::default();
        for l in routed.iter().filter(|l| l.carrier) {
            let name = l.link.name.clone();
            match (l.level, l.family) {
                (Some(Level::Drained), family) => all.drained.push((family, name)),
                (Some(_), _) => {}
                (None, Family::V4) => all.v4.push(name),
                (None, Family::V6) => all.v6.push(name),
            }
        }
        all
    }

    /// Whether the link's connections of the family are to go on by it.
    pub(super) fn keeps_connections(&self, family: Family, link: &LinkName) -> bool {
        self.of_family(family).contains(link) || self.drained.iter().any(|(of, name)| *of == family && name == link)
    }

    pub fn of_family(&self, family: Family) -> &[LinkName] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

#[derive(Debug, Default)]
pub struct Outcome {
    /// In order.
    pub made: Vec<Change>,
    pub failures: Vec<Failure>,
    pub warnings: Vec<Warning>,
    /// Links that carry traffic now.
    pub carrying: Carrying,
    /// Links that are recorded as up in a family and cannot carry its traffic: down, or without carrier or address.
    pub dead: Vec<(Family, LinkName)>,
    /// Addresses of the LAN that we had deprecated and somebody else has made preferred, with the index of their interface.
    pub(crate) preferred_again: BTreeSet<(u32, Ipv6Addr)>,
    pub elapsed: Duration,
}

/// Failures on one line, short enough for a log.
pub(crate) fn summary(failures: &[Failure]) -> String {
    const SHOWN: usize = 3;
    let mut all: Vec<_> = failures.iter().take(SHOWN).map(ToString::to_string).collect();
    if let Some(more) = failures.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        all.push(format!("and {more} more: `mhctl plan` shows what is missing"));
    }
    all.join("; ")
}

/// The links that are recorded as up, and by which no packet can leave.
pub(super) fn dead(states: &LinkStates<'_>) -> Vec<(Family, LinkName)> {
    let mut dead = Vec::new();
    for family in Family::BOTH {
        let links = states.iter_of(family).filter(|(_, state)| state.is_dead());
        dead.extend(links.map(|(link, _)| (family, link.name.clone())));
    }
    dead
}

/// Warnings about links that are up.
pub(super) fn warnings(states: &LinkStates<'_>, observed: &Observed) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let Some(lan) = observed.private_lan {
        for link in firewall::unmasqueraded(&states.live().v4, observed) {
            warnings.push(Warning::Unmasqueraded(link.name.clone(), lan));
        }
    }
    for (link, state) in states.iter_of(Family::V4) {
        let (LinkState::Up(live) | LinkState::NoGateway(live)) = state else { continue };
        if live.lacks_gateway(observed) {
            let is_used = matches!(state, LinkState::Up(_));
            let warning = if is_used { Warning::NoGateway } else { Warning::Unused };
            warnings.push(warning(link.name.clone(), live.next_hop.device.name.clone()));
        }
    }
    warnings
}
