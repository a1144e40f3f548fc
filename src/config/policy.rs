//! `[[policy]]`, checked.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;

use super::error::SpannedError;
use super::field::{Field, optional, refused, required, selector};
use super::raw::RawPolicy;
use super::{FwMark, Link, Mark, Otherwise, Policy, PortRange, UidRange, sets};
use crate::model::names::LinkName;

/// IP protocols by name, and whether they have ports.
const PROTOCOLS: [(&str, (u8, bool)); 9] = [
    ("tcp", (6, true)),
    ("udp", (17, true)),
    ("udplite", (136, true)),
    ("sctp", (132, true)),
    ("dccp", (33, true)),
    ("icmp", (1, false)),
    ("gre", (47, false)),
    ("esp", (50, false)),
    ("ah", (51, false)),
];

/// All policies, in the order of the file, and the bit of the mark that probes have.
pub(super) fn policies(
    raw: &[Spanned<RawPolicy<'_>>],
    links: &[Link],
) -> Result<(Vec<Policy>, Option<Mark>), SpannedError> {
    let mut names = HashSet::new();
    let mut policies = Vec::with_capacity(raw.len());
    for raw in raw {
        let policy = policy(raw, links)?;
        if !names.insert(policy.name.clone()) {
            let message = format!("{:?} is the name of two policies: give one of them another", policy.name);
            refused("name", &raw.get_ref().name, &message)?;
        }
        policies.push(policy);
    }
    let probe_mark = sets::add(raw, links, &mut policies)?;
    Ok((policies, probe_mark))
}

fn policy(raw: &Spanned<RawPolicy<'_>>, links: &[Link]) -> Result<Policy, SpannedError> {
    let header = raw.span();
    let raw = raw.get_ref();
    let policy = Policy {
        name: required("name", &raw.name, &header, Field::label)?,
        from: selector("from", &raw.from, prefix)?,
        to: selector("to", &raw.to, prefix)?,
        sets: None,
        iif: selector("iif", &raw.iif, Field::word)?,
        proto: optional("proto", &raw.proto, proto)?,
        sport: selector("sport", &raw.sport, ports)?,
        dport: selector("dport", &raw.dport, ports)?,
        uid: selector("uid", &raw.uid, uids)?,
        dscp: optional("dscp", &raw.dscp, |f| f.within(0..=63))?,
        fwmark: optional("fwmark", &raw.fwmark, |f| fwmark(f, links))?,
        via: required("via", &raw.via, &header, |f| f.list(|f| link(f, links)))?,
        otherwise: optional("otherwise", &raw.otherwise, |f| {
            f.choice(&[("default", Otherwise::Default), ("unreachable", Otherwise::Unreachable)])
        })?
        .unwrap_or_default(),
    };

    if policy.families().next().is_none() {
        let message = "has addresses of one family and `to` of the other: no packet has both";
        refused("from", &raw.from, message)?;
    }
    let has_ports = PROTOCOLS.iter().any(|(_, (n, ports))| *ports && policy.proto == Some(*n));
    if !has_ports {
        let message = "only some protocols have ports: add proto, \"tcp\", \"udp\", \"udplite\", \"sctp\" or \"dccp\"";
        refused("sport", &raw.sport, message)?;
        refused("dport", &raw.dport, message)?;
    }
    let selects = [&raw.from, &raw.to, &raw.iif, &raw.proto, &raw.sport, &raw.dport, &raw.uid, &raw.dscp, &raw.fwmark];
    if selects.iter().chain([&&raw.from_set, &&raw.to_set]).all(|entry| entry.is_none()) {
        let message = format!(
            "policy {:?} has no selector and would take all traffic: write one (from, to, iif, proto, uid ...), \
             or share all traffic out by weight and tier of the uplinks",
            policy.name
        );
        return Err(SpannedError { key: None, span: header, message });
    }
    Ok(policy)
}

fn prefix(field: Field<'_>) -> Result<IpNet, SpannedError> {
    let text = field.text()?;
    let Ok(net) = text.parse::<IpNet>().or_else(|e| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| e)) else {
        return Err(field.invalid(if text.contains(char::is_alphabetic) && !text.contains(':') {
            "IP addresses only, never host names"
        } else {
            "write an IP address or prefix such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32"
        }));
    };
    if net.prefix_len() == 0 {
        return Err(field.invalid("this is every address: leave the key out"));
    }
    if net.trunc() != net {
        let expected = format!("it has bits behind its prefix: write \"{}\" or \"{}\"", net.trunc(), net.addr());
        return Err(field.invalid(expected));
    }
    Ok(net)
}

fn proto(field: Field<'_>) -> Result<u8, SpannedError> {
    let known = match field.value().as_str() {
        Some(s) => PROTOCOLS.iter().find(|(name, _)| *name == s).map(|(_, (n, _))| *n),
        None => field.int().filter(|n| *n != 0),
    };
    let names = PROTOCOLS.map(|(name, _)| name).join(", ");
    known.ok_or_else(|| field.invalid(format_args!("write one of {names}, or a number from 1 to 255")))
}

fn ports(field: Field<'_>) -> Result<PortRange, SpannedError> {
    // The kernel refuses 65535 as an end (`fib_rule_port_range_valid()`).
    let (start, end) = field.range(1..=65534, "6000-6010")?;
    Ok(PortRange { start, end })
}

fn uids(field: Field<'_>) -> Result<UidRange, SpannedError> {
    // `u32::MAX` is the kernel's "no user".
    let (start, end) = field.range(0..=u32::MAX - 1, "1000-1999")?;
    Ok(UidRange { start, end })
}

fn fwmark(field: Field<'_>, links: &[Link]) -> Result<FwMark, SpannedError> {
    let given = match field.value().as_str() {
        Some(s) => match s.split_once('/') {
            Some((value, mask)) => mark(value).zip(mark(mask)),
            None => mark(s).zip(Some(u32::MAX)),
        },
        None => field.int().zip(Some(u32::MAX)),
    };
    let (value, mask) = given.ok_or_else(|| field.invalid("write a mark such as 0x100 or \"0x100/0xff00\""))?;
    if value == 0 || mask == 0 {
        return Err(field.invalid("neither mark nor mask may be 0"));
    }
    if value & !mask != 0 {
        return Err(field.invalid("the mark has bits outside of its mask: write a mask that covers it"));
    }
    match links.iter().find(|link| value & link.mark.get() != 0) {
        Some(link) => Err(field.invalid(format_args!(
            "it has the bit {} of {}, whose own rule comes first: write other bits",
            link.mark, link.name
        ))),
        None => Ok(FwMark { value, mask }),
    }
}

/// A decimal or hexadecimal number.
fn mark(text: &str) -> Option<u32> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
    // `from_str_radix` would accept a sign.
    let is_plain = digits.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_plain { u32::from_str_radix(digits, radix).ok() } else { None }
}

fn link(field: Field<'_>, links: &[Link]) -> Result<LinkName, SpannedError> {
    let given = field.text()?;
    links.iter().map(|link| &link.name).find(|name| name.as_str() == given).cloned().ok_or_else(|| {
        let names: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
        field.error(format!("unknown link {}: write one of {}", field.shown(), names.join(", ")))
    })
}
