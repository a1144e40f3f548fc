//! A policy with `otherwise = "unreachable"` while the configuration changes, at the first event, and after others have
//! deleted rules or routes: at no instant does what the policy is for leave by another line, in either family, whatever
//! address it is bound to; nor does what is sticky to its tunnel.

mod packet;

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use multihome::config::{self, Config};
use multihome::model::change::Change;
use multihome::model::names::Family;
use multihome::model::routing::{FoundRule, Selector};
use multihome::reconcile::desired::selectors;
use multihome::reconcile::{FlushScope, reconcile};
use multihome::state::records::LinkRecords;
use proptest::prelude::*;

use crate::fake::Fake;
use crate::fake::watched::Watched;
pub use packet::Packet;

/// Links: name, interface, kind. The index of the interface is 11 and the place.
const LINKS: [(&str, &str, &str); 5] = [
    ("vpn", "tun0", "tunnel"),
    ("other", "tun1", "tunnel"),
    ("isp1", "ppp0", "uplink"),
    ("isp2", "ppp1", "uplink"),
    ("isp3", "ppp2", "uplink"),
];
const VPN: u32 = 11;
const UPLINKS: [u32; 3] = [13, 14, 15];

/// What the kill switch is for; addresses of uplinks are those of `local`.
const SELECTORS: [&str; 13] = [
    "from = \"192.168.7.0/24\"",
    "uid = 4242",
    "uid = [4242, 5000]\nproto = \"tcp\"\ndport = [443, 80]",
    "to = \"100.64.0.0/16\"",
    "from = [\"10.2.0.2\", \"10.3.0.3\"]",
    "iif = \"lo\"\nproto = \"tcp\"",
    "iif = \"eth1\"",
    "fwmark = \"0x10000/0x10000\"",
    "to = \"2001:db8:6464::/48\"",
    "to = [\"100.64.0.0/16\", \"2001:db8:6464::/48\"]\nuid = 4242",
    "from = [\"192.168.7.0/24\", \"2001:db8:7777::/64\", \"2001:db8:3::/48\"]",
    "from = [\"2001:db8:2::2\", \"2001:db8:3::3\"]",
    "from = [\"10.2.0.2\", \"2001:db8:2::2\"]\nproto = \"tcp\"",
];

/// The address of a link's interface; each has two.
fn local(place: u8, second: bool) -> Ipv4Addr {
    Ipv4Addr::new(10, place, 0, if second { 3 } else { 2 })
}

/// The same of IPv6.
fn local6(place: u8, second: bool) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, place.into(), 0, 0, 0, 0, if second { 3 } else { 2 })
}

/// What may change in a configuration.
#[derive(Debug, Clone)]
struct Choice {
    /// Places of links.
    order: Vec<usize>,
    /// A policy before the kill switch, and one behind that takes nearly all.
    more: bool,
    web: bool,
    /// Another kill switch before it.
    second: bool,
    rule_priority: u32,
}

impl Choice {
    fn config(&self, selector: &str) -> Config {
        let mut text = String::new();
        for (name, interface, kind) in self.order.iter().map(|place| LINKS[*place]) {
            write!(text, "[[{kind}]]\nname = \"{name}\"\ninterface = \"{interface}\"\n").unwrap();
        }
        let last = LINKS[*self.order.last().unwrap()].0;
        if self.more {
            write!(text, "[[policy]]\nname = \"more\"\nto = \"192.0.2.0/24\"\nvia = \"{last}\"\n").unwrap();
        }
        let unreachable = "otherwise = \"unreachable\"\n";
        if self.second {
            write!(text, "[[policy]]\nname = \"second\"\nuid = 7\nvia = \"{last}\"\n{unreachable}").unwrap();
        }
        write!(text, "[[policy]]\nname = \"kill\"\n{selector}\nvia = \"vpn\"\n{unreachable}").unwrap();
        if self.web {
            write!(text, "[[policy]]\nname = \"web\"\nproto = \"tcp\"\nvia = \"{last}\"\n").unwrap();
        }
        write!(text, "[settings]\nrule-priority = {}\n", self.rule_priority).unwrap();
        config::parse(&text, Path::new("test.toml")).unwrap()
    }
}

prop_compose! {
    /// The tunnel and some of the rest, in any order.
    fn choices()(
        order in Just((1..LINKS.len()).collect::<Vec<_>>()).prop_shuffle(),
        count in 1..LINKS.len(),
        at in any::<prop::sample::Index>(),
        more in any::<bool>(), web in any::<bool>(), second in any::<bool>(),
        rule_priority in prop_oneof![4 => Just(100), 1 => Just(101), 1 => Just(150)],
    ) -> Choice {
        let mut order = order;
        order.truncate(count);
        order.insert(at.index(count + 1), 0);
        Choice { order, more, web, second, rule_priority }
    }
}

