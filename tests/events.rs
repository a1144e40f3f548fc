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
    let seen = prober.stop();
    assert!(seen.asked > 1000, "{seen:?}");
    assert_eq!(seen.unreachable, 0, "{seen:?}");
}
