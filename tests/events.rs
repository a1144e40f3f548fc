//! What events do to the kernel, step by step.

mod support;

use support::*;

#[test]
fn the_articles_listing_comes_out_of_the_articles_file() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let prober = Prober::start();
    server.up(ISP2);
    assert_eq!(
        shown("route show default"),
        [
            "default nhid 7100 proto 77",
            "\tnexthop via 198.51.100.1 dev ppp0 weight 8",
            "\tnexthop via 203.0.113.1 dev ppp1 weight 2"
        ]
    );
    let down = server.down(ISP2);
    ISP2.hang_up();
    ISP2.unregister();
    finish(down);
    assert_eq!(shown("route show default"), ["default nhid 7100 via 198.51.100.1 dev ppp0 proto 77"]);
    let probed = prober.stop();
    assert!(probed.asked > 1000, "{probed:?}");
    assert_eq!(probed.unreachable, 0, "{probed:?}");
}

#[test]
fn a_policy_for_an_interface_that_is_not_there_yet_waits_for_it() {
    let server = Server::new(&format!("{ARTICLE}\n[[policy]]\nname = \"guests\"\niif = \"lan\"\nvia = \"isp2\"\n"));
    server.up(ISP1);
    let rules = || shown("rule show").into_iter().filter(|rule| rule.contains("iif lan")).collect::<Vec<_>>();
    assert_eq!(rules(), ["207:\tfrom all iif lan [detached] lookup 2 proto 77"]);
    ip("link add lan type veth peer name lan-far");
    assert_eq!(rules(), ["207:\tfrom all iif lan lookup 2 proto 77"]);
    let plan = ok(server.bare(CTL).arg("plan"));
    assert_eq!(String::from_utf8_lossy(&plan.stdout), "# nothing to change\n");
}
