//! Rules of others that stand before a kill switch's and lead elsewhere what both select. Samples show one packet of each
//! policy; these are compared selector by selector.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ipnet::IpNet;

use super::meet::{NARROW, can_match};
use super::strays::Main;
use crate::config::{Config, Policy};
use crate::ctl::check::advice::is_idle;
use crate::ctl::lookup::FibRoute;
use crate::ctl::lookup::read::Fib;
use crate::ctl::overlap::Overlap as _;
use crate::kernel;
use crate::model::names::{Family, IfName, LinkName, TableId};
use crate::model::observed::Observed;
use crate::model::routing::{Action, FoundRule, RouteKind, Rule, Selector};
use crate::reconcile::link_state::LiveLink;

/// Rules of others that are compared: each with all kill switches, of which there can be thousands.
const MOST_RULES: usize = 500;
/// Routes of a table that such a rule looks up which are read.
const MOST_ROUTES: usize = 1000;

/// A rule that stands before kill switches.
pub(super) struct Threat<'a> {
    pub(super) found: &'a FoundRule,
    /// The policies whose packets it can take, in their order.
    pub(super) policies: Vec<&'a Policy>,
    /// What it can take most of, and whose that is.
    pub(super) example: (Selector, &'a Policy),
    /// Whether it leads a large part of the Internet elsewhere, or a destination that a policy names.
    pub(super) is_wide: bool,
}

/// Where a rule leads.
enum Leads {
    /// To the first rule of this priority.
    On(u32),
    /// By the table of a link, or by main.
    Table(TableId),
    /// By these routes.
    Routes(Vec<FibRoute>),
    /// Nobody knows.
    Anywhere,
}

/// What a rule takes of a kill switch's packets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Takes {
    Nothing,
    /// A few destinations that the policy does not name.
    Little,
    Much,
}

/// A kill switch's last rule for one combination of its values.
struct Refusal<'a> {
    rule: &'a Rule,
    policy: &'a Policy,
    /// Its place among the kernel's rules, or where it would be.
    at: usize,
    /// The rules of others from this priority on, up to the policies, are jumped over.
    guard: Option<u32>,
}

/// What is compared.
pub(super) struct Comparison<'a> {
    config: &'a Config,
    live: &'a [LiveLink<'a>],
    /// The kernel's, of one family.
    rules: Vec<&'a FoundRule>,
    refusals: Vec<Refusal<'a>>,
    family: Family,
}

