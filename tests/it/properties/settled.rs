//! What has to be so when an event is over: the kernel is as wanted.

use std::collections::BTreeSet;

use multihome::config::{Config, LinkKind};
use multihome::kernel::Kernel;
use multihome::model::change::Change;
use multihome::model::firewall::Lacking;
use multihome::model::names::{Family, TableId, Weight};
use multihome::model::observed::Scope;
use multihome::model::routing::{Action, DefaultRoute, FoundRule, Selector, Target, WeightedNextHop};
use multihome::reconcile::desired::{DefaultRouteMode, Desired};
use multihome::reconcile::firewall::sets;
use multihome::reconcile::link_state::{LinkStates, LiveLink};
use multihome::reconcile::{Failure, FlushScope, Outcome, reconcile};
use multihome::state::records::LinkRecords;

use crate::fake::{Fake, Held, Via};
use crate::scene::OURS;

/// The kernel is as wanted, by a second look and by an independent reading of the design.
pub fn assert_settled(config: &Config, records: &LinkRecords, fake: &mut Fake, outcome: &Outcome) {
    let is_mixed = has_mixed_legs(config, fake);
    for failure in &outcome.failures {
        let is_known = matches!(failure, Failure::Problem(_)) || is_mixed && matches!(failure, Failure::NoEffect(_));
        assert!(is_known, "{failure}\n{fake}");
    }
    let again = reconcile(config, records, &FlushScope::All, fake).unwrap();
    assert!(is_mixed || again.made.is_empty(), "made again: {:?}\n{fake}", again.made);

    let observed = fake.observe(&Scope::new(config, records)).unwrap();
    let routed = LinkStates::new(config, records, &observed).routed();
    for family in Family::BOTH {
        assert_routes(config, family, routed.of(family), fake);
    }
    // Where our table was refused, a kill switch by sets holds for all that its other selectors select.
    let carried_out = sets::carried_out(config, &observed.firewall, Lacking::default());
    let wanted = Desired::new(&carried_out, &routed, DefaultRouteMode::Objects).for_kernel(&observed, config).rules;
    for rule in &wanted {
        assert!(fake.rules.iter().any(|r| r.is_complete() && r.rule == *rule), "no {rule}\n{fake}");
    }
    let own: Vec<_> = fake.rules.iter().filter(|r| r.protocol == OURS).map(|r| &r.rule).collect();
    let distinct: BTreeSet<_> = own.iter().collect();
    assert!(own.len() == distinct.len() && own.iter().all(|r| wanted.contains(r)), "{fake}");
    for l in routed.iter() {
        let nic = &fake.nics[&l.next_hop.device.name];
        assert!(nic.ignores_linkdown(l.family) && (l.family == Family::V6 || !nic.strict_rp_filter));
    }
}

/// Whether somebody's next hops of IPv6 are among ours, where the kernel tells only the protocol of the first; or in a
/// link's table, which is looked through for our own routes only, where ours belongs.
fn has_mixed_legs(config: &Config, fake: &Fake) -> bool {
    let foreign = |r: &&Held| r.family == Family::V6 && r.protocol != OURS;
    let is_beside = |r: &Held| {
        fake.routes.iter().any(|o| o.protocol == OURS && (o.family, o.table, o.metric) == (r.family, r.table, r.metric))
    };
    let is_links = |r: &Held| r.metric == 1024 && config.links.iter().any(|l| l.table == r.table);
    fake.routes.iter().filter(foreign).any(|r| is_links(r) || r.is_hop() && is_beside(r))
}

/// Whether a rule of ours asks the tables of links in IPv6. Else what somebody has left there is not looked for.
pub fn asks_tables6(fake: &Fake) -> bool {
    fake.rules.iter().any(|r| r.protocol == OURS && r.rule.family == Family::V6)
}

