//! Traffic that takes another way than the configuration wants, and the rule or route that takes it. The kernel is
//! asked: what we wrote into it can be all there, and nothing go by it.

use std::collections::BTreeMap;

use serde::Serialize;

use self::judge::{Judge, Taker};
use self::samples::{Sample, Traffic};
use crate::config::{Config, LinkKind, Otherwise, Policy};
use crate::ctl::lookup::read::Fib;
use crate::ctl::lookup::{Answer, Tables, walk};
use crate::kernel;
use crate::model::names::TableId;
use crate::model::routing::FoundRule;
use crate::reconcile::link_state::LiveLink;

mod judge;
mod samples;

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
    pub(super) mend: String,
    /// The traffic: `null` is all that no policy is about, else a policy's name.
    pub(super) policies: Vec<Option<String>>,
}

/// Asks the kernel for the way of a few packets to the Internet and of one of each policy.
pub(super) fn look(config: &Config, live: &[LiveLink<'_>]) -> Result<Vec<Detour>, kernel::Error> {
    let mut fib = Fib::open()?;
    let judge = Judge::new(config, live);
    let mut suspects = Vec::new();
    for (to, from_policy) in samples::internet().into_iter().zip(std::iter::repeat(None)) {
        suspects.extend(suspect(to, from_policy, config, live, &mut fib)?);
    }
    for policy in config.policies.iter().take(MOST_POLICIES) {
        if let Some(sample) = samples::of_policy(policy, &mut fib)? {
            suspects.extend(suspect(sample, Some(policy), config, live, &mut fib)?);
        }
    }
    if suspects.is_empty() {
        return Ok(Vec::new());
    }
    let rules = fib.rules()?;
    let mut takers: BTreeMap<String, (Taker, Vec<Traffic>)> = BTreeMap::new();
    for sample in suspects.into_iter().take(MOST_WALKS) {
        if let Some(taker) = taker(&sample, &judge, &rules, &mut fib)? {
            let (_, traffic) = takers.entry(taker.key()).or_insert((taker, Vec::new()));
            if !traffic.contains(&sample.traffic) {
                traffic.push(sample.traffic);
            }
        }
    }
    Ok(takers.into_values().map(|(taker, traffic)| taker.detour(traffic, config)).collect())
}

/// The sample, unless the kernel takes it by the route of ours that it should at first sight.
fn suspect(
    sample: Sample,
    policy: Option<&Policy>,
    config: &Config,
    live: &[LiveLink<'_>],
    fib: &mut Fib,
) -> Result<Option<Sample>, kernel::Error> {
    let has_uplink = live.iter().any(|l| matches!(l.link.kind, LinkKind::Uplink { .. }));
    let mut via = policy.into_iter().flat_map(|policy| &policy.via);
    let link = via.find_map(|name| live.iter().find(|l| l.link.name == *name));
    let wanted = match (link, policy) {
        (Some(live), _) => Some(live.link.table),
        (None, Some(policy)) if policy.otherwise == Otherwise::Unreachable => None,
        // Nothing of ours leads to the Internet now: whoever does is welcome.
        _ if !has_uplink => return Ok(None),
        _ => Some(TableId::MAIN),
    };
    // The kernel answers for no other protocols; the walk does.
    if !Fib::ANSWERED.contains(&sample.packet.proto) {
        return Ok(Some(sample));
    }
    let fine = match fib.matched(&sample.packet)? {
        Ok((table, protocol)) => Some(table) == wanted && protocol == config.settings.protocol,
        Err(_) => wanted.is_none(),
    };
    Ok((!fine).then_some(sample))
}

/// Who takes the sample, if anybody does who should not.
fn taker(
    sample: &Sample,
    judge: &Judge<'_>,
    rules: &[FoundRule],
    fib: &mut Fib,
) -> Result<Option<Taker>, kernel::Error> {
    let mut tables = Tables::new();
    fib.fill(rules, &mut tables, &sample.packet, |(_, routes)| routes)?;
    // fill() has read each table that the walk comes to.
    let Ok(walked) = walk(rules, &tables, &sample.packet) else { return Ok(None) };
    let answer = match &walked.end {
        crate::ctl::lookup::End::Unknown(_) => fib.ask(&sample.packet)?.ok(),
        _ => None,
    };
    let answered = answer.and_then(|a| if let Answer::Way { name, local: false, .. } = a { Some(name) } else { None });
    Ok(judge.taker(sample, &walked, &tables, rules, answered))
}
