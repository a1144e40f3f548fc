//! What the kernel says of a sample, and whether that is what the configuration wants.

use super::before::{Comparison, Threat};
use super::judge::Judge;
use super::meet::NARROW;
use super::samples::{self, Sample};
use super::taker::Taker;
use super::{Elsewhere, taker};
use crate::config::{Config, Otherwise, Policy};
use crate::ctl::lookup::read::Fib;
use crate::ctl::lookup::{Answer, End, FibRoute, Outcome, Packet, Tables, walk};
use crate::kernel;
use crate::model::names::{Family, TableId};
use crate::model::numbering::Numbering;
use crate::model::routing::FoundRule;
use crate::reconcile::link_state::{Live, LiveLink};

/// Who asks, of one family.
pub(super) struct Asker<'a> {
    config: &'a Config,
    pub(super) family: Family,
    pub(super) live: &'a [LiveLink<'a>],
    pub(super) fib: &'a mut Fib,
}

/// Where a packet should go.
#[derive(Debug, Clone, Copy)]
enum Wanted<'a> {
    Link(&'a LiveLink<'a>),
    /// By the default route.
    Default,
    Refusal,
}

/// A sample that the kernel does not take, at first sight, by the route of ours that it should.
pub(super) struct Suspect<'a> {
    pub(super) sample: Sample,
    /// The policy, by its place in the configuration.
    pub(super) policy: Option<usize>,
    wanted: Wanted<'a>,
    /// The route that it takes, as the kernel says.
    route: Option<FibRoute>,
}

/// What came of a walk through all rules and routes.
pub(super) struct Walked {
    pub(super) taker: Option<Taker>,
    pub(super) elsewhere: Option<Elsewhere>,
}

impl<'a> Asker<'a> {
    pub(super) fn new(config: &'a Config, family: Family, live: &'a Live<'a>, fib: &'a mut Fib) -> Self {
        Self { config, family, live: live.of(family), fib }
    }

    /// Where packets of the policy, or of none, should go; `None`: nothing of ours leads to the Internet now, and
    /// whoever does is welcome.
    fn wanted(&self, policy: Option<&Policy>) -> Option<Wanted<'a>> {
        let live = self.live;
        let mut via = policy.into_iter().flat_map(|policy| &policy.via);
        match (via.find_map(|name| live.iter().find(|l| l.link.name == *name)), policy) {
            (Some(link), _) => Some(Wanted::Link(link)),
            (None, Some(policy)) if policy.otherwise == Otherwise::Unreachable => Some(Wanted::Refusal),
            _ => live.iter().any(|l| l.link.is_uplink()).then_some(Wanted::Default),
        }
    }

    /// The sample, unless the kernel takes it as it should.
    pub(super) fn suspect(
        &mut self,
        sample: Sample,
        policy: Option<(usize, &Policy)>,
    ) -> Result<Option<Suspect<'a>>, kernel::Error> {
        let Some(wanted) = self.wanted(policy.map(|(_, policy)| policy)) else { return Ok(None) };
        self.unless_fine(sample, policy.map(|(at, _)| at), wanted)
    }

    /// The same for what the link has by its source.
    pub(super) fn suspect_of(
        &mut self,
        sample: Sample,
        l: &'a LiveLink<'a>,
    ) -> Result<Option<Suspect<'a>>, kernel::Error> {
        self.unless_fine(sample, None, Wanted::Link(l))
    }

    fn unless_fine(
        &mut self,
        sample: Sample,
        policy: Option<usize>,
        wanted: Wanted<'a>,
    ) -> Result<Option<Suspect<'a>>, kernel::Error> {
        // The kernel answers for no other protocols; the walk does.
        if !Fib::answers(&sample.packet) {
            return Ok(Some(Suspect { sample, policy, wanted, route: None }));
        }
        let route = self.fib.matched(&sample.packet)?;
        let is_fine = match (&route, wanted) {
            (Some(route), Wanted::Link(l)) => {
                self.is_managed(route) && route.table == l.link.table && leads_by(route, l)
            }
            (Some(route), Wanted::Default) => {
                self.is_managed(route) && route.table == Numbering::carrying_table(self.family)
            }
            (None, Wanted::Refusal) => true,
            _ => false,
        };
        Ok((!is_fine).then_some(Suspect { sample, policy, wanted, route }))
    }

    fn is_managed(&self, route: &FibRoute) -> bool {
        route.protocol == self.config.settings.protocol
    }

    /// Goes with a sample through the kernel's rules and tables.
    pub(super) fn walk(
        &mut self,
        suspect: &Suspect<'_>,
        judge: &Judge<'_>,
        rules: &[FoundRule],
    ) -> Result<Walked, kernel::Error> {
        let packet = &suspect.sample.packet;
        let mut tables = Tables::new();
        self.fib.fill(rules, &mut tables, packet, |(_, routes)| routes)?;
        let Ok(walked) = walk(rules, &tables, packet) else {
            // fill() has read each table that the walk comes to.
            return Ok(Walked { taker: None, elsewhere: None });
        };
        let elsewhere = match &walked.end {
            End::Route(route) => suspect.led_by(route, self),
            End::Refused { .. } | End::NoWay if !matches!(suspect.wanted, Wanted::Refusal) => {
                Some(Elsewhere { what: "refused".to_owned(), ..Elsewhere::default() })
            }
            _ => None,
        };
        let answer = match &walked.end {
            End::Unknown(_) => self.fib.ask(packet)?,
            _ => None,
        };
        let answered =
            answer.and_then(|a| if let Answer::Way { name, local: false, .. } = a { Some(name) } else { None });
        Ok(Walked { taker: judge.taker(&suspect.sample, &walked, &tables, rules, answered), elsewhere })
    }

    /// The way by which a rule takes a packet that it and a kill switch select; `None`: none can be made up, or it goes
    /// another way.
    pub(super) fn proof(
        &mut self,
        threat: &Threat<'_>,
        comparison: &Comparison<'_>,
        rules: &[FoundRule],
    ) -> Result<Option<String>, kernel::Error> {
        let (selector, policy) = &threat.example;
        let Some(packet) = samples::of_both(threat.found, selector, self.fib)? else { return Ok(None) };
        let mut tables = Tables::new();
        self.fib.fill(rules, &mut tables, &packet, |(_, routes)| routes)?;
        // fill() has read each table that the walk comes to.
        let Ok(walked) = walk(rules, &tables, &packet) else { return Ok(None) };
        let comes_by_it = walked
            .steps
            .iter()
            .any(|step| step.found == threat.found && matches!(step.outcome, Outcome::Decides | Outcome::Goto(_)));
        Ok(match &walked.end {
            End::Route(route) if comes_by_it && !route.delivers(&packet) && comparison.leads_off(route, policy) => {
                Some(taker::way(route))
            }
            _ => None,
        })
    }

    /// The link to whose prefixes the source belongs, if the packet goes by it for that.
    fn bound(&self, route: &FibRoute, packet: &Packet) -> Option<&LiveLink<'a>> {
        let from = packet.from.filter(|_| self.is_managed(route))?;
        let by = self.live.iter().find(|l| route.table == l.link.table && leads_by(route, l))?;
        (by.prefixes.iter().any(|prefix| prefix.contains(&from))).then_some(by)
    }

    /// The devices that a route leads to, by the names of their links.
    fn way(&self, route: &FibRoute) -> String {
        let mut names = Vec::new();
        for (next_hop, _) in route.shares() {
            let link = self.live.iter().find(|l| l.next_hop.device.index == next_hop.hop.device);
            names.push(link.map_or_else(|| next_hop.name.to_string(), |l| l.link.name.to_string()));
        }
        format!("by {}", names.join(" and "))
    }
}

