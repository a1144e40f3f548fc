//! Traffic that takes another way than the configuration wants, and the rule or route that takes it. The kernel is
//! asked: what we wrote into it can be all there, and nothing go by it.

use std::collections::BTreeMap;

use serde::Serialize;

use self::asked::{Asker, Suspect};
use self::before::Comparison;
use self::judge::Judge;
use self::samples::Traffic;
use self::strays::Owners;
use self::taker::Taker;
use crate::config::Config;
use crate::ctl::lookup::read::Fib;
use crate::kernel;
use crate::model::names::Family;
use crate::model::observed::Observed;
use crate::model::routing::FoundRule;
use crate::reconcile::desired::{DefaultRouteMode, Desired};
use crate::reconcile::link_state::{LinkStates, Live};

mod asked;
mod before;
mod ipv6;
mod judge;
mod meet;
mod onlink;
mod samples;
mod strays;
mod taker;

/// Policies that are asked about. A question takes some 10 µs, so that these are a fraction of what looking at
/// their rules takes.
const MOST_POLICIES: usize = 1000;
/// Samples that are walked through all rules and routes, since the kernel's answer was not what was expected. Main
/// can hold a million routes, of which each walk reads a part.
const MOST_WALKS: usize = 32;

/// Traffic that somebody else's rule or route takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Detour {
    /// Who takes which traffic, and whither.
    pub(super) what: String,
    /// What to do about it.
    #[serde(rename = "mend")]
    pub(super) fix: String,
    /// The traffic: `null` is all that no policy is about, else a policy's name.
    pub(super) policies: Vec<Option<String>>,
    /// Whether traffic goes that way now, or a kill switch's would.
    #[serde(skip)]
    pub(super) is_trouble: bool,
}

/// Where the kernel sends a packet that should go elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Elsewhere {
    /// Where, and why if that is main's.
    pub(super) what: String,
    /// Main has a better route than its default, which wins by right.
    pub(super) is_mains: bool,
    /// The rules of sources stand before those of policies.
    #[serde(skip)]
    pub(super) is_by_source: bool,
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Traffic that others take.
    pub(super) detours: Vec<Detour>,
    /// Rules of others that may take traffic of kill switches, and of which no packet shows that they do.
    pub(super) doubts: Vec<Detour>,
    /// Of each policy whose sample goes elsewhere, by its place in the configuration.
    pub(super) elsewhere: BTreeMap<(usize, Family), Elsewhere>,
}

/// Asks the kernel for the way of a few packets to the Internet and of one of each policy, looks through the links'
/// tables, and compares kill switches with the rules of others before them. `mhctl` is how fixes call it.
pub(super) fn look(
    config: &Config,
    states: &LinkStates<'_>,
    observed: &Observed,
    mhctl: &str,
) -> Result<Found, kernel::Error> {
    let live = states.live();
    let mut fib = Fib::open()?;
    let mut found = Found::default();
    let mut takers = Takers::new();
    // Kill switches are a promise even where nothing leads IPv6 anywhere any more.
    let uses_ipv6 = !live.v6.is_empty() || observed.leads_ipv6(config.settings.protocol);
    let look = Look { config, states, observed, live: &live };
    let rules_of = Family::BOTH.map(|family| {
        let rules = observed.rules.iter().filter(|found| found.rule.family == family);
        rules.cloned().collect::<Vec<_>>()
    });
    for (family, rules) in Family::BOTH.into_iter().zip(&rules_of) {
        if family == Family::V4 || uses_ipv6 {
            look.sample(family, rules, &mut fib, &mut takers, &mut found)?;
        }
    }
    let wanted = Desired::new(config, &live, DefaultRouteMode::Multipath).for_kernel(observed, config).rules;
    for (family, rules) in Family::BOTH.into_iter().zip(&rules_of) {
        let comparison = Comparison::new(config, live.of(family), observed, &wanted, family);
        for threat in comparison.threats(&mut fib)? {
            let way = if family == Family::V4 {
                Asker::new(config, family, &live, &mut fib).proof(&threat, &comparison, rules)?
            } else {
                None
            };
            let traffic = threat.policies.iter().map(|policy| Traffic::Policy(policy.name.clone())).collect::<Vec<_>>();
            if threat.is_wide && (way.is_some() || family == Family::V6) {
                let taker = Taker::Before(Box::new(threat.found.clone()), way);
                takers.entry(taker.key()).or_insert((taker, traffic));
            } else if !takers
                .get(&taker::rule_key(threat.found))
                .is_some_and(|(_, told)| traffic.iter().any(|policy| told.contains(policy)))
            {
                found.doubts.push(taker::doubt(threat.found, &traffic, threat.is_wide, config));
            }
        }
    }
    found.detours = takers.values().map(|(taker, traffic)| taker.detour(traffic, config, mhctl)).collect();
    if uses_ipv6 {
        found.detours.extend(onlink::advertised(config, states, observed, &takers, &mut fib)?);
    }
    found.detours.extend(ipv6::without_main(config, &wanted, observed, mhctl));
    Ok(found)
}

