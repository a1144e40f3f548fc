//! The facts as people read them, in as many columns as there are.

use std::fmt::Write;

use super::facts::{DefaultFacts, Facts, HealthFacts, Ipv6Facts, LinkFacts, PolicyFacts};
use crate::ctl::show::{Align, Screen, Tone, bytes, pending, scaled, table};
use crate::model::names::Family;
use crate::reconcile::link_state::Status;

/// Where values stand that have a word before them.
const INDENT: usize = 15;

type Cell = (String, Option<Tone>);

/// A column of a table of links.
struct Column<T> {
    title: &'static str,
    align: Align,
    /// Those of the highest rank go first where the screen is narrow.
    rank: u8,
    cell: fn(&T) -> Cell,
}

pub(super) fn text(facts: &Facts, screen: Screen) -> String {
    let mut out = links(&facts.links, screen).join("\n");
    out.push('\n');
    for link in &facts.links {
        if let Some(reason) = &link.reason {
            remark(&mut out, &format!("{}: {reason}", link.name), screen);
        }
    }
    let with_ipv6: Vec<_> = facts.links.iter().filter_map(|l| Some((l.name.as_str(), l.ipv6.as_ref()?))).collect();
    ipv6(&mut out, &with_ipv6, screen);
    for link in facts.links.iter().filter(|link| !with_ipv6.is_empty() && link.lacks_ipv6 && link.ipv6.is_none()) {
        remark(&mut out, &format!("{}: no IPv6 now", link.name), screen);
    }
    out.push('\n');
    default_routes(&mut out, Family::V4, &facts.default_routes, screen);
    if !with_ipv6.is_empty() {
        default_routes(&mut out, Family::V6, &facts.default_routes_ipv6, screen);
    }
    policies(&mut out, &facts.policies, screen);
    if facts.sources_decide {
        let told = "IPv6 of hosts that have an address of a line goes by that line, whatever these say";
        labelled(&mut out, "", None, &wrap(told, 0, INDENT, screen), screen);
    }
    kernel(&mut out, facts, screen);
    for warning in &facts.warnings {
        labelled(&mut out, "Warning", Some(Tone::Odd), &wrap(warning, 0, INDENT, screen), screen);
    }
    out
}

fn links(links: &[LinkFacts], screen: Screen) -> Vec<String> {
    let watching = links.iter().any(|link| link.received_bytes_per_second.is_some());
    let tiers = links.iter().any(|link| link.tier.is_some_and(|tier| tier != 1));
    let mut columns: Vec<Column<LinkFacts>> = vec![
        left("LINK", 0, |l| (l.name.clone(), Some(Tone::Strong))),
        left("STATE", 0, |l| (word(l.state).to_owned(), Some(tone(l.state)))),
        left("DEVICE", 1, |l| (l.interface.clone(), None)),
        left("ADDRESS", 5, |l| plain(l.local.map(|a| a.to_string()))),
        left("GATEWAY", 9, |l| plain(l.gateway.map(|a| a.to_string()))),
        left("SINCE", 6, |l| plain(l.age.map(ago))),
        right("SHARE", 4, |l| plain(l.share_percent.map(percent))),
    ];
    if links.iter().any(|link| link.health != HealthFacts::default()) {
        columns.push(right("RTT", 3, |l| plain(l.health.rtt_ms.map(round_trip))));
        columns.push(right("LOSS", 3, |l| plain(l.health.loss_percent.map(percent))));
    }
    if tiers {
        columns.push(right("TIER", 7, |l| plain(l.tier.map(|tier| tier.to_string()))));
    }
    let total = if watching { 8 } else { 2 };
    columns.push(right("IN", total, |l| plain(l.received_bytes.map(bytes))));
    columns.push(right("OUT", total, |l| plain(l.sent_bytes.map(bytes))));
    if watching {
        columns.push(right("IN NOW", 2, |l| plain(l.received_bytes_per_second.map(rate))));
        columns.push(right("OUT NOW", 2, |l| plain(l.sent_bytes_per_second.map(rate))));
    }
    fitted(columns, links, screen)
}

