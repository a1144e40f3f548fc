//! Observes the kernel over netlink, /proc/sys and iptables.

use ipnet::{IpNet, Ipv4Net};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::interface::{self, InterfaceInfo};
use super::netlink::address::{self, FoundAddress};
use super::netlink::socket::Socket;
use super::{Error, iptables, nftables, parse, read, sysctl};
use crate::kernel::netlink::constants::{AF_INET, AF_UNSPEC, RTM_GETADDR};
use crate::model::firewall::{Firewall, FoundFirewall, Leftover, Table, Variant};
use crate::model::names::{Family, HostAddr, IfName, TableId};
use crate::model::observed::{Address, Interface, Observed, Scope, leads_ipv6};
use crate::model::routing::{Action, Device, FoundRule};

mod ethernets;
mod ipv6;
pub(crate) mod lan;
mod nexthops;
pub(crate) mod routes;
pub(crate) mod rules;
#[cfg(test)]
mod tests;

/// Observes what `scope` names.
pub(crate) fn observe(socket: &mut Socket, scope: &Scope) -> Result<Observed, Error> {
    let mut interfaces = interfaces(socket, scope)?;
    let rules = rules::rules(socket, None)?;
    let has_sources = rules.iter().any(|found| found.protocol == scope.protocol && is_ipv6_source(found));
    let lan6 = if scope.lan6 || has_sources { lan::addresses(socket, scope, &interfaces)? } else { Vec::new() };
    let mut devices = routes::Devices::new(&interfaces);
    let mut routes = Vec::new();
    for table in tables(scope, &rules) {
        routes::defaults(socket, table, &mut devices, &mut routes)?;
    }
    let is_ipv6 = |found: &FoundRule| found.rule.family == Family::V6;
    let is_led = leads_ipv6(&rules, scope.protocol);
    let may_be_routed = scope.ipv6 || is_led;
    if scope.leftovers && !may_be_routed && rules.iter().any(is_ipv6) {
        ipv6::add_leftovers(socket, scope.protocol, &mut devices, &mut routes)?;
    }
    let delegated = if may_be_routed && rules.iter().any(is_ipv6) {
        // Without a rule of ours nothing asks the tables of links, and without a link that has IPv6 none will be made.
        let has_rules = rules.iter().any(|found| is_ipv6(found) && found.protocol == scope.protocol);
        let of_tables = scope.has_ipv6 || scope.leftovers || has_rules;
        ipv6::add_routes(socket, scope.protocol, of_tables, &mut devices, &mut routes)?
    } else {
        Vec::new()
    };
    ethernets::add_routes(socket, &mut interfaces)?;
    let nexthops = nexthops::nexthops(socket, &devices)?;
    let has_had_ipv6 = scope.leftovers || scope.has_ipv6 || is_led;
    let families = if has_had_ipv6 { &Family::BOTH[..] } else { &[Family::V4] };
    let firewall = firewall(scope.firewall, scope.leftovers, families)?;
    let forwards = scope.firewall != Firewall::None && !firewall.foreign_nat && sysctl::forwards()?;
    let private_lan = if forwards { private_lan(socket, &interfaces)? } else { None };
    let hash_policy = if scope.hash_policy { sysctl::hash_policy(Family::V4)? } else { None };
    // Where nothing of ours leads IPv6 packets, nobody shares them out.
    let hash_policy6 = if scope.hash_policy && is_led { sysctl::hash_policy(Family::V6)? } else { None };
    Ok(Observed {
        interfaces,
        routes,
        rules,
        nexthops,
        hash_policy,
        hash_policy6,
        firewall,
        delegated,
        lan6,
        private_lan,
    })
}

fn interfaces(socket: &mut Socket, scope: &Scope) -> Result<BTreeMap<IfName, Interface>, Error> {
    let mut interfaces = BTreeMap::new();
    let all = sysctl::rp_filter_of_all()?;
    for name in &scope.interfaces {
        if let Some(found) = interface(socket, name, all)? {
            interfaces.insert(name.clone(), found);
        }
    }
    for index in &scope.indices {
        if !interfaces.values().any(|found| found.device.index == *index)
            && let Some(name) = name_of(socket, *index)?
            && let Some(found) = interface(socket, &name, all)?
        {
            interfaces.insert(name, found);
        }
    }
    Ok(interfaces)
}

/// Main, the tables of the scope, and those that managed rules look up.
fn tables(scope: &Scope, rules: &[FoundRule]) -> BTreeSet<TableId> {
    let mut tables: BTreeSet<_> = scope.tables.iter().copied().chain([TableId::MAIN]).collect();
    for found in rules.iter().filter(|found| found.protocol == scope.protocol) {
        if let Action::Lookup { table, .. } = found.rule.action {
            tables.insert(table);
        }
    }
    tables
}

fn is_ipv6_source(found: &FoundRule) -> bool {
    found.rule.family == Family::V6 && found.rule.selector.from.is_some()
}

/// The packet filter, over netlink as far as it is of `nf_tables`. Programs are run where it is iptables' (`wanted`, or
/// because the kernel lacks `nf_tables` or has refused our table), and to look for managed chains in legacy iptables: as
/// long as our table is not there, or if asked for (`leftovers`). They are run for these families only.
pub(crate) fn firewall(wanted: Firewall, leftovers: bool, families: &[Family]) -> Result<FoundFirewall, Error> {
    if wanted == Firewall::None {
        return Ok(FoundFirewall::default());
    }
    let mut found = nftables::found()?;
    if found.hidden {
        return Ok(found);
    }
    if found.nft.is_none() || wanted == Firewall::Iptables {
        return Ok(of_iptables(found, families));
    }
    let is_looked_at = !found.any_of_nftables() || leftovers;
    for family in families {
        let legacy = legacy_tables(*family);
        let is_known = legacy.is_empty() || is_looked_at && iptables::add_legacy(&mut found, *family).is_ok();
        found.foreign_nat |= !is_known && legacy.into_iter().any(Table::is_nat_of_ipv4);
    }
    let stays_with_iptables = found.without().nftables && wanted == Firewall::Auto;
    Ok(if stays_with_iptables { of_iptables(found, families) } else { found })
}

