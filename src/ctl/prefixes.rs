//! What is odd about the uplinks' IPv6 prefixes, for `status` and `doctor`. Pure.

use ipnet::IpNet;

use crate::config::{Config, Link};
use crate::model::names::Family;
use crate::model::observed::Observed;
use crate::model::routing::Action;
use crate::reconcile::link_state::LiveLink;

/// A prefix of one uplink, and one of another, of which one contains the other.
pub(super) struct Overlap<'a> {
    pub(super) first: (&'a LiveLink<'a>, IpNet),
    pub(super) second: (&'a LiveLink<'a>, IpNet),
}

impl Overlap<'_> {
    pub(super) fn what(&self) -> String {
        let ((one, a), (other, b)) = (self.first, self.second);
        format!("{a} of {} and {b} of {} overlap", one.link.name, other.link.name)
    }

    /// Where its packets go, and what becomes of them. Rules of sources go by the order of the links.
    pub(super) fn why(&self) -> String {
        let way = if self.first.1 == self.second.1 {
            "leaves by any line, as it is".to_owned()
        } else {
            format!("leaves by {} where it is of both", self.first.0.link.name)
        };
        format!("what comes from there {way}, and its provider may drop it")
    }
}

/// The first prefix of two uplinks: it can be routed here by one provider only.
pub(super) fn overlap<'a>(routed: &'a [LiveLink<'a>]) -> Option<Overlap<'a>> {
    let uplinks: Vec<_> = routed.iter().filter(|l| l.link.is_uplink()).collect();
    for (place, first) in uplinks.iter().enumerate() {
        for second in &uplinks[place + 1..] {
            let pairs = first.prefixes.iter().flat_map(|a| second.prefixes.iter().map(move |b| (*a, *b)));
            for (a, b) in pairs {
                if a.contains(&b) || b.contains(&a) {
                    return Some(Overlap { first: (first, a), second: (second, b) });
                }
            }
        }
    }
    None
}

/// The prefixes of an uplink that is down from which everything is refused meanwhile (`nat6 = "none"`).
pub(super) fn refused(config: &Config, link: &Link, observed: &Observed) -> Vec<IpNet> {
    let priority = config.settings.numbers.source_rule(link.position);
    let ours =
        observed.rules.iter().filter(|found| found.protocol == config.settings.protocol).map(|found| &found.rule);
    let refusing = ours.filter(|rule| {
        rule.family == Family::V6 && rule.priority == priority && matches!(rule.action, Action::Unreachable)
    });
    let mut prefixes: Vec<_> = refusing.filter_map(|rule| rule.selector.from).collect();
    prefixes.sort();
    prefixes
}
