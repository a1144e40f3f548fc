//! What keeps links from their IPv6, and hosts of the LAN from theirs. Pure, but for [`Sysctls`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::Finding;
use crate::config::{Config, Link, Nat6};
use crate::ctl::prefixes;
use crate::kernel::{Error, sysctl};
use crate::model::names::{Family, IfName};
use crate::model::observed::{Interface, LanAddress, Observed, Preference};
use crate::model::sh::quoted;
use crate::reconcile::link_state::{LinkState, LinkStates, LiveLink, global_addresses};
use crate::state::records::LinkRecords;

/// Those of IPv6 that matter, of the links' interfaces.
#[derive(Debug, Default)]
pub(super) struct Sysctls {
    pub(super) forwards: bool,
    interfaces: BTreeMap<IfName, OfInterface>,
}

#[derive(Debug, Clone, Copy, Default)]
struct OfInterface {
    is_disabled: bool,
    /// 1: advertisements of routers are accepted unless packets are forwarded.
    accept_ra: i64,
    forwards: bool,
    makes_temporary: bool,
}

impl OfInterface {
    fn read(name: &IfName) -> Result<Self, Error> {
        let name = name.as_str();
        Ok(Self {
            is_disabled: sysctl::ipv6(name, "disable_ipv6")? == Some(1),
            accept_ra: sysctl::ipv6(name, "accept_ra")?.unwrap_or_default(),
            forwards: sysctl::ipv6(name, "forwarding")? == Some(1),
            makes_temporary: sysctl::ipv6(name, "use_tempaddr")?.is_some_and(|n| n > 0),
        })
    }
}

impl Sysctls {
    pub(super) fn read(observed: &Observed) -> Result<Self, Error> {
        let mut interfaces = BTreeMap::new();
        for name in observed.interfaces.keys() {
            interfaces.insert(name.clone(), OfInterface::read(name)?);
        }
        Ok(Self { forwards: sysctl::forwards6()?, interfaces })
    }

    fn of(&self, name: &IfName) -> OfInterface {
        self.interfaces.get(name).copied().unwrap_or_default()
    }
}

/// All that there is to say.
pub(super) fn look(
    config: &Config,
    states: &LinkStates<'_>,
    records: &LinkRecords,
    observed: &Observed,
    sysctls: &Sysctls,
    mhctl: &str,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for link in config.links.iter().filter(|link| link.ipv6) {
        let state = states.state(link, Family::V6);
        let record = records.record(&link.name, Family::V6).or(records.get(&link.name));
        let recorded = record.map_or(&link.interface, |record| &record.interface);
        let name = state.routed().map_or(recorded, |live| &live.next_hop.device.name);
        let Some(interface) = observed.interfaces.get(name) else { continue };
        let own = sysctls.of(name);
        found.extend(disabled(link, state, own, name));
        found.extend(deaf(link, state, states.state(link, Family::V4), own, interface));
        found.extend(temporary(config, own, interface));
    }
    let routed = states.routed().v6;
    for uplink in routed.iter().filter(|l| l.link.is_uplink()) {
        found.extend(sourceless(uplink, &routed, observed));
    }
    found.extend(overlapping(&routed, mhctl));
    found.extend(foreign_lan(config, &routed, observed, sysctls, mhctl));
    found
}

/// An uplink among several on whose interface there is no address that its provider knows: the kernel takes one of any
/// interface then (`ipv6_dev_get_saddr()`).
fn sourceless(uplink: &LiveLink<'_>, routed: &[LiveLink<'_>], observed: &Observed) -> Option<Finding> {
    let name = &uplink.next_hop.device.name;
    let has_own = global_addresses(observed.interfaces.get(name)?).next().is_some();
    let is_alone = routed.iter().filter(|l| l.link.is_uplink()).count() == 1;
    (!has_own && !is_alone).then(|| {
        let fix = uplink.prefixes.iter().find_map(last_subnet).map_or_else(
            || "have its provider's advertisement (accept_ra) or a DHCPv6 client give it one".to_owned(),
            |own| format!("ip -6 addr add {own}/128 dev {}, at each start of the line", name.quoted()),
        );
        Finding::trouble(
            format!("{name} of {} has no global IPv6 address", uplink.link.name),
            "what this host sends or translates by it may have an address of another line, which its provider drops",
            fix,
        )
    })
}

