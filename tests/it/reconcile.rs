//! Reconciling where the kernel does not do as it is told.

use std::ops::Range;
use std::path::Path;

use multihome::config;
use multihome::kernel::{self, Kernel};
use multihome::model::change::Change;
use multihome::model::names::Family;
use multihome::model::observed::{Observed, Scope};
use multihome::model::routing::{Action, Device, FwMark, Rule};
use multihome::reconcile::{Failure, FlushScope, reconcile};
use multihome::state::records::LinkRecords;

use crate::fake::watched::Watched;
use crate::fake::{EINVAL, Fake, refusal};

const LINE: &str = "link 11 ppp0 up address 198.51.100.10 peer 198.51.100.1\n";
const UPLINK: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\n";

fn records() -> LinkRecords {
    let record =
        "interface = \"ppp0\"\nindex = 11\nsince = 0\n[v4]\nlocal = \"198.51.100.10\"\ngateway = \"198.51.100.1\"";
    [("isp1".parse().unwrap(), record.parse().unwrap())].into_iter().collect()
}

/// A policy of that many rules.
fn policy(rules: u32) -> String {
    let ports: Vec<_> = (1..=rules).map(|n| (n * 10).to_string()).collect();
    format!("[[policy]]\nname = \"p\"\nproto = \"tcp\"\ndport = [{}]\nvia = \"isp1\"\n", ports.join(", "))
}

/// Linux before 4.17 loses the selectors of each of a hundred rules. That is told of each; none of
/// them stays, and what comes after them is done.
#[test]
fn any_number_of_rules_may_lose_its_selector() {
    let config = config::parse(&format!("{UPLINK}{}", policy(100)), Path::new("test.toml")).unwrap();
    let mut fake = Fake::parse(&format!("{LINE}rule priority 5000 lookup 9 protocol 77\n"));
    fake.forgets_ports = true;
    let outcome = reconcile(&config, &records(), &FlushScope::All, &mut fake).unwrap();
    let without_effect = outcome.failures.iter().filter(|f| matches!(f, Failure::NoEffect(_))).count();
    assert_eq!((without_effect, outcome.failures.len()), (100, 100), "{:?}", outcome.failures.last());
    let own: Vec<_> = fake.rules.iter().filter(|r| r.protocol == 77).map(|r| r.rule.priority).collect();
    assert_eq!(own, [100, 190, 191]);
}

/// A kernel without policy routing refuses every rule: that is told of each, the routes are made.
#[test]
fn any_number_of_rules_may_be_refused() {
    let config = config::parse(&format!("{UPLINK}{}", policy(100)), Path::new("test.toml")).unwrap();
    let mut fake = Fake::parse(LINE);
    let refuse = |_, change: &Change, _: &mut Fake| if matches!(change, Change::Rule(_)) { Err(95) } else { Ok(()) };
    let outcome = reconcile(&config, &records(), &FlushScope::All, &mut Watched::new(&mut fake, refuse)).unwrap();
    let refused = outcome.failures.iter().filter(|f| matches!(f, Failure::Refused { link: None, .. })).count();
    assert_eq!((refused, outcome.failures.len()), (103, 103), "{:?}", outcome.failures.last());
    assert!(fake.has_default(Family::V4));
}

#[test]
fn a_group_that_is_refused_becomes_a_multipath_route() {
    let config = config::parse(UPLINK, Path::new("test.toml")).unwrap();
    let mut fake = Fake::parse(LINE);
    let refuse = |_, change: &Change, _: &mut Fake| match change {
        Change::Group { .. } => Err(EINVAL),
        _ => Ok(()),
    };
    let outcome = reconcile(&config, &records(), &FlushScope::All, &mut Watched::new(&mut fake, refuse)).unwrap();
    assert!(matches!(&outcome.failures[..], [Failure::Refused { link: None, .. }]), "{:?}", outcome.failures);
    assert!(fake.has_default(Family::V4), "{fake}");
    assert_eq!(fake.nexthops, Some(std::collections::BTreeMap::new()));
}

