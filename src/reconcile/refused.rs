//! Refusals of the kernel during a call of reconcile, and the plan without them.

use super::firewall;
use super::link_state::{LinkStates, Live};
use super::plan::{Avoid, Plan};
use crate::config::Config;
use crate::kernel::{self, Kernel};
use crate::model::change::Change;
use crate::model::firewall::Lacking;
use crate::model::names::{Family, LinkName};
use crate::model::observed::Observed;
use crate::model::routing::Device;
use crate::state::records::LinkRecords;

/// Refusals so far.
#[derive(Default)]
pub(super) struct Refused {
    pub(super) links: Vec<(Family, LinkName)>,
    pub(super) changes: Vec<Change>,
    /// What this kernel or iptables lacks.
    pub(super) without: Lacking,
    pub(super) firewall: bool,
    /// The chains of IPv6, which are not to keep those of IPv4 waiting.
    pub(super) ip6tables: bool,
    /// The devices in managed groups cannot be read.
    pub(super) group_members: bool,
}

impl Refused {
    /// The links that have routes, without refused ones.
    pub(super) fn usable<'a>(&self, states: &LinkStates<'a>) -> Live<'a> {
        let mut routed = states.routed();
        for all in [&mut routed.v4, &mut routed.v6] {
            all.retain(|l| !self.links.contains(&(l.family, l.link.name.clone())));
        }
        routed
    }

    /// The plan for `routed`, without refused changes.
    pub(super) fn plan(&self, config: &Config, routed: &Live<'_>, observed: &Observed) -> Plan {
        let avoid = Avoid {
            // Lacking the group no default route can use nexthop objects.
            nexthop_groups: self.changes.iter().any(|change| matches!(change, Change::Group { .. })),
            firewall: self.without,
        };
        let mut plan = Plan::avoiding(config, routed, observed, avoid);
        plan.changes.retain(|change| self.allows(change));
        plan
    }

    fn allows(&self, change: &Change) -> bool {
        let is_allowed = match change {
            Change::Firewall(batch) => !self.refuses_chains(batch.table.family),
            Change::MarkConnections(unmarked) => !self.refuses_chains(Family::of(unmarked.ours.addr())),
            Change::Nftables(_) => !self.firewall,
            Change::DeleteRoute(route) if route.table.carries_default() => !self.keeps_old_default(route.family),
            Change::DeleteNexthop(_) => !self.keeps_old_default(Family::V4),
            _ => true,
        };
        is_allowed && !self.changes.contains(change)
    }

    fn refuses_chains(&self, family: Family) -> bool {
        self.firewall || self.ip6tables && family == Family::V6
    }

    /// If the new default route is refused, the old one is better than none.
    fn keeps_old_default(&self, family: Family) -> bool {
        self.changes.iter().any(|change| match change {
            Change::Route(route) => route.family == family && route.table.carries_default(),
            _ => false,
        })
    }

    /// If `plan` changes device groups or rules that match them, removes misgrouped devices from the managed groups
    /// first. It comes first so that after a crash the rest of the plan is still pending, and the check runs again. The
    /// check is done only in this case, because the kernel dumps all devices for it.
    pub(super) fn add_misgrouped(
        &self,
        plan: &mut Plan,
        config: &Config,
        records: &LinkRecords,
        routed: &Live<'_>,
        kernel: &mut impl Kernel,
    ) -> Result<(), kernel::Error> {
        let Some(index) = plan.changes.iter().position(concerns_groups).filter(|_| !self.group_members) else {
            return Ok(());
        };
        let grouped = kernel.in_groups(&config.settings.numbers.link_groups())?;
        let mut leaving = Vec::new();
        for device in firewall::misgrouped(config, records, routed, grouped) {
            let is_moved = plan.changes.iter().any(|change| moves(change, &device));
            let leave = Change::DeviceGroup { device, group: 0 };
            if !is_moved && !self.changes.contains(&leave) {
                leaving.push(leave);
            }
        }
        plan.changes.splice(index..index, leaving);
        Ok(())
    }
}

fn concerns_groups(change: &Change) -> bool {
    change.is_firewall() || matches!(change, Change::DeviceGroup { .. })
}

/// Whether a change puts the device into another group.
fn moves(change: &Change, device: &Device) -> bool {
    matches!(change, Change::DeviceGroup { device: moved, .. } if moved == device)
}
