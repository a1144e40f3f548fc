//! Whether somebody takes traffic who should not, and who. Pure.

use ipnet::Ipv4Net;

use super::Detour;
use super::samples::{Sample, Traffic};
use crate::config::Config;
use crate::ctl::lookup::{
    End, FibLeg, FibRoute, FibRule, Names, Packet, Ports, RouteKind, RuleAction, Tables, Walk, owner, protocol_name,
    rule_deletion, rule_text, walk,
};
use crate::model::names::TableId;
use crate::reconcile::desired::{DefaultRouteMode, Desired};
use crate::reconcile::link_state::LiveLink;

/// A rule or a route for a network that is narrower is somebody's own way to a destination, and wins by right.
const NARROW: u8 = 8;

/// What the configuration wants, as rules and tables to walk through.
pub(super) struct Judge<'a> {
    config: &'a Config,
    rules: Vec<FibRule>,
    tables: Tables,
    /// Metric of the default route that carries.
    metric: u32,
    /// The devices that it leads to.
    devices: Vec<String>,
}

/// Who takes traffic.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Taker {
    /// A rule of somebody else, and the way it leads.
    Rule(Box<FibRule>, String),
    /// A route of somebody else.
    Route(Box<FibRoute>, String),
    /// The lack of a rule that leads to main.
    NoMain,
    /// Something that cannot be told from here.
    Unclear(String, Packet),
}

impl<'a> Judge<'a> {
    pub(super) fn new(config: &'a Config, live: &[LiveLink<'_>]) -> Self {
        let protocol = config.settings.protocol;
        let desired = Desired::new(config, live, DefaultRouteMode::Multipath);
        let mut rules: Vec<_> = desired.rules.iter().filter_map(|rule| FibRule::of(rule, protocol)).collect();
        let mut tables = Tables::from([(TableId::MAIN.get(), Vec::new())]);
        for link in &config.links {
            let is_up = live.iter().any(|l| l.link.name == link.name);
            tables.insert(link.table.get(), if is_up { vec![default(link.table.get())] } else { Vec::new() });
        }
        let best = live.iter().filter_map(|l| l.link.tier()).min();
        let devices = live.iter().filter(|l| best.is_some() && l.link.tier() == best);
        let devices = devices.map(|l| l.leg.device.name.to_string()).collect();
        let metric = config.settings.numbers.tier_metric(best.unwrap_or_default());
        // Main without its default stands among ours; with it behind them.
        if best.is_some() {
            tables.insert(TableId::MAIN.get(), vec![default(TableId::MAIN.get())]);
        }
        rules.push(FibRule::lookup(32766, TableId::MAIN.get()));
        Self { config, rules, tables, metric, devices }
    }

    /// Who takes the sample on its way through the kernel's rules and tables, if anybody does who should not.
    /// `answer` is the device that the kernel says where the walk cannot tell.
    pub(super) fn taker(
        &self,
        sample: &Sample,
        walked: &Walk<'_>,
        tables: &Tables,
        rules: &[FibRule],
        answer: Option<String>,
    ) -> Option<Taker> {
        let wanted = match walk(&self.rules, &self.tables, &sample.packet).ok()?.end {
            End::Route(route) => Some(route.table),
            End::NoWay => return None,
            _ => None,
        };
        let ours = self.config.settings.protocol;
        let by = match &walked.end {
            End::Route(route) if route.protocol == ours && Some(route.table) == wanted => return None,
            End::Route(route) if route.delivers(&sample.packet) => return None,
            End::Route(route) => way(route),
            End::Refused { .. } if wanted.is_none() => return None,
            End::Refused { .. } => "it is refused".to_owned(),
            End::NoWay => {
                let lost = wanted == Some(TableId::MAIN.get()) && !rules.iter().any(leads_to_main);
                return lost.then_some(Taker::NoMain);
            }
            End::Unknown(_) => {
                let known = |device: &String| self.devices.contains(device) || wanted != Some(TableId::MAIN.get());
                return answer.filter(|device| !known(device)).map(|d| Taker::Unclear(d, sample.packet.clone()));
            }
        };
        let rule = walked.steps.last()?.rule;
        if rule.protocol != ours && !is_main(rule) && !matches!(rule.priority, 0 | 32767) {
            return takes_all(rule, sample).then(|| Taker::Rule(Box::new(rule.clone()), by));
        }
        let RuleAction::Lookup { table, .. } = rule.action else { return None };
        let route = found(tables.get(&table)?, &sample.packet)?;
        // One at our metric is told of by the plan, and what stands behind ours carries while ours is missing.
        let stands_before = match route.prefix.prefix_len() {
            0 => table == TableId::MAIN.get() && route.metric < self.metric,
            len => len < NARROW,
        };
        (route.protocol != ours && stands_before).then(|| Taker::Route(Box::new(route.clone()), by))
    }
}

