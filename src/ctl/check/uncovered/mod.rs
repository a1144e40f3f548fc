//! What a kill switch does not cover, as far as the configuration tells. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

use super::advice::{is_forwarded, is_idle, names};
use super::covering::covers;
use crate::config::{Config, Firewall, Otherwise, Policy};
use crate::ctl::overlap::Overlap as _;
use crate::ctl::show;
use crate::model::names::{Family, LinkName};

/// Why something of a kill switch can leave by another link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// A policy above it takes part of its traffic.
    Above,
    /// A set holds what somebody has put into it.
    Sets,
    /// It names addresses of IPv4 only.
    Ipv6,
    /// It names addresses of IPv6 only.
    Ipv4,
    /// Others send for a user.
    Users,
    /// Marks decide before policies.
    Marks,
    /// A socket can be bound to an interface.
    Interfaces,
    /// Main's better routes decide before policies.
    Main,
    /// What follows the first fragment of a packet has no ports.
    Fragments,
    /// A socket gets its source after rules were asked.
    Sources,
}

/// The addresses of the server's links.
#[derive(Debug, Clone, Copy)]
pub enum Addresses<'a> {
    /// As far as the configuration tells: any that is public, or is in a network with a gateway.
    Guessed,
    /// Those of the links that are up, by the links' names.
    Known(&'a [(&'a LinkName, IpAddr)]),
}

impl Addresses<'_> {
    /// Those in a network of a policy's sources; none are of a link that the policy may use. `None`: there are none.
    fn selected_by(self, policy: &Policy, config: &Config) -> Option<Vec<IpAddr>> {
        let Self::Known(all) = self else {
            return policy.from.iter().any(|net| may_hold_a_links(*net, config)).then(Vec::new);
        };
        let others = all.iter().filter(|(link, _)| !policy.via.contains(link)).map(|(_, address)| *address);
        let selected: Vec<_> = others.filter(|own| policy.from.iter().any(|net| net.contains(own))).collect();
        (!selected.is_empty()).then_some(selected)
    }
}

/// Whether a link's address may be in a network.
fn may_hold_a_links(net: IpNet, config: &Config) -> bool {
    let is_public = match net {
        IpNet::V4(net) => !net.addr().is_private() && !net.addr().is_loopback() && !net.addr().is_link_local(),
        IpNet::V6(net) => !net.addr().is_unique_local() && !net.addr().is_unicast_link_local(),
    };
    let mut gateways = config.links.iter().flat_map(|link| [link.gateway, link.gateway6]).flatten();
    is_public || gateways.any(|gateway| net.contains(&gateway.get()))
}

/// One thing that kill switches do not cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncovered {
    pub gap: Gap,
    /// What, on one line.
    pub what: String,
    /// What to do.
    pub fix: String,
}

/// All that the kill switches of `config` do not cover, each kind once.
pub fn uncovered(config: &Config, addresses: Addresses<'_>) -> Vec<Uncovered> {
    let mut all = Vec::new();
    let mut first_above = None;
    for (at, policy) in config.policies.iter().enumerate() {
        if policy.otherwise == Otherwise::Unreachable && !is_idle(policy, config) {
            all.push(policy);
            first_above = first_above.or_else(|| above(policy, &config.policies[..at]));
        }
    }
    [
        first_above,
        sets(&those(&all, |policy| policy.sets.is_some())),
        one_family(&those(&all, |policy| policy.families().all(|own| own == Family::V4)), Family::V4),
        one_family(&those(&all, |policy| policy.families().all(|own| own == Family::V6)), Family::V6),
        users(&those(&all, |policy| !policy.uid.is_empty())),
        marks(&all, config),
        interfaces(&those(&all, |policy| policy.from.is_empty() && !is_forwarded(policy))),
        main(&all),
        fragments(&those(&all, |policy| has_ports(policy) && can_be_forwarded(policy)), config),
        sources(&those(&all, |policy| !policy.from.is_empty() && !is_forwarded(policy)), config, addresses),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn those<'a>(all: &[&'a Policy], applies: fn(&Policy) -> bool) -> Vec<&'a Policy> {
    all.iter().copied().filter(|policy| applies(policy)).collect()
}

