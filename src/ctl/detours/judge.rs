//! Whether somebody takes traffic who should not, and who. Pure.

use super::meet::{NARROW, takes_all};
use super::samples::Sample;
use super::strays::Owners;
use super::taker::{Taker, way};
use crate::config::Config;
use crate::ctl::lookup::{End, FibNextHop, FibRoute, Packet, Tables, Walk, walk};
use crate::model::names::{DeviceName, Family, TableId};
use crate::model::numbering::{KERNELS_DEFAULT_RULE, KERNELS_LOCAL_RULE, KERNELS_MAIN_RULE, Numbering};
use crate::model::routing::{Action, FoundNextHop, FoundRule, RouteKind, Rule, Selector};
use crate::reconcile::desired::{DefaultRouteMode, Desired};
use crate::reconcile::link_state::Live;

const TO_MAIN: Action = Action::Lookup { table: TableId::MAIN, suppress_prefixlength: None };

/// What the configuration wants, as rules and tables to walk through.
pub(super) struct Judge<'a> {
    config: &'a Config,
    family: Family,
    /// The table whose default route carries.
    carrying: TableId,
    rules: Vec<FoundRule>,
    tables: Tables,
    /// Metric of the default route that carries.
    metric: u32,
    /// The devices that it leads to.
    devices: Vec<DeviceName>,
    owners: &'a Owners<'a>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(config: &'a Config, family: Family, all: &Live<'_>, owners: &'a Owners<'a>) -> Self {
        let protocol = config.settings.protocol;
        let live = all.of(family);
        let desired = Desired::new(config, all, DefaultRouteMode::Multipath);
        let wanted = desired.rules.into_iter().filter(|rule| rule.family == family);
        let mut rules: Vec<_> = wanted.map(|rule| FoundRule { rule, protocol, more: None }).collect();
        let carrying = Numbering::carrying_table(family);
        let mut tables = Tables::from([(TableId::MAIN, Vec::new()), (carrying, Vec::new())]);
        for link in &config.links {
            let is_up = live.iter().any(|l| l.link.name == link.name);
            tables.insert(link.table, if is_up { vec![default(family, link.table)] } else { Vec::new() });
        }
        let best = live.iter().filter_map(|l| l.link.tier()).min();
        let best_links = live.iter().filter(|l| best.is_some() && l.link.tier() == best);
        let devices = best_links.map(|l| l.next_hop.device.name.device()).collect();
        let metric = config.settings.numbers.tier_metric(family, best.unwrap_or_default());
        // Main without its default stands among ours; with it behind them.
        if best.is_some() {
            tables.insert(carrying, vec![default(family, carrying)]);
        }
        let main = Rule { priority: KERNELS_MAIN_RULE, family, selector: Selector::default(), action: TO_MAIN };
        rules.push(FoundRule { rule: main, protocol: 0, more: None });
        Self { config, family, carrying, rules, tables, metric, devices, owners }
    }

    /// Who takes the sample on its way through the kernel's rules and tables, if anybody does who should not.
    /// `answer` is the device that the kernel says where the walk cannot tell.
    pub(super) fn taker(
        &self,
        sample: &Sample,
        walked: &Walk<'_>,
        tables: &Tables,
        rules: &[FoundRule],
        answer: Option<DeviceName>,
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
                // In IPv6 nothing of ours is behind the kernel's own rule.
                let is_lost =
                    self.family == Family::V4 && wanted == Some(TableId::MAIN) && !rules.iter().any(leads_to_main);
                // An apply then leaves the kernel's own rules as they are.
                let has_its_place = rules.iter().any(|found| found.protocol != ours && found.decides_about_all());
                return is_lost.then_some(Taker::NoMain(!has_its_place));
            }
            End::Unknown(_) => {
                let device = answer.filter(|device| wanted == Some(self.carrying) && !self.devices.contains(device))?;
                return Some(Taker::Unclear(device, sample.packet.clone()));
            }
        };
        let last = walked.steps.last()?.found;
        if last.protocol != ours
            && !is_main(last)
            && ![KERNELS_LOCAL_RULE, KERNELS_DEFAULT_RULE].contains(&last.rule.priority)
        {
            return takes_all(last, &sample.selector).then(|| Taker::Rule(Box::new(last.clone()), by));
        }
        let Action::Lookup { table, .. } = last.rule.action else { return None };
        let route = found(tables.get(&table)?, &sample.packet)?;
        if let Some(link) = self.owners.strays_from(route) {
            return Some(Taker::Stray(Box::new(route.clone()), link.name.clone(), 0));
        }
        // One at our metric is told of by the plan, and what stands behind ours carries while ours is missing.
        let stands_before = match route.prefix.prefix_len() {
            0 => table == self.carrying && route.metric < self.metric,
            len => len < NARROW,
        };
        (route.protocol != ours && stands_before).then(|| Taker::Route(Box::new(route.clone()), by))
    }
}

/// The route that a walk ends at in these.
fn found<'a>(routes: &'a [FibRoute], packet: &Packet) -> Option<&'a FibRoute> {
    let fitting: Vec<_> = routes.iter().filter(|route| carries(route, packet)).collect();
    let longest = fitting.iter().map(|route| route.prefix.prefix_len()).max()?;
    fitting.into_iter().find(|route| route.prefix.prefix_len() == longest)
}

fn carries(route: &FibRoute, packet: &Packet) -> bool {
    let refuses = matches!(route.kind, RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit);
    let leads_on = route.next_hops.iter().any(|next_hop| !next_hop.hop.dead);
    route.tos == 0 && route.prefix.contains(&packet.to) && (refuses || leads_on)
}

fn is_main(found: &FoundRule) -> bool {
    leads_to_main(found) && found.rule.priority >= KERNELS_MAIN_RULE
}

fn leads_to_main(found: &FoundRule) -> bool {
    found.rule.action == TO_MAIN && found.more().suppress_ifgroup.is_none()
}

/// A default route that carries.
fn default(family: Family, table: TableId) -> FibRoute {
    FibRoute::default_by(
        family,
        table,
        vec![FibNextHop { hop: FoundNextHop::new(0, None), name: DeviceName::default(), group: 0 }],
    )
}
