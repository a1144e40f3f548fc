//! A report for people, at 80 columns.

use std::io::{self, Write};

use nix::libc;

use super::silence::Silent;
use super::{Naming, Report};
use crate::ctl::lookup::{
    Answer, End, FibNextHop, FibRoute, Outcome, Packet, Refusal, Step, errno_text, proto_text, rule_text,
};
use crate::kernel::netlink::constants::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP};
use crate::model::names::{DeviceName, LinkName};

/// Longest rule that has its outcome on the same line.
const RULE_WIDTH: usize = 38;

pub(super) fn print(report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    let Report { packet, walk, naming, .. } = report;
    writeln!(out, "{}", headline(packet, report))?;
    for link in &report.down_already {
        writeln!(out, "({link} is down already)")?;
    }
    for membership in &report.memberships {
        writeln!(out, "({membership})")?;
    }
    writeln!(out)?;
    let rules: Vec<_> = walk.steps.iter().map(|step| rule_text(step.found, &naming.tables)).collect();
    let width = rules.iter().map(String::len).filter(|len| *len <= RULE_WIDTH).max().unwrap_or(0);
    for (step, rule) in walk.steps.iter().zip(&rules) {
        let outcome = outcome(step);
        if rule.len() <= width {
            writeln!(out, "{:>5}  {rule:<width$}  {outcome}", step.found.rule.priority)?;
        } else {
            writeln!(out, "{:>5}  {rule}\n{:5}  {:width$}  {outcome}", step.found.rule.priority, "", "")?;
        }
    }
    writeln!(out)?;
    end(report, out)?;
    let last = walk.steps.last().map(|step| step.found);
    if let Some(purpose) = last.and_then(|last| naming.purpose(last).or_else(|| naming.source(last))) {
        writeln!(out, "Because of  {purpose}")?;
    }
    kernel(report, out)
}

fn headline(packet: &Packet, report: &Report<'_>) -> String {
    let proto = match packet.proto {
        IPPROTO_ICMP | IPPROTO_ICMPV6 | IPPROTO_TCP | IPPROTO_UDP => proto_text(packet.proto),
        n => format!("protocol {n}"),
    };
    let source = packet.from.map(|from| format!(" {from}{}", port(packet.sport))).unwrap_or_default();
    let from = match &packet.iif {
        Some((_, name)) => format!("from{source}, in by {name},"),
        None if packet.from.is_some() => format!("from{source}"),
        None => format!("from this host{}", port(packet.sport)),
    };
    let mut parts = vec![format!("New {proto} connection {from} to {}{}", packet.to, port(packet.dport))];
    if packet.mark != 0 {
        parts.push(format!("mark {:#x}", packet.mark));
    }
    if packet.uid != 0 {
        parts.push(format!("of user {}", packet.uid));
    }
    if packet.dscp != 0 {
        parts.push(format!("DSCP {}", packet.dscp));
    }
    let mut text = parts.join(", ");
    if !report.without.is_empty() {
        let links: Vec<_> = report.without.iter().map(ToString::to_string).collect();
        text = format!("{text},\nif {} were down", links.join(" and "));
    }
    text + ":"
}

fn port(port: u16) -> String {
    if port == 0 { String::new() } else { format!(" port {port}") }
}

/// What came of a rule, in few words.
pub(super) fn outcome(step: &Step<'_>) -> String {
    match &step.outcome {
        Outcome::Miss(miss) => format!("no: {miss}"),
        Outcome::NoRoute { dead: false } => "no: no route to it there".to_owned(),
        Outcome::NoRoute { dead: true } => "no: its device is down, or has no carrier".to_owned(),
        Outcome::Throw => "no: a throw route there".to_owned(),
        Outcome::Suppressed(route) if route.prefix.prefix_len() == 0 => "no: only a default there".to_owned(),
        Outcome::Suppressed(route) => format!("no: only {} there", route.prefix),
        Outcome::Goto(_) => "yes: on from there".to_owned(),
        Outcome::Nop => "yes: it does nothing".to_owned(),
        Outcome::Decides => "yes".to_owned(),
        Outcome::Unknown => "cannot be told".to_owned(),
    }
}

fn end(report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    match &report.walk.end {
        End::Route(route) => way(route, report, out),
        End::Refused { how, by_route } => {
            let how = match how {
                Refusal::Blackhole => "dropped without a word",
                Refusal::Unreachable => "refused as unreachable",
                Refusal::Prohibit => "refused as prohibited",
            };
            writeln!(out, "It is       {how}, by the {}", if *by_route { "route in that table" } else { "rule" })
        }
        End::NoWay => writeln!(out, "It has      no route to host: no rule matched"),
        End::Unknown(why) => writeln!(out, "It ends     at what cannot be told from here: {why}"),
    }
}