impl Suspect<'_> {
    /// Whether main has a route of its own for it, which wins by right.
    pub(super) fn is_mains_own(&self) -> bool {
        self.route.as_ref().is_some_and(is_mains_own)
    }

    /// Where the kernel says that it goes, if that is not where it should.
    pub(super) fn elsewhere(&self, asker: &Asker<'_>) -> Option<Elsewhere> {
        self.led_by(self.route.as_ref()?, asker)
    }

    /// The same for a route that it takes.
    fn led_by(&self, route: &FibRoute, asker: &Asker<'_>) -> Option<Elsewhere> {
        // The next hops of one by a nexthop object may not be known; what ends on this host is nobody's to route.
        if route.next_hops.is_empty() || route.delivers(&self.sample.packet) {
            return None;
        }
        let by = asker.way(route);
        if is_mains_own(route) {
            let what = format!("{by}: main has a route to {}", taker::prefix_text(route));
            return Some(Elsewhere { what, is_mains: true, ..Elsewhere::default() });
        }
        let what = match self.wanted {
            Wanted::Link(l) if leads_by(route, l) => return None,
            Wanted::Link(_) if let Some(l) = asker.bound(route, &self.sample.packet) => {
                let what = format!("by {}: so goes what comes from its prefixes", l.link.name);
                return Some(Elsewhere { what, is_by_source: true, ..Elsewhere::default() });
            }
            Wanted::Link(l) => format!("{by}, not by {}", l.link.name),
            Wanted::Refusal => format!("does not hold: {by}"),
            Wanted::Default if is_default(route) => return None,
            Wanted::Default => format!("{by}, not by the default route"),
        };
        Some(Elsewhere { what, ..Elsewhere::default() })
    }
}

/// Whether it is one of the default routes that carry, whoever made it, or stand behind them.
fn is_default(route: &FibRoute) -> bool {
    route.table.carries_default() && route.prefix.prefix_len() == 0
}

fn is_mains_own(route: &FibRoute) -> bool {
    route.table == TableId::MAIN && route.prefix.prefix_len() >= NARROW
}

/// Whether all next hops of a route are by the link's interface.
fn leads_by(route: &FibRoute, l: &LiveLink<'_>) -> bool {
    !route.next_hops.is_empty() && route.next_hops.iter().all(|next_hop| next_hop.hop.device == l.next_hop.device.index)
}