/// A line: whether it is up, by its second address, and whether it has IPv6 and IPv4.
type Line = (bool, bool, bool, bool);

fn records(lines: &[Line]) -> LinkRecords {
    let record = |place: usize, &(_, second, v4, v6): &Line| {
        let (name, interface, _) = LINKS[place];
        let number = u8::try_from(place).unwrap();
        let (local, local6) = (local(number, second), local6(number, second));
        let mut record = format!("interface = \"{interface}\"\nindex = {}\nsince = 0\n", 11 + place);
        if v4 || !v6 {
            write!(record, "[v4]\nlocal = \"{local}\"\ngateway = \"10.{place}.0.1\"\n").unwrap();
        }
        if v6 {
            write!(record, "[v6]\nlocal = \"{local6}\"\ngateway = \"fe80::1\"\n").unwrap();
        }
        (name.parse().unwrap(), record.parse().unwrap())
    };
    (0..).zip(lines).filter(|(_, line)| line.0).map(|(place, line)| record(place, line)).collect()
}

fn machine() -> Fake {
    let mut text = String::new();
    for (place, (_, interface, _)) in (0..).zip(LINKS) {
        write!(text, "link {} {interface} up address fe80::1:{place}/64", 11 + place).unwrap();
        for second in [false, true] {
            let (local, local6) = (local(place, second), local6(place, second));
            write!(text, " address {local} peer 10.{place}.0.1 address {local6}/64").unwrap();
        }
        text.push('\n');
    }
    Fake::parse(&text)
}

/// What has happened since the first configuration was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Nothing,
    /// It never was: this is the first event.
    FirstEvent,
    /// As the first event, where something else has made a default route.
    ForeignDefault,
    /// `ip rule flush`, and the same with the kernel's own rules put back.
    RulesFlushed,
    OurRulesGone,
    /// The default routes of all tables are gone.
    RoutesGone,
    /// Our rules of these distances from the first one are.
    Deleted(u32, u32),
}

impl Since {
    fn happens(self, fake: &mut Fake, rule_priority: u32) {
        // Which link a mark was is known by our rules and routes.
        if self != Self::Nothing {
            fake.tracked.clear();
        }
        match self {
            Self::Nothing => {}
            Self::FirstEvent => *fake = machine(),
            Self::ForeignDefault => {
                let default = "default metric 50 protocol 4";
                *fake = Fake::parse(&format!(
                    "{}route table 254 {default} dev ppp1\nroute6 table 254 {default} via fe80::1 dev ppp1\n",
                    machine()
                ));
            }
            Self::RulesFlushed => fake.rules.retain(|held| held.rule.priority == 0),
            Self::OurRulesGone => fake.rules.retain(|held| held.protocol != 77),
            Self::RoutesGone => {
                fake.routes.clear();
                fake.nexthops.as_mut().unwrap().clear();
            }
            Self::Deleted(from, to) => {
                let gone = rule_priority + from..=rule_priority + to;
                fake.rules.retain(|held| held.protocol != 77 || !gone.contains(&held.rule.priority));
            }
        }
    }

    /// Whether no rule of ours is left, by whatever numbers: then kill switches are the first that is made.
    fn is_bare(self) -> bool {
        matches!(self, Self::FirstEvent | Self::ForeignDefault | Self::RulesFlushed | Self::OurRulesGone)
    }
}

fn since() -> impl Strategy<Value = Since> {
    prop_oneof![
        4 => Just(Since::Nothing),
        1 => Just(Since::FirstEvent),
        1 => Just(Since::ForeignDefault),
        1 => Just(Since::RulesFlushed),
        1 => Just(Since::OurRulesGone),
        1 => Just(Since::RoutesGone),
        2 => prop::sample::select(vec![(0, 89), (86, 86), (87, 89), (89, 89), (90, 90), (91, 99), (100, 100), (101, 101), (100, 120)])
            .prop_map(|(from, to)| Since::Deleted(from, to)),
    ]
}

/// Packets that must not leak any more: those of the kill switch that do not.
struct Watch {
    packets: Vec<Packet>,
    safe: Vec<bool>,
}

impl Watch {
    fn new(fake: &Fake, selectors: &[(Family, Selector)]) -> Self {
        let mut packets = Packet::all(&fake.tracked);
        packets.retain(|p| selectors.iter().any(|(family, s)| *family == p.family && p.is_in(s)));
        let safe = vec![false; packets.len()];
        let mut watch = Self { packets, safe };
        watch.look(fake, "at first");
        watch
    }

    fn look(&mut self, fake: &Fake, when: &str) {
        for (packet, safe) in self.packets.iter().zip(&mut self.safe) {
            // Its connection was forgotten, and so is its mark.
            let gone =
                packet.mark != 0 && packet.mark != 0x10000 && !fake.tracked.contains(&(packet.family, packet.mark));
            let leaks = !gone && packet.leaks(fake);
            assert!(!(*safe && leaks), "{packet:?} by {:?} {when}\n{fake}", packet.leaves_by(fake));
            *safe = !leaks;
        }
    }

