//! What keeps `[check]` from doing what it is for: an mh-watch that does not run or may not ask, targets that do not
//! answer, pppd that notices a dead line late, a metered uplink that nothing relieves.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Finding;
use super::pppd::link_of;
use crate::config::{Check, Config, Link, Method};
use crate::ctl::pppd::{is_example, value, words};
use crate::ctl::tree::Tree;
use crate::kernel::{self, sysctl};
use crate::model::names::Family;
use crate::model::sh::quoted;
use crate::watch::memory::{Judged, Report};

/// An uplink that no target has answered for so long is not about to be answered.
const SETTLED: Duration = Duration::from_mins(1);

/// pppd may take so many seconds to notice that its peer is gone. With what is recommended it takes 4.
const SOON: u32 = 5;

pub(super) fn look(tree: &Tree, config: &Config, state_dir: &Path) -> Result<Vec<Finding>, kernel::Error> {
    let mut found: Vec<_> = metered(config).collect();
    let Some(check) = &config.check else { return Ok(found) };
    found.extend(lcp_echo(tree, config));
    let forbidden = forbidden(check)?;
    let may_ask = forbidden.is_none();
    found.extend(forbidden);
    let Some(report) = Report::of_running(state_dir) else {
        found.push(Finding::trouble(
            "mh-watch does not run, and the configuration has [check]",
            "no other program asks whether a line that is up carries anything",
            "systemctl enable --now mh-watch",
        ));
        return Ok(found);
    };
    if may_ask {
        found.extend(unanswered(config, &report));
        found.extend(silent(config, check, &report));
    }
    Ok(found)
}

/// ICMP sockets are for the groups in a range; mh-watch has root's group, and no privilege is of help.
fn forbidden(check: &Check) -> Result<Option<Finding>, kernel::Error> {
    let Some((low, high)) = sysctl::ping_groups()? else { return Ok(None) };
    let asks = check.targets.iter().any(|target| target.method() == Method::Icmp);
    // "1 0" is nobody.
    let is_allowed = low == 0;
    Ok((asks && !is_allowed).then(|| {
        Finding::trouble(
            format!("net.ipv4.ping_group_range is {low} {high}: mh-watch may not ask by ICMP echo"),
            "targets that are asked so are never asked, and no uplink is judged by them",
            "echo 'net.ipv4.ping_group_range = 0 2147483647' >/etc/sysctl.d/90-multihome.conf && \
             sysctl -p /etc/sysctl.d/90-multihome.conf",
        )
    }))
}

/// Uplinks by which no target has answered.
fn unanswered(config: &Config, report: &Report) -> Vec<Finding> {
    let mut found = Vec::new();
    for link in config.checked() {
        for family in Family::BOTH {
            let told = report.of(link.name.as_str(), family);
            let is_unanswered = told.is_some_and(|told| {
                told.state == Judged::Unknown && told.since().is_some_and(|since| since >= SETTLED)
            });
            if is_unanswered {
                found.push(Finding::note(
                    format!("no target of [check] has answered by {} ({family})", link.name),
                    "what has never answered is no evidence: whether that line carries anything is not judged",
                    "write targets that answer by it, or check = false there",
                ));
            }
        }
    }
    found
}

/// Targets that have not answered by a link while others did.
fn silent(config: &Config, check: &Check, report: &Report) -> Vec<Finding> {
    let mut by_target: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for link in config.checked() {
        for target in &check.targets {
            let told = report.of(link.name.as_str(), target.family());
            let text = target.to_string();
            if told.is_some_and(|told| told.silent.contains(&text)) {
                by_target.entry(text).or_default().push(link.name.as_str());
            }
        }
    }
    let mut found = Vec::with_capacity(by_target.len());
    for (target, links) in by_target {
        found.push(Finding::note(
            format!("{target} has never answered by {}, while other targets did", links.join(", ")),
            "it is no evidence there: the fewer targets answer, the more one of them decides",
            "write another target in its place in [check]",
        ));
    }
    found
}

/// Peers whose pppd does not notice soon that the other end is gone.
fn lcp_echo(tree: &Tree, config: &Config) -> Vec<Finding> {
    let general_text = tree.text("/etc/ppp/options");
    let general = words(&general_text);
    let mut found = Vec::new();
    for (peer, text) in tree.files("/etc/ppp/peers").into_iter().filter(|(_, text)| !is_example(text)) {
        let own = words(&text);
        let Some(link) = link_of(&own, config).filter(|link| link.is_uplink()) else { continue };
        let all: Vec<_> = general.iter().chain(&own).copied().collect();
        // pppd takes 0 for never.
        let [interval, failures] = ["lcp-echo-interval", "lcp-echo-failure"]
            .map(|option| value(&all, option).and_then(|n| n.parse::<u32>().ok()).unwrap_or_default());
        let soon = interval.saturating_mul(failures);
        if (1..=SOON).contains(&soon) {
            continue;
        }
        let path = format!("/etc/ppp/peers/{peer}");
        let what = if soon == 0 {
            format!("{path} ({}) has no lcp-echo-interval and lcp-echo-failure: pppd does not ask its peer", link.name)
        } else {
            format!("{path} ({}): pppd notices after {soon} s that its peer is gone", link.name)
        };
        found.push(Finding::note(
            what,
            "with an echo each second, four of which are missed, it takes the device down itself, and the kernel fails over",
            format!("printf '\\nlcp-echo-interval 1\\nlcp-echo-failure 4\\n' >>{}", quoted(&path)),
        ));
    }
    found
}

/// Metered uplinks beside which there is nothing better.
fn metered(config: &Config) -> impl Iterator<Item = Finding> {
    let best = config.uplinks().filter_map(Link::tier).min();
    let is_alone = config.uplink_count() < 2;
    let all = config.uplinks().filter(move |link| link.metered && !is_alone && link.tier() == best);
    all.map(|link| {
        Finding::note(
            format!("{} is metered, and no uplink has a better tier", link.name),
            "it carries its share whenever it is up, and connections leave it for none",
            "write a higher tier there than that of the others, such as tier = 2, or take metered out",
        )
    })
}
