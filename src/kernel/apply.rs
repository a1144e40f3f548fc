//! Changes as netlink requests.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE};

use nix::libc;

use super::netlink::nexthop::NexthopMessage;
use super::netlink::socket;
use super::netlink::{route_request, rule};
use super::observe::lan;
use super::{Error, Linux, conntrack, interface, nftables, sysctl};
use crate::kernel::iptables;
use crate::kernel::netlink::constants::{
    RTM_DELNEXTHOP, RTM_DELROUTE, RTM_DELRULE, RTM_NEWNEXTHOP, RTM_NEWROUTE, RTM_NEWRULE,
};
use crate::model::change::Change;
use crate::model::names::{Family, HostAddr};
use crate::model::numbering::KERNEL;

const REPLACE: u16 = NLM_F_CREATE | NLM_F_REPLACE;
const APPEND: u16 = NLM_F_CREATE | NLM_F_APPEND;
/// Without EXCL: with it the kernel takes a rule that has no source, destination or DSCP for any at its priority that has
/// one and is like it otherwise, and two guards with different targets for the same (`rule_exists()`,
/// `fib4_rule_compare()`). Both must exist for a moment when one takes the place of the other.
const NEW_RULE: u16 = NLM_F_CREATE;

/// Makes one change.
pub(crate) fn apply(kernel: &mut Linux, change: &Change, protocol: u8) -> Result<(), Error> {
    let Linux { socket, netfilter } = kernel;
    let done = match change {
        Change::LooseRpFilter(name) => return sysctl::loosen_rp_filter(name),
        Change::IgnoreLinkdown(device, Family::V6) => return sysctl::ignore_linkdown6(&device.name),
        Change::IgnoreLinkdown(device, Family::V4) => ignore_missing(interface::ignore_linkdown(socket, device.index)),
        Change::OwnArp(device, key) => ignore_missing(interface::set_arp(socket, device.index, *key)),
        Change::Prefer { address, is_preferred } => lan::prefer(socket, address, *is_preferred),
        Change::HashPolicy(family, policy) => return sysctl::set_hash_policy(*family, *policy),
        Change::Firewall(batch) => return Ok(iptables::restore(batch)?),
        Change::Nftables(transaction) => return nftables::commit(transaction, netfilter),
        Change::FlushConnections(family, mark) => conntrack::flush(*family, *mark),
        Change::FlushPrefix(mark, prefix) => conntrack::flush_prefix(*mark, *prefix),
        Change::MarkConnections(unmarked) => conntrack::mark(unmarked, socket),
        Change::DeviceGroup { device, group } => ignore_missing(interface::set_group(socket, device.index, *group)),
        Change::Nexthop { id, next_hop } => {
            let gateway = next_hop.gateway.and_then(HostAddr::v4);
            let message = NexthopMessage::device(*id, protocol, next_hop.device.index, gateway, next_hop.onlink);
            socket.change(RTM_NEWNEXTHOP, REPLACE, &message)
        }
        Change::Group { id, members } => {
            let members: Vec<_> = members.iter().map(|m| (m.id, m.weight.get())).collect();
            socket.change(RTM_NEWNEXTHOP, REPLACE, &NexthopMessage::group(*id, protocol, &members))
        }
        Change::DeleteNexthop(id) => ignore_missing(socket.change(RTM_DELNEXTHOP, 0, &NexthopMessage::delete(*id))),
        Change::Route(route) if route.family == Family::V6 => {
            ignore_present(socket.change(RTM_NEWROUTE, APPEND, &route_request::new_next_hop(route, protocol)))
        }
        Change::Route(route) => socket.change(RTM_NEWROUTE, REPLACE, &route_request::new_route(route, protocol)),
        Change::DeleteRoute(route) => {
            ignore_missing(socket.change(RTM_DELROUTE, 0, &route_request::found_route(route)))
        }
        Change::Rule(new) => socket.change(RTM_NEWRULE, NEW_RULE, &rule::change(new, protocol)),
        Change::KernelRule(new) => socket.change(RTM_NEWRULE, NEW_RULE, &rule::change(new, KERNEL)),
        Change::DeleteRule(old) => ignore_missing(socket.change(RTM_DELRULE, 0, &rule::change(old, protocol))),
    };
    done.map_err(|source| Error::Change { command: change.command(protocol).to_string(), source })
}

/// Deleting an object that does not exist is a success.
fn ignore_missing(done: Result<(), socket::Error>) -> Result<(), socket::Error> {
    done.or_else(|e| if e.is_gone() { Ok(()) } else { Err(e) })
}

/// Adding a next hop that is there is a success.
fn ignore_present(done: Result<(), socket::Error>) -> Result<(), socket::Error> {
    done.or_else(|e| if e.refused() == Some(libc::EEXIST) { Ok(()) } else { Err(e) })
}