fn way(route: &FibRoute, report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    let naming = &report.naming;
    let table = naming.tables.get(&route.table).cloned().unwrap_or_else(|| route.table.to_string());
    let prefix = if route.prefix.prefix_len() == 0 { "default".to_owned() } else { route.prefix.to_string() };
    let object = route.nexthop.map(|id| format!(" nhid {id}")).unwrap_or_default();
    let metric = if route.metric == 0 { String::new() } else { format!(" metric {}", route.metric) };
    writeln!(out, "Route       {prefix}{object}{metric} in table {table}")?;
    if route.delivers(report.packet) {
        return writeln!(out, "It stays    on this host");
    }
    match &report.silence.shares(route)[..] {
        [(only, _)] => writeln!(out, "Leaves by   {}", next_hop(only, naming))?,
        shares => {
            writeln!(out, "Leaves by   one of these, chosen by a hash:")?;
            for (hop, share) in shares {
                writeln!(out, "            {share:>3.0} %  {}", next_hop(hop, naming))?;
            }
        }
    }
    silence(report, out)
}

/// Gateways that do not answer, and what comes of it.
fn silence(report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    for Silent { interface, gateway, asked, .. } in &report.silence.gateways {
        let question = if gateway.is_ipv4() { "ARP" } else { "neighbour discovery" };
        let answers =
            if *asked { format!("has not answered {question} yet") } else { format!("does not answer {question}") };
        let name = report.naming.links.get(interface).map_or_else(|| interface.to_string(), LinkName::to_string);
        writeln!(out, "But         gateway {gateway} {answers}:")?;
        if report.silence.passed_over || report.is_explained() {
            writeln!(out, "            the kernel passes {name} over")?;
        } else {
            writeln!(out, "            nothing gets through by {name}")?;
        }
    }
    Ok(())
}

fn device(name: &DeviceName, naming: &Naming<'_>) -> String {
    naming.links.get(name).map_or_else(|| name.to_string(), |link| format!("{link} ({name})"))
}

fn next_hop(next_hop: &FibNextHop, naming: &Naming<'_>) -> String {
    let via = next_hop.hop.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
    format!("{}{via}", device(&next_hop.name, naming))
}

fn kernel(report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    let Report { packet, walk, naming, .. } = report;
    let answer = match &report.kernel {
        Err(_) if !report.without.is_empty() => return writeln!(out, "The kernel  cannot be asked: it is not so now"),
        Err(why) => return writeln!(out, "The kernel  cannot be asked: {why}"),
        Ok(answer) => answer,
    };
    if let Some(difference) = report.difference.as_ref().filter(|_| report.is_explained()) {
        return writeln!(out, "The kernel  therefore takes the next: {difference}");
    }
    if let Some(difference) = &report.difference {
        writeln!(out, "The kernel  DIFFERS: {difference}")?;
        if let (Answer::Refused(errno), Some((_, iif))) = (answer, &packet.iif) {
            match *errno {
                // fib_validate_source() and ip_route_input_slow().
                libc::EXDEV => writeln!(out, "            the reverse path filter of {iif} drops it: mhctl doctor")?,
                libc::EINVAL => writeln!(out, "            {iif} does not take a packet from that source")?,
                libc::EHOSTUNREACH => {
                    writeln!(out, "            it forwards nothing from {iif}: sysctl -w net.ipv4.ip_forward=1")?;
                }
                _ => {}
            }
        }
        return Ok(());
    }
    match (answer, &walk.end) {
        (Answer::Refused(errno), End::Unknown(_)) => {
            return writeln!(out, "The kernel  refuses it: {}", errno_text(*errno));
        }
        (Answer::Refused(errno), _) => return writeln!(out, "The kernel  says the same: {}", errno_text(*errno)),
        (Answer::Way { name, source, .. }, end) => {
            let source = source.filter(|_| packet.from.is_none()).map(|s| format!(", source {s}")).unwrap_or_default();
            let multipath = matches!(end, End::Route(route) if route.shares().len() > 1);
            let picks = format!("{}{source}", device(name, naming));
            match end {
                End::Unknown(_) => writeln!(out, "The kernel  sends it by {picks}")?,
                _ if multipath => writeln!(out, "The kernel  says the same, and picks {picks}")?,
                _ => writeln!(out, "The kernel  says the same{source}")?,
            }
        }
    }
    bound(report, answer, out)
}

/// connect(2) of IPv4 looks up once more when it has a source, that of IPv6 when a route has changed: the rules for sources
/// decide then.
fn bound(report: &Report<'_>, answer: &Answer, out: &mut impl Write) -> io::Result<()> {
    let (Some((source, walk)), Answer::Way { device: first, .. }) = (&report.bound, answer) else { return Ok(()) };
    let (End::Route(route), Some(step)) = (&walk.end, walk.steps.last()) else {
        return writeln!(out, "But then    with source {source} there is no route to host");
    };
    if report.walk.steps.last().is_some_and(|before| before.found == step.found) {
        return Ok(());
    }
    let rule = step.found.rule.priority;
    let same = route.next_hops.iter().any(|next_hop| next_hop.hop.device == *first);
    let by: Vec<_> = route.shares().iter().map(|(l, _)| device(&l.name, &report.naming)).collect();
    match by.as_slice() {
        [only] if same => writeln!(out, "Then        rule {rule} for source {source} keeps it on {only}"),
        _ if same => Ok(()),
        _ => writeln!(out, "But then    rule {rule} for source {source} moves it to {}", by.join(" or ")),
    }
}