impl<'a> Comparison<'a> {
    /// `wanted` are the rules that the kernel should hold.
    pub(super) fn new(
        config: &'a Config,
        live: &'a [LiveLink<'a>],
        observed: &'a Observed,
        wanted: &'a [Rule],
        family: Family,
    ) -> Self {
        let rules: Vec<_> = observed.rules.iter().filter(|found| found.rule.family == family).collect();
        let ours = config.settings.protocol;
        let guards: HashSet<_> = rules
            .iter()
            .filter(|found| found.protocol == ours && matches!(found.rule.action, Action::Goto(_)))
            .map(|found| &found.rule.selector)
            .collect();
        let priorities: BTreeMap<_, _> =
            config.policy_priorities().zip(&config.policies).map(|(range, policy)| (range.start, policy)).collect();
        let mut refusals = Vec::new();
        for rule in wanted.iter().filter(|rule| rule.family == family && rule.action == Action::Unreachable) {
            let Some((_, policy)) = priorities.range(..=rule.priority).next_back() else { continue };
            let first = rules.partition_point(|found| found.rule.priority < rule.priority);
            let same = rules[first..].iter().take_while(|found| found.rule.priority == rule.priority);
            let at = first + same.take_while(|found| found.protocol != ours || found.rule != *rule).count();
            let guard = guards.contains(&rule.selector).then(|| config.settings.numbers.guard_rule(&rule.selector));
            refusals.push(Refusal { rule, policy, at, guard });
        }
        Self { config, live, rules, refusals, family }
    }

    /// The rules of others that stand before kill switches, in their order.
    pub(super) fn threats(&self, fib: &mut Fib) -> Result<Vec<Threat<'a>>, kernel::Error> {
        let Some(last) = self.refusals.iter().map(|refusal| refusal.at).max() else { return Ok(Vec::new()) };
        let mut main = None;
        let mut threats = Vec::new();
        let before = self.rules.iter().enumerate().take(last);
        let foreign = before.filter(|(_, found)| found.protocol != self.config.settings.protocol);
        for (at, found) in foreign.take(MOST_RULES) {
            let Some(leads) = self.leads(found, fib)? else { continue };
            if let (Leads::Table(TableId::MAIN), Some(to), Family::V4) = (&leads, found.rule.selector.to, self.family)
                && main_leads(to, &mut main, fib)?
            {
                continue;
            }
            threats.extend(self.threat(at, found, &leads));
        }
        Ok(threats)
    }

    /// Where a rule leads; `None`: to nothing that a kill switch would not have led to.
    fn leads(&self, found: &FoundRule, fib: &mut Fib) -> Result<Option<Leads>, kernel::Error> {
        let (table, least) = match found.rule.action {
            Action::Goto(target) => return Ok(Some(Leads::On(target))),
            Action::Other(_) => return Ok(Some(Leads::Anywhere)),
            Action::Lookup { table, suppress_prefixlength } => (table, suppress_prefixlength),
            Action::Unreachable | Action::Blackhole | Action::Prohibit | Action::Nop => return Ok(None),
        };
        // Main's better routes win anyway.
        if table == TableId::LOCAL || table == TableId::MAIN && least.is_some() {
            return Ok(None);
        }
        let is_links = self.config.links.iter().any(|link| link.table == table);
        if self.family == Family::V4 && least.is_none() && (table == TableId::MAIN || is_links) {
            return Ok(Some(Leads::Table(table)));
        }
        let mut routes = fib.first_routes(self.family, table, MOST_ROUTES)?;
        routes.retain(|route| {
            let len = route.prefix.prefix_len();
            let is_local = matches!(route.prefix, IpNet::V6(net) if net.addr().is_unicast_link_local());
            let is_mains_better = table == TableId::MAIN && len >= NARROW;
            route.kind == RouteKind::Unicast
                && !is_local
                && !is_mains_better
                && least.is_none_or(|least| u32::from(len) > least)
                && found.rule.selector.to.meets(&Some(route.prefix))
        });
        Ok((!routes.is_empty()).then_some(Leads::Routes(routes)))
    }

    /// What the rule at this place, which leads there, takes of kill switches.
    fn threat(&self, at: usize, found: &'a FoundRule, leads: &Leads) -> Option<Threat<'a>> {
        let mut most = Takes::Nothing;
        let mut names = BTreeSet::new();
        let mut policies = Vec::new();
        let mut example = None;
        for refusal in self.refusals.iter().filter(|refusal| at < refusal.at) {
            let jumped = refusal.guard.map(|guard| guard + 1..self.config.first_policy());
            let is_jumped = jumped.is_some_and(|jumped| jumped.contains(&found.rule.priority));
            if is_jumped || !can_match(found, &refusal.rule.selector, |net| self.is_own(net)) {
                continue;
            }
            let takes = self.takes(leads, refusal);
            if takes > Takes::Nothing && names.insert(&refusal.policy.name) {
                policies.push(refusal.policy);
            }
            if takes > most {
                most = takes;
                example = Some((refusal.rule.selector.clone(), refusal.policy));
            }
        }
        Some(Threat { found, policies, example: example?, is_wide: most == Takes::Much })
    }

    /// Whether a network is a single address of a link's.
    fn is_own(&self, net: IpNet) -> bool {
        self.live.iter().any(|l| l.local.is_some_and(|own| net == IpNet::from(own.get())))
    }

    fn takes(&self, leads: &Leads, refusal: &Refusal<'_>) -> Takes {
        let Refusal { rule, policy, .. } = refusal;
        match leads {
            Leads::Anywhere => Takes::Much,
            Leads::On(target) if *target > rule.priority => Takes::Much,
            Leads::On(_) => Takes::Nothing,
            Leads::Table(TableId::MAIN) if is_idle(policy, self.config) => Takes::Nothing,
            Leads::Table(table) => {
                let is_its_own = self.config.links.iter().any(|l| l.table == *table && policy.via.contains(&l.name));
                if is_its_own { Takes::Nothing } else { Takes::Much }
            }
            Leads::Routes(routes) => {
                let to = rule.selector.to;
                let routes =
                    routes.iter().filter(|route| to.meets(&Some(route.prefix)) && self.leads_off(route, policy));
                match routes.map(|route| route.prefix.prefix_len()).min() {
                    None => Takes::Nothing,
                    Some(len) if len < NARROW || to.is_some() => Takes::Much,
                    Some(_) => Takes::Little,
                }
            }
        }
    }

    /// Whether a route leads by an interface that is none of the policy's links'.
    pub(super) fn leads_off(&self, route: &FibRoute, policy: &Policy) -> bool {
        let interfaces: Vec<_> = policy.via.iter().filter_map(|name| self.interface(name)).collect();
        !route.next_hops.iter().all(|next_hop| interfaces.contains(&next_hop.name.as_str()))
    }

    /// The interface that a link is up on, or else the configured one.
    fn interface(&self, name: &LinkName) -> Option<&str> {
        let live = self.live.iter().find(|l| l.link.name == *name).map(|l| &l.next_hop.device.name);
        live.or(self.config.link(name).map(|link| &link.interface)).map(IfName::as_str)
    }
}

/// Whether main leads to all of that network without its default.
fn main_leads(to: IpNet, main: &mut Option<Main>, fib: &mut Fib) -> Result<bool, kernel::Error> {
    let main = match main {
        Some(main) => main,
        None => main.insert(Main::read(Family::V4, fib)?),
    };
    Ok(main.knows(to))
}