/// The route that a walk ends at in these.
fn found<'a>(routes: &'a [FibRoute], packet: &Packet) -> Option<&'a FibRoute> {
    let carries = |r: &&FibRoute| {
        let refuses = matches!(r.kind, RouteKind::Refuse(_));
        r.tos == 0 && r.prefix.contains(&packet.to) && (refuses || r.legs.iter().any(|leg| !leg.dead))
    };
    let longest = routes.iter().filter(carries).map(|r| r.prefix.prefix_len()).max();
    routes.iter().filter(carries).find(|r| Some(r.prefix.prefix_len()) == longest)
}

fn is_main(rule: &FibRule) -> bool {
    leads_to_main(rule) && rule.priority >= 32766
}

fn leads_to_main(rule: &FibRule) -> bool {
    rule.action == FibRule::lookup(0, TableId::MAIN.get()).action
}

/// A default route that carries.
fn default(table: u32) -> FibRoute {
    let leg = FibLeg { device: 0, name: String::new(), group: 0, gateway: None, weight: 1, dead: false };
    FibRoute {
        table,
        prefix: Ipv4Net::default(),
        tos: 0,
        metric: 0,
        protocol: 0,
        kind: RouteKind::Unicast,
        source: None,
        nexthop: None,
        legs: vec![leg],
    }
}

/// Whether a rule that matches the sample takes all of its traffic, or all but what it names: then it is no rule of
/// the administrator's own for some of it.
fn takes_all(rule: &FibRule, sample: &Sample) -> bool {
    let s = &sample.selector;
    rule.invert
        || covers_net(rule.from, s.from)
            && covers_net(rule.to, s.to)
            && rule.iif.as_ref().is_none_or(|iif| iif == "lo" || s.iif.as_ref() == Some(iif))
            && rule.mark.is_none_or(|m| m.value == 0 || s.mark.is_some_and(|of| of.mask & m.mask == m.mask))
            && covers_users(rule.uid, s.uid)
            && rule.proto.is_none_or(|proto| s.proto == Some(proto))
            && covers_ports(rule.sport, s.sport)
            && covers_ports(rule.dport, s.dport)
            && rule.dscp.is_none_or(|m| m.value == 0 || s.dscp.is_some())
            && rule.tos == 0
}

fn covers_net(rule: Option<Ipv4Net>, of: Option<Ipv4Net>) -> bool {
    rule.is_none_or(|rule| rule.prefix_len() < NARROW || of.is_some_and(|of| rule.contains(&of)))
}

fn covers_users(rule: Option<(u32, u32)>, of: Option<(u32, u32)>) -> bool {
    let everyone = (0, u32::MAX - 1);
    let (first, last) = of.unwrap_or(everyone);
    rule.is_none_or(|(start, end)| start <= first && last <= end)
}

fn covers_ports(rule: Option<Ports>, of: Option<Ports>) -> bool {
    match (rule, of) {
        (None, _) => true,
        (Some(Ports::Range(start, end)), Some(Ports::Range(first, last))) => start <= first && last <= end,
        _ => false,
    }
}

/// The devices that a route leads to.
fn way(route: &FibRoute) -> String {
    let names: Vec<_> = route.shares().iter().map(|(leg, _)| leg.name.as_str()).collect();
    format!("by {}", names.join(" and "))
}

impl Taker {
    /// The same for all traffic that one line tells of: both halves of the Internet by one device are one takeover.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Rule(rule, _) => format!("{:010} {}", rule.priority, rule_text(rule, &Names::new())),
            Self::Route(route, by) if route.prefix.prefix_len() > 0 => format!("route {} {by}", route.table),
            Self::Route(route, by) => format!("default {} {by}", route.metric),
            Self::NoMain => String::new(),
            Self::Unclear(device, _) => format!("unclear {device}"),
        }
    }

    pub(super) fn detour(self, traffic: Vec<Traffic>, config: &Config) -> Detour {
        let takes = takes(&traffic);
        let (what, mend) = match &self {
            Self::Rule(rule, by) => {
                let whose = owner(rule).map_or_else(|| "which is not ours".to_owned(), |name| format!("as of {name}"));
                let text = rule_text(rule, &Names::new());
                let what = format!("rule {}: {text}, {whose}, takes {takes}: {by}", rule.priority);
                (what, rule_mend(rule, config))
            }
            Self::Route(route, by) => {
                let whose = protocol_name(route.protocol).filter(|n| !["boot", "static"].contains(n));
                let whose = whose.map_or_else(|| "which is not ours".to_owned(), |name| format!("of {name}"));
                (format!("{}, {whose}, takes {takes}: {by}", route_text(route)), route_mend(route))
            }
            Self::NoMain => (
                format!("no rule leads to table main, as if by `ip rule flush`, for {takes}: it goes nowhere"),
                "ip rule add priority 32766 lookup main".to_owned(),
            ),
            Self::Unclear(device, packet) => (
                format!("{takes} leaves by {device}, and what leads it there cannot be told from here"),
                format!("mhctl why {} has as much as can be told", packet.to),
            ),
        };
        let names = traffic.into_iter().map(|t| if let Traffic::Policy(name) = t { Some(name) } else { None });
        Detour { what, mend, policies: names.collect() }
    }
}

