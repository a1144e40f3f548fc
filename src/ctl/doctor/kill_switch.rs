//! Whether kill switches hold, and what they do not cover on this machine.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use super::Finding;
use crate::config::{Config, Otherwise};
use crate::ctl::check::uncovered::{Addresses, Gap, uncovered};
use crate::ctl::lookup::read::Fib;
use crate::ctl::show;
use crate::kernel;
use crate::model::names::{Family, TableId};
use crate::model::observed::Observed;
use crate::model::routing::{Action, RouteKind};
use crate::reconcile::desired::{DefaultRouteMode, Desired};
use crate::reconcile::link_state::Live;
use crate::reconcile::plan::Plan;

/// Addresses of IPv6 in the kernel's words; there is no such file without IPv6.
const ADDRESSES: &str = "/proc/net/if_inet6";

/// Of the Internet, in each half of it.
const ANYWHERE: [Ipv4Addr; 2] = [Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(208, 67, 222, 222)];

/// All that there is to say of them.
pub(super) fn look(
    config: &Config,
    live: &Live<'_>,
    observed: &Observed,
    plan: &Plan,
    fib: &mut Fib,
    mhctl: &str,
) -> Result<Vec<Finding>, kernel::Error> {
    let mut found = Vec::from_iter(broken(config, live, observed, plan, mhctl));
    found.extend(without_ipv6_rules(config, observed));
    let links = live.iter().filter_map(|l| Some((&l.link.name, l.local?.get())));
    let addresses: Vec<_> = links.collect();
    for gap in uncovered(config, Addresses::Known(&addresses)) {
        let is_here = match gap.gap {
            Gap::Ipv6 => has_ipv6_addresses(&fs::read_to_string(ADDRESSES).unwrap_or_default()),
            Gap::Main => has_halves(fib)?,
            Gap::Fragments => kernel::sysctl::forwards()?,
            Gap::Sets | Gap::Sources | Gap::Above | Gap::Users | Gap::Marks | Gap::Interfaces | Gap::Ipv4 => true,
        };
        if is_here {
            found.push(Finding::note(gap.what, "otherwise = \"unreachable\" does not cover it", gap.fix));
        }
    }
    Ok(found)
}

/// Kill switches that lack rules.
fn broken(config: &Config, live: &Live<'_>, observed: &Observed, plan: &Plan, mhctl: &str) -> Option<Finding> {
    let rules = plan.policy_rules(config, live, observed);
    let mut broken = Vec::new();
    for (policy, rules) in config.policies.iter().zip(rules) {
        if policy.otherwise == Otherwise::Unreachable && rules.missing > 0 {
            broken.push(policy.name.as_str());
        }
    }
    let what = format!("the kill switch of {} does not hold: rules are missing", show::policies(broken, 3)?);
    Some(Finding::trouble(what, "its traffic may leave by any line", format!("{mhctl} apply")))
}

/// A kernel that routes IPv6 and has no rules for it (`CONFIG_IPV6_MULTIPLE_TABLES`).
fn without_ipv6_rules(config: &Config, observed: &Observed) -> Option<Finding> {
    let desired = Desired::new(config, &Live::default(), DefaultRouteMode::Multipath);
    let is_wanted = desired.rules.iter().any(|rule| rule.family == Family::V6 && rule.action == Action::Unreachable);
    (is_wanted && !observed.has_ipv6() && Path::new(ADDRESSES).exists()).then(|| {
        Finding::trouble(
            "this kernel has no IPv6 rules (CONFIG_IPV6_MULTIPLE_TABLES), or all were deleted",
            "kill switches do not hold in IPv6",
            "sysctl -w net.ipv6.conf.all.disable_ipv6=1",
        )
    })
}

/// Whether an interface other than the loopback has an address of global scope.
fn has_ipv6_addresses(addresses: &str) -> bool {
    addresses.lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        matches!(words[..], [_, _, _, "00", _, name] if name != "lo")
    })
}

/// Whether main has a route for a large part of the Internet besides its default, such as 0.0.0.0/1.
fn has_halves(fib: &mut Fib) -> Result<bool, kernel::Error> {
    for to in ANYWHERE {
        let routes = fib.routes(TableId::MAIN, to.into())?;
        if routes.iter().any(|route| route.kind == RouteKind::Unicast && (1..8).contains(&route.prefix.prefix_len())) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_global_scope_is_one_that_leads_somewhere() {
        let lo = "00000000000000000000000000000001 01 80 10 80       lo\n";
        let link = "fe800000000000000042acfffe110002 1e 40 20 80     eth0\n";
        assert!(!has_ipv6_addresses(""));
        assert!(!has_ipv6_addresses(&format!("{lo}{link}")));
        assert!(has_ipv6_addresses(&format!("{lo}20010db8000000000000000000000010 1e 40 00 80     eth0\n")));
    }
}