/// The links that have IPv6, or should.
fn ipv6(out: &mut String, links: &[(&str, &Ipv6Facts)], screen: Screen) {
    if links.is_empty() {
        return;
    }
    let mut columns: Vec<Column<(&str, &Ipv6Facts)>> = vec![
        left("LINK", 0, |(name, _)| ((*name).to_owned(), Some(Tone::Strong))),
        left("IPV6", 0, |(_, l)| (word(l.state).to_owned(), Some(tone(l.state)))),
        left("DEVICE", 1, |(_, l)| (l.interface.clone(), None)),
        left("ADDRESS", 5, |(_, l)| plain(l.local.map(|a| a.to_string()))),
        left("GATEWAY", 9, |(_, l)| plain(l.gateway.map(|a| a.to_string()))),
        left("SINCE", 6, |(_, l)| plain(l.age.map(ago))),
        right("SHARE", 4, |(_, l)| plain(l.share_percent.map(percent))),
    ];
    if links.iter().any(|(_, link)| link.health != HealthFacts::default()) {
        columns.push(right("RTT", 3, |(_, l)| plain(l.health.rtt_ms.map(round_trip))));
        columns.push(right("LOSS", 3, |(_, l)| plain(l.health.loss_percent.map(percent))));
    }
    out.push('\n');
    out.push_str(&fitted(columns, links, screen).join("\n"));
    out.push('\n');
    for (name, link) in links {
        if let Some(reason) = &link.reason {
            remark(out, &format!("{name}, IPv6: {reason}"), screen);
        }
        if !link.refused.is_empty() {
            let refused = link.refused.join(", ");
            remark(out, &format!("{name}: what comes from {refused} is refused meanwhile (nat6 = \"none\")"), screen);
        }
        if !link.prefixes.is_empty() {
            remark(out, &format!("{name}: prefixes {}", link.prefixes.join(", ")), screen);
        }
    }
}

/// A line below a table.
fn remark(out: &mut String, text: &str, screen: Screen) {
    out.push_str(&screen.paint(Tone::Faint, wrap(text, 2, 4, screen).trim_end_matches('\n')));
    out.push('\n');
}

/// A table of the columns that there is room for.
fn fitted<T>(mut columns: Vec<Column<T>>, links: &[T], screen: Screen) -> Vec<String> {
    loop {
        let heading = columns.iter().map(|column| (column.title.to_owned(), Some(Tone::Faint)));
        let mut rows = vec![heading.collect::<Vec<Cell>>()];
        rows.extend(links.iter().map(|link| columns.iter().map(|column| (column.cell)(link)).collect()));
        let align: Vec<_> = columns.iter().map(|column| column.align).collect();
        let bare = Screen { colour: false, ..screen };
        let wide = table(&rows, &align, bare).iter().map(|line| line.chars().count()).max().unwrap_or(0);
        let least = columns.iter().map(|column| column.rank).max().unwrap_or(0);
        if least == 0 || screen.width.is_none_or(|width| wide <= width) {
            return table(&rows, &align, screen);
        }
        columns.retain(|column| column.rank < least);
    }
}

fn left<T>(title: &'static str, rank: u8, cell: fn(&T) -> Cell) -> Column<T> {
    Column { title, align: Align::Left, rank, cell }
}

fn right<T>(title: &'static str, rank: u8, cell: fn(&T) -> Cell) -> Column<T> {
    Column { title, align: Align::Right, rank, cell }
}

fn plain(text: Option<String>) -> Cell {
    (text.unwrap_or_else(|| "-".to_owned()), None)
}

/// For people a drill drains a link as mh-watch does; the reason says who it was.
fn word(state: Status) -> &'static str {
    if state == Status::Held { Status::Drained.word() } else { state.word() }
}

fn tone(state: Status) -> Tone {
    match state {
        Status::Up => Tone::Good,
        Status::Held | Status::NoGateway => Tone::Odd,
        Status::Drained | Status::Cut | Status::Down | Status::Stale | Status::Dead | Status::NoCarrier => Tone::Bad,
    }
}