/// A refusal that will be the same at the next event is remembered; a lack of memory is over by then.
#[test]
fn rules_that_nftables_refuses_go_to_iptables_unless_the_kernel_lacks_memory() {
    const ENOMEM: i32 = 12;
    for (errno, falls_back) in [(EINVAL, true), (ENOMEM, false)] {
        let config = config::parse(UPLINK, Path::new("test.toml")).unwrap();
        let mut fake = Fake::parse(LINE);
        let refuse = |_, change: &Change, _: &mut Fake| match change {
            Change::Nftables(_) => Err(errno),
            _ => Ok(()),
        };
        let outcome = reconcile(&config, &records(), &FlushScope::All, &mut Watched::new(&mut fake, refuse)).unwrap();
        let told = (outcome.warnings.len(), outcome.failures.len());
        assert_eq!(told, if falls_back { (1, 0) } else { (0, 1) }, "{outcome:?}");
        assert_eq!(fake.firewall.any_of_iptables(), falls_back);
        assert!(fake.has_default(Family::V4));

        let outcome = reconcile(&config, &records(), &FlushScope::All, &mut fake).unwrap();
        assert!(outcome.warnings.is_empty() && outcome.failures.is_empty(), "{outcome:?}");
        let makes_table = outcome.made.iter().any(|change| matches!(change, Change::Nftables(_)));
        assert_eq!((makes_table, outcome.made.is_empty()), (!falls_back, falls_back), "{outcome:?}");
        assert_eq!(fake.firewall.any_of_iptables(), falls_back);
    }
}

/// Linux before 6.12 refuses a weight of 256 in a nexthop group (`nh_check_attr_group()`), which is 255 there.
#[test]
fn the_largest_weight_is_one_that_every_kernel_takes() {
    let config = config::parse(&format!("{UPLINK}weight = 256\n"), Path::new("test.toml")).unwrap();
    let mut fake = Fake::parse(LINE);
    let outcome = reconcile(&config, &records(), &FlushScope::All, &mut fake).unwrap();
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    assert!(fake.to_string().contains("group 7001,255 "), "{fake}");
}

/// The new metric cannot be had: the default at the old one stays.
#[test]
fn the_old_default_stays_where_the_new_one_is_refused() {
    let config =
        |metric| config::parse(&format!("{UPLINK}[settings]\nmetric = {metric}\n"), Path::new("test.toml")).unwrap();
    let mut fake = Fake::parse(LINE);
    reconcile(&config(0), &records(), &FlushScope::All, &mut fake).unwrap();
    let refuse = |_, change: &Change, _: &mut Fake| match change {
        Change::Route(route) if route.metric == 50 => Err(EINVAL),
        _ => Ok(()),
    };
    let outcome = reconcile(&config(50), &records(), &FlushScope::All, &mut Watched::new(&mut fake, refuse)).unwrap();
    assert!(matches!(&outcome.failures[..], [Failure::Refused { link: None, .. }]), "{:?}", outcome.failures);
    assert!(fake.has_default(Family::V4), "{fake}");
}

/// Somebody has made a `blackhole` rule with our protocol number: the door cannot say it, so the
/// kernel does not find it when it is deleted. There is an end, and a word about it.
#[test]
fn a_rule_of_ours_that_cannot_be_deleted_is_told_of() {
    let config = config::parse(UPLINK, Path::new("test.toml")).unwrap();
    let mut fake = Fake::parse(&format!("{LINE}rule priority 5000 type unreachable protocol 77 and more\n"));
    let outcome = reconcile(&config, &records(), &FlushScope::All, &mut fake).unwrap();
    assert!(
        matches!(&outcome.failures[..], [Failure::NoEffect(command)] if command.contains("priority 5000")),
        "{:?}",
        outcome.failures
    );
    assert!(outcome.made.len() < 20, "{:?}", outcome.made);
}

/// A kernel that counts who asks for all its devices, or tells nobody.
struct Asked {
    fake: Fake,
    questions: usize,
    silent: bool,
}

impl Kernel for Asked {
    fn observe(&mut self, scope: &Scope) -> Result<Observed, kernel::Error> {
        self.fake.observe(scope)
    }