/// The packet filter where it is iptables', of which `found` is what `nf_tables` has.
fn of_iptables(mut found: FoundFirewall, families: &[Family]) -> FoundFirewall {
    found.leftovers = Vec::new();
    for family in families {
        take_iptables(&mut found, *family);
    }
    found
}

/// Has `tables` hold what the machine's iptables of a family has. iptables-save(8) is run only if `nf_tables` has no managed
/// chain of it, or if it is the legacy variant; in IPv6, only if this has tables.
fn take_iptables(found: &mut FoundFirewall, family: Family) {
    let usual = iptables::usual_variant(family);
    let has_chains = found.any_of(family);
    if usual == Some(Variant::Legacy) && has_chains {
        let mut tables = BTreeMap::new();
        for (table, chains) in &mut found.tables {
            if table.family == family {
                tables.insert(*table, std::mem::take(chains));
            }
        }
        found.leftovers.push(Leftover { variant: Variant::Nft, tables });
    }
    let legacy = || !legacy_tables(family).is_empty();
    let is_saved = !has_chains || usual == Some(Variant::Legacy);
    if is_saved && (family == Family::V4 || usual != Some(Variant::Nft) && legacy()) {
        // Without iptables there are no managed chains. A change reports that it is missing.
        let _ = iptables::add_usual(found, family);
        found.over_netlink = false;
    }
    if usual == Some(Variant::Nft) && legacy() {
        // What cannot be read cannot be repaired either.
        let _ = iptables::add_legacy(found, family);
    }
}

/// Tables of `ip_tables` or `ip6_tables` that can hold managed chains, without running a program.
fn legacy_tables(family: Family) -> Vec<Table> {
    let names = match family {
        Family::V4 => "/proc/net/ip_tables_names",
        Family::V6 => "/proc/net/ip6_tables_names",
    };
    let names = fs::read_to_string(names).unwrap_or_default();
    Table::of(family).into_iter().filter(|table| names.lines().any(|name| name == table.name())).collect()
}

/// `all`: the reverse path filter of `conf.all`.
fn interface(socket: &mut Socket, name: &IfName, all: Option<u32>) -> Result<Option<Interface>, Error> {
    let Some(found) = interface::by_name(socket, name)? else { return Ok(None) };
    let InterfaceInfo { index, group, state, arp, rp_filter, ignores_linkdown, ignores_linkdown6, lax_arp, .. } = found;
    let (mut addresses, mut addresses6) = (Vec::new(), Vec::new());
    for address in addresses_of(socket, index)? {
        let is_v4 = address.local.family() == Family::V4;
        if is_v4 { &mut addresses } else { &mut addresses6 }.push(address);
    }
    Ok(Some(Interface {
        device: Device { index, name: name.clone() },
        state,
        arp,
        addresses,
        addresses6,
        routes: Vec::new(),
        group,
        // The kernel takes the larger of the two (`IN_DEV_RPFILTER`); 1 is strict.
        strict_rp_filter: rp_filter.max(all) == Some(1),
        lax_arp,
        ignores_linkdown,
        ignores_linkdown6,
    }))
}

/// A private network on an interface that is none of `links`.
fn private_lan(socket: &mut Socket, links: &BTreeMap<IfName, Interface>) -> Result<Option<Ipv4Net>, Error> {
    for (index, net) in subnets(socket)? {
        if net.addr().is_private() && !links.values().any(|link| link.device.index == index) {
            return Ok(Some(net.trunc()));
        }
    }
    Ok(None)
}

/// Subnets of interfaces with more than one neighbour, by interface index.
pub(crate) fn subnets(socket: &mut Socket) -> Result<Vec<(u32, Ipv4Net)>, Error> {
    let request = address::request(AF_INET, 0);
    let found = socket.list(RTM_GETADDR, &request, |body| Ok(FoundAddress::parse(body)?.and_then(|a| subnet(&a))));
    found.map_err(read("addresses"))
}

/// Index of an address's interface, and its subnet if that has room for more than one neighbour.
fn subnet(found: &FoundAddress) -> Option<(u32, Ipv4Net)> {
    let IpNet::V4(net) = found.reaches else { return None };
    (net.prefix_len() < 31).then_some((found.index, net))
}

/// The addresses of both families.
fn addresses_of(socket: &mut Socket, index: u32) -> Result<Vec<Address>, Error> {
    let request = address::request(AF_UNSPEC, index);
    match socket.list(RTM_GETADDR, &request, |body| Ok(FoundAddress::parse(body)?.and_then(|a| usable(&a, index)))) {
        // The interface has gone meanwhile: ENODEV.
        Err(e) if e.is_gone() => Ok(Vec::new()),
        done => done.map_err(read("addresses")),
    }
}

/// The address, if it is of the interface with this index, and can be used.
fn usable(found: &FoundAddress, index: u32) -> Option<Address> {
    let local = HostAddr::new(found.local).ok()?;
    let is_usable = found.index == index && !found.is_duplicate;
    is_usable.then_some(Address { local, reaches: found.reaches })
}

/// The current name of the interface with this index.
fn name_of(socket: &mut Socket, index: u32) -> Result<Option<IfName>, Error> {
    // A name that a configuration cannot contain is no link's.
    Ok(interface::by_index(socket, index)?.and_then(|found| found.name.checked()))
}
