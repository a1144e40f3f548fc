//! What the kernel has refused in this run, and the plan without it.

use super::firewall;
use super::link_state::{LinkStates, LiveLink};
use super::plan::{Avoid, Plan};
use crate::config::Config;
use crate::kernel::{self, Kernel};
use crate::model::change::Change;
use crate::model::names::{LinkName, TableId};
use crate::model::observed::Observed;
use crate::model::routing::Device;
use crate::state::records::LinkRecords;

/// What the kernel is not asked for again.
#[derive(Default)]
pub(super) struct Refused {
    pub(super) links: Vec<LinkName>,
    pub(super) changes: Vec<Change>,
    /// Device groups are not known to this iptables or kernel.
    pub(super) device_groups: bool,
    pub(super) firewall: bool,
    /// The devices in our groups cannot be told.
    pub(super) group_members: bool,
}

impl Refused {
    /// The links that have routes, without those that were refused.
    pub(super) fn usable<'a>(&self, states: &LinkStates<'a>) -> Vec<LiveLink<'a>> {
        let mut routed = states.routed();
        routed.retain(|l| !self.links.contains(&l.link.name));
        routed
    }

    /// The plan for `routed`, without what was refused.
    pub(super) fn plan(&self, config: &Config, routed: &[LiveLink<'_>], observed: &Observed) -> Plan {
        let avoid = Avoid {
            // Without its group no default route can be made of nexthop objects.
            nexthop_groups: self.changes.iter().any(|change| matches!(change, Change::Group { .. })),
            device_groups: self.device_groups,
        };
        let mut plan = Plan::avoiding(config, routed, observed, avoid);
        plan.changes.retain(|change| self.allows(change));
        plan
    }

    fn allows(&self, change: &Change) -> bool {
        let is_allowed = match change {
            Change::Firewall(_) | Change::MarkConnections(_) => !self.firewall,
            Change::DeleteRoute(route) if route.table == TableId::MAIN => !self.keeps_old_default(),
            Change::DeleteNexthop(_) => !self.keeps_old_default(),
            _ => true,
        };
        is_allowed && !self.changes.contains(change)
    }

    /// Where the new default cannot be made the old one is better than none.
    fn keeps_old_default(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::Route(route) if route.table == TableId::MAIN))
    }

    /// Where `plan` changes what our device groups mean, or who is in them, takes those out of them that do not belong
    /// there: before that, so that whoever comes after a crash finds the rest of the plan, and so asks again. The kernel
    /// goes through all its devices for it, which an event that changes nothing is spared.
    pub(super) fn add_misgrouped(
        &self,
        plan: &mut Plan,
        config: &Config,
        records: &LinkRecords,
        routed: &[LiveLink<'_>],
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
    matches!(change, Change::DeviceGroup { .. } | Change::Firewall(_))
}

/// Whether a change puts the device into another group.
fn moves(change: &Change, device: &Device) -> bool {
    matches!(change, Change::DeviceGroup { device: moved, .. } if moved == device)
}
