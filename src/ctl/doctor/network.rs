//! What stands in the way in the kernel, and in the names of tables and protocols.

use std::collections::BTreeMap;

use super::{Finding, forwarding, ipv6, kill_switch, nftables};
use crate::cli::Common;
use crate::config::{Config, Firewall, Link, NexthopMode};
use crate::ctl::detours::{self, Detour};
use crate::ctl::lookup::read::Fib;
use crate::ctl::lookup::{Names, owner, protocol_name, rule_deletion, rule_text};
use crate::ctl::show;
use crate::ctl::tree::Tree;
use crate::kernel::netlink::constants::{RTPROT_BOOT, RTPROT_STATIC, RTPROT_UNSPEC};
use crate::kernel::{self, Kernel, Linux, sysctl};
use crate::model::change::Change;
use crate::model::firewall::Lacking;
use crate::model::names::{Family, IfName};
use crate::model::observed::{Observed, Scope};
use crate::model::routing::{FoundRule, FwMark, Rule};
use crate::reconcile::desired::{DefaultRouteMode, Desired};
use crate::reconcile::link_state::{LinkState, LinkStates, Live};
use crate::reconcile::plan::{Plan, Problem};
use crate::state::records::Store;

/// Everything that the kernel tells.
pub(super) fn kernel(config: &Config, common: &Common) -> Result<Vec<Finding>, kernel::Error> {
    let mhctl = &common.mhctl();
    let (mut records, errors) = Store::new(&common.state_dir).load(config);
    let observed = Linux::open()?.observe(&Scope { lan6: true, ..Scope::new(config, &records) })?;
    records.follow_names(&observed);
    let mut fib = Fib::open()?;
    let mut found: Vec<_> = errors
        .iter()
        .map(|e| Finding::trouble(e.to_string(), "the link counts as down", "bring the line up again"))
        .collect();
    let states = LinkStates::new(config, &records, &observed);
    let routed = states.routed();
    let plan = Plan::new(config, &routed, &observed);
    found.extend(plan.problems.iter().map(|found| problem(found, mhctl)));
    found.extend(pending(&plan, config, mhctl));
    let ways = detours::look(config, &states, &observed, mhctl)?;
    found.extend(ways.detours.into_iter().chain(ways.doubts).map(detour));
    found.extend(kill_switch::look(config, &routed, &observed, &plan, &mut fib, mhctl)?);
    for (link, state) in states.iter_of(Family::V4) {
        let interface = records.get(&link.name).map_or(&link.interface, |record| &record.interface);
        match state {
            LinkState::Stale => found.push(Finding::note(
                format!("the record of {} is stale: the {interface} that it names is gone", link.name),
                "nothing has told that the line went down; it counts as down until it comes up again",
                format!("{mhctl} link down {}", link.name),
            )),
            LinkState::NoGateway(_) => {
                found.push(no_gateway(link, interface, mhctl, "it is not used while another uplink is up"));
            }
            LinkState::Up(live) if link.tier().is_some() && live.lacks_gateway(&observed) => {
                found.push(no_gateway(link, interface, mhctl, "each host of the Internet is looked for on it by ARP"));
            }
            _ => {}
        }
        if state.live().is_some() && observed.interfaces.get(interface).is_some_and(|i| i.strict_rp_filter) {
            found.push(Finding::trouble(
                format!("the reverse path filter of {interface} is strict"),
                "it drops what comes in by one line while the best way back is another",
                format!("echo 2 > /proc/sys/net/ipv4/conf/{}/rp_filter", interface.quoted()),
            ));
        }
    }
    found.extend(forwarding::unforwarded(config, &states, &mut fib)?);
    found.extend(features(config, &observed)?);
    let mut rules = fib.rules(Family::V4)?;
    if !routed.v6.is_empty() {
        rules.extend(fib.rules(Family::V6)?);
    }
    found.extend(rules_of_others(config, &routed, &rules, mhctl));
    let sysctls = ipv6::Sysctls::read(&observed)?;
    found.extend(ipv6::look(config, &states, &records, &observed, &sysctls, mhctl));
    Ok(found)
}

/// Traffic that others take.
fn detour(detour: Detour) -> Finding {
    let finding = if detour.is_trouble { Finding::trouble } else { Finding::note };
    finding(
        detour.what,
        "policies, shares and failover are only where multihome's routes are asked".to_owned(),
        detour.fix,
    )
}

/// What an apply would change. The reverse path filter has a finding of its own.
fn pending(plan: &Plan, config: &Config, mhctl: &str) -> Option<Finding> {
    let pending: Vec<_> = plan.changes.iter().filter(|c| !matches!(c, Change::LooseRpFilter(_))).collect();
    let first = pending.first()?.headline(config.settings.protocol);
    let and_more = if pending.len() > 1 { ", ..." } else { "" };
    Some(Finding::trouble(
        format!("{}: {first}{and_more}", show::pending(pending.len())),
        "the kernel does not hold what is wanted: the configuration was edited, another program has changed something, or \
         a carrier has come back since the last event",
        format!("{mhctl} apply ({mhctl} plan shows what that changes)"),
    ))
}

