//! `mhctl flush` against the kernel.

use crate::support::ctl::*;
use crate::support::filter::*;
use crate::support::internet::sysctl;
use crate::support::*;

/// A flush for every way the default is made, every set of lines that is up and the tiers, with things of others around.
#[test]
fn a_flush_leaves_what_was_there_before_and_one_default() {
    for mode in ["objects", "multipath"] {
        for tier in [1, 2] {
            for lines in [&[][..], &[ISP1], &[ISP2], &[ISP1, ISP2]] {
                let settings = format!("{ARTICLE}\n[settings]\nnexthops = \"{mode}\"\n");
                let server =
                    Server::new(&settings.replacen("weight    = 8", &format!("weight    = 8\ntier = {tier}"), 1));
                lines.iter().for_each(Line::create);
                ip("link add name eth9 type veth peer name eth9-far");
                ip("link set eth9 up");
                ip("link set eth9-far up");
                ip("addr add 192.168.9.1/24 dev eth9");
                ip("route add default via 192.168.9.2 dev eth9 metric 900");
                ip("route add 10.0.0.0/8 via 192.168.9.2 dev eth9 table 1 proto static");
                ip("rule add priority 150 from 10.1.0.0/16 lookup 1 proto static");
                ip("nexthop add id 50 via 192.168.9.2 dev eth9 proto static");
                let before = held_by_the_kernel();
                let case = format!("{mode}, tier {tier}, {} lines", lines.len());

                for line in lines {
                    server.up(*line);
                }
                ok(&mut ctl(&server, "apply"));
                let during = held_by_the_kernel();
                assert_ne!(during, before, "{case}");
                let dry = said(&server, "flush --dry-run");
                assert_eq!(held_by_the_kernel(), during, "{case}");
                // Only ours leads anywhere from here on.
                ip("route del default via 192.168.9.2 dev eth9 metric 900");
                let prober = (!lines.is_empty()).then(Prober::start);
                ok(&mut ctl(&server, "flush"));
                if let Some(probed) = prober.map(Prober::stop) {
                    assert_eq!(probed.unreachable, 0, "{case}: {probed:?}");
                    assert!(probed.asked > 10, "{case}: {probed:?}");
                }
                ip("route add default via 192.168.9.2 dev eth9 metric 900");
                // Of one tier the one of the larger share, else the lower tier.
                let best = match lines {
                    [_, second] if tier == 2 => Some(second),
                    [first, ..] => Some(first),
                    [] => None,
                };
                let mut wanted = before;
                if let Some(best) = best {
                    wanted[0].push(format!("default via {} dev {} proto 4", best.remote, best.device));
                }
                let mut after = held_by_the_kernel();
                after[0].sort();
                wanted[0].sort();
                assert_eq!(after, wanted, "{case}");
                let left: Vec<_> = std::fs::read_dir(server.state()).unwrap().map(|e| e.unwrap().file_name()).collect();
                assert!(left.iter().all(|name| name == "lock" || name == "records.lock"), "{case}: {left:?}");

                assert_eq!(
                    dry.lines().next().is_some_and(|l| l.starts_with("ip route replace")),
                    best.is_some(),
                    "{dry}"
                );
                // Again: nothing; an apply, which knows of no link now: nothing of the default either.
                assert_eq!(said(&server, "flush --dry-run"), "# nothing to take away\n", "{case}");
                ok(&mut ctl(&server, "apply"));
                let mut applied = shown("-4 route show table all");
                applied.sort();
                assert_eq!(applied, wanted[0], "{case}");
                // An event takes the plain default's place, and nobody is cut off meanwhile.
                if let Some(line) = lines.first() {
                    let prober = Prober::start();
                    server.up(*line);
                    assert_eq!(prober.stop().unreachable, 0, "{case}");
                    assert!(default_route().contains("proto 77"), "{case}: {}", default_route());
                }
            }
        }
    }
}

/// Runs `what` with each packet filter: its name, and the article's set-up with a masqueraded line.
fn with_each_filter(what: fn(&str, &str)) {
    let config = ARTICLE.replacen("weight    = 8", "weight    = 8\nmasquerade = true", 1);
    for filter in ["nftables", "iptables"] {
        let config = with_settings(&config, &format!("firewall = \"{filter}\""));
        apart(move || what(filter, &config));
    }
}

