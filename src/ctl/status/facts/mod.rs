//! What there is to tell, put together from configuration, records and kernel. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::config::{Config, Firewall};
use crate::ctl::counters::Counters;
use crate::ctl::detours::{self, Detour, Elsewhere};
use crate::ctl::prefixes;
use crate::model::firewall::Lacking;
use crate::model::names::{Family, IfName};
use crate::model::observed::Observed;
use crate::reconcile::link_state::{LinkStates, Status};
use crate::reconcile::plan::Plan;
use crate::state::records::LinkRecords;
use crate::watch::memory::{Judged, Report};

mod link;
mod policy;
mod routes;

/// What was looked at.
pub(super) struct Seen<'a> {
    pub(super) config: &'a Config,
    pub(super) records: &'a LinkRecords,
    pub(super) observed: &'a Observed,
    pub(super) states: &'a LinkStates<'a>,
    pub(super) counters: &'a BTreeMap<IfName, Counters>,
    /// What the kernel said of where traffic goes.
    pub(super) ways: &'a detours::Found,
    /// Devices of links that are up and whose gateway does not answer ARP, or neighbour discovery.
    pub(super) silent: &'a BTreeSet<(Family, IfName)>,
    /// Whether this host forwards IPv6 packets: then the kernel does not ask which gateways answer.
    pub(super) forwards6: bool,
    /// When IPv6 came up, by the index of the interface, in seconds since 1970.
    pub(super) since6: &'a BTreeMap<u32, u64>,
    /// What mh-watch knows; `None`: it does not run.
    pub(super) report: Option<&'a Report>,
    /// How to call mhctl for the same.
    pub(super) mhctl: &'a str,
}

/// Version of the JSON (docs/status.md). It grows when a key goes or changes its meaning, not when one is added.
const VERSION: u32 = 1;

/// When it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Seconds since 1970.
    pub(super) unix: u64,
    /// Seconds since boot.
    pub(super) uptime: Option<u64>,
}

/// All that there is to tell.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    version: u32,
    pub(super) mh_watch_runs: bool,
    pub(super) links: Vec<LinkFacts>,
    /// IPv4 default routes of the main table, the one in use first.
    pub(super) default_routes: Vec<DefaultFacts>,
    pub(super) default_routes_ipv6: Vec<DefaultFacts>,
    pub(super) policies: Vec<PolicyFacts>,
    pub(super) kernel: KernelFacts,
    /// Whether hosts behind this one may have IPv6 addresses of a line, which decide before policies do.
    #[serde(skip)]
    pub(super) sources_decide: bool,
    /// How to call mhctl for the same.
    #[serde(skip)]
    pub(super) mhctl: String,
    /// Records that cannot be read, a prefix that two uplinks have, and an mh-watch that is wanted and does not run.
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct LinkFacts {
    pub(super) name: String,
    pub(super) kind: &'static str,
    /// Of IPv4, as all down to the share.
    pub(super) state: Status,
    /// Why it is not up, or what is wrong with it although it is.
    pub(super) reason: Option<String>,
    pub(super) interface: String,
    /// Index of the interface whose counters these are.
    #[serde(skip)]
    pub(super) index: Option<u32>,
    pub(super) local: Option<Ipv4Addr>,
    pub(super) gateway: Option<Ipv4Addr>,
    /// Seconds since it came up.
    pub(super) age: Option<u64>,
    /// Of an uplink that is up, what it carries now of new connections that no policy is about: 0 where it waits for
    /// a better tier to go.
    pub(super) share_percent: Option<f64>,
    #[serde(flatten)]
    pub(super) health: HealthFacts,
    /// `None`: nobody has told of IPv6, and it has none by itself.
    pub(super) ipv6: Option<Ipv6Facts>,
    /// It is an uplink that may have IPv6, and has none now.
    #[serde(skip)]
    pub(super) lacks_ipv6: bool,
    pub(super) weight: Option<u16>,
    pub(super) tier: Option<u8>,
    pub(super) received_bytes: Option<u64>,
    pub(super) sent_bytes: Option<u64>,
    pub(super) received_packets: Option<u64>,
    pub(super) sent_packets: Option<u64>,
    /// While watching.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) received_bytes_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sent_bytes_per_second: Option<f64>,
}

/// What mh-watch knows of a family of a link; all `None` where it is not checked.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(super) struct HealthFacts {
    pub(super) rtt_ms: Option<f64>,
    /// Of the last probes, 100 at most.
    pub(super) loss_percent: Option<f64>,
    pub(super) health: Option<Judged>,
    /// Seconds.
    pub(super) health_for: Option<u64>,
}