/// The routes of a family are as wanted; `routed` has those without carrier, too.
fn assert_routes(config: &Config, family: Family, routed: &[LiveLink<'_>], fake: &Fake) {
    let live: Vec<_> = routed.iter().filter(|l| l.carrier).cloned().collect();
    let is_asked = family == Family::V4 || asks_tables6(fake);
    for link in &config.links {
        let up = live.iter().find(|l| l.link.name == link.name).map(|l| l.next_hop.device.index);
        let foreign = fake.routes.iter().any(|r| r.family == family && r.table == link.table && r.protocol != OURS);
        let carriers: Vec<_> = fake.carriers(family, link.table).iter().map(|(index, _)| *index).collect();
        assert!(foreign || !is_asked || carriers == up.into_iter().collect::<Vec<_>>(), "{family:?} {link:?}\n{fake}");
    }
    // Somebody's default at a better metric, or at ours, is theirs to have.
    let table = carrying_table(family);
    let used = fake.in_use(family, table).map(|used| used.metric);
    let is_foreign = |r: &&Held| r.family == family && r.table == table && r.protocol != OURS;
    if is_asked && !fake.routes.iter().filter(is_foreign).any(|r| used == Some(r.metric)) {
        assert_default_is_shared_out(family, &live, fake);
    }
    assert_spares(config, family, routed, fake);
}

/// Each uplink has its spare, with carrier or without, and no other is ours: those of a lower tier first.
fn assert_spares(config: &Config, family: Family, routed: &[LiveLink<'_>], fake: &Fake) {
    let mut uplinks: Vec<_> = config.links.iter().filter(|l| l.kind != LinkKind::Tunnel).collect();
    uplinks.sort_by_key(|l| l.tier());
    for (metric, link) in (config.settings.numbers.spare_metric..).zip(uplinks) {
        let is_there = |r: &&Held| (r.family, r.table, r.metric) == (family, TableId::MAIN, metric);
        let at: Vec<_> = fake.routes.iter().filter(is_there).collect();
        let own: Vec<_> = at.iter().filter(|r| r.protocol == OURS).map(|r| r.via.clone()).collect();
        let wanted = routed.iter().find(|l| l.link.name == link.name);
        let wanted = wanted
            .map(|l| Via::NextHops(vec![WeightedNextHop { next_hop: l.next_hop.clone(), weight: Weight::default() }]));
        // Behind somebody else's ours is left as it is; in IPv6, beside.
        let mut others = at.iter().take(if family == Family::V4 { 1 } else { at.len() });
        let foreign = others.any(|r| r.protocol != OURS);
        assert!(foreign || own == wanted.into_iter().collect::<Vec<_>>(), "{link:?}\n{fake}");
    }
}

/// When a tier's multipath default is about to be made, whatever becomes of one of its devices does no harm any more.
pub fn assert_spares_come_first(config: &Config, change: &Change, fake: &Fake) {
    let Change::Route(DefaultRoute { family, table: TableId::MAIN, metric, target: Target::NextHops(next_hops) }) =
        change
    else {
        return;
    };
    let spares = fake
        .routes
        .iter()
        .filter(|r| r.family == *family && r.table == TableId::MAIN && config.settings.numbers.is_spare(r.metric));
    if config.settings.numbers.is_spare(*metric) || spares.clone().any(|r| r.protocol != OURS) {
        return;
    }
    for next_hop in next_hops {
        let own =
            Via::NextHops(vec![WeightedNextHop { next_hop: next_hop.next_hop.clone(), weight: Weight::default() }]);
        assert!(spares.clone().any(|r| r.via == own), "{change:?} before the spare by {:?}\n{fake}", next_hop.next_hop);
    }
}

/// The table whose default route carries: IPv6's is a copy of main's.
fn carrying_table(family: Family) -> TableId {
    if family == Family::V4 { TableId::MAIN } else { TableId::observed(253) }
}

/// The uplinks of the lowest tier that is up carry, by weight.
fn assert_default_is_shared_out(family: Family, live: &[LiveLink<'_>], fake: &Fake) {
    let uplinks = live.iter().filter(|l| l.level.is_none()).filter_map(|l| match l.link.kind {
        LinkKind::Uplink { weight, tier } => Some((tier, (l.next_hop.device.index, weight))),
        LinkKind::Tunnel => None,
    });
    let first = uplinks.clone().map(|(tier, _)| tier).min();
    let mut wanted: Vec<_> = uplinks.filter(|(tier, _)| Some(*tier) == first).map(|(_, share)| share).collect();
    let mut carriers = fake.carriers(family, carrying_table(family));
    // No group takes more than this before Linux 6.12.
    let group = fake.in_use(family, carrying_table(family)).is_some_and(|r| matches!(r.via, Via::Nexthop(_)));
    for (_, weight) in wanted.iter_mut().filter(|_| group) {
        *weight = (*weight).min(Weight::HEAVIEST_MEMBER);
    }
    // The kernel knows or shows no weight of a single next hop.
    if let ([(_, wanted)], [(_, found)]) = (&mut wanted[..], &carriers[..]) {
        *wanted = *found;
    }
    wanted.sort();
    carriers.sort();
    assert!(carriers == wanted, "{carriers:?} instead of {wanted:?}\n{fake}");
}

/// What no rule of ours takes is looked up in main, or somebody else's rule has it.
pub fn leads_to_main(fake: &Fake) -> bool {
    let takes_all =
        |r: &&FoundRule| r.rule.family == Family::V4 && r.protocol != OURS && r.rule.selector == Selector::default();
    let ends = |r: &FoundRule| match r.rule.action {
        Action::Lookup { table, suppress_prefixlength } => {
            r.is_complete() && suppress_prefixlength.is_none() && ![253, 255].contains(&table.get())
        }
        Action::Goto(_) => false,
        _ => true,
    };
    fake.rules.iter().filter(takes_all).any(ends)
}

/// In our groups, of which each is a link's by its place, there is no device but that link's. In scenes a link is on
/// the interface that it is configured for.
pub fn assert_no_device_has_strayed(config: &Config, fake: &Fake) {
    let ours = config.settings.numbers.device_group..config.settings.numbers.device_group + 32;
    for (name, nic) in fake.nics.iter().filter(|(_, nic)| ours.contains(&nic.group)) {
        let place = usize::try_from(nic.group - ours.start).unwrap();
        assert!(config.links.get(place).is_some_and(|link| link.interface == *name), "{name} {}\n{fake}", nic.group);
    }
}