fn no_gateway(link: &Link, interface: &IfName, mhctl: &str, why: &str) -> Finding {
    Finding::trouble(
        format!("{interface} of {} is an Ethernet, and no router is known", link.name),
        why,
        format!(
            "have its caller say the router's address ({mhctl} link up {} --gateway ADDRESS), or write gateway",
            link.name
        ),
    )
}

fn problem(problem: &Problem, mhctl: &str) -> Finding {
    let (why, fix) = match problem {
        Problem::ForeignDefault(route) => {
            ("multihome's cannot stand there, so traffic is not shared and does not fail over", route.deletion())
        }
        Problem::ForeignSpare(route) => {
            ("a spare cannot stand there, so there may be a gap when its line is all that is left", route.deletion())
        }
        Problem::ForeignNexthop { .. } => (
            "the default route is a plain multipath route: when a line dies, one of the others carries all until the hook has run",
            "set nexthop-id in [settings]".into(),
        ),
        Problem::NoSets { is_refused, .. } => (
            "their traffic goes by any line, as if there were no policy",
            if *is_refused { nftables::try_again(mhctl) } else { format!("modprobe nf_tables && {mhctl} apply") },
        ),
        Problem::NoNexthopObjects => ("", "write nexthops = \"auto\" in [settings]".to_owned()),
    };
    let text = problem.to_string();
    // The ways out are in `fix`.
    let what = text.split("; it stays").next().unwrap_or(&text).to_owned();
    Finding::trouble(what, why, fix)
}

/// What the kernel and the system lack.
fn features(config: &Config, observed: &Observed) -> Result<Vec<Finding>, kernel::Error> {
    let mut found = Vec::new();
    if observed.nexthops.is_none() && config.settings.nexthops != NexthopMode::Multipath {
        found.push(Finding::note(
            "this kernel has no nexthop objects (Linux 5.3 has)",
            "when a line dies, one of the others carries all until the hook has run",
            "install a newer kernel",
        ));
    }
    if config.uplink_count() > 1 && sysctl::hash_policy(Family::V4)?.is_none() {
        found.push(Finding::trouble(
            "this kernel has no multipath routes (CONFIG_IP_ROUTE_MULTIPATH)",
            "traffic cannot be shared between lines of one tier",
            "install a kernel that has them, or give each uplink its own tier",
        ));
    }
    let dirs = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];
    let there = dirs.iter().any(|dir| std::path::Path::new(dir).join("iptables-restore").exists());
    let wanted = config.settings.firewall;
    if wanted != Firewall::None && !observed.firewall.uses_nftables(wanted, Lacking::default()) && !there {
        found.push(Finding::trouble(
            "iptables-restore is not installed",
            "replies to what came in by one line may leave by another",
            "apt install iptables, or write firewall = \"nftables\" in [settings] where the kernel has it",
        ));
    }
    Ok(found)
}

/// Marks, tables and priorities that somebody else's rules use as well.
fn rules_of_others(config: &Config, live: &Live<'_>, rules: &[FoundRule], mhctl: &str) -> Vec<Finding> {
    let settings = &config.settings;
    let mut found = Vec::new();
    let wanted = Desired::new(config, live, DefaultRouteMode::Multipath).rules;
    let first = settings.numbers.rule_priority;
    let last = config.policy_priorities().last().map_or(config.first_policy(), |rules| rules.end - 1);
    for foreign in rules.iter().filter(|found| found.protocol != settings.protocol) {
        if let Some(finding) = leftover(foreign, config, &wanted, mhctl) {
            found.push(finding);
            continue;
        }
        let text = shown(foreign);
        found.extend(mark_of_ours(foreign, config, &text));
        if let Some(link) = link_of(foreign, config) {
            found.push(Finding::trouble(
                format!("{text} uses the table of {}", link.name),
                "two programs write one table: each undoes the other's routes",
                format!("give {} another `table`", link.name),
            ));
        }
        if (first..=last).contains(&foreign.rule.priority) {
            found.push(Finding::note(
                format!("{text} stands among multihome's rules ({first} to {last})"),
                "the kernel tries it before some of multihome's rules and after others",
                "set rule-priority in [settings] to a range that is free",
            ));
        }
    }
    if let Some(name) = protocol_name(settings.protocol) {
        found.push(Finding::trouble(
            format!("protocol {} is {name}'s", settings.protocol),
            format!("{name} and multihome take each other's routes for their own, and delete them"),
            "remove `protocol` from [settings]",
        ));
    }
    found
}

/// A rule, and who is known to make such.
fn shown(found: &FoundRule) -> String {
    let whose = owner(found).map(|name| format!(" (as of {name})")).unwrap_or_default();
    let family = if found.rule.family == Family::V6 { "IPv6 " } else { "" };
    format!("{family}rule {}: {}{whose}", found.rule.priority, rule_text(found, &Names::new()))
}

