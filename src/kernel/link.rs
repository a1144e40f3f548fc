//! Requests about network devices. Not netlink-packet-route's `LinkMessage`: it can write all of the
//! hundred attributes of a link and of each kind of link, which makes every hook larger by a tenth of
//! a megabyte.

use netlink_packet_core::{DefaultNla, Emitable};

use crate::types::IfName;

/// `struct ifinfomsg`: family, padding, type, index, flags, change.
pub(super) const HEADER_LEN: usize = 16;
pub(super) const RTM_GETLINK: u16 = 18;
const IFLA_GROUP: u16 = 27;
const IFLA_IFNAME: u16 = 3;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

/// A request about one device.
pub(super) struct Request {
    index: u32,
    attributes: Vec<DefaultNla>,
}

impl Request {
    /// About the device of that index.
    pub(super) fn by_index(index: u32) -> Self {
        Self { index, attributes: Vec::new() }
    }

    /// About the device of that name.
    pub(super) fn by_name(name: &IfName) -> Self {
        let name = [name.as_str().as_bytes(), &[0]].concat();
        Self { index: 0, attributes: vec![DefaultNla::new(IFLA_IFNAME, name)] }
    }

    /// The answer may do without counters.
    pub(super) fn without_counters(self) -> Self {
        self.with(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    }

    /// The device's group is to become this.
    pub(super) fn with_group(self, group: u32) -> Self {
        self.with(IFLA_GROUP, group)
    }

    fn with(mut self, kind: u16, value: u32) -> Self {
        self.attributes.push(DefaultNla::new(kind, value.to_ne_bytes().to_vec()));
        self
    }
}

impl Emitable for Request {
    fn buffer_len(&self) -> usize {
        HEADER_LEN + self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer[..HEADER_LEN].fill(0);
        buffer[4..8].copy_from_slice(&self.index.to_ne_bytes());
        self.attributes.as_slice().emit(&mut buffer[HEADER_LEN..]);
    }
}