/// A word in the margin, and what belongs to it.
fn labelled(out: &mut String, label: &str, tone: Option<Tone>, text: &str, screen: Screen) {
    let room = " ".repeat(INDENT.saturating_sub(label.chars().count()));
    let label = screen.paint(tone.unwrap_or(Tone::Faint), label);
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "{label}{room}{}", text.trim_end());
}

fn default_routes(out: &mut String, family: Family, routes: &[DefaultFacts], screen: Screen) {
    let label = if family == Family::V4 { "Default route" } else { "IPv6 default" };
    let carrying: Vec<_> = routes.iter().filter(|route| route.carries).collect();
    if carrying.is_empty() {
        let none = screen.paint(Tone::Bad, "none: the Internet is not reachable");
        labelled(out, label, None, &none, screen);
    }
    for (at, route) in carrying.into_iter().enumerate().filter(|(at, route)| *at == 0 || !is_behind(family, route)) {
        let next_hops = route.next_hops.iter().map(|next_hop| {
            let name = next_hop.link.as_ref().unwrap_or(&next_hop.interface);
            if route.next_hops.len() > 1 { format!("{name} {}", percent(next_hop.percent)) } else { name.clone() }
        });
        let mut line = next_hops.collect::<Vec<_>>().join(", ");
        if line.is_empty() {
            line.clone_from(&route.target);
        }
        if !route.ours && route.next_hops.is_empty() {
            line.push_str(" (foreign)");
        } else if !route.ours {
            let _ = write!(line, " (foreign: {})", route.target);
        }
        if route.spare {
            line.push_str(" (a spare)");
        }
        if at > 0 {
            let _ = write!(line, " (metric {}, if the one above is lost)", route.metric);
        }
        labelled(out, if at == 0 { label } else { "" }, None, &wrap(&line, 0, INDENT, screen), screen);
    }
}

/// Whether a default route goes without saying where another carries: a spare; and in IPv6 one by a link that the kernel has
/// made of a router's advertisement, and by which the link is known.
fn is_behind(family: Family, route: &DefaultFacts) -> bool {
    let is_by_links = !route.next_hops.is_empty() && route.next_hops.iter().all(|next_hop| next_hop.link.is_some());
    route.spare || family == Family::V6 && !route.ours && is_by_links
}

fn policies(out: &mut String, policies: &[PolicyFacts], screen: Screen) {
    // Something of each name stays, and of where it leads.
    let both = screen.width.map_or(usize::MAX, |all| all.saturating_sub(INDENT + 2).max(40));
    let mut led = Vec::with_capacity(policies.len());
    for policy in policies {
        let (text, tone) = lead_of_both(policy);
        led.push((shortened(&text, both - 20), tone));
    }
    let room = both - led.iter().map(|(text, _)| text.chars().count()).max().unwrap_or(0);
    let rows: Vec<Vec<Cell>> =
        policies.iter().zip(led).map(|(policy, led)| vec![(shortened(&policy.name, room), None), led]).collect();
    for (at, line) in table(&rows, &[Align::Left, Align::Left], screen).iter().enumerate() {
        labelled(out, if at == 0 { "Policies" } else { "" }, None, line, screen);
    }
}

/// Where a policy leads now, in both families if they differ.
fn lead_of_both(policy: &PolicyFacts) -> Cell {
    let (text, tone) = lead(policy);
    let ipv6 = policy
        .ipv6
        .clone()
        .map(|ipv6| lead(&PolicyFacts { link: ipv6.link_ipv6, elsewhere: ipv6.elsewhere_ipv6, ..policy.clone() }));
    match ipv6 {
        Some((of_ipv6, tone6)) if of_ipv6 != text => {
            let odd = if tone == Some(Tone::Bad) || tone6 == Some(Tone::Bad) { Tone::Bad } else { Tone::Odd };
            (format!("{text}; IPv6 {of_ipv6}"), Some(odd))
        }
        _ => (text, tone),
    }
}