/// A prefix of two uplinks.
fn overlapping(routed: &[LiveLink<'_>], mhctl: &str) -> Option<Finding> {
    let overlap = prefixes::overlap(routed)?;
    let (one, other) = (overlap.first.0, overlap.second.0);
    Some(Finding::trouble(
        overlap.what(),
        overlap.why(),
        format!(
            "have the wrong one go: prefixes in the configuration, an address of {} or {} that somebody there has \
             advertised, or what was said: {mhctl} link down {} --prefixes",
            one.next_hop.device.name.quoted(),
            other.next_hop.device.name.quoted(),
            other.link.name
        ),
    ))
}

/// An address of a prefix in the last of its subnets, which a LAN has the least likely.
fn last_subnet(prefix: &IpNet) -> Option<Ipv6Addr> {
    let IpNet::V6(prefix) = prefix else { return None };
    let subnet = u128::from(prefix.broadcast()) >> 64 << 64;
    (prefix.prefix_len() <= 64 && !prefix.addr().is_unique_local()).then(|| Ipv6Addr::from(subnet + 0xffff))
}

/// A link that should have IPv6 on an interface that must not.
fn disabled(link: &Link, state: &LinkState<'_>, own: OfInterface, name: &IfName) -> Option<Finding> {
    let is_wanted = link.gateway6.is_some() || !link.prefixes.is_empty() || *state != LinkState::Down;
    (own.is_disabled && is_wanted).then(|| {
        Finding::trouble(
            format!("IPv6 is disabled on {name} of {}", link.name),
            "it has no address there, and no route",
            format!("echo 0 > /proc/sys/net/ipv6/conf/{}/disable_ipv6, or write ipv6 = \"off\"", name.quoted()),
        )
    })
}

/// An Ethernet that does not hear its router, of which nobody else has told.
fn deaf(
    link: &Link,
    state: &LinkState<'_>,
    v4: &LinkState<'_>,
    own: OfInterface,
    interface: &Interface,
) -> Option<Finding> {
    let name = &interface.device.name;
    let is_deaf = own.accept_ra == 1 && own.forwards && !own.is_disabled;
    (is_deaf && link.is_uplink() && interface.arp && *state == LinkState::Down && v4.routed().is_some()).then(|| {
        Finding::note(
            format!("{name} of {} ignores its router's advertisements: accept_ra is 1, and it forwards", link.name),
            "if that line has IPv6, the kernel makes no address and no default route for it",
            format!(
                "echo 2 > /proc/sys/net/ipv6/conf/{}/accept_ra, unless a DHCP client tells; ipv6 = \"off\" for a line \
                 without IPv6",
                name.quoted()
            ),
        )
    })
}

/// Policies by an address that this host prefers another to.
fn temporary(config: &Config, own: OfInterface, interface: &Interface) -> Option<Finding> {
    let name = &interface.device.name;
    let own_addresses: Vec<_> = interface.addresses6.iter().map(|a| IpNet::from(a.local.get())).collect();
    let about = config.policies.iter().find(|policy| policy.from.iter().any(|net| own_addresses.contains(net)))?;
    own.makes_temporary.then(|| {
        Finding::note(
            format!("{name} has temporary addresses (use_tempaddr), and policy {:?} names its own", about.name),
            "what this host sends has another source each day, which the policy does not select",
            format!(
                "echo 0 > /proc/sys/net/ipv6/conf/{}/use_tempaddr, or select by uid or iif = \"lo\"",
                name.quoted()
            ),
        )
    })
}

/// Whether the address is of none of the `known` prefixes, and could be of a link's.
fn is_foreign(lan: &LanAddress, known: &[IpNet]) -> bool {
    let (address, length) = (lan.address.addr(), lan.address.prefix_len());
    let is_global = !address.is_unique_local() && !address.is_loopback();
    let is_of_dead_line = matches!(lan.preference, Preference::DeprecatedByUs | Preference::PreferredAgain);
    let is_known = is_of_dead_line || known.iter().any(|prefix| prefix.contains(&IpAddr::V6(address)));
    is_global && length < 127 && !is_known
}

/// A LAN with a prefix that is no link's, also of none that is down.
fn foreign_lan(
    config: &Config,
    routed: &[LiveLink<'_>],
    observed: &Observed,
    sysctls: &Sysctls,
    mhctl: &str,
) -> Option<Finding> {
    let uplinks: Vec<_> = routed.iter().filter(|l| l.link.is_uplink()).filter(|_| sysctls.forwards).collect();
    let configured = config.links.iter().flat_map(|link| &link.prefixes).map(|prefix| IpNet::V6(*prefix));
    let mut known: Vec<_> = configured.chain(routed.iter().flat_map(|l| l.prefixes.clone())).collect();
    known.extend(config.uplinks().flat_map(|link| prefixes::refused(config, link, observed)));
    uplinks.first()?;
    let LanAddress { device, address, .. } = observed.lan6.iter().find(|lan| is_foreign(lan, &known))?;
    let prefix = address.trunc();
    let untranslated: Vec<_> = uplinks.iter().filter(|l| l.link.nat6 == Nat6::None).collect();
    let how = match untranslated.len() {
        0 => "translated where it is not that line's own",
        all if all == uplinks.len() => "untranslated, and providers drop what is not of their line",
        _ => "translated where it is not that line's own, unless its nat6 is \"none\"",
    };
    // Of several lines nothing tells which it is, also where one of them alone has IPv6 now.
    let mut possible = config.uplinks().filter(|link| link.ipv6);
    let only = possible.next().filter(|_| possible.next().is_none());
    let link = only.map_or("LINK", |link| link.name.as_str());
    Some(Finding::trouble(
        format!("{prefix} of {} is a prefix of no link", quoted(device.name.as_str())),
        format!("what its hosts send leaves by any line, {how}"),
        format!(
            "write prefixes = [\"{prefix}\"] for the link whose provider routes it here, or have its caller say so: \
             {mhctl} link up {link} --prefix={prefix}"
        ),
    ))
}
