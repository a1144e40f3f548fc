//! Validation: links with their numbers, settings, and uniqueness.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use ipnet::Ipv6Net;
use toml::Spanned;

use super::error::SpannedError;
use super::field::{Field, optional, refused, required};
use super::policy::policies;
use super::raw::{Entry, RawConfig, RawLink, RawSettings};
use super::{Config, Firewall, Link, LinkKind, Nat6, NexthopMode, Settings, sets};
use crate::model::names::{Family, HostAddr, IfName, InvalidValue, LinkName, Mark, TableId, Tier, Weight};
use crate::model::numbering::{
    self, MAX_DEVICE_GROUP, MAX_LINKS, MAX_METRIC, MAX_NEXTHOP_ID, MAX_RULE_PRIORITY, MAX_SPARE_METRIC, Numbering,
    TIERS,
};

/// Validates the file, but for `[check]`.
pub(super) fn config(raw: &RawConfig<'_>) -> Result<Config, SpannedError> {
    let links = links(raw)?;
    let (policies, probe_mark) = policies(&raw.policy, &links)?;
    let settings = settings(&raw.settings)?;
    let config = Config { links, policies, check: None, probe_mark, settings };
    rules_fit(raw, &config)?;
    sets::need_nftables(raw, &config)?;
    Ok(config)
}

fn links(raw: &RawConfig<'_>) -> Result<Vec<Link>, SpannedError> {
    let all: Vec<_> = raw.uplink.iter().chain(&raw.tunnel).collect();
    let error = |span, message: &str| Err(SpannedError { key: None, span, message: message.to_owned() });
    if all.is_empty() {
        return error(0..0, "there is no link: write at least one [[uplink]] or [[tunnel]]");
    }
    if let Some(extra) = all.get(usize::from(MAX_LINKS)) {
        return error(extra.span(), "more than 32 links: there is a mark bit for 32 only, remove some");
    }
    let mut links = Vec::with_capacity(all.len());
    for (position, raw_link) in (0..).zip(&all) {
        let is_uplink = links.len() < raw.uplink.len();
        let mut link = link(raw_link, position, is_uplink)?;
        link.check &= raw.check.is_some();
        links.push(link);
    }
    let entries: Vec<_> = all.iter().map(|raw| raw.get_ref()).collect();
    check_unique(&links, &entries)?;
    Ok(links)
}

/// The link at `position`, from 0, uplinks before tunnels.
fn link(raw: &Spanned<RawLink<'_>>, position: u8, is_uplink: bool) -> Result<Link, SpannedError> {
    let header = raw.span();
    let raw = raw.get_ref();
    let name: LinkName = required("name", &raw.name, &header, Field::word)?;
    let ipparam = optional("ipparam", &raw.ipparam, Field::label)?;
    let kind = if is_uplink {
        LinkKind::Uplink {
            weight: optional("weight", &raw.weight, |f| f.number(Weight::new))?.unwrap_or_default(),
            tier: optional("tier", &raw.tier, |f| f.number(Tier::new))?.unwrap_or_default(),
        }
    } else {
        let message = "belongs to uplinks: a tunnel is no part of the default route, remove it";
        refused("weight", &raw.weight, message)?;
        refused("tier", &raw.tier, message)?;
        refused("nat6", &raw.nat6, "belongs to uplinks: a tunnel has masquerade, remove it")?;
        refused("check", &raw.check, message)?;
        refused("metered", &raw.metered, message)?;
        LinkKind::Tunnel
    };
    Ok(Link {
        interface: required("interface", &raw.interface, &header, interface)?,
        ipparam: ipparam.unwrap_or_else(|| name.to_string()),
        table: by_position("table", &raw.table, &header, TableId::new, numbering::table(position))?,
        mark: by_position("mark", &raw.mark, &header, Mark::new, numbering::mark(position))?,
        masquerade: optional("masquerade", &raw.masquerade, Field::flag)?.unwrap_or_default(),
        gateway: optional("gateway", &raw.gateway, |f| gateway(f, Family::V4))?,
        gateway6: optional("gateway6", &raw.gateway6, |f| gateway(f, Family::V6))?,
        prefixes: optional("prefixes", &raw.prefixes, prefixes)?.unwrap_or_default(),
        ipv6: optional("ipv6", &raw.ipv6, |f| f.choice(&[("auto", true), ("off", false)]))?.unwrap_or(true),
        nat6: optional("nat6", &raw.nat6, |f| f.choice(&NAT6))?.unwrap_or_default(),
        check: optional("check", &raw.check, Field::flag)?.unwrap_or(is_uplink),
        metered: optional("metered", &raw.metered, Field::flag)?.unwrap_or_default(),
        name,
        position,
        kind,
    })
}

const NAT6: [(&str, Nat6); 3] = [("foreign", Nat6::Foreign), ("all", Nat6::All), ("none", Nat6::None)];