    fn apply(&mut self, change: &Change, protocol: u8) -> Result<(), kernel::Error> {
        self.fake.apply(change, protocol)
    }

    fn in_groups(&mut self, groups: &Range<u32>) -> Result<Vec<(Device, u32)>, kernel::Error> {
        self.questions += 1;
        if self.silent {
            Err(refusal(&Change::HashPolicy(Family::V4, 0), 77, EINVAL))
        } else {
            self.fake.in_groups(groups)
        }
    }

    fn has_connections(&mut self, family: Family, mark: FwMark) -> Result<bool, kernel::Error> {
        self.fake.has_connections(family, mark)
    }

    fn flush_route_cache(&mut self) -> Result<(), kernel::Error> {
        Ok(())
    }
}

/// There may be thousands of devices: only where groups or their meaning change they are gone through.
#[test]
fn an_event_that_changes_no_group_does_not_go_through_all_devices() {
    let config = config::parse(UPLINK, Path::new("test.toml")).unwrap();
    let stray = "link 12 eth1 up group 7000\n";
    let mut kernel = Asked { fake: Fake::parse(&format!("{LINE}{stray}")), questions: 0, silent: false };
    reconcile(&config, &records(), &FlushScope::All, &mut kernel).unwrap();
    assert_eq!(kernel.questions, 1);
    let groups: Vec<_> = kernel.fake.nics.iter().map(|(name, nic)| (name.as_str(), nic.group)).collect();
    assert_eq!(groups, [("eth1", 0), ("ppp0", 7000)]);
    let other_metric = config::parse(&format!("{UPLINK}[settings]\nmetric = 50\n"), Path::new("test.toml")).unwrap();
    let outcome = reconcile(&other_metric, &records(), &FlushScope::All, &mut kernel).unwrap();
    assert!(!outcome.made.is_empty());
    assert_eq!(kernel.questions, 1);
}

/// All else is made all the same.
#[test]
fn that_devices_are_not_told_keeps_nothing_back() {
    let config = config::parse(UPLINK, Path::new("test.toml")).unwrap();
    let mut kernel = Asked { fake: Fake::parse(LINE), questions: 0, silent: true };
    let outcome = reconcile(&config, &records(), &FlushScope::All, &mut kernel).unwrap();
    assert!(matches!(&outcome.failures[..], [Failure::Refused { link: None, .. }]), "{:?}", outcome.failures);
    assert!(kernel.fake.has_default(Family::V4));
    assert!(kernel.fake.nics.values().all(|nic| nic.group == 7000));
}

/// A rule that was an older configuration's, twice, with the one that is wanted between them, which a deletion of the
/// second hits first.
#[test]
fn copies_of_a_rule_go_although_a_wanted_one_stands_between_them() {
    let policy = "[[policy]]\nname = \"p\"\nfwmark = \"0x10000/0x30000\"\nvia = \"isp1\"\n";
    let config = config::parse(&format!("{UPLINK}{policy}"), Path::new("test.toml")).unwrap();
    let old = "rule priority 191 from 198.51.100.10/32 lookup 1 protocol 77\n";
    let wanted = "rule priority 191 from 198.51.100.10/32 fwmark 0x0/0x10000 lookup 1 protocol 77\n";
    let mut fake = Fake::parse(&format!("{LINE}{old}{wanted}{old}"));
    let outcome = reconcile(&config, &records(), &FlushScope::All, &mut fake).unwrap();
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    let sources: Vec<_> = fake.rules.iter().filter(|r| r.rule.priority == 191).map(|r| r.rule.to_string()).collect();
    assert_eq!(sources, ["priority 191 from 198.51.100.10/32 fwmark 0x0/0x10000 lookup 1"]);
}

