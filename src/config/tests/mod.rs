//! What right configurations mean, and that wrong ones are refused as `cases` has it.

mod cases;

use std::fs;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::numbering::Numbering;
use cases::{GROUPS, POLICY, UPLINK};

fn error(text: &str) -> Error {
    parse(text, Path::new("f")).expect_err(text)
}

fn good(text: &str) -> Config {
    parse(text, Path::new("f")).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn uplinks_of(n: u8) -> String {
    (1..=n).map(|i| format!("[[uplink]]\nname = 'l{i}'\ninterface = 'ppp{i}'\n")).collect::<Vec<_>>().concat()
}

#[test]
fn every_error_is_one_line_that_says_what_to_write() {
    let mut wrong = Vec::new();
    for (prefix, cases) in GROUPS {
        for (text, expected) in cases {
            let given = error(&format!("{prefix}{text}")).to_string();
            if given != *expected {
                wrong.push(format!("{text:?}\n  expected {expected}\n  given    {given}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_is_a_mark_for_32_links_and_no_more() {
    let last = good(&uplinks_of(32)).links.pop().unwrap();
    assert_eq!((last.table.get(), last.mark.get()), (32, 0x8000_0000));
    assert_eq!(
        error(&uplinks_of(33)).to_string(),
        "f:97: more than 32 links: there is a mark bit for 32 only, remove some"
    );
}

#[test]
fn rules_end_before_the_kernels_own() {
    let numbers = |n: u16| (1..=n).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    let policy = |n| format!("{POLICY}proto = 'tcp'\ndport = [{}]\nsport = [{}]\n", numbers(n), numbers(181));
    assert_eq!(good(&policy(179)).policies[0].rule_count(), 32399);
    assert_eq!(
        error(&policy(180)).to_string(),
        "f:2: policy \"p\" makes it 32580 rules, one for each combination of its lists' values and links, \
         and there is room for 32565: shorten the lists"
    );
    for (uplinks, most) in [(1, 32635), (9, 32635), (10, 32634), (32, 32612)] {
        let text = |priority| {
            let (links, uids) = (uplinks_of(uplinks), numbers(30));
            let policy = format!("[[policy]]\nname = 'p'\nvia = 'l1'\nuid = [{uids}]\n");
            format!("{links}{policy}[settings]\nrule-priority = {priority}\n")
        };
        assert_eq!(good(&text(most)).policy_priorities().last().unwrap().end, 32765);
        assert!(error(&text(most + 1)).to_string().ends_with(&format!("write at most {most}")));
    }
    let kill_switch = format!("{POLICY}uid = [1, 2, 3]\nto = ['192.0.2.1', '192.0.2.2']\notherwise = 'unreachable'\n");
    assert_eq!(good(&kill_switch).policies[0].rule_count(), 12);
}

#[test]
fn an_error_keeps_its_place_and_no_flood() {
    let text = "# é\n[[uplink]]\r\n  é\u{301} = 1";
    let place = |text| error(text).place.unwrap();
    assert_eq!((place(text).line, place(text).column), (3, 3));
    let text = format!("{UPLINK}gateway = 'é', ");
    assert_eq!(place(&text).line, 4);
    let text = format!("{UPLINK}# é\n  gateway = 'é'\n");
    let at = place(&text);
    assert_eq!((at.line, at.column, &text[at.span]), (5, 13, "'é'"));
    assert_eq!(error(&text).key.as_deref(), Some("gateway"));

    for flood in [format!("{UPLINK}ipparam = '{}'", "x".repeat(9999)), format!("{UPLINK}{} = 1", "x".repeat(9999))] {
        assert!(error(&flood).to_string().len() < 600);
    }
    let odd = parse("", Path::new("a\nb\u{1b}")).unwrap_err().to_string();
    assert!(odd.starts_with(r"a\nb\u{1b}:1: "), "{odd}");
}

#[test]
fn the_articles_file_gives_the_articles_numbers() {
    let text = include_str!("article.toml");
    for text in [text.to_owned(), text.replace('\n', "\r\n"), format!("\u{feff}{text}")] {
        let config = good(&text);
        let links: Vec<_> = config.links.iter().map(|l| (l.name.as_str(), l.table.get(), l.mark.get())).collect();
        assert_eq!(links, [("isp1", 1, 0x1), ("isp2", 2, 0x2), ("vpn", 3, 0x4)]);
        assert_eq!(config.links.iter().map(|l| l.ipparam.as_str()).collect::<Vec<_>>(), ["isp1", "isp2", "vpn"]);
        assert_eq!(config.links[0].kind, LinkKind::Uplink { weight: Weight::new(8).unwrap(), tier: Tier::default() });
        assert_eq!(config.settings, Settings::default());
        let [mail, tunnel, pages, machine] = config.policies.as_slice() else { panic!() };
        assert_eq!(mail.dport.iter().map(|p| (p.start, p.end)).collect::<Vec<_>>(), [(25, 25), (465, 465), (587, 587)]);
        assert_eq!((tunnel.proto, tunnel.via.len()), (Some(17), 2));
        assert_eq!((pages.to[0].to_string(), pages.otherwise), ("203.0.113.80/32".to_owned(), Otherwise::Default));
        assert_eq!(machine.from[0].to_string(), "192.168.2.30/32");
    }
}

#[test]
fn every_key_is_read() {
    let config = good(include_str!("every-key.toml"));
    let [vpn_after, uplink] = [&config.links[1], &config.links[0]];
    assert_eq!(vpn_after.kind, LinkKind::Tunnel);
    assert_eq!(
        *uplink,
        Link {
            name: "isp1".parse().unwrap(),
            position: 0,
            kind: LinkKind::Uplink { weight: Weight::new(256).unwrap(), tier: Tier::new(32).unwrap() },
            interface: "eth1".parse().unwrap(),
            ipparam: "Deutsche Telekom".to_owned(),
            table: TableId::new(1000).unwrap(),
            mark: Mark::new(0x10).unwrap(),
            masquerade: true,
            gateway: Some("192.0.2.1".parse().unwrap()),
            gateway6: Some("fe80::1".parse().unwrap()),
            prefixes: vec!["2001:db8:1::/56".parse().unwrap(), "2001:db8:ff::/64".parse().unwrap()],
            ipv6: false,
            nat6: Nat6::All,
            check: false,
            metered: true,
        }
    );
    let net = |s: &str| s.parse::<IpNet>().unwrap();
    let policy = Policy {
        name: "alles für \"den\" Gast".to_owned(),
        from: vec![net("192.168.2.0/24")],
        to: vec![net("192.0.2.1/32"), net("198.51.100.0/24")],
        sets: Some(Sets {
            from: Some("kids".parse().unwrap()),
            to: Some("streaming".parse().unwrap()),
            mark: Mark::new(0x8000_0000).unwrap(),
        }),
        iif: vec!["eth0".parse().unwrap(), "lo".parse().unwrap()],
        proto: Some(132),
        sport: vec![PortRange { start: 1, end: 65534 }],
        dport: vec![PortRange { start: 25, end: 25 }, PortRange { start: 6000, end: 6010 }],
        uid: Vec::new(),
        dscp: Some(0),
        fwmark: Some(FwMark { value: 0x100, mask: 0xff00 }),
        via: vec!["vpn".parse().unwrap(), "isp1".parse().unwrap()],
        otherwise: Otherwise::Unreachable,
    };
    assert_eq!(config.policies[0], policy);
    // Which goes with no set.
    let owners = good(&format!("{POLICY}uid = [0, '1000-4294967294']\n"));
    let all = [UidRange { start: 0, end: 0 }, UidRange { start: 1000, end: 4_294_967_294 }];
    assert_eq!(owners.policies[0].uid, all);
    let fwmarks: Vec<_> = config.policies.iter().filter_map(|p| p.fwmark).map(|m| (m.value, m.mask)).collect();
    let all_but_the_sets = 0x7fff_ffff;
    assert_eq!(
        fwmarks,
        [(0x100, 0xff00), (0x200, all_but_the_sets), (0x200, all_but_the_sets), (0x200, all_but_the_sets)]
    );
    let target = |address: &str, method| Target::new(address.parse().unwrap(), method).unwrap();
    assert_eq!(
        config.check,
        Some(Check {
            targets: vec![
                target("192.0.2.1", Method::Icmp),
                target("2001:db8::1", Method::Icmp),
                target("192.0.2.1", Method::Tcp(443)),
                target("2001:db8::1", Method::Tcp(65535)),
                target("192.0.2.1", Method::Dns),
                target("2001:db8::1", Method::Dns),
            ],
            interval: Duration::from_millis(200),
            down_after: Duration::from_millis(500),
            cut_after: Duration::from_millis(501),
            up_after: Duration::from_mins(10),
        })
    );
    assert_eq!(
        config.settings,
        Settings {
            numbers: Numbering { rule_priority: 1, metric: 5, spare_metric: 37, nexthop_id: 1, device_group: 9000 },
            protocol: 255,
            nexthops: NexthopMode::Multipath,
            settle_timeout: Duration::ZERO,
            lock_timeout: Duration::from_mins(10),
            firewall: Firewall::Nftables,
            hash_policy: Some(3),
            event_command: ["/usr/local/sbin/tell", "-v", "-v", "$HOME"].map(str::to_owned).to_vec(),
        }
    );
}

#[test]
fn uplinks_are_probed_where_there_is_a_check_unless_they_say_otherwise() {
    let links =
        format!("{}check = false\nmetered = true\n[[tunnel]]\nname = 'vpn'\ninterface = 'tun0'\n", uplinks_of(3));
    let without = good(&links);
    assert_eq!((&without.check, without.checked().count()), (&None, 0));
    assert_eq!(without.links.iter().map(|link| link.metered).collect::<Vec<_>>(), [false, false, true, false]);

    let with = good(&format!("{links}[check]\n"));
    assert_eq!(with.checked().map(|link| link.name.as_str()).collect::<Vec<_>>(), ["l1", "l2"]);
    let check = with.check.unwrap();
    let targets: Vec<_> = check.targets.iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["1.1.1.1", "9.9.9.9", "208.67.222.222"]);
    let times = [check.interval, check.down_after, check.cut_after, check.up_after];
    assert_eq!(times.map(|time| time.as_millis()), [1000, 2500, 10_000, 5000]);
}

#[test]
fn a_hook_reads_all_but_the_check_in_which_a_mistake_stops_no_event() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("multihome.toml");
    let text = format!("{}[check]\ntargets = 'dns.google'\n", uplinks_of(2));
    fs::write(&path, &text).unwrap();
    assert!(load(&path).unwrap_err().to_string().ends_with("never a host name"));
    let read = load_for_hook(&path).unwrap();
    assert_eq!(read.checked().count(), 2);
    let right = good(&text.replace("dns.google", "192.0.2.1"));
    assert_eq!(Config { check: right.check.clone(), ..read }, right);
}

#[test]
fn a_target_is_shown_as_it_is_written() {
    let written =
        ["192.0.2.1", "tcp:192.0.2.1:1", "dns:192.0.2.1", "[2001:db8::1]", "tcp:[2001:db8::1]:80", "dns:[2001:db8::1]"];
    let check = good(&format!("{UPLINK}[check]\ntargets = {written:?}\n")).check.unwrap();
    assert_eq!(check.targets.iter().map(ToString::to_string).collect::<Vec<_>>(), written);
}

#[test]
fn each_pair_of_sets_gets_a_bit_of_its_own_that_is_nobody_elses() {
    let marks = |policies: &str| {
        let config = good(&format!("{}mark = 0x80000000\n{policies}", uplinks_of(2)));
        let marks = config.policies.iter().map(|policy| policy.mark().map(|mark| (mark.value, mark.mask)));
        (marks.collect::<Vec<_>>(), config.set_marks())
    };
    let policy = |name: &str, keys: &str| format!("[[policy]]\nname = '{name}'\nvia = 'l1'\n{keys}\n");
    let all = [
        policy("a", "to-set = 'tv'"),
        policy("b", "to-set = 'tv'\nfrom-set = 'kids'\nproto = 6"),
        policy("c", "to-set = 'tv'\ndscp = 1"),
        policy("d", "fwmark = '0x20000000/0x30000000'\nfrom-set = 'tv'"),
        policy("e", "fwmark = 0x40000000"),
    ];
    // 0x80000000 is a link's, 0x40000000 and 0x30000000 are the administrator's.
    let ours = 0x0e00_0000;
    let expected = [
        Some((0x0800_0000, 0x0800_0000)),
        Some((0x0400_0000, 0x0400_0000)),
        Some((0x0800_0000, 0x0800_0000)),
        Some((0x2200_0000, 0x3200_0000)),
        Some((0x4000_0000, !ours)),
    ];
    assert_eq!(marks(&all.concat()), (expected.to_vec(), ours));
    // As many as there are bits.
    let policies: Vec<_> = (0..31).map(|n| policy(&format!("p{n}"), &format!("to-set = 's{n}'"))).collect();
    let config = good(&format!("{}{}", uplinks_of(1), policies.concat()));
    assert_eq!((config.sets().len(), config.set_marks()), (31, !1));
    let error = error(&format!("{}{}", uplinks_of(2), policies.concat())).to_string();
    let expected = "f:130: to-set: there is no bit of the mark left for it: each pair of sets has one, each link has one, \
                    and those of fwmark are taken; use one of the 30 pairs above, or write narrower masks";
    assert_eq!(error, expected);
}

#[test]
fn a_file_that_cannot_be_read_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("multihome.toml");
    let shown = path.display();
    let load_error = || load(&path).unwrap_err();

    let missing = format!("no configuration at {shown}: `mhctl init --write` makes one to begin with");
    assert_eq!(load_error().to_string(), missing);
    assert_eq!(load_error().place, None);
    fs::write(&path, b"# \xc3\xa9\n[[uplink]]\nname = '\xe9'\n").unwrap();
    assert_eq!(load_error().to_string(), format!("{shown}:3: this is not UTF-8 text: save the file as UTF-8"));
    assert_eq!(load_error().place.unwrap().column, 9);
    fs::write(&path, UPLINK).unwrap();
    assert_eq!(load(&path).unwrap().links.len(), 1);
    assert!(load(dir.path()).unwrap_err().to_string().starts_with("cannot read "));
}

/// What a mutation puts into a valid file.
const PIECES: [&str; 12] = ["", "'", "\"", "[", "]]", "=", "\n", "-1", "é", "\u{0}", "{", "'0x/'"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in "(\\PC|\n){0,200}") {
        if let Err(e) = parse(&text, Path::new("f")) {
            prop_assert!(!e.to_string().contains('\n'));
        }
    }

    #[test]
    fn no_mutation_makes_it_panic(from in 0_usize..1200, len in 0_usize..40, piece in 0..PIECES.len()) {
        let valid: Vec<char> = include_str!("every-key.toml").chars().collect();
        let (head, rest) = valid.split_at(from.min(valid.len()));
        let tail = &rest[len.min(rest.len())..];
        let text: String = head.iter().copied().chain(PIECES[piece].chars()).chain(tail.iter().copied()).collect();
        if let Err(e) = parse(&text, Path::new("f")) {
            let place = e.place.clone().unwrap();
            prop_assert!(!e.to_string().contains('\n'));
            prop_assert!(place.line <= text.matches('\n').count() + 1 && text.get(place.span).is_some(), "{e}");
        }
    }
}

#[test]
fn a_link_has_no_more_prefixes_than_a_provider_delegates() {
    let with = |count: u32| {
        let all: Vec<_> = (0..count).map(|n| format!("'2001:db8:{n:x}::/48'")).collect();
        parse(&format!("{UPLINK}prefixes = [{}]\n", all.join(", ")), Path::new("f"))
    };
    assert_eq!(with(64).unwrap().links[0].prefixes.len(), 64);
    let refused = "f:4: prefixes: 65 prefixes are more than any provider delegates: write 64 at most, wider ones";
    assert_eq!(with(65).unwrap_err().to_string(), refused);
}