fn gateway(field: Field<'_>, family: Family) -> Result<HostAddr, SpannedError> {
    let address = field.text()?.parse::<IpAddr>().ok();
    match (address.filter(|address| Family::of(*address) == family), family) {
        (Some(address), _) => HostAddr::new(address).map_err(|e| field.invalid(e.expected())),
        (None, Family::V4) if address.is_some() => Err(field.invalid("it is an IPv6 address: write gateway6")),
        (None, Family::V4) => Err(field.invalid("write an IPv4 address such as 192.0.2.1")),
        (None, Family::V6) => Err(field.invalid("write an IPv6 address such as fe80::1")),
    }
}

/// Those of a link. Each is a rule, and every packet is compared with all of them.
fn prefixes(field: Field<'_>) -> Result<Vec<Ipv6Net>, SpannedError> {
    let all = field.list(prefix)?;
    if all.len() > MOST_PREFIXES {
        return Err(field.error(format!(
            "{} prefixes are more than any provider delegates: write {MOST_PREFIXES} at most, wider ones",
            all.len()
        )));
    }
    Ok(all)
}

/// A prefix that a provider can route to this host.
fn prefix(field: Field<'_>) -> Result<Ipv6Net, SpannedError> {
    let Ok(net) = field.text()?.parse::<Ipv6Net>() else {
        return Err(field.invalid("write an IPv6 prefix such as 2001:db8:1::/56"));
    };
    if net.trunc() != net {
        return Err(field.invalid(format_args!("it has bits behind its prefix: write \"{}\"", net.trunc())));
    }
    if !is_customers(net) {
        return Err(field.invalid("no provider routes it to one customer: write the prefix that yours has given you"));
    }
    Ok(net)
}

/// More than any provider delegates to a customer.
pub(crate) const MOST_PREFIXES: usize = 64;

/// Whether a provider can route the prefix to one of its customers.
pub(crate) fn is_customers(net: Ipv6Net) -> bool {
    net.prefix_len() >= 16 && HostAddr::new(net.addr()).is_ok() && !net.addr().is_unicast_link_local()
}

fn interface(field: Field<'_>) -> Result<IfName, SpannedError> {
    let name: IfName = field.word()?;
    if name.as_str() == "lo" {
        return Err(field.invalid("the loopback interface is no link, write another"));
    }
    Ok(name)
}

fn by_position<T>(
    key: &'static str,
    entry: &Entry<'_>,
    header: &Range<usize>,
    new: impl Fn(u32) -> Result<T, InvalidValue>,
    derived: u32,
) -> Result<T, SpannedError> {
    match optional(key, entry, |f| f.number(&new))? {
        Some(given) => Ok(given),
        None => new(derived).map_err(|e| SpannedError {
            key: Some(key),
            span: header.clone(),
            message: e.expected().to_owned(),
        }),
    }
}

/// A key whose value must be unique among the links.
struct UniqueKey {
    key: &'static str,
    /// What the default of the key is derived from.
    by: &'static str,
    entry: for<'a, 't> fn(&'a RawLink<'t>) -> &'a Entry<'t>,
    value: fn(&Link) -> String,
}

const UNIQUE_KEYS: [UniqueKey; 4] = [
    UniqueKey { key: "interface", by: "", entry: |raw| &raw.interface, value: |link| link.interface.to_string() },
    UniqueKey { key: "ipparam", by: "name", entry: |raw| &raw.ipparam, value: |link| format!("{:?}", link.ipparam) },
    UniqueKey { key: "table", by: "position", entry: |raw| &raw.table, value: |link| link.table.to_string() },
    UniqueKey { key: "mark", by: "position", entry: |raw| &raw.mark, value: |link| link.mark.to_string() },
];

