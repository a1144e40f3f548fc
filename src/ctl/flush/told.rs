//! What a flush takes from others: the words for it. Pure.

use std::collections::BTreeSet;

use super::steps::Step;
use crate::config::{Config, Otherwise};
use crate::ctl::show;
use crate::model::change::Change;
use crate::model::names::{Family, TableId};
use crate::model::observed::Observed;
use crate::model::routing::{Action, DefaultRoute, Target};
use crate::reconcile::link_state::{Live, LiveLink};

/// What hosts of a LAN lose with our rules; `None`: others translate their addresses, or nobody ever did. Pure.
pub(super) fn lost(live: &[LiveLink<'_>], observed: &Observed, mhctl: &str) -> Option<String> {
    let lan = observed.private_lan.filter(|_| !observed.firewall.foreign_nat)?;
    let translates = observed.firewall.masquerades();
    let uplinks = live.iter().filter(|l| l.link.is_uplink() && l.link.masquerade);
    let LiveLink { link, next_hop, .. } = uplinks.clone().next().filter(|_| translates)?;
    let device = next_hop.device.name.quoted();
    Some(format!(
        "without our rules nothing translates the addresses of {lan}, and its hosts have no Internet: \
         `{mhctl} link up {} --interface {device}` brings it back, \
         `iptables -t nat -A POSTROUTING -o {device} -j MASQUERADE` does without us",
        link.name
    ))
}

/// What of the policies that refuse traffic now comes to pass when they are gone; `None`: there is no such policy. Pure.
pub(super) fn opened(config: &Config, live: &Live<'_>, before: &Observed, steps: &[Step]) -> Option<String> {
    const SHOWN: usize = 10;
    let ours = before.rules.iter().filter(|f| f.protocol == config.settings.protocol);
    let refusing: BTreeSet<_> =
        ours.filter(|f| f.rule.action == Action::Unreachable).map(|f| (f.rule.family, f.rule.priority)).collect();
    let mut names = Vec::new();
    let mut families = BTreeSet::new();
    for (policy, priorities) in config.policies.iter().zip(config.policy_priorities()) {
        let is_refused =
            |family: &Family| refusing.range((*family, priorities.start)..(*family, priorities.end)).next().is_some();
        let refused: Vec<_> = Family::BOTH.into_iter().filter(is_refused).collect();
        if policy.otherwise == Otherwise::Unreachable && !refused.is_empty() {
            names.push(policy.name.as_str());
            families.extend(refused);
        }
    }
    let way = |family: &Family| remaining_default(config, live.of(*family), *family, before, steps);
    let mut ways: Vec<_> = families.iter().filter_map(way).collect();
    ways.dedup();
    let by = if ways.is_empty() { "whatever default route there is".to_owned() } else { ways.join(", in IPv6 by ") };
    let (are, their) = if names.len() == 1 { ("is", "its") } else { ("are", "their") };
    Some(format!("{} {are} refused no longer: {their} traffic goes by {by}", show::policies(names, SHOWN)?))
}

/// What the default route of a family leads by when the steps are made; `None`: there is none, or nobody knows.
fn remaining_default(
    config: &Config,
    live: &[LiveLink<'_>],
    family: Family,
    before: &Observed,
    steps: &[Step],
) -> Option<String> {
    let new = steps.iter().find_map(|step| match &step.change {
        Change::Route(DefaultRoute { family: of, target: Target::NextHops(hops), .. }) if *of == family => {
            Some(hops.iter().map(|hop| hop.next_hop.device.index))
        }
        _ => None,
    });
    let main = before.routes.iter().filter(|f| f.family == family && f.table == TableId::MAIN);
    let others = main.filter(|f| f.protocol != config.settings.protocol);
    let devices: Vec<u32> = match (new, others.min_by_key(|f| f.metric)) {
        (Some(new), _) => new.collect(),
        (None, Some(other)) => other.target.devices(),
        (None, None) => Vec::new(),
    };
    let mut ways = Vec::new();
    for device in devices {
        let link = live.iter().find(|l| l.next_hop.device.index == device).map(|l| l.link.name.to_string());
        let known = before.interfaces.values().find(|interface| interface.device.index == device);
        ways.extend(link.or_else(|| Some(known?.device.name.to_string())));
    }
    (!ways.is_empty()).then(|| ways.join(", "))
}
