//! Policies about what other hosts send, where nothing is forwarded.

use ipnet::IpNet;

use super::Finding;
use crate::config::{Config, Policy};
use crate::ctl::lookup::read::Fib;
use crate::kernel::{self, sysctl};
use crate::model::names::{Family, TableId};
use crate::model::routing::RouteKind;
use crate::reconcile::link_state::LinkStates;

/// The first such policy of each family; of IPv6 only where a link has it.
pub(super) fn unforwarded(
    config: &Config,
    states: &LinkStates<'_>,
    fib: &mut Fib,
) -> Result<Vec<Finding>, kernel::Error> {
    let mut found = Vec::new();
    for family in Family::BOTH {
        let (is_used, forwards, key) = match family {
            Family::V4 => (true, sysctl::forwards()?, "net.ipv4.ip_forward"),
            Family::V6 => (!states.routed().v6.is_empty(), sysctl::forwards6()?, "net.ipv6.conf.all.forwarding"),
        };
        if !is_used || forwards {
            continue;
        }
        for policy in config.policies.iter().filter(|policy| policy.families().any(|own| own == family)) {
            if is_about_others(policy, family, config, fib)? {
                let ipv6 = if family == Family::V6 { "IPv6 " } else { "" };
                found.push(Finding::trouble(
                    format!("policy {:?} is about forwarded {ipv6}traffic, and nothing is forwarded", policy.name),
                    format!("{key} is 0: what comes in from the LAN goes nowhere"),
                    format!("sysctl -w {key}=1; echo {key}=1 >/etc/sysctl.d/99-forward{}.conf", family_suffix(family)),
                ));
                break;
            }
        }
    }
    Ok(found)
}

fn family_suffix(family: Family) -> &'static str {
    if family == Family::V6 { "-ipv6" } else { "" }
}

/// Whether a policy is about what other hosts send: by their interface, or by a private source, or one of a link's prefix,
/// that is no address of ours. (Another public one may be that of a line that is down.)
fn is_about_others(policy: &Policy, family: Family, config: &Config, fib: &mut Fib) -> Result<bool, kernel::Error> {
    if policy.iif.iter().any(|iif| iif.as_str() != "lo") {
        return Ok(true);
    }
    for from in policy.from.iter().filter(|from| Family::of(from.addr()) == family) {
        let is_others = match from {
            IpNet::V4(net) => net.addr().is_private(),
            IpNet::V6(net) => {
                let mut prefixes = config.links.iter().flat_map(|link| &link.prefixes);
                net.addr().is_unique_local() || prefixes.any(|prefix| prefix.contains(net))
            }
        };
        if !is_others {
            continue;
        }
        let local = fib.routes(TableId::LOCAL, from.addr())?;
        if !local.iter().any(|route| route.kind == RouteKind::Local && route.prefix == *from) {
            return Ok(true);
        }
    }
    Ok(false)
}