/// Who takes traffic, and which, by [`Taker::key`].
type Takers = BTreeMap<String, (Taker, Vec<Traffic>)>;

/// What is looked at.
struct Look<'a> {
    config: &'a Config,
    states: &'a LinkStates<'a>,
    observed: &'a Observed,
    live: &'a Live<'a>,
}

impl Look<'_> {
    /// Asks about the samples of a family, of which `rules` are the kernel's.
    fn sample(
        &self,
        family: Family,
        rules: &[FoundRule],
        fib: &mut Fib,
        takers: &mut Takers,
        found: &mut Found,
    ) -> Result<(), kernel::Error> {
        let Self { config, states, observed, live } = self;
        let owners = Owners::new(config, family, states);
        let mut asker = Asker::new(config, family, live, fib);
        let suspects = suspects(config, observed, &mut asker)?;
        for stray in owners.strays(asker.fib)? {
            let taker = Taker::Stray(Box::new(stray.route), stray.link.name.clone(), stray.more);
            takers.insert(taker.key(), (taker, Vec::new()));
        }
        let judge = Judge::new(config, family, live, &owners);
        let mut walks = 0;
        for suspect in suspects {
            let mut elsewhere = suspect.elsewhere(&asker);
            if walks < MOST_WALKS && !suspect.is_mains_own() {
                walks += 1;
                let walked = asker.walk(&suspect, &judge, rules)?;
                elsewhere = elsewhere.or(walked.elsewhere);
                if let Some(taker) = walked.taker {
                    let (_, traffic) = takers.entry(taker.key()).or_insert((taker, Vec::new()));
                    if !traffic.contains(&suspect.sample.traffic) {
                        traffic.push(suspect.sample.traffic);
                    }
                }
            }
            if let (Some(policy), Some(elsewhere)) = (suspect.policy, elsewhere) {
                found.elsewhere.insert((policy, family), elsewhere);
            }
        }
        Ok(())
    }
}

/// The samples that the kernel does not take, at first sight, by the route of ours that it should.
fn suspects<'a>(
    config: &'a Config,
    observed: &Observed,
    asker: &mut Asker<'a>,
) -> Result<Vec<Suspect<'a>>, kernel::Error> {
    let (family, live) = (asker.family, asker.live);
    let mut suspects = Vec::new();
    for sample in samples::internet(family) {
        suspects.extend(asker.suspect(sample, None)?);
    }
    let uplinks: Vec<_> = live.iter().filter(|l| l.link.is_uplink()).collect();
    let mut bound = Vec::new();
    for l in uplinks.iter().filter(|l| l.family == Family::V6) {
        for sample in samples::of_sources(l, &observed.lan6) {
            // What several uplinks have, none has by a rule.
            let others = uplinks.iter().filter(|other| other.link.name != l.link.name);
            let is_shared =
                others.flat_map(|other| &other.prefixes).any(|prefix| Some(*prefix) == sample.selector.from);
            if !is_shared {
                suspects.extend(asker.suspect_of(sample, l)?);
            }
        }
        bound.extend(&l.prefixes);
    }
    let all = config.policies.iter().enumerate().take(MOST_POLICIES);
    for (at, policy) in all.filter(|(_, policy)| policy.families().any(|own| own == family)) {
        let Some(sample) = samples::of_policy(policy, family, &bound, asker.fib)? else { continue };
        let others = sample.to_others();
        let mut suspect = asker.suspect(sample, Some((at, policy)))?;
        // What main has a route of its own for is not what the policy is about, if it is about all places.
        for other in others {
            if suspect.as_ref().is_some_and(Suspect::is_mains_own) {
                suspect = asker.suspect(other, Some((at, policy)))?;
            }
        }
        suspects.extend(suspect);
    }
    Ok(suspects)
}
