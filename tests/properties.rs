//! What holds for every configuration, every state of the links and everything that the kernel may
//! hold: states are reached by random histories on the fake kernel.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fake;
mod scene;

use std::collections::BTreeSet;

use multihome::config::{Config, LinkKind};
use multihome::desired::{Desired, Make};
use multihome::kernel::Kernel;
use multihome::links::{LiveLink, live};
use multihome::observed::Scope;
use multihome::plan::Change;
use multihome::reconcile::{About, Failure, Outcome, preview, reconcile};
use multihome::records::Records;
use multihome::state::{Target, WeightedLeg};
use multihome::types::TableId;
use proptest::prelude::*;

use fake::watched::Watched;
use fake::{EINVAL, EPERM, Fake, Held, Via};
use scene::{OURS, Scene, scenes, scenes_on};

/// The kernel is as wanted, by a second look and by an independent reading of the design.
fn assert_settled(config: &Config, records: &Records, fake: &mut Fake, outcome: &Outcome) {
    for failure in &outcome.failures {
        assert!(matches!(failure, Failure::Problem(_)), "{failure}\n{fake}");
    }
    let again = reconcile(config, records, &About::All, fake).unwrap();
    assert!(again.made.is_empty(), "made again: {:?}\n{fake}", again.made);

    let observed = fake.observe(&Scope::new(config, records)).unwrap();
    let live = live(config, records, &observed);
    for link in &config.links {
        let up = live.iter().find(|l| l.link.name == link.name).map(|l| l.leg.device.index);
        let foreign = fake.routes.iter().any(|r| r.table == link.table && r.protocol != OURS);
        let carriers: Vec<_> = fake.carriers(link.table).iter().map(|(index, _)| *index).collect();
        assert!(foreign || carriers == up.into_iter().collect::<Vec<_>>(), "{link:?}\n{fake}");
    }
    // Somebody's default at a better metric, or at ours, is theirs to have.
    if fake.routes.iter().find(|r| r.table == TableId::MAIN).is_none_or(|r| r.protocol == OURS) {
        assert_default_is_shared_out(&live, fake);
    }
    let wanted = Desired::new(config, &live, Make::Objects).rules;
    for rule in &wanted {
        assert!(fake.rules.iter().any(|r| r.complete && r.rule == *rule), "no {rule}\n{fake}");
    }
    let own: Vec<_> = fake.rules.iter().filter(|r| r.protocol == OURS).map(|r| &r.rule).collect();
    let distinct: BTreeSet<_> = own.iter().collect();
    assert!(own.len() == distinct.len() && own.iter().all(|r| wanted.contains(r)), "{fake}");
    assert!(live.iter().all(|l| !fake.nics[&l.leg.device.name].strict_rp_filter));
}

