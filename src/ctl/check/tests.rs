//! What `check` says, word for word.

use super::*;

fn checked(text: &str) -> String {
    super::text(&report(text, Path::new("m.toml")), Screen::PLAIN)
}

#[test]
fn the_articles_file_gives_the_articles_numbers() {
    assert_eq!(checked(include_str!("../../config/tests/article.toml")), include_str!("tests/article.txt"));
}

#[test]
fn what_is_hardly_meant_is_said_with_its_line() {
    assert_eq!(checked(include_str!("tests/warnings.toml")), include_str!("tests/warnings.txt"));
}

#[test]
fn an_error_shows_its_line_and_a_caret_under_what_is_meant() {
    let cases = [
        (
            "[[uplink]]\nname = 'a'\n\tinterface = \"eth0\"\nweight = 300 # more\r\n",
            "m.toml:4:10: error: weight: 300 is not valid: write a number from 1 to 256\n    \
             4 | weight = 300 # more\n      |          ^^^\n",
        ),
        // A tab is one column wide where it is shown, so that the caret stands right.
        (
            "[[uplink]]\nname = 'a'\n\tinterface\t= 'lo'",
            "m.toml:3:14: error: interface: \"lo\" is not valid: the loopback interface is no link, write another\n    \
             3 |  interface = 'lo'\n      |              ^^^^\n",
        ),
        // Columns are characters, not bytes.
        (
            "policy = [{ name = 'ä', via = [] }]\nuplink = [{ name = 'a', interface = 'b' }]",
            "m.toml:1:31: error: via: the list is empty: write at least one value\n    \
             1 | policy = [{ name = 'ä', via = [] }]\n      |                               ^^\n",
        ),
        ("x", "m.toml:1:2: error: key with no value, expected `=`\n    1 | x\n      |  ^\n"),
        ("", "m.toml:1:1: error: there is no link: write at least one [[uplink]] or [[tunnel]]\n    1 | \n      | ^\n"),
    ];
    for (text, expected) in cases {
        assert_eq!(checked(text), expected, "{text:?}");
    }
}

#[test]
fn a_file_cannot_play_tricks_on_the_terminal() {
    let text = "[[uplink]]\nname = '\u{1b}]0;x\u{7}'\n";
    let shown = checked(text);
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    let long = format!("[[uplink]]\nname = '{}'\n", "x".repeat(100_000));
    assert!(checked(&long).len() < 1000);
}

#[test]
fn colour_is_only_added_to_the_text() {
    let text = include_str!("tests/warnings.toml");
    let report = report(text, Path::new("m.toml"));
    let coloured = super::text(&report, Screen { colour: true, ..Screen::PLAIN });
    assert!(coloured.contains("\x1b[33mwarning\x1b[0m"), "{coloured:?}");
    let mut plain = String::new();
    for part in coloured.split("\x1b[") {
        plain.push_str(if plain.is_empty() { part } else { part.split_once('m').unwrap().1 });
    }
    assert_eq!(plain, checked(text));
}

#[test]
fn what_sets_need_and_what_they_do_not_cover_is_said() {
    let links = "[[uplink]]\nname = 'a'\ninterface = 'ppp0'\nmasquerade = true\n\
                 [[tunnel]]\nname = 'b'\ninterface = 'tun0'\n";
    let policy = |name: &str, keys: &str| format!("[[policy]]\nname = '{name}'\n{keys}\n");
    let text = checked(&format!(
        "{links}{}{}{}",
        policy("films", "to-set = 'tv'\nvia = 'a'"),
        policy("secret", "to-set = 'secret'\nvia = 'b'\notherwise = 'unreachable'\nproto = 6"),
        policy("of the LAN", "to-set = 'secret'\nfrom-set = 'kids'\nvia = 'b'\niif = 'eth1'"),
    ));
    let warning = "m.toml:12:1: warning: policy \"secret\" is by a set: what this machine itself sends has the address of \
                   another link by then, and no answer comes back by b; write masquerade = true there, unless your own \
                   rules do it\n\nm.toml: no errors, 1 warning\n";
    let marks = "mark 0x80000000: what goes to set tv\nmark 0x40000000: what goes to set secret\n\
                 mark 0x20000000: what goes from set kids to set secret\n";
    assert!(text.contains(warning), "{text}");
    assert!(text.contains(marks), "{text}");
    let kill_switch = checked(&format!("{links}{}", policy("s", "to-set = 's'\nvia = 'b'\notherwise = 'unreachable'")));
    let gap = "- policy \"s\" is about what is in the set: at boot, and after `nft flush ruleset`, nothing is;";
    assert!(kill_switch.contains(gap), "{kill_switch}");
}

#[test]
fn what_is_hardly_meant_in_ipv6_is_said() {
    let text = "[settings]\nfirewall = 'none'\n\
                [[uplink]]\nname = 'a'\ninterface = 'ppp0'\nprefixes = ['2001:db8::/32', '2001:db9::/48']\nnat6 = 'all'\n\
                [[uplink]]\nname = 'b'\ninterface = 'ppp1'\nprefixes = '2001:db8:1::/48'\n\
                [[uplink]]\nname = 'c'\ninterface = 'ppp2'\nprefixes = '2001:db9::/48'\n\
                [[uplink]]\nname = 'd'\ninterface = 'ppp3'\nipv6 = 'off'\ngateway6 = 'fe80::1'\n\
                [[policy]]\nname = 'host'\nfrom = '2001:db8:5::7'\nvia = ['b', 'a']\n\
                [[policy]]\nname = 'its own'\nfrom = '2001:db8:6::7'\nvia = 'a'\n\
                [[policy]]\nname = 'refused'\nfrom = '2001:db8:7::7'\nvia = 'b'\notherwise = 'unreachable'\n";
    let shown = checked(text);
    let warnings: Vec<_> = shown.lines().filter(|line| line.contains(": warning: ")).collect();
    for (line, words) in warnings.iter().zip([
        "nat6 = \"all\" of a has no effect with firewall = \"none\"",
        "prefix 2001:db8::/32 of a and 2001:db8:1::/48 of b overlap: packets with a source of both leave by a",
        "prefix 2001:db9::/48 is of a and of c: packets with such a source leave by either",
        "gateway6 of d has no effect with ipv6 = \"off\"",
        "policy \"host\" has no effect on 2001:db8:5::7/128 while a is up",
    ]) {
        assert!(line.contains(words), "{line}\n{words}");
    }
    assert_eq!(warnings.len(), 5, "{shown}");
    assert!(
        shown.contains("- policy \"refused\" names IPv6 addresses: what the same hosts send in IPv4 is not covered")
    );
    assert!(
        shown.contains("default route of tier 1: metric 0 (IPv6: 512), nexthop group 7100, protocol 77\n"),
        "{shown}"
    );
    let off = checked("[[uplink]]\nname = 'a'\ninterface = 'ppp0'\nipv6 = 'off'\n");
    assert!(off.contains("default route of tier 1: metric 0, nexthop group 7100, protocol 77\n"), "{off}");
}