/// Where a policy leads now.
fn lead(policy: &PolicyFacts) -> Cell {
    if let Some(elsewhere) = policy.elsewhere.as_ref().filter(|_| policy.rules_missing == 0) {
        return (
            elsewhere.what.clone(),
            Some(if elsewhere.is_mains || elsewhere.is_by_source { Tone::Odd } else { Tone::Bad }),
        );
    }
    match &policy.link {
        None if policy.otherwise == "unreachable" && policy.rules_missing > 0 => {
            (format!("does not hold: {} of its {} rules missing", policy.rules_missing, policy.rules), Some(Tone::Bad))
        }
        None if policy.rules_missing == policy.rules => {
            ("not in the kernel: by the default route".to_owned(), Some(Tone::Bad))
        }
        None if policy.rules_missing > 0 => ("only in part in the kernel".to_owned(), Some(Tone::Bad)),
        Some(link) if policy.via.first() == Some(link) => (format!("by {link}"), Some(Tone::Good)),
        Some(link) => {
            let better: Vec<_> = policy.via.iter().take_while(|name| *name != link).map(String::as_str).collect();
            (format!("by {link}, without {}", better.join(", ")), Some(Tone::Odd))
        }
        None if policy.otherwise == "unreachable" => {
            let verb = if policy.via.len() == 1 { "is" } else { "are" };
            (format!("refused: {} {verb} not up", policy.via.join(", ")), Some(Tone::Bad))
        }
        None => (format!("by the default route, without {}", policy.via.join(", ")), Some(Tone::Odd)),
    }
}

fn kernel(out: &mut String, facts: &Facts, screen: Screen) {
    let kernel = &facts.kernel;
    if kernel.as_wanted {
        let so_far = if kernel.firewall_hidden { " (the packet filter shows itself to root only)" } else { "" };
        labelled(out, "Kernel", None, &(screen.paint(Tone::Good, "in sync") + so_far), screen);
    }
    if !kernel.changes.is_empty() {
        let count = pending(kernel.changes.len());
        let line = format!(
            "{}: `{mhctl} plan` shows, `{mhctl} apply` makes",
            screen.paint(Tone::Bad, &count),
            mhctl = facts.mhctl
        );
        labelled(out, "Kernel", None, &line, screen);
    }
    let detours = kernel.detours.iter().map(|detour| format!("{}; {}", detour.what, detour.fix));
    for problem in kernel.problems.iter().cloned().chain(detours) {
        labelled(out, "Problem", Some(Tone::Bad), &wrap(&problem, 0, INDENT, screen), screen);
    }
}

/// Lines as wide as the screen; the first begins after `first` blanks, the others after `rest`. What
/// stands before the text without `first` is as wide as `rest`.
fn wrap(text: &str, first: usize, rest: usize, screen: Screen) -> String {
    let width = screen.width.unwrap_or(usize::MAX).max(rest + 20);
    let mut out = " ".repeat(first);
    let mut at = if first == 0 { rest } else { first };
    let mut start = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !start && at + 1 + length > width {
            out.push('\n');
            out.push_str(&" ".repeat(rest));
            at = rest;
        } else if !start {
            out.push(' ');
            at += 1;
        }
        start = false;
        out.push_str(word);
        at += length;
    }
    out.push('\n');
    out
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

fn percent(n: f64) -> String {
    format!("{n:.0} %")
}

fn round_trip(ms: f64) -> String {
    let digits = if ms >= 9.995 { 0 } else { usize::from(ms < 0.9995) + 1 };
    format!("{ms:.digits$} ms")
}

/// How long ago, in the two largest units.
fn ago(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{minutes}m ago"),
        3600..86400 => format!("{hours}h {}m ago", minutes % 60),
        86400..2_592_000 => format!("{days}d {}h ago", hours % 24),
        _ => format!("{days}d ago"),
    }
}

/// Lines are sold in bits.
fn rate(bytes_per_second: f64) -> String {
    scaled(bytes_per_second * 8.0, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s"])
}

#[cfg(test)]
mod tests;