/// IPv6 of a link.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Ipv6Facts {
    pub(super) state: Status,
    pub(super) reason: Option<String>,
    pub(super) interface: String,
    /// A global address, if there is one.
    pub(super) local: Option<Ipv6Addr>,
    pub(super) gateway: Option<Ipv6Addr>,
    /// Whose packets leave by it.
    pub(super) prefixes: Vec<String>,
    /// Seconds since a caller has told of it.
    pub(super) age: Option<u64>,
    pub(super) share_percent: Option<f64>,
    #[serde(flatten)]
    pub(super) health: HealthFacts,
    /// Of one that is down, whose packets are refused meanwhile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) refused: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct DefaultFacts {
    pub(super) metric: u32,
    pub(super) ours: bool,
    /// Whether it is a spare of ours.
    pub(super) spare: bool,
    /// Whether it carries traffic, or would if those before it were lost.
    pub(super) carries: bool,
    /// As ip-route(8) has it.
    pub(super) target: String,
    /// Those that carry.
    #[serde(rename = "legs")]
    pub(super) next_hops: Vec<NextHopFacts>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct NextHopFacts {
    /// Link, if it is one of ours.
    pub(super) link: Option<String>,
    pub(super) interface: String,
    pub(super) percent: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct PolicyFacts {
    pub(super) name: String,
    pub(super) via: Vec<String>,
    /// Link that its traffic takes now; none: what `otherwise` says, or that cannot be told since rules are missing. Of a
    /// policy that is about IPv4 too, that of IPv4.
    pub(super) link: Option<String>,
    /// The same in IPv6, of a policy that is about both while a link has IPv6.
    #[serde(flatten)]
    pub(super) ipv6: Option<LedIpv6>,
    pub(super) otherwise: &'static str,
    /// How many rules it has, and how many of them the kernel does not hold.
    pub(super) rules: usize,
    pub(super) rules_missing: usize,
    /// Where the kernel sends a packet of it, if not by `link` or as `otherwise` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) elsewhere: Option<Elsewhere>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LedIpv6 {
    pub(super) link_ipv6: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) elsewhere_ipv6: Option<Elsewhere>,
}

#[derive(Debug, Serialize)]
pub(super) struct KernelFacts {
    pub(super) as_wanted: bool,
    /// The packet filter that holds our rules; `None` with `firewall = "none"`.
    pub(super) firewall: Option<&'static str>,
    /// The packet filter is not part of that, since only root may look at it.
    pub(super) firewall_hidden: bool,
    /// What an apply would do.
    pub(super) changes: Vec<String>,
    /// What an apply cannot repair.
    pub(super) problems: Vec<String>,
    /// Somebody else's rules and routes that take traffic, as the kernel itself was asked.
    pub(super) detours: Vec<Detour>,
}

impl Facts {
    pub(super) fn new(seen: &Seen<'_>, clock: Clock, mut warnings: Vec<String>) -> Self {
        let Seen { config, observed, .. } = seen;
        let routed = seen.states.routed();
        let plan = Plan::new(config, &routed, observed);
        warnings.extend(prefixes::overlap(&routed.v6).map(|overlap| format!("{}: {}", overlap.what(), overlap.why())));
        if config.check.is_some() && seen.report.is_none() {
            warnings.push("mh-watch does not run: systemctl enable --now mh-watch".to_owned());
        }
        let rules = plan.policy_rules(config, &routed, observed);
        let [default_routes, default_routes_ipv6] = Family::BOTH.map(|family| seen.default_routes(family));
        let mut links = Vec::with_capacity(config.links.len());
        for link in &config.links {
            let ipv6 = seen.ipv6(link, &default_routes_ipv6, clock);
            links.push(LinkFacts { ipv6, ..seen.link(link, &default_routes, clock) });
        }
        Self {
            version: VERSION,
            mh_watch_runs: seen.report.is_some(),
            links,
            default_routes,
            default_routes_ipv6,
            policies: (0..)
                .zip(rules)
                .zip(&config.policies)
                .map(|((at, rules), p)| seen.policy(at, p, rules))
                .collect(),
            kernel: KernelFacts {
                firewall: packet_filter(config, observed),
                firewall_hidden: observed.firewall.hidden,
                as_wanted: plan.changes.is_empty() && plan.problems.is_empty() && seen.ways.detours.is_empty(),
                changes: plan.changes.iter().map(|c| c.command(config.settings.protocol).to_string()).collect(),
                problems: plan.problems.iter().map(ToString::to_string).collect(),
                detours: seen.ways.detours.clone(),
            },
            sources_decide: seen.sources_decide(),
            mhctl: seen.mhctl.to_owned(),
            warnings,
        }
    }
}

fn packet_filter(config: &Config, observed: &Observed) -> Option<&'static str> {
    let wanted = config.settings.firewall;
    let is_nft = observed.firewall.uses_nftables(wanted, Lacking::default());
    (wanted != Firewall::None).then_some(if is_nft { "nftables" } else { "iptables" })
}