/// The link whose table a rule looks up.
fn link_of<'a>(found: &FoundRule, config: &'a Config) -> Option<&'a Link> {
    let table = found.rule.action.table()?;
    config.links.iter().find(|link| link.table == table)
}

/// A rule that somebody has made by hand, or by a script from before there was multihome, for a link's table. Nobody
/// writes that table for it: it is ours.
fn leftover(found: &FoundRule, config: &Config, wanted: &[Rule], mhctl: &str) -> Option<Finding> {
    /// Those of ip(8): none, boot, static.
    const BY_HAND: [u8; 3] = [RTPROT_UNSPEC, RTPROT_BOOT, RTPROT_STATIC];
    let link = link_of(found, config).filter(|_| BY_HAND.contains(&found.protocol) && owner(found).is_none())?;
    let text = shown(found);
    // Of two that are alike the first goes, which may be ours: apply puts that back.
    let delete = format!("{}; {mhctl} apply", rule_deletion(found));
    if found.is_complete() && wanted.contains(&found.rule) {
        return Some(Finding::note(
            format!("{text} is left over from before: multihome has the same rule itself"),
            "it stays when the configuration changes, and leads where it led",
            delete,
        ));
    }
    if found.rule.selector.fwmark.is_some_and(|m| m.mask & config.marks() != 0) {
        return Some(Finding::trouble(
            format!("{text} is left over from before: multihome has rules of its own for the links' marks"),
            "it leads connections of one link to another, or goes before policies",
            delete,
        ));
    }
    Some(Finding::trouble(
        format!("{text} uses the table of {}", link.name),
        "it goes on with that number when the configuration has given the table to another link",
        format!("write a [[policy]] with via = [\"{}\"] instead, then {delete}", link.name),
    ))
}

/// A rule that compares bits of our marks.
fn mark_of_ours(found: &FoundRule, config: &Config, text: &str) -> Option<Finding> {
    let FwMark { value, mask } = found.rule.selector.fwmark.filter(|m| m.mask & config.all_marks() != 0)?;
    let fix = if mask == u32::MAX && value == 51820 {
        "write Table = off into wg-quick's file, and make it a [[tunnel]]".to_owned()
    } else if mask.count_zeros() as usize >= config.links.len() {
        format!("give each link a `mark` outside of {mask:#x}")
    } else if value & config.all_marks() == 0 {
        format!("have that rule leave multihome's bits out: fwmark {value:#x}/{:#x}", !config.all_marks())
    } else {
        format!(
            "have that rule compare another mark, without multihome's bits: under the mask {:#x}",
            !config.all_marks()
        )
    };
    let what = format!("{text} compares bits of multihome's marks ({:#x})", mask & config.all_marks());
    Some(Finding::trouble(what, "the mark of a sticky connection changes what it matches, and the reverse", fix))
}

/// Names of tables and protocols, for ip(8).
pub(super) fn names(tree: &Tree, config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    let tables = numbers(tree, "rt_tables");
    for link in &config.links {
        for (number, (name, file)) in &tables {
            let same_name = *name == link.name.as_str();
            let same_number = *number == link.table.get();
            if same_name == same_number {
                continue;
            }
            let why = "ip(8) then shows another table than you mean";
            let fix = format!("remove the line from {file}, or give {} `table = {number}`", link.name);
            let what = format!("{file} says that table {number} is {name}; {} has {}", link.name, link.table);
            found.push(Finding::note(
                what,
                why,
                if same_name { fix } else { format!("give {} another `table`", link.name) },
            ));
        }
    }
    let protocol = u32::from(config.settings.protocol);
    if let Some((name, file)) = numbers(tree, "rt_protos").get(&protocol).filter(|(name, _)| name != "multihome") {
        found.push(Finding::note(
            format!("{file} says that protocol {protocol} is {name}'s"),
            "if it is in use, both programs delete each other's routes",
            "set `protocol` in [settings] to a number that is free",
        ));
    }
    found
}

/// The numbers of a file of iproute2 and its directory, with names and where they stand. Our own file
/// is made from the configuration.
fn numbers(tree: &Tree, base: &str) -> BTreeMap<u32, (String, String)> {
    let mut all = BTreeMap::new();
    for dir in ["/usr/share/iproute2", "/etc/iproute2"] {
        let mut texts = vec![(format!("{dir}/{base}"), tree.text(&format!("{dir}/{base}")))];
        for (name, text) in tree.files(&format!("{dir}/{base}.d")) {
            if super::ends(&name, "conf") && name != "multihome.conf" {
                texts.push((format!("{dir}/{base}.d/{name}"), text));
            }
        }
        for (file, text) in texts {
            for line in text.lines() {
                let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
                let number = words.next().and_then(|n| {
                    n.strip_prefix("0x").map_or_else(|| n.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())
                });
                if let (Some(number), Some(name)) = (number, words.next()) {
                    all.insert(number, (name.to_owned(), file.clone()));
                }
            }
        }
    }
    all
}
