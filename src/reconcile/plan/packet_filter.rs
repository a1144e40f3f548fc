//! When a plan loads the managed chains.

use super::{Change, Plan};
use crate::config::Config;
use crate::model::names::TableId;
use crate::model::observed::Observed;
use crate::reconcile::firewall;
use crate::reconcile::link_state::LiveLink;

impl Plan {
    pub(super) fn load_firewall(&mut self, config: &Config, live: &[LiveLink<'_>], observed: &Observed, by_name: bool) {
        if observed.firewall.hidden {
            return;
        }
        if let Some(wanted) = firewall::rulesets(config, live, observed, by_name) {
            self.changes.extend(firewall::batches(&wanted, &observed.firewall).into_iter().map(Change::Firewall));
        }
    }
}

/// Whether the default route in use leads by live links only, so that there is no hurry to replace it.
pub(super) fn nobody_waits(live: &[LiveLink<'_>], observed: &Observed) -> bool {
    let defaults = observed.routes.iter().filter(|route| route.table == TableId::MAIN);
    let Some(used) = defaults.min_by_key(|route| route.metric) else { return false };
    let devices = used.target.devices();
    !devices.is_empty() && devices.iter().all(|device| is_live(*device, live))
}

fn is_live(device: u32, live: &[LiveLink<'_>]) -> bool {
    live.iter().any(|l| l.carrier && l.next_hop.device.index == device)
}