/// The uplinks of the lowest tier that is up carry, by weight.
fn assert_default_is_shared_out(live: &[LiveLink<'_>], fake: &Fake) {
    let uplinks = live.iter().filter_map(|l| match l.link.kind {
        LinkKind::Uplink { weight, tier } => Some((tier, (l.leg.device.index, weight))),
        LinkKind::Tunnel => None,
    });
    let first = uplinks.clone().map(|(tier, _)| tier).min();
    let mut wanted: Vec<_> = uplinks.filter(|(tier, _)| Some(*tier) == first).map(|(_, share)| share).collect();
    let mut carriers = fake.carriers(TableId::MAIN);
    // The kernel knows no weight of a single leg.
    if let ([(_, wanted)], [(_, found)]) = (&mut wanted[..], &carriers[..]) {
        *wanted = *found;
    }
    wanted.sort();
    carriers.sort();
    assert!(carriers == wanted, "{carriers:?} instead of {wanted:?}\n{fake}");
}

/// In our groups, of which each is a link's by its place, there is no device but that link's. In scenes a link is on
/// the interface that it is configured for.
fn assert_no_device_has_strayed(config: &Config, fake: &Fake) {
    let ours = config.settings.device_group..config.settings.device_group + 32;
    for (name, nic) in fake.nics.iter().filter(|(_, nic)| ours.contains(&nic.group)) {
        let place = usize::try_from(nic.group - ours.start).unwrap();
        assert!(config.links.get(place).is_some_and(|link| link.interface == *name), "{name} {}\n{fake}", nic.group);
    }
}

/// Everything of others, except default routes by links where ours go.
fn foreign(config: &Config, fake: &Fake) -> Vec<String> {
    let metrics: Vec<_> = config
        .links
        .iter()
        .filter_map(|l| match l.kind {
            LinkKind::Uplink { tier, .. } => Some(config.settings.metric + u32::from(tier.get()) - 1),
            LinkKind::Tunnel => None,
        })
        .collect();
    let ours = |r: &Held| match r.table {
        TableId::MAIN => metrics.contains(&r.metric),
        table => r.metric == 0 && config.links.iter().any(|l| l.table == table),
    };
    let is_link = |l: &WeightedLeg| config.links.iter().any(|link| link.interface == l.leg.device.name);
    let by_links = |r: &Held| matches!(&r.via, Via::Legs(legs) if legs.iter().all(is_link));
    let routes = fake.routes.iter().filter(|r| r.protocol != OURS && !(ours(r) && by_links(r)));
    let rules = fake.rules.iter().filter(|r| r.protocol != OURS).map(|r| format!("{r:?}"));
    let objects = fake.nexthops.iter().flatten().filter(|(_, o)| o.protocol != OURS).map(|o| format!("{o:?}"));
    routes.map(ToString::to_string).chain(rules).chain(objects).collect()
}

/// Lines in an order that does not depend on the way there.
fn lines(fake: &Fake) -> Vec<String> {
    let mut lines: Vec<_> = fake.to_string().lines().map(str::to_owned).collect();
    lines.sort();
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
        let mut defaults = vec![];
        let mut made = vec![];
        let outcome = reconcile(&config, &records, &About::All, &mut Watched::new(&mut fake, |_, change, fake| {
            made.push(change.command(OURS).to_string());
            defaults.push(fake.has_default());
            assert_eq!(foreign(&config, fake), others, "{change:?}\n{fake}");
            Ok(())
        })).unwrap();
        assert_eq!(foreign(&config, &fake), others, "{before}");
        if fake.has_default() && defaults.first() == Some(&true) {
            assert!(!defaults.contains(&false), "{before}{made:#?}{defaults:?}");
        }
        assert_settled(&config, &records, &mut fake, &outcome);
        if outcome.made.iter().any(|change| matches!(change, Change::DeviceGroup { .. } | Change::Firewall(_))) {
            assert_no_device_has_strayed(&config, &fake);
        }
    }

    /// A crash anywhere, and the next event ends where the first would have.
    #[test]
    fn a_crash_is_mended_by_the_next_event(scene in scenes(), at in 0..30_usize) {
        let Scene { config, records, fake, .. } = scene;
        let mut whole = fake.clone();
        reconcile(&config, &records, &About::All, &mut whole).unwrap();
        let mut crashed = fake;
        let stop = |made, _: &Change, _: &mut Fake| if made == at { Err(EPERM) } else { Ok(()) };
        let _ = reconcile(&config, &records, &About::All, &mut Watched::new(&mut crashed, stop));
        let outcome = reconcile(&config, &records, &About::All, &mut crashed).unwrap();
        assert_settled(&config, &records, &mut crashed, &outcome);
        prop_assert_eq!(lines(&crashed), lines(&whole));
    }

    /// With nexthop objects: a device that goes in the midst of it takes no other with it.
    #[test]
    fn a_device_may_go_at_any_instant(scene in scenes(), at in 0..30_usize, which in 0..7_usize) {
        let Scene { config, records, mut fake, .. } = scene;
        let link = &config.links[which % config.links.len()];
        // Whether another link carries on when the device has gone, and the default ever since.
        let mut carried = false;
        let mut defaults = vec![];
        let goes = |made, _: &Change, fake: &mut Fake| {
            if made == at && defaults.is_empty() {
                let observed = fake.observe(&Scope::new(&config, &records)).unwrap();
                let others = live(&config, &records, &observed).into_iter().filter(|l| l.link.name != link.name);
                let others: BTreeSet<_> = others.map(|l| l.leg.device.index).collect();
                // A multipath route, a foreign nexthop id's fault perhaps, goes as a whole.
                let main = fake.routes.iter().filter(|r| r.table == TableId::MAIN && r.protocol == OURS);
                carried = main.clone().count() > 0
                    && main.clone().all(|r| matches!(r.via, Via::Nexthop(_)))
                    && fake.carriers(TableId::MAIN).iter().any(|(index, _)| others.contains(index));
                fake.unregister(&link.interface);
                defaults.push(fake.has_default());
            } else if !defaults.is_empty() {
                defaults.push(fake.has_default());
            }
            Ok(())
        };
        let outcome = reconcile(&config, &records, &About::All, &mut Watched::new(&mut fake, goes)).unwrap();
        prop_assert!(!carried || !fake.has_default() || !defaults.contains(&false), "{defaults:?}\n{fake}");
        assert_settled(&config, &records, &mut fake, &outcome);
    }

    /// The kernel never takes one link: all else is as if that link were down.
    #[test]
    fn a_link_that_is_refused_keeps_none_of_the_others_back(scene in scenes(), which in 0..7_usize) {
        let Scene { config, mut records, fake, .. } = scene;
        let link = &config.links[which % config.links.len()];
        let leads = |change: &Change| match change {
            Change::Nexthop { leg, .. } => leg.device.name == link.interface,
            Change::Route(route) => matches!(&route.target, Target::Legs(legs) if legs.len() == 1 && legs[0].leg.device.name == link.interface),
            _ => false,
        };
        let mut refusing = fake.clone();
        let mut asked = false;
        let refuse = |_, change: &Change, _: &mut Fake| {
            asked |= leads(change);
            if leads(change) { Err(EINVAL) } else { Ok(()) }
        };
        let outcome = reconcile(&config, &records, &About::All, &mut Watched::new(&mut refusing, refuse)).unwrap();
        let told = outcome.failures.iter().any(|f| matches!(f, Failure::Refused { link: Some(name), .. } if *name == link.name));
        prop_assert_eq!(told, asked);
        prop_assert!(!outcome.failures.iter().any(|f| matches!(f, Failure::Restless)));
        if asked {
            records.remove(&link.name);
            let mut without = fake;
            reconcile(&config, &records, &About::All, &mut without).unwrap();
            // What others left in the link's places may be gone already when it turns out.
            let own = |fake: &Fake| lines(fake).into_iter().filter(|l| l.contains("protocol 77")).collect::<Vec<_>>();
            prop_assert_eq!(own(&refusing), own(&without));
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
        reconcile(&config, &records, &About::All, &mut whole).unwrap();
        let has_default = fake.has_default() && whole.has_default();
        let refuse = |_, change: &Change, _: &mut Fake| if *change == refused { Err(EINVAL) } else { Ok(()) };
        let outcome = reconcile(&config, &records, &About::All, &mut Watched::new(&mut fake, refuse)).unwrap();
        if !outcome.failures.iter().any(|f| matches!(f, Failure::Refused { .. })) {
            // By the second round it was no longer needed.
            assert_settled(&config, &records, &mut fake, &outcome);
        }
        prop_assert!(!outcome.failures.iter().any(|f| matches!(f, Failure::Restless)));
        let link = outcome.failures.iter().any(|f| matches!(f, Failure::Refused { link: Some(_), .. }));
        prop_assert!(link || !has_default || fake.has_default(), "{refused:?}\n{fake}");
    }

    /// Linux before 4.17 takes rules without the selectors that it does not know.
    #[test]
    fn no_rule_stays_that_has_lost_its_selector(
        scene in scenes_on(Fake { forgets_ports: true, ..Fake::default() })
    ) {
        let Scene { config, records, mut fake, .. } = scene;
        let outcome = reconcile(&config, &records, &About::All, &mut fake).unwrap();
        prop_assert!(!outcome.failures.iter().any(|f| matches!(f, Failure::Restless)), "{}", fake);
        let observed = fake.observe(&Scope::new(&config, &records)).unwrap();
        let desired = Desired::new(&config, &live(&config, &records, &observed), Make::Multipath);
        for rule in &desired.rules {
            let s = &rule.selector;
            let unknown = s.proto.is_some() || s.sport.is_some() || s.dport.is_some() || s.dscp.is_some();
            let there = fake.rules.iter().any(|r| r.complete && r.rule == *rule);
            prop_assert!(there || unknown, "{rule}\n{fake}");
            let told = outcome.failures.iter().any(|f| f.to_string().contains(&rule.to_string()));
            prop_assert!(there || told, "{rule}");
        }
        for own in fake.rules.iter().filter(|r| r.protocol == OURS) {
            prop_assert!(desired.rules.contains(&own.rule), "{} stays", own.rule);
        }
    }
}
