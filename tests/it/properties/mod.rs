//! What holds for every configuration, every state of the links and everything that the kernel may
//! hold: states are reached by random histories on the fake kernel.

mod settled;

use multihome::config::{Config, LinkKind};
use multihome::kernel::Kernel;
use multihome::model::change::Change;
use multihome::model::names::{Family, IfName, TableId};
use multihome::model::numbering::KERNEL;
use multihome::model::observed::Scope;
use multihome::model::routing::{DefaultRoute, Target, WeightedNextHop};
use multihome::reconcile::desired::{DefaultRouteMode, Desired};
use multihome::reconcile::link_state::{LinkStates, LiveLink};
use multihome::reconcile::{Failure, FlushScope, preview, reconcile};
use multihome::state::drain::Level;
use proptest::prelude::*;

use crate::fake::watched::Watched;
use crate::fake::{EINVAL, EPERM, Fake, Held, Via};
use crate::scene::{OURS, Scene, scenes, scenes_on};
use settled::{asks_tables6, assert_no_device_has_strayed, assert_settled, assert_spares_come_first, leads_to_main};

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

/// All that an event looks at: not the tables that no rule of ours leads to.
fn looked_at(fake: &Fake) -> Vec<String> {
    let mut lines = lines(fake);
    if !asks_tables6(fake) {
        lines.retain(|line| !line.starts_with("route6") || line.contains("table 254 "));
    }
    led(lines)
}

/// Without IPv6 rules, if no link has IPv6 routes: those that lead it somewhere come with the first link that has it,
/// and stay.
fn led(mut lines: Vec<String>) -> Vec<String> {
    let is_links =
        |line: &String| line.starts_with("route6") && !line.contains("table 254 ") && line.contains("protocol 77");
    if !lines.iter().any(is_links) {
        lines.retain(|line| !line.starts_with("rule6"));
    }
    lines
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
        prop_assert_eq!(looked_at(&crashed), looked_at(&whole));
    }

    /// A line that goes in the midst of it takes no other with it: where there is a default then, there is one ever since.
    #[test]
    fn a_line_may_go_at_any_instant(scene in scenes(), at in 0..30_usize, which in 0..7_usize, loss in losses()) {
        let Scene { config, mut records, mut fake, .. } = scene;
        // While a drill begins, what it holds is going already.
        records.drained.retain(|_, drain| ![drain.v4, drain.v6].contains(&Some(Level::Held)));
        let link = &config.links[which % config.links.len()];
        let mut defaults = vec![];
        let mut changes = vec![];
        let goes = |made, change: &Change, fake: &mut Fake| {
            changes.push(change.command(OURS).to_string());
            if made == at && defaults.is_empty() {
                loss.befall(&link.interface, fake);
                defaults.push(have_defaults(fake));
            } else if !defaults.is_empty() {
                defaults.push(have_defaults(fake));
            }
            Ok(())
        };
        let outcome = reconcile(&config, &records, &FlushScope::All, &mut Watched::new(&mut fake, goes)).unwrap();
        // What somebody else refuses in front of our spares is theirs to refuse.
        let refuses = |r: &Held| r.table == TableId::MAIN && r.via == Via::Unreachable;
        for (at, family) in Family::BOTH.into_iter().enumerate() {
            let is_refused = fake.routes.iter().any(|r| r.family == family && refuses(r));
            let stays = have_defaults(&fake)[at] && defaults.first().is_some_and(|had| had[at]);
            let had = !stays || is_refused || defaults.iter().all(|had| had[at]);
            prop_assert!(had, "{changes:#?}{defaults:?}\n{fake}");
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
        // The spare of a drained uplink, too.
        let routed = LinkStates::new(&config, &records, &observed).routed();
        let is_other = |l: &LiveLink<'_>| l.link.is_uplink() && l.carrier && l.link.name != link.name;
        let others = Family::BOTH.map(|family| routed.of(family).iter().any(is_other));
        // Somebody's own default is theirs to have, and to lose; of IPv6, ours among its next hops are not seen.
        let is_ours = |r: &Held| r.protocol == OURS || r.table != TableId::MAIN;
        let ours = Family::BOTH.map(|family| fake.routes.iter().filter(|r| r.family == family).all(is_ours));
        loss.befall(&link.interface, &mut fake);
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
        // A link more that may have IPv6, and whose delegation it is is not known; nor does a drain count for nothing
        // because of it.
        fake.delegated.clear();
        records.drained.clear();
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
            let is_lost = |line: &str| line.contains("from 2001:db8:30") || line.contains("/64 type unreachable");
            // Somebody's default by the link, at a tier's metric, stays while the link may have IPv6.
            let is_foreign = |r: &&Held| r.family == Family::V6 && r.table == TableId::MAIN && r.protocol != OURS;
            let has_foreign = refusing.routes.iter().any(|r| is_foreign(&r));
            let (mut refusing, mut without) = (led(own(&refusing, family)), led(own(&without, family)));
            for all in [&mut refusing, &mut without] {
                // Only rules of the kernel tell the last prefix of a link, and they may have gone before it was refused.
                all.retain(|line| !is_lost(line));
                all.retain(|line| !has_foreign || !line.starts_with("route6 table 254 default metric 51"));
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
