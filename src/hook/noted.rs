//! The kernel, with a note of each address of the LAN before it is deprecated: whoever is killed in between, or ends with
//! an error, leaves nothing else that says whose doing it was, and the address would stay deprecated for good. A note too
//! many does no harm (`Preference::PreferredAgain`).

use std::ops::Range;

use tracing::warn;

use crate::kernel::{Error, Kernel};
use crate::model::change::Change;
use crate::model::names::Family;
use crate::model::observed::{Observed, Scope};
use crate::model::routing::{Device, FwMark};
use crate::reconcile::Outcome;
use crate::state::deprecated::Deprecated;
use crate::state::records::Store;

pub(super) struct Noted<'a, K> {
    pub(super) kernel: &'a mut K,
    pub(super) store: &'a Store,
    /// What is written down.
    pub(super) deprecated: Deprecated,
}

impl<K: Kernel> Noted<'_, K> {
    /// Writes down what is deprecated now because we have done so. Nothing is written where nothing was to be deprecated.
    pub(super) fn conclude(&mut self, before: &Deprecated, outcome: &Outcome) {
        self.write(before.after(&outcome.preferred_again, &outcome.made));
    }

    fn write(&mut self, deprecated: Deprecated) {
        if deprecated == self.deprecated {
            return;
        }
        if let Err(error) = self.store.write_deprecated(&deprecated) {
            warn!("{error}: the addresses that are deprecated now stay so when their uplink is back");
        }
        self.deprecated = deprecated;
    }
}

impl<K: Kernel> Kernel for Noted<'_, K> {
    fn apply(&mut self, change: &Change, protocol: u8) -> Result<(), Error> {
        if let Change::Prefer { is_preferred: false, .. } = change {
            self.write(self.deprecated.and(change));
        }
        self.kernel.apply(change, protocol)
    }

    fn observe(&mut self, scope: &Scope) -> Result<Observed, Error> {
        self.kernel.observe(scope)
    }

    fn in_groups(&mut self, groups: &Range<u32>) -> Result<Vec<(Device, u32)>, Error> {
        self.kernel.in_groups(groups)
    }

    fn has_connections(&mut self, family: Family, mark: FwMark) -> Result<bool, Error> {
        self.kernel.has_connections(family, mark)
    }

    fn flush_route_cache(&mut self) -> Result<(), Error> {
        self.kernel.flush_route_cache()
    }
}
