//! The LAN's IPv6 addresses that we have deprecated, since their prefix is of an uplink that is down (RFC 8475). What an
//! administrator has deprecated himself is not among them, and stays so.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use crate::model::change::Change;

/// Interface indices and addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deprecated(pub BTreeSet<(u32, Ipv6Addr)>);

impl Deprecated {
    /// The same after these changes, without what somebody else has made preferred before them.
    pub(crate) fn after(&self, preferred_again: &BTreeSet<(u32, Ipv6Addr)>, made: &[Change]) -> Self {
        let mut all = Self(&self.0 - preferred_again);
        for change in made {
            all.note(change);
        }
        all
    }

    /// The same after this change.
    pub(crate) fn and(&self, change: &Change) -> Self {
        let mut all = self.clone();
        all.note(change);
        all
    }

    fn note(&mut self, change: &Change) {
        let Change::Prefer { address, is_preferred } = change else { return };
        let entry = (address.device.index, address.address.addr());
        if *is_preferred {
            self.0.remove(&entry);
        } else {
            self.0.insert(entry);
        }
    }
}
