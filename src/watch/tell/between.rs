//! The events between two looks at the links. Pure.

use super::{Event, Kind};
use crate::model::names::Family;
use crate::watch::links::{Links, Status};

/// What has happened to the links from one look to the next: to each link first, then to the traffic.
pub(in crate::watch) fn between(before: &Links, after: &Links) -> Vec<Event> {
    let mut events = Vec::new();
    for now in &after.0 {
        let then = before.get(&now.name, now.family).map_or(Status::Down, |view| view.status);
        if let Some(kind) = kind(then, now.status) {
            // A link that is down has no interface any more.
            let view = now.interface.as_ref().or_else(|| before.get(&now.name, now.family)?.interface.as_ref());
            events.push(Event::of_link(kind, &now.name, now.family, view, now.status.reason()));
        }
    }
    for then in before.0.iter().filter(|then| then.status == Status::Up) {
        if after.get(&then.name, then.family).is_none() {
            let reason = "it is not configured any more";
            events.push(Event::of_link(Kind::Down, &then.name, then.family, then.interface.as_ref(), reason));
        }
    }
    events.extend(Family::BOTH.into_iter().filter_map(|family| tiers(before, after, family)));
    events
}

/// What it is called when a link's status changes; `None`: it carries no more and no less than before.
fn kind(then: Status, now: Status) -> Option<Kind> {
    match (then, now) {
        (then, now) if then == now => None,
        (Status::Drained | Status::Cut, Status::Up) => Some(Kind::Back),
        (_, Status::Up) => Some(Kind::Up),
        (_, Status::Drained) => Some(Kind::Drained),
        (_, Status::Cut) => Some(Kind::Cut),
        (Status::Up | Status::Drained | Status::Cut, _) => Some(Kind::Down),
        _ => None,
    }
}

/// Whether another tier carries traffic now.
fn tiers(before: &Links, after: &Links, family: Family) -> Option<Event> {
    let (then, now) = (before.tier(family)?, after.tier(family)?);
    let kind = match now.cmp(&then) {
        std::cmp::Ordering::Greater => Kind::Failover,
        std::cmp::Ordering::Less => Kind::Failback,
        std::cmp::Ordering::Equal => return None,
    };
    let carrying = after.up(family).filter(|view| view.tier == Some(now));
    let reason = format!("traffic goes by tier {} instead of tier {}", now.get(), then.get());
    Some(Event {
        family: Some(family.to_string()),
        carrying: carrying.map(|view| view.name.to_string()).collect(),
        ..Event::new(kind, reason)
    })
}
