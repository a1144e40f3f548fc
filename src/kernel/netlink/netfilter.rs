//! Messages of connection tracking and `nf_tables`: `struct nfgenmsg`, and attributes in network byte order
//! (`nfnetlink.h`).

use netlink_packet_core::{DefaultNla, Emitable};

use crate::kernel::netlink::constants::{AF_INET, NFNL_SUBSYS_NFTABLES, NFPROTO_IPV4, NFPROTO_IPV6};
use crate::model::names::Family;

/// `struct nfgenmsg`.
pub(crate) const HEADER_LEN: usize = 4;

/// A request.
pub(crate) struct Message {
    /// With `NFNETLINK_V1` a deletion applies to the family only (5.3, `ctnetlink_del_conntrack`).
    pub(crate) version: u8,
    /// 0: any.
    pub(crate) family: u8,
    /// The subsystem that a batch is for; otherwise 0.
    pub(crate) resource: u16,
    pub(crate) attributes: Vec<DefaultNla>,
}

impl Message {
    /// A request about IPv4.
    pub(crate) fn new(attributes: Vec<DefaultNla>) -> Self {
        Self { version: 0, family: AF_INET, resource: 0, attributes }
    }
}

impl Emitable for Message {
    fn buffer_len(&self) -> usize {
        HEADER_LEN + self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        let [high, low] = self.resource.to_be_bytes();
        buffer[..HEADER_LEN].copy_from_slice(&[self.family, self.version, high, low]);
        self.attributes.as_slice().emit(&mut buffer[HEADER_LEN..]);
    }
}

/// The beginning and the end of a batch of `nf_tables`.
pub(crate) fn batch() -> Message {
    Message { family: 0, resource: NFNL_SUBSYS_NFTABLES, ..Message::new(Vec::new()) }
}

/// A family's number.
pub(crate) fn protocol(family: Family) -> u8 {
    match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    }
}

/// An attribute with a number.
pub(crate) fn number(kind: u16, n: u32) -> DefaultNla {
    DefaultNla::new(kind, n.to_be_bytes().to_vec())
}

/// The attributes of an answer.
pub(crate) fn payload(body: &[u8]) -> &[u8] {
    body.get(HEADER_LEN..).unwrap_or_default()
}