    fn assert_all_safe(&self, fake: &Fake, when: &str) {
        let leak = self.packets.iter().zip(&self.safe).find(|(_, safe)| !**safe);
        assert!(leak.is_none(), "{leak:?} {when}\n{fake}");
    }
}

/// Connections have the tunnel's mark; in IPv6 if a link has had any, or none would have been marked.
fn track(config: &Config, fake: &mut Fake) {
    let vpn = config.links.iter().find(|l| l.name.as_str() == "vpn").unwrap().mark.get();
    for family in Family::BOTH {
        let is_marks = |held: &&FoundRule| held.rule.family == family && held.rule.selector.fwmark.is_some();
        if fake.rules.iter().any(|held| is_marks(&held)) {
            fake.tracked.insert((family, vpn));
        }
    }
}

fn kill_selectors(config: &Config) -> Vec<(Family, Selector)> {
    let kill = config.policies.iter().find(|policy| policy.name == "kill").unwrap();
    let of = |family| selectors(kill, family).into_iter().map(move |selector| (family, selector));
    Family::BOTH.into_iter().flat_map(of).collect()
}

/// One configuration takes another's place: `lines` are those that are up before and after.
fn assert_no_leak(before: &Choice, after: &Choice, selector: &str, lines: [&[Line]; 2], since: Since) {
    let (old, new) = (before.config(selector), after.config(selector));
    let mut fake = machine();
    reconcile(&old, &records(lines[0]), &FlushScope::All, &mut fake).unwrap();
    track(&old, &mut fake);
    let mut watch = Watch::new(&fake, &kill_selectors(&new));
    watch.assert_all_safe(&fake, "at first");
    since.happens(&mut fake, before.rule_priority);
    if since != Since::Nothing {
        watch = Watch::new(&fake, &kill_selectors(&new));
    }
    let each = |_, change: &Change, fake: &mut Fake| {
        let when = format!("before {}", change.command(77));
        watch.look(fake, &when);
        if since.is_bare() && matches!(change, Change::Route(_)) {
            watch.assert_all_safe(fake, &when);
        }
        Ok(())
    };
    reconcile(&new, &records(lines[1]), &FlushScope::All, &mut Watched::new(&mut fake, each)).unwrap();
    watch.look(&fake, "in the end");
    watch.assert_all_safe(&fake, "in the end");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, verbose: 0, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leaves_in_the_clear_whatever_changes(
        before in choices(), mut after in choices(), selector in prop::sample::select(&SELECTORS[..]),
        up in any::<[Line; 5]>(), up_after in any::<[Line; 5]>(), since in since()
    ) {
        if matches!(since, Since::Deleted(..)) {
            // What is half gone is put back before numbers move.
            after = before.clone();
        }
        assert_no_leak(&before, &after, selector, [&up, &up_after], since);
    }
}

/// The new guard leads to where an older policy's rule still is, in front of the kill switch.
#[test]
fn a_guard_leads_to_no_older_policy() {
    let before = Choice { order: vec![0, 1, 2], more: false, web: true, second: false, rule_priority: 100 };
    let after = Choice { order: vec![1, 0], more: true, web: false, second: false, rule_priority: 101 };
    let down = (false, false, false, false);
    let isp1_up = [down, down, (true, false, false, true), down, down];
    for selector in SELECTORS {
        assert_no_leak(&before, &after, selector, [&isp1_up, &[down; 5]], Since::Nothing);
    }
}

/// The kernel has no memory for a moment: any one rule is refused once, at the first event, or when all are gone.
#[test]
fn what_waits_for_a_rule_waits_for_its_second_try() {
    let choice = Choice { order: vec![2, 3, 0], more: true, web: true, second: true, rule_priority: 100 };
    for selector in SELECTORS {
        let config = choice.config(selector);
        for which in 0..60 {
            let records = records(&[(true, true, true, true); 5]);
            let mut fake = machine();
            if which % 2 == 1 {
                reconcile(&config, &records, &FlushScope::All, &mut fake).unwrap();
                Since::RulesFlushed.happens(&mut fake, 100);
            }
            let mut watch = Watch::new(&fake, &kill_selectors(&config));
            let mut rules = 0;
            let each = |_, change: &Change, fake: &mut Fake| {
                watch.look(fake, "on the way");
                rules += usize::from(matches!(change, Change::Rule(_)));
                if matches!(change, Change::Rule(_)) && rules == which / 2 { Err(105) } else { Ok(()) }
            };
            let outcome = reconcile(&config, &records, &FlushScope::All, &mut Watched::new(&mut fake, each)).unwrap();
            assert!(outcome.failures.is_empty(), "{selector}: {:?}", outcome.failures);
            assert!(fake.has_default(Family::V4));
        }
    }
}