fn named(policies: &[&Policy]) -> Option<String> {
    show::policies(policies.iter().map(|policy| policy.name.as_str()), 3)
}

/// The first policy above that takes part of its traffic to a link that is none of its own.
fn above(policy: &Policy, earlier: &[Policy]) -> Option<Uncovered> {
    for above in earlier {
        let others: Vec<_> = above.via.iter().filter(|link| !policy.via.contains(link)).cloned().collect();
        // That it takes all is warned of.
        if others.is_empty() || !meets(above, policy) || covers(above, policy) {
            continue;
        }
        return Some(Uncovered {
            gap: Gap::Above,
            what: format!(
                "part of the traffic of policy {:?} goes by {}: {:?} above it takes that",
                policy.name,
                names(&others, " or "),
                above.name
            ),
            fix: format!("put {:?} above {:?}, unless that is meant", policy.name, above.name),
        });
    }
    None
}

fn sets(policies: &[&Policy]) -> Option<Uncovered> {
    let verb = if policies.len() == 1 { "is" } else { "are" };
    Some(Uncovered {
        gap: Gap::Sets,
        what: format!(
            "{} {verb} about what is in the set: at boot, and after `nft flush ruleset`, nothing is; names that are \
             resolved by HTTPS (DoH), or elsewhere, fill none",
            named(policies)?
        ),
        fix: "select by from or iif what must never leave otherwise; put networks into the set at boot \
               (mhctl set add)"
            .to_owned(),
    })
}

/// `own`: the only family that the policies name addresses of.
fn one_family(policies: &[&Policy], own: Family) -> Option<Uncovered> {
    let verb = if policies.len() == 1 { "names" } else { "name" };
    let other = own.other();
    Some(Uncovered {
        gap: if own == Family::V4 { Gap::Ipv6 } else { Gap::Ipv4 },
        what: format!(
            "{} {verb} {own} addresses: what the same hosts send in {other} is not covered",
            named(policies)?
        ),
        fix: format!("name {other} addresses, too, or select by iif, uid or fwmark, which hold in both families"),
    })
}

fn users(policies: &[&Policy]) -> Option<Uncovered> {
    Some(Uncovered {
        gap: Gap::Users,
        what: format!(
            "{}: what others send for a user is not covered: names are looked up by the resolver's user, containers are \
             forwarded as uid 0, TCP resets are the kernel's own",
            named(policies)?
        ),
        fix: "write a policy for the resolver as well (to, dport = 53); select containers by iif".to_owned(),
    })
}

fn marks(policies: &[&Policy], config: &Config) -> Option<Uncovered> {
    let named = named(policies)?;
    if config.settings.firewall == Firewall::None {
        return Some(Uncovered {
            gap: Gap::Marks,
            what: format!("{named}: what your firewall marks with the bit of another link goes by that link"),
            fix: "leave it out of those rules".to_owned(),
        });
    }
    let mask = config.marks();
    let others = config.links.iter().filter(|link| policies.iter().any(|policy| !policy.via.contains(&link.name)));
    let is_about = |family| policies.iter().any(|policy| policy.families().any(|own| own == family));
    let families: Vec<_> = Family::BOTH.into_iter().filter(|family| is_about(*family)).collect();
    let mut flushes = Vec::new();
    for link in others {
        for family in &families {
            flushes.push(format!("conntrack -D -f {} --mark {}/{mask:#x}", family.word(), link.mark));
        }
    }
    Some(Uncovered {
        gap: Gap::Marks,
        what: format!(
            "{named}: a connection that bears another link's mark stays on that link: one that came in by it, one that \
             began before the policy was applied, one that your own firewall rules mark; for sockets of this server \
             only while a link of via is up"
        ),
        fix: format!("those of before are looked at anew after: {}", flushes.join("; ")),
    })
}