fn check_unique(links: &[Link], raw: &[&RawLink<'_>]) -> Result<(), SpannedError> {
    let all: Vec<_> = links.iter().zip(raw).collect();
    for (i, (link, raw)) in all.iter().enumerate() {
        if let Some((first, _)) = all.iter().take(i).find(|(other, _)| other.name == link.name) {
            let message = format!(
                "{} on {} is also the name of the link on {}: give one of them another",
                link.name, link.interface, first.interface
            );
            refused("name", &raw.name, &message)?;
        }
    }
    for UniqueKey { key, by, entry, value } in UNIQUE_KEYS {
        let values: Vec<_> = links.iter().map(value).collect();
        for (i, later) in values.iter().enumerate() {
            let Some(j) = values.iter().take(i).position(|earlier| earlier == later) else { continue };
            // The error points at a key that is written in the file: at the later one, if both are.
            let (Some(a), Some(b)) = (all.get(i), all.get(j)) else { continue };
            let (at, other) = if entry(a.1).is_some() { (a, b) } else { (b, a) };
            let whose = match entry(other.1) {
                Some(_) => format!("of {}", other.0.name),
                None => format!("that {} gets by its {by}", other.0.name),
            };
            let message = format!("{later} of {} is also the {key} {whose}: give one of them another", at.0.name);
            refused(key, entry(at.1), &message)?;
        }
    }
    // Callers may name a link by either; each name must mean one link.
    for (link, raw) in &all {
        if links.iter().any(|other| other.name != link.name && other.name.as_str() == link.ipparam) {
            let message = format!("{:?} of {} is another link's name: write another", link.ipparam, link.name);
            refused("ipparam", &raw.ipparam, &message)?;
        }
    }
    Ok(())
}

/// Minutes: no caller waits longer for a hook.
const LONGEST_WAIT: u64 = 10;

fn settings(raw: &RawSettings<'_>) -> Result<Settings, SpannedError> {
    let default = Settings::default();
    let nexthops =
        [("auto", NexthopMode::Auto), ("objects", NexthopMode::Objects), ("multipath", NexthopMode::Multipath)];
    let firewall = [
        ("auto", Firewall::Auto),
        ("nftables", Firewall::Nftables),
        ("iptables", Firewall::Iptables),
        ("none", Firewall::None),
    ];
    Ok(Settings {
        numbers: numbers(raw, &default.numbers)?,
        // 0 to 4 are the protocols of the kernel, ip(8) and the administrator.
        protocol: optional("protocol", &raw.protocol, |f| f.within(5..=255))?.unwrap_or(default.protocol),
        nexthops: optional("nexthops", &raw.nexthops, |f| f.choice(&nexthops))?.unwrap_or(default.nexthops),
        settle_timeout: optional("settle-timeout", &raw.settle_timeout, |f| f.duration(Duration::ZERO, LONGEST_WAIT))?
            .unwrap_or(default.settle_timeout),
        lock_timeout: optional("lock-timeout", &raw.lock_timeout, |f| {
            f.duration(Duration::from_millis(1), LONGEST_WAIT)
        })?
        .unwrap_or(default.lock_timeout),
        firewall: optional("firewall", &raw.firewall, |f| f.choice(&firewall))?.unwrap_or(default.firewall),
        hash_policy: optional("hash-policy", &raw.hash_policy, |f| f.within(0..=3))?,
        event_command: optional("event-command", &raw.event_command, Field::command)?.unwrap_or_default(),
    })
}

fn numbers(raw: &RawSettings<'_>, default: &Numbering) -> Result<Numbering, SpannedError> {
    let rule_priority = optional("rule-priority", &raw.rule_priority, |f| f.within(1..=MAX_RULE_PRIORITY))?;
    let (metric, spare_metric) = metrics(raw, default)?;
    let nexthop_id = optional("nexthop-id", &raw.nexthop_id, |f| f.within(1..=MAX_NEXTHOP_ID))?;
    // 0 is the default group of all devices.
    let device_group = optional("device-group", &raw.device_group, |f| f.within(1..=MAX_DEVICE_GROUP))?;
    Ok(Numbering {
        rule_priority: rule_priority.unwrap_or(default.rule_priority),
        metric,
        spare_metric,
        nexthop_id: nexthop_id.unwrap_or(default.nexthop_id),
        device_group: device_group.unwrap_or(default.device_group),
    })
}

/// Metrics of the first tier and of the first spare. The spares must come after all tiers, or they would carry
/// everything.
fn metrics(raw: &RawSettings<'_>, default: &Numbering) -> Result<(u32, u32), SpannedError> {
    let metric = optional("metric", &raw.metric, |f| f.within(0..=MAX_METRIC))?.unwrap_or(default.metric);
    let lowest = metric + TIERS;
    let spare = optional("spare-metric", &raw.spare_metric, |f| f.within(lowest..=MAX_SPARE_METRIC))?
        .unwrap_or(default.spare_metric);
    if spare < lowest {
        let message =
            format!("{metric} leaves the spares no room: write at most {}, or spare-metric as well", spare - TIERS);
        refused("metric", &raw.metric, &message)?;
    }
    Ok((metric, spare))
}

/// All policy rules must come before the kernel's rule for the main table.
fn rules_fit(raw: &RawConfig<'_>, config: &Config) -> Result<(), SpannedError> {
    let numbers = config.settings.numbers;
    let room = numbers.room_for_policies(config.uplink_count());
    // If `rule-priority` is given, it can be lowered; otherwise there are too many rules.
    let key = &raw.settings.rule_priority;
    let lowest = if key.is_some() { 1 } else { numbers.rule_priority };
    let most = Numbering { rule_priority: lowest, ..numbers }.room_for_policies(config.uplink_count());
    let mut rules: usize = 0;
    for (policy, raw_policy) in config.policies.iter().zip(&raw.policy) {
        rules = rules.saturating_add(policy.rule_count());
        if rules > most {
            let message = format!(
                "policy {:?} makes it {rules} rules, one for each combination of its lists' values and links, \
                 and there is room for {most}: shorten the lists",
                policy.name
            );
            return Err(SpannedError { key: None, span: raw_policy.span(), message });
        }
    }
    if rules > room {
        // At most `most` rules here, for which the lowest rule-priority has room.
        let message = format!(
            "{} leaves room for {room} rules and the policies need {rules}: write at most {}",
            numbers.rule_priority,
            lowest as usize + most - rules
        );
        refused("rule-priority", key, &message)?;
    }
    Ok(())
}
