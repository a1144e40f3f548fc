//! The uplink's own resolvers among its targets.

use super::*;

/// Three targets and two resolvers, with the indices 3 and 4.
fn scene(carries: impl Fn(Duration, usize) -> bool + 'static) -> Scene {
    let mut scene = Scene::new(3, ms(20), carries);
    scene.health.set_resolvers(Duration::ZERO, 2);
    scene
}

fn is_resolver(target: usize) -> bool {
    target >= 3
}

#[test]
fn resolvers_are_not_asked_while_two_targets_answer() {
    // The third limits its answers, or never answers.
    for answers in [3, 2] {
        let mut scene = scene(move |_, target| target < answers);
        scene.run(seconds(4000));
        assert!(scene.sent.iter().all(|(_, target)| !is_resolver(*target)), "{answers}");
        assert_eq!(scene.health.opinion(), Opinion::Good);
    }
}

#[test]
fn a_line_whose_provider_lets_no_target_answer_is_judged_by_its_resolvers() {
    for offset in (0..1000).step_by(50) {
        let (dead, alive) = (seconds(300) + ms(offset), seconds(400));
        let mut scene = scene(move |now, target| is_resolver(target) && (now < dead || now >= alive));
        scene.run(seconds(300));
        assert_eq!(scene.health.opinion(), Opinion::Good);
        scene.run(seconds(410));
        let (drained, cut) = scene.verdicts();
        assert!(drained.unwrap() - dead < seconds(3), "{drained:?} at {offset}");
        assert!(cut.is_some() && scene.health.opinion() == Opinion::Good);
    }
}

#[test]
fn a_provider_that_has_lost_its_own_way_out_is_left_though_its_resolvers_answer() {
    let dead = seconds(60);
    for targets in [3, 2] {
        let mut scene = scene(move |now, target| is_resolver(target) || (target < targets && now < dead));
        scene.run(seconds(3 * 3600));
        let drained = scene.verdicts().0.unwrap() - dead;
        assert!(drained < seconds(3), "{drained:?}, {targets}");
        // It has dialled again meanwhile, and has another resolver.
        scene.health.restarted(scene.now);
        scene.health.set_resolvers(scene.now, 1);
        scene.run(seconds(4 * 3600));
        assert!(matches!(scene.health.opinion(), Opinion::Dead { is_cut: true, .. }), "{targets}");
        assert!(scene.sent.iter().all(|(_, target)| !is_resolver(*target)), "{targets}");
    }
}

#[test]
fn the_death_of_the_only_target_that_answers_is_its_own_while_resolvers_answer() {
    let gone = seconds(60);
    let mut scene = scene(move |now, target| is_resolver(target) || (target == 0 && now < gone));
    scene.run(seconds(600));
    assert_eq!(scene.verdicts(), (None, None));
    // Without any it is not.
    scene.health.set_resolvers(scene.now, 0);
    assert_eq!(scene.health.targets().len(), 3);
    let mut alone = Scene::new(3, ms(20), move |now, target| target == 0 && now < gone);
    alone.run(seconds(600));
    assert!(alone.verdicts().0.is_some());
}

#[test]
fn other_resolvers_have_to_answer_themselves() {
    let mut scene = scene(|now, target| is_resolver(target) && now < seconds(100));
    scene.run(seconds(100));
    // With the old ones under way.
    scene.step(seconds(101));
    scene.health.set_resolvers(seconds(101), 1);
    assert_eq!((scene.health.targets().len(), scene.health.opinion()), (4, Opinion::Unknown));
    scene.run(seconds(400));
    assert_eq!((scene.verdicts(), scene.health.opinion()), ((None, None), Opinion::Unknown));
}