/// Somebody else's route in a link's table, and a rule that will not go: connections are flushed once, not for ever.
#[test]
fn connections_are_flushed_once() {
    let config = config::parse(UPLINK, Path::new("test.toml")).unwrap();
    let mut fake = Fake::parse(&format!(
        "{LINE}route table 1 default metric 0 protocol 4 unreachable\nrule priority 100 fwmark 0x1/0x1 lookup 1 protocol 77\n\
         rule priority 200 from 192.0.2.7/32 lookup 1 protocol 77\n"
    ));
    let mut flushed = 0;
    let stubborn = |_, change: &Change, _: &mut Fake| {
        flushed += usize::from(matches!(change, Change::FlushConnections(..)));
        if matches!(change, Change::DeleteRule(_)) { Err(EINVAL) } else { Ok(()) }
    };
    let outcome = reconcile(&config, &records(), &FlushScope::All, &mut Watched::new(&mut fake, stubborn)).unwrap();
    assert!(!outcome.failures.iter().any(|f| matches!(f, Failure::NotConverging)), "{:?}", outcome.failures);
    assert_eq!(flushed, 1);
}

/// Nobody answers any more to addresses of a prefix that a link has lost: its connections are flushed,
/// and only those.
#[test]
fn connections_of_a_prefix_that_a_link_has_lost_are_flushed() {
    let config = config::parse(UPLINK, Path::new("test.toml")).unwrap();
    let records = |prefixes: &str| -> LinkRecords {
        let record =
            format!("interface = \"ppp0\"\nindex = 11\nsince = 0\n[v6]\nlocal = \"fe80::a\"\nprefixes = [{prefixes}]");
        [("isp1".parse().unwrap(), record.parse().unwrap())].into_iter().collect()
    };
    let mut fake = Fake::parse("link 11 ppp0 up address fe80::a/10\n");
    let mut flushed = |prefixes: &str| {
        let outcome = reconcile(&config, &records(prefixes), &FlushScope::All, &mut fake).unwrap();
        assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
        let made = outcome.made.iter().filter(|change| matches!(change, Change::FlushPrefix(..)));
        made.map(|change| change.command(77).to_string()).collect::<Vec<_>>()
    };
    let (first, second) = ("\"2001:db8:1::/48\"", "\"2001:db8:2::/48\"");
    assert_eq!(flushed(first), [""; 0]);
    assert_eq!(flushed(&format!("{first}, {second}")), [""; 0], "one more");
    assert_eq!(flushed(second), ["conntrack -D -f ipv6 --reply-dst 2001:db8:1::/48 --mark 0x1/0x1"]);
    assert_eq!(flushed("\"2001:db8::/32\""), [""; 0], "it is a part of the new one");
    assert_eq!(flushed(""), ["conntrack -D -f ipv6 --reply-dst 2001:db8::/32 --mark 0x1/0x1"]);
}

/// While sets are renumbered, rules refuse what bears their marks. When our table is refused meanwhile, they are not made
/// again, and go in the end.
#[test]
fn rules_that_refuse_for_a_while_stand_through_a_second_plan() {
    let kill_switch = "[[policy]]\nname = \"p\"\nto-set = \"tv\"\nvia = \"isp1\"\notherwise = \"unreachable\"\n";
    let old = config::parse(&format!("{UPLINK}{kill_switch}proto = \"udp\"\n"), Path::new("test.toml")).unwrap();
    let moved = "[settings]\nrule-priority = 120\n";
    let new = config::parse(&format!("{UPLINK}{}{moved}", kill_switch.replace("tv", "film")), Path::new("test.toml"))
        .unwrap();
    let mut fake = Fake::parse(LINE);
    reconcile(&old, &records(), &FlushScope::All, &mut fake).unwrap();
    let mut is_refused = false;
    let refuse_one = |_, change: &Change, _: &mut Fake| {
        if is_refused || !matches!(change, Change::Nftables(_)) {
            return Ok(());
        }
        is_refused = true;
        Err(EINVAL)
    };
    let outcome = reconcile(&new, &records(), &FlushScope::All, &mut Watched::new(&mut fake, refuse_one)).unwrap();
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    let is_refusal = |rule: &Rule| rule.priority == 206 && rule.action == Action::Unreachable;
    let refusals = outcome.made.iter().filter(|change| matches!(change, Change::Rule(rule) if is_refusal(rule)));
    assert!(is_refused && refusals.count() == 2, "one a family: {:?}", outcome.made);
    assert!(reconcile(&new, &records(), &FlushScope::All, &mut fake).unwrap().made.is_empty());
}