#[test]
fn a_flush_takes_our_chains_and_groups_and_no_others() {
    with_each_filter(|filter, config| {
        let groups =
            || [ISP1, ISP2].map(|line| ip(&format!("link show dev {}", line.device)).contains(" group default "));
        let server = Server::new(config);
        for rule in ["mangle -A OUTPUT -p tcp", "nat -A POSTROUTING -o eth9 -j MASQUERADE", "filter -A INPUT -i ppp0"] {
            iptables(&format!("-t {rule}"));
        }
        let foreign = "table inet foreign {\n\tchain output {\n\t\ttype route hook output priority mangle; policy accept;\n\
                       \t\ttcp dport 25 meta mark set 0x00080000\n\t}\n}\n";
        feed("nft", &["-f", "-"], foreign);
        let before = rules();
        assert_eq!(before.len(), 3);
        server.up(ISP1);
        server.up(ISP2);
        assert!(managed().len() > before.len() + 5, "{filter}");
        assert_eq!(table().is_empty(), filter == "iptables");
        assert_eq!(groups(), [false, false]);
        // One that some earlier configuration has left, and one of the administrator's.
        ip("link add eth8 type veth peer eth9");
        ip("link set eth8 group 7005");
        ip("link set eth9 group 42");
        let shown = said(&server, "flush --dry-run");
        assert!(shown.contains("\nip link set dev eth8 group 0\n") && !shown.contains("eth9 group"), "{shown}");
        assert_eq!(shown.contains("\ndelete table inet multihome\n"), filter == "nftables", "{shown}");
        ok(&mut ctl(&server, "flush"));
        assert_eq!(rules(), before, "{filter}");
        assert_eq!(nft("-s list table inet foreign"), foreign);
        assert!(!nft("list tables").contains("multihome"), "{filter}");
        assert_eq!(groups(), [true, true]);
        let group = |device| ip(&format!("link show dev {device}"));
        assert!(group("eth8").contains(" group default ") && group("eth9").contains(" group 42 "));
        assert_eq!(said(&server, "flush --dry-run"), "# nothing to take away\n");
    });
}

#[test]
fn a_flush_says_which_kill_switches_end_and_where_their_traffic_goes() {
    let policy = |name: &str, uid: u32| {
        format!("[[policy]]\nname = \"{name}\"\nuid = {uid}\nvia = \"vpn\"\notherwise = \"unreachable\"\n")
    };
    let server = Server::new(&format!("{ARTICLE}{}{}", policy("k", 4242), policy("l", 4243)));
    server.up(ISP1);
    let told = "policies \"k\", \"l\" are refused no longer: their traffic goes by isp1";
    let dry = said(&server, "flush --dry-run");
    assert!(dry.ends_with(&format!("# {told}\n")), "{dry}");
    let output = ok(&mut ctl(&server, "flush -v"));
    let said_now = String::from_utf8(output.stderr).unwrap();
    assert!(said_now.contains(&format!("WARN {told}\n")), "{said_now}");
    assert_eq!(said(&server, "flush --dry-run"), "# nothing to take away\n");

    // Nothing but the policy's rules is there, and somebody else's default.
    let server = Server::new(&format!("{ARTICLE}{}", policy("k", 4242)));
    server.apply();
    ISP2.create();
    ip("route add default via 203.0.113.1 dev ppp1 metric 100");
    let dry = said(&server, "flush --dry-run");
    assert!(dry.ends_with("# policy \"k\" is refused no longer: its traffic goes by ppp1\n"), "{dry}");
}

#[test]
fn a_flush_takes_the_next_best_line_or_nothing_at_all() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    // The best line is said to be up, and is not: its record is all that speaks for it.
    ISP1.hang_up();
    ok(&mut ctl(&server, "flush"));
    assert_eq!(default_route(), "default via 203.0.113.1 dev ppp1 proto 4");

    // A configuration that does not know the line which carries: rather than cut off, it does nothing.
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.configure("[[uplink]]\nname = 'other'\ninterface = 'eth7'\n");
    let before = held_by_the_kernel();
    let (code, error) = refused(&server, "flush");
    assert_eq!(code, Some(1));
    assert!(error.contains("nothing was touched"), "{error}");
    assert_eq!(held_by_the_kernel(), before);
}

#[test]
fn a_flush_says_that_a_lan_loses_its_translation_and_how_it_comes_back() {
    with_each_filter(|filter, config| {
        let server = Server::new(config);
        ip("link add eth2 type veth peer name eth2-far");
        ip("addr add 192.168.2.1/24 dev eth2");
        ip("link set eth2 up");
        server.up(ISP1);
        // Nothing is forwarded: no host can miss it.
        assert!(!said(&server, "flush --dry-run").contains("192.168.2.0/24"));
        sysctl("ipv4/ip_forward", "1");
        let shown = said(&server, "flush --dry-run");
        let last = shown.lines().last().unwrap();
        assert!(last.starts_with("# without our rules nothing translates the addresses of 192.168.2.0/24"), "{shown}");
        let told = String::from_utf8(ok(&mut ctl(&server, "flush -v")).stderr).unwrap();
        let back = "link up isp1 --interface ppp0";
        assert!(told.contains("192.168.2.0/24") && told.contains(&format!("{} {back}", server.mhctl())), "{told}");
        let masquerade = match filter {
            "nftables" => "oifgroup 7000 masquerade",
            _ => "--dst-group 0x1b58 -j MASQUERADE",
        };
        let masquerades = || managed().iter().any(|rule| rule.contains(masquerade));
        assert!(!masquerades());
        ok(&mut ctl(&server, back));
        assert!(masquerades() && ip("link show dev ppp0").contains(" group 7000 "), "{:#?}", managed());

        // Somebody else does it as well.
        iptables("-t nat -A POSTROUTING -o ppp0 -j MASQUERADE");
        let told = String::from_utf8(ok(&mut ctl(&server, "flush -v")).stderr).unwrap();
        assert!(!told.contains("192.168.2.0/24"), "{told}");
    });
}
