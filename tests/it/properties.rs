//! What holds for every configuration, every state of the links and everything that the kernel may
//! hold: states are reached by random histories on the fake kernel.

use std::collections::BTreeSet;

use multihome::config::{Config, LinkKind};
use multihome::kernel::Kernel;
use multihome::model::change::Change;
use multihome::model::firewall::Lacking;
use multihome::model::names::{Family, IfName, TableId, Weight};
use multihome::model::numbering::KERNEL;
use multihome::model::observed::Scope;
use multihome::model::routing::{Action, DefaultRoute, FoundRule, Selector, Target, WeightedNextHop};
use multihome::reconcile::desired::{DefaultRouteMode, Desired};
use multihome::reconcile::firewall::sets;
use multihome::reconcile::link_state::{LinkStates, LiveLink};
use multihome::reconcile::{Failure, FlushScope, Outcome, preview, reconcile};
use multihome::state::records::LinkRecords;
use proptest::prelude::*;

use crate::fake::watched::Watched;
use crate::fake::{EINVAL, EPERM, Fake, Held, Via};
use crate::scene::{OURS, Scene, scenes, scenes_on};

/// The kernel is as wanted, by a second look and by an independent reading of the design.
fn assert_settled(config: &Config, records: &LinkRecords, fake: &mut Fake, outcome: &Outcome) {
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

/// Whether somebody's next hops of IPv6 are among ours, where the kernel tells only the protocol of the first; in tables
/// of links, which are looked through for our own routes only, beside ours.
fn has_mixed_legs(config: &Config, fake: &Fake) -> bool {
    let places = fake.routes.iter().filter(|r| r.family == Family::V6 && r.protocol == OURS);
    let place = |r: &Held| (r.table, r.metric);
    places.map(place).any(|ours| {
        let foreign = |r: &&Held| r.family == Family::V6 && r.protocol != OURS && place(r) == ours;
        fake.routes.iter().any(|r| foreign(&r) && (r.is_leg() || config.links.iter().any(|l| l.table == r.table)))
    })
}

/// Whether a rule of ours asks the tables of links in IPv6. Else what somebody has left there is not looked for.
fn asks_tables6(fake: &Fake) -> bool {
    fake.rules.iter().any(|r| r.protocol == OURS && r.rule.family == Family::V6)
}

/// The routes of a family are as wanted; `routed` has those without carrier, too.
fn assert_routes(config: &Config, family: Family, routed: &[LiveLink<'_>], fake: &Fake) {
    let live: Vec<_> = routed.iter().filter(|l| l.carrier).cloned().collect();
    for link in &config.links {
        let up = live.iter().find(|l| l.link.name == link.name).map(|l| l.next_hop.device.index);
        let foreign = fake.routes.iter().any(|r| r.family == family && r.table == link.table && r.protocol != OURS);
        let carriers: Vec<_> = fake.carriers(family, link.table).iter().map(|(index, _)| *index).collect();
        let is_asked = family == Family::V4 || asks_tables6(fake);
        assert!(foreign || !is_asked || carriers == up.into_iter().collect::<Vec<_>>(), "{family:?} {link:?}\n{fake}");
    }
    // Somebody's default at a better metric, or at ours, is theirs to have.
    let used = fake.in_use(family, TableId::MAIN).map(|used| used.metric);
    let is_foreign = |r: &&Held| r.family == family && r.table == TableId::MAIN && r.protocol != OURS;
    if !fake.routes.iter().filter(is_foreign).any(|r| used == Some(r.metric)) {
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
fn assert_spares_come_first(config: &Config, change: &Change, fake: &Fake) {
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

/// The uplinks of the lowest tier that is up carry, by weight.
fn assert_default_is_shared_out(family: Family, live: &[LiveLink<'_>], fake: &Fake) {
    let uplinks = live.iter().filter_map(|l| match l.link.kind {
        LinkKind::Uplink { weight, tier } => Some((tier, (l.next_hop.device.index, weight))),
        LinkKind::Tunnel => None,
    });
    let first = uplinks.clone().map(|(tier, _)| tier).min();
    let mut wanted: Vec<_> = uplinks.filter(|(tier, _)| Some(*tier) == first).map(|(_, share)| share).collect();
    let mut carriers = fake.carriers(family, TableId::MAIN);
    // No group takes more than this before Linux 6.12.
    let group = fake.in_use(family, TableId::MAIN).is_some_and(|r| matches!(r.via, Via::Nexthop(_)));
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
fn leads_to_main(fake: &Fake) -> bool {
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
fn assert_no_device_has_strayed(config: &Config, fake: &Fake) {
    let ours = config.settings.numbers.device_group..config.settings.numbers.device_group + 32;
    for (name, nic) in fake.nics.iter().filter(|(_, nic)| ours.contains(&nic.group)) {
        let place = usize::try_from(nic.group - ours.start).unwrap();
        assert!(config.links.get(place).is_some_and(|link| link.interface == *name), "{name} {}\n{fake}", nic.group);
    }
}

/// How a line goes.
#[derive(Debug, Clone, Copy)]
enum Loss {
    HangUp,
    Carrier,
    Down,
}

fn losses() -> impl Strategy<Value = Loss> {
    prop_oneof![Just(Loss::HangUp), Just(Loss::Carrier), Just(Loss::Down)]
}

impl Loss {
    fn befall(self, name: &IfName, fake: &mut Fake) {
        match self {
            Self::HangUp => fake.unregister(name),
            Self::Carrier => fake.carrier(name, false),
            Self::Down => fake.down(name),
        }
    }
}

/// Everything of others, except default routes by links where ours go.
fn foreign(config: &Config, fake: &Fake) -> Vec<String> {
    let (first, first6) = (config.settings.numbers.metric, 512);
    let ranks = config.links.iter().filter_map(|l| match l.kind {
        LinkKind::Uplink { tier, .. } => Some(u32::from(tier.get()) - 1),
        LinkKind::Tunnel => None,
    });
    let metrics: Vec<_> = ranks.flat_map(|rank| [(Family::V4, first + rank), (Family::V6, first6 + rank)]).collect();
    let ours = |r: &Held| match (r.table, r.family) {
        (TableId::MAIN, family) => metrics.contains(&(family, r.metric)) || config.settings.numbers.is_spare(r.metric),
        (table, Family::V4) => r.metric == 0 && config.links.iter().any(|l| l.table == table),
        (_, Family::V6) => false,
    };
    let is_link = |l: &WeightedNextHop| config.links.iter().any(|link| link.interface == l.next_hop.device.name);
    let by_links = |r: &Held| matches!(&r.via, Via::NextHops(next_hops) if next_hops.iter().all(is_link));
    let routes = fake.routes.iter().filter(|r| r.protocol != OURS && !(ours(r) && by_links(r)));
    let rules = fake.rules.iter().filter(|r| ![OURS, KERNEL].contains(&r.protocol)).map(|r| format!("{r:?}"));
    let objects = fake.nexthops.iter().flatten().filter(|(_, o)| o.protocol != OURS).map(|o| format!("{o:?}"));
    routes.map(ToString::to_string).chain(rules).chain(objects).collect()
}

/// Whether packets of each family can leave by main's default.
fn have_defaults(fake: &Fake) -> [bool; 2] {
    Family::BOTH.map(|family| fake.has_default(family))
}

/// Lines in an order that does not depend on the way there.
fn lines(fake: &Fake) -> Vec<String> {
    let mut lines: Vec<_> = fake.to_string().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Our routes, nexthops and rules of a family.
fn own(fake: &Fake, family: Family) -> Vec<String> {
    let is_of = |line: &String| {
        let is_v6 = line.starts_with("route6") || line.starts_with("rule6");
        let is_asked = !line.starts_with("route6") || line.contains("table 254 ") || asks_tables6(fake);
        line.contains("protocol 77") && is_v6 == (family == Family::V6) && is_asked
    };
    lines(fake).into_iter().filter(is_of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_global_rejects: 65536, ..ProptestConfig::default() })]

    /// Also: nothing foreign is touched by any change, and where there was a default and will be
    /// one, there always is.
    #[test]
    fn reconciling_leads_to_what_is_wanted_without_a_gap(scene in scenes()) {
        let Scene { config, records, mut fake, .. } = scene;
        let before = fake.to_string();
        let others = foreign(&config, &fake);
        let kernels = |fake: &Fake| fake.rules.iter().filter(|r| r.protocol == KERNEL).count();
        let had = kernels(&fake);
        let mut defaults = vec![];
        let mut made = vec![];
        let outcome = reconcile(&config, &records, &FlushScope::All, &mut Watched::new(&mut fake, |_, change, fake| {
            made.push(change.command(OURS).to_string());
            defaults.push(have_defaults(fake));
            assert_eq!(foreign(&config, fake), others, "{change:?}\n{fake}");
            assert_spares_come_first(&config, change, fake);
            Ok(())
        })).unwrap();
        assert_eq!(foreign(&config, &fake), others, "{before}");
        for (at, has) in have_defaults(&fake).into_iter().enumerate() {
            let stays = has && defaults.first().is_some_and(|had| had[at]);
            assert!(!stays || defaults.iter().all(|had| had[at]), "{before}{made:#?}{defaults:?}");
        }
        assert_settled(&config, &records, &mut fake, &outcome);
        assert!(kernels(&fake) >= had && leads_to_main(&fake), "{fake}");
        if outcome.made.iter().any(|change| matches!(change, Change::DeviceGroup { .. } | Change::Firewall(_))) {
            assert_no_device_has_strayed(&config, &fake);
        }
    }

    /// A crash anywhere, and the next event ends where the first would have.
    #[test]
    fn a_crash_is_mended_by_the_next_event(scene in scenes(), at in 0..30_usize) {
        let Scene { config, records, fake, .. } = scene;
        let mut whole = fake.clone();
        reconcile(&config, &records, &FlushScope::All, &mut whole).unwrap();
        let mut crashed = fake;
        let stop = |made, _: &Change, _: &mut Fake| if made == at { Err(EPERM) } else { Ok(()) };
        let _ = reconcile(&config, &records, &FlushScope::All, &mut Watched::new(&mut crashed, stop));
        let outcome = reconcile(&config, &records, &FlushScope::All, &mut crashed).unwrap();
        assert_settled(&config, &records, &mut crashed, &outcome);
        prop_assert_eq!(lines(&crashed), lines(&whole));
    }

    /// A line that goes in the midst of it takes no other with it: where there is a default then, there is one ever since.
    #[test]
    fn a_line_may_go_at_any_instant(scene in scenes(), at in 0..30_usize, which in 0..7_usize, loss in losses()) {
        let Scene { config, records, mut fake, .. } = scene;
        let link = &config.links[which % config.links.len()];
        let mut defaults = vec![];
        let goes = |made, _: &Change, fake: &mut Fake| {
            if made == at && defaults.is_empty() {
                loss.befall(&link.interface, fake);
                defaults.push(have_defaults(fake));
            } else if !defaults.is_empty() {
                defaults.push(have_defaults(fake));
            }
            Ok(())
        };
        let outcome = reconcile(&config, &records, &FlushScope::All, &mut Watched::new(&mut fake, goes)).unwrap();
        for (at, has) in have_defaults(&fake).into_iter().enumerate() {
            let stays = has && defaults.first().is_some_and(|had| had[at]);
            prop_assert!(!stays || defaults.iter().all(|had| had[at]), "{defaults:?}\n{fake}");
        }
        assert_settled(&config, &records, &mut fake, &outcome);
    }

    /// In every mode: one line goes, and the kernel has another way at once, before any program runs. Nor does the
    /// event that comes then leave a gap.
    #[test]
    fn where_another_line_is_up_the_kernel_has_a_way_at_once(scene in scenes(), which in 0..7_usize, loss in losses()) {
        let Scene { config, records, mut fake, .. } = scene;
        reconcile(&config, &records, &FlushScope::All, &mut fake).unwrap();
        let link = &config.links[which % config.links.len()];
        let observed = fake.observe(&Scope::new(&config, &records)).unwrap();
        let live = LinkStates::new(&config, &records, &observed).live();
        let others = Family::BOTH
            .map(|family| live.of(family).iter().any(|l| l.carries_default() && l.link.name != link.name));
        loss.befall(&link.interface, &mut fake);
        // Somebody's own default is theirs to have, and to lose.
        let is_ours = |r: &Held| r.protocol == OURS || r.table != TableId::MAIN;
        let ours = Family::BOTH.map(|family| fake.routes.iter().filter(|r| r.family == family).all(is_ours));
        for at in [0, 1].into_iter().filter(|at| ours[*at]) {
            prop_assert!(have_defaults(&fake)[at] == others[at], "{loss:?} of {}\n{fake}", link.name);
        }
        let look = |_, _: &Change, fake: &mut Fake| {
            let has = have_defaults(fake);
            assert!([0, 1].into_iter().all(|at| !ours[at] || !others[at] || has[at]), "{fake}");
            Ok(())
        };
        let about = FlushScope::Link(link.name.clone());
        let outcome = reconcile(&config, &records, &about, &mut Watched::new(&mut fake, look)).unwrap();
        assert_settled(&config, &records, &mut fake, &outcome);
    }

    /// All lines lose their carrier, there may be an event meanwhile, and one has it back: with it the default and the
    /// line's own table, before any program runs.
    #[test]
    fn a_carrier_that_is_back_carries_at_once(
        scene in scenes(), family in prop::sample::select(&Family::BOTH[..]), which in 0..7_usize, event in any::<bool>()
    ) {
        let Scene { config, records, mut fake, .. } = scene;
        reconcile(&config, &records, &FlushScope::All, &mut fake).unwrap();
        let observed = fake.observe(&Scope::new(&config, &records)).unwrap();
        let live = LinkStates::new(&config, &records, &observed).live();
        let live = live.of(family);
        prop_assume!(!live.is_empty());
        let back = &live[which % live.len()];
        for link in &config.links {
            fake.carrier(&link.interface, false);
        }
        if event {
            let about = FlushScope::Link(back.link.name.clone());
            let outcome = reconcile(&config, &records, &about, &mut fake).unwrap();
            assert_settled(&config, &records, &mut fake, &outcome);
        }
        let others = |r: &&Held| {
            r.family == family && (r.table == TableId::MAIN || r.table == back.link.table)
        };
        let ours = fake.routes.iter().filter(others).all(|r| r.protocol == OURS);
        fake.carrier(&back.link.interface, true);
        let index = back.next_hop.device.index;
        prop_assert!(!ours || fake.carriers(family, back.link.table).iter().any(|(by, _)| *by == index), "{fake}");
        prop_assert!(!ours || fake.has_default(family) == back.carries_default(), "{fake}");
        let look = |_, _: &Change, fake: &mut Fake| {
            assert!(!ours || fake.has_default(family) == back.carries_default(), "{fake}");
            Ok(())
        };
        let outcome = reconcile(&config, &records, &FlushScope::All, &mut Watched::new(&mut fake, look)).unwrap();
        assert_settled(&config, &records, &mut fake, &outcome);
    }

    /// The kernel never takes one link in a family: in that, all else is as if the link were down; in the other, nothing
    /// is otherwise.
    #[test]
    fn a_link_that_is_refused_keeps_none_of_the_others_back(
        scene in scenes(), family in prop::sample::select(&Family::BOTH[..]), which in 0..7_usize
    ) {
        let Scene { mut config, mut records, mut fake, .. } = scene;
        // A link more that may have IPv6, and whose delegation it is is not known.
        fake.delegated.clear();
        let which = which % config.links.len();
        let link = config.links[which].clone();
        let leads = |change: &Change| match change {
            Change::Nexthop { next_hop, .. } => family == Family::V4 && next_hop.device.name == link.interface,
            Change::Route(DefaultRoute { family: of, target: Target::NextHops(next_hops), .. }) => {
                *of == family && next_hops.len() == 1 && next_hops[0].next_hop.device.name == link.interface
            }
            _ => false,
        };
        let mut whole = fake.clone();
        reconcile(&config, &records, &FlushScope::All, &mut whole).unwrap();
        let mut refusing = fake.clone();
        let mut asked = false;
        let refuse = |_, change: &Change, _: &mut Fake| {
            asked |= leads(change);
            if leads(change) { Err(EINVAL) } else { Ok(()) }
        };
        let outcome = reconcile(&config, &records, &FlushScope::All, &mut Watched::new(&mut refusing, refuse)).unwrap();
        let told = outcome.failures.iter().any(|f| matches!(f, Failure::Refused { link: Some(name), .. } if *name == link.name));
        prop_assert_eq!(told, asked);
        prop_assert!(!outcome.failures.iter().any(|f| matches!(f, Failure::NotConverging)));
        prop_assert_eq!(own(&refusing, family.other()), own(&whole, family.other()));
        if asked {
            match (family, records.get_mut(&link.name)) {
                (Family::V4, Some(record)) => record.v4 = None,
                _ => config.links[which].ipv6 = false,
            }
            // Without any link that may have IPv6 nobody looks for what a killed hook has left.
            prop_assume!(config.links.iter().any(|link| link.ipv6));
            let mut without = fake;
            reconcile(&config, &records, &FlushScope::All, &mut without).unwrap();
            // What others left in the link's places may be gone already when it turns out.
            let (mut refusing, mut without) = (own(&refusing, family), own(&without, family));
            if !without.iter().any(|line| line.starts_with("route6")) {
                // Rules that lead IPv6 somewhere come with the first link that has it, and stay.
                for all in [&mut refusing, &mut without] {
                    all.retain(|line| !line.starts_with("rule6"));
                }
            }
            prop_assert_eq!(refusing, without);
        }
    }

    /// The kernel never makes one change, whichever: it is told of, there is an end, and there still is
    /// a default.
    #[test]
    fn whatever_is_refused_there_is_an_end(scene in scenes(), which in any::<prop::sample::Index>()) {
        let Scene { config, records, mut fake, .. } = scene;
        let plan = preview(&config, &records, &mut fake).unwrap();
        prop_assume!(!plan.changes.is_empty());
        let refused = which.get(&plan.changes).clone();
        let mut whole = fake.clone();
        reconcile(&config, &records, &FlushScope::All, &mut whole).unwrap();
        let has_default = fake.has_default(Family::V4) && whole.has_default(Family::V4);
        let refuse = |_, change: &Change, _: &mut Fake| if *change == refused { Err(EINVAL) } else { Ok(()) };
        let outcome = reconcile(&config, &records, &FlushScope::All, &mut Watched::new(&mut fake, refuse)).unwrap();
        if !outcome.failures.iter().any(|f| matches!(f, Failure::Refused { .. })) {
            // By the second round it was no longer needed.
            assert_settled(&config, &records, &mut fake, &outcome);
        }
        prop_assert!(!outcome.failures.iter().any(|f| matches!(f, Failure::NotConverging)));
        let link = outcome.failures.iter().any(|f| matches!(f, Failure::Refused { link: Some(_), .. }));
        prop_assert!(link || !has_default || fake.has_default(Family::V4), "{refused:?}\n{fake}");
    }

    /// Linux before 4.17 takes rules without the selectors that it does not know.
    #[test]
    fn no_rule_stays_that_has_lost_its_selector(
        scene in scenes_on(Fake { forgets_ports: true, ..Fake::default() })
    ) {
        let Scene { config, records, mut fake, .. } = scene;
        let outcome = reconcile(&config, &records, &FlushScope::All, &mut fake).unwrap();
        prop_assert!(!outcome.failures.iter().any(|f| matches!(f, Failure::NotConverging)), "{}", fake);
        let observed = fake.observe(&Scope::new(&config, &records)).unwrap();
        let routed = LinkStates::new(&config, &records, &observed).routed();
        let desired = Desired::new(&config, &routed, DefaultRouteMode::Multipath).for_kernel(&observed, &config);
        for rule in &desired.rules {
            let s = &rule.selector;
            let unknown = s.proto.is_some() || s.sport.is_some() || s.dport.is_some() || s.dscp.is_some();
            let there = fake.rules.iter().any(|r| r.is_complete() && r.rule == *rule);
            prop_assert!(there || unknown, "{rule}\n{fake}");
            let told = outcome.failures.iter().any(|f| f.to_string().contains(&rule.to_string()));
            prop_assert!(there || told, "{rule}");
        }
        for own in fake.rules.iter().filter(|r| r.protocol == OURS) {
            prop_assert!(desired.rules.contains(&own.rule), "{} stays", own.rule);
        }
    }
}