/// Traffic in words.
fn takes(traffic: &[Traffic]) -> String {
    const SHOWN: usize = 3;
    let mut policies = Vec::new();
    for traffic in traffic {
        if let Traffic::Policy(name) = traffic {
            policies.push(format!("{name:?}"));
        }
    }
    let more = policies.len().saturating_sub(SHOWN);
    policies.truncate(SHOWN);
    let mut names = policies.join(", ");
    if more > 0 {
        names = format!("{names} and {more} more");
    }
    let word = if policies.len() + more == 1 { "policy" } else { "policies" };
    match (traffic.contains(&Traffic::Internet), policies.is_empty()) {
        (true, true) => "traffic to the Internet".to_owned(),
        (true, false) => format!("traffic to the Internet, and that of {word} {names}"),
        _ => format!("the traffic of {word} {names}"),
    }
}

fn route_text(route: &FibRoute) -> String {
    if route.prefix.prefix_len() == 0 {
        format!("the default route of metric {}", route.metric)
    } else {
        format!("route {} of table {}", route.prefix, route.table)
    }
}

fn rule_mend(rule: &FibRule, config: &Config) -> String {
    let delete = rule_deletion(rule);
    match owner(rule) {
        Some("tailscale") => "tailscale set --exit-node=".to_owned(),
        Some("wg-quick") => "write Table = off into wg-quick's file, and make it a [[tunnel]]".to_owned(),
        _ if rule.priority < config.first_policy() => {
            format!("delete it ({delete}), or set rule-priority in [settings] so that all of ours stand before it")
        }
        _ => format!("delete it: {delete}"),
    }
}

fn route_mend(route: &FibRoute) -> String {
    let prefix = if route.prefix.prefix_len() == 0 { "default".to_owned() } else { route.prefix.to_string() };
    let mut delete = format!("ip route del {prefix} table {} metric {}", route.table, route.metric);
    if let [FibLeg { name, gateway, .. }] = &route.legs[..] {
        if let Some(gateway) = gateway {
            delete = format!("{delete} via {gateway}");
        }
        delete = format!("{delete} dev {}", crate::model::sh::quoted(name));
    }
    let delete = format!("{delete} protocol {}", route.protocol);
    if route.prefix.prefix_len() > 0 {
        return format!(
            "have its owner leave it out (OpenVPN: pull-filter ignore redirect-gateway; WireGuard: Table = off), or {delete}"
        );
    }
    format!("have its owner give it a metric above ours, or {delete}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::lookup::Masked;

    #[test]
    fn a_rule_for_some_of_the_traffic_does_not_take_all_of_it() {
        let sample = super::super::samples::internet().remove(0);
        let rule = |change: fn(&mut FibRule)| {
            let mut rule = FibRule::lookup(50, 52);
            change(&mut rule);
            rule
        };
        let all: [fn(&mut FibRule); 6] = [
            |_| {},
            |r| r.to = "0.0.0.0/1".parse().ok(),
            |r| r.mark = Some(Masked { value: 0, mask: 1 }),
            |r| (r.mark, r.invert) = (Some(Masked { value: 51820, mask: u32::MAX }), true),
            |r| r.iif = Some("lo".to_owned()),
            |r| r.uid = Some((0, u32::MAX - 1)),
        ];
        for change in all {
            assert!(takes_all(&rule(change), &sample), "{:?}", rule(change));
        }
        let some: [fn(&mut FibRule); 7] = [
            |r| r.to = "8.8.8.8/32".parse().ok(),
            |r| r.from = "192.168.2.0/24".parse().ok(),
            |r| r.mark = Some(Masked { value: 1, mask: 1 }),
            |r| r.uid = Some((0, 0)),
            |r| r.proto = Some(6),
            |r| r.dport = Some(Ports::Range(443, 443)),
            |r| r.dscp = Some(Masked { value: 46, mask: 0x3f }),
        ];
        for change in some {
            assert!(!takes_all(&rule(change), &sample), "{:?}", rule(change));
        }
    }
}