fn interfaces(policies: &[&Policy]) -> Option<Uncovered> {
    // ip_route_output_key_hash_rcu(): "Apparently, routing tables are wrong. Assume, that the destination is on link."
    Some(Uncovered {
        gap: Gap::Interfaces,
        what: format!(
            "{}: a socket that names an interface leaves by it in IPv4, whatever rules say: by \
             SO_BINDTODEVICE, as ping -I ppp0, and of UDP by IP_UNICAST_IF and IP_PKTINFO",
            named(policies)?
        ),
        fix: "drop that in OUTPUT of your own firewall".to_owned(),
    })
}

fn main(policies: &[&Policy]) -> Option<Uncovered> {
    Some(Uncovered {
        gap: Gap::Main,
        what: format!(
            "{}: what main has a better route for than its default goes by that: LANs, a VPN's 0.0.0.0/1",
            named(policies)?
        ),
        fix: "ip route show table main; ip -6 route show table main".to_owned(),
    })
}

/// Whether it selects by port.
fn has_ports(policy: &Policy) -> bool {
    !policy.sport.is_empty() || !policy.dport.is_empty()
}

/// Whether it selects what comes in by an interface, which is root's.
fn can_be_forwarded(policy: &Policy) -> bool {
    (policy.iif.is_empty() || policy.iif.iter().any(|name| name.as_str() != "lo")) && can_be_roots(policy)
}

fn can_be_roots(policy: &Policy) -> bool {
    policy.uid.is_empty() || policy.uid.iter().any(|range| range.start == 0)
}

fn fragments(policies: &[&Policy], config: &Config) -> Option<Uncovered> {
    // Connection tracking puts packets together before they are routed (nf_defrag_ipv4), and our own rules use it.
    if config.settings.firewall != Firewall::None {
        return None;
    }
    Some(Uncovered {
        gap: Gap::Fragments,
        what: format!(
            "{}: fragments of what is forwarded are not covered, since only the first has ports, unless your own firewall \
             tracks connections (firewall = \"none\")",
            named(policies)?
        ),
        fix: "select without ports, or have it track: iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP"
            .to_owned(),
    })
}

fn sources(policies: &[&Policy], config: &Config, addresses: Addresses<'_>) -> Option<Uncovered> {
    // ip_route_output_key_hash_rcu() gives a packet the source of its route, if it has none before.
    let mut about = Vec::new();
    let mut selected = Vec::new();
    for policy in policies {
        if let Some(found) = addresses.selected_by(policy, config) {
            about.push(*policy);
            selected.extend(found);
        }
    }
    selected.sort_unstable();
    selected.dedup();
    let of = match &selected[..] {
        [] => "if from holds an address of a line of this server".to_owned(),
        [first, ..] => format!("from holds the server's own {first}"),
    };
    Some(Uncovered {
        gap: Gap::Sources,
        what: format!(
            "{}: {of}{} a socket that is not bound to that address is not covered: it gets its source after the rules were \
             asked",
            named(&about)?,
            if selected.is_empty() { "," } else { ":" }
        ),
        fix: "select by uid, or bind the programs to the address".to_owned(),
    })
}

/// Whether a packet can be of both.
fn meets(a: &Policy, b: &Policy) -> bool {
    // What is forwarded is root's.
    let (of_a, of_b) = (can_be_roots(a), can_be_roots(b));
    let addresses_meet = |family: Family| {
        a.families().any(|own| own == family)
            && b.families().any(|own| own == family)
            && of_family(&a.from, family).meets(&of_family(&b.from, family))
            && of_family(&a.to, family).meets(&of_family(&b.to, family))
    };
    (of_b || !is_forwarded(a))
        && (of_a || !is_forwarded(b))
        && a.proto.meets(&b.proto)
        && a.dscp.meets(&b.dscp)
        && a.mark().meets(&b.mark())
        && Family::BOTH.into_iter().any(addresses_meet)
        && a.iif.meets(&b.iif)
        && a.sport.meets(&b.sport)
        && a.dport.meets(&b.dport)
        && a.uid.meets(&b.uid)
}

fn of_family(all: &[IpNet], family: Family) -> Vec<IpNet> {
    all.iter().copied().filter(|net| Family::of(net.addr()) == family).collect()
}

#[cfg(test)]
mod tests;
