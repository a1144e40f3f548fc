//! Messages of nexthop objects, such as the body of `RTM_NEWNEXTHOP`.
//!
//! The kernel's behaviour, from `net/ipv4/nexthop.c`, verified on 6.18:
//!
//! - A new object wants its device up and with carrier, else ENETDOWN. A device that is gone is
//!   EINVAL, not ENODEV (`rtm_to_nh_config`); so is a group member that is gone
//!   (`nh_check_attr_group`). A gateway that is not reachable by the device is ENETUNREACH, unless
//!   `RTNH_F_ONLINK` is set, which without a gateway is EINVAL.
//! - An object goes when its device goes down, loses carrier or is unregistered, without a message
//!   (`nexthop_flush_dev`), but not when the device merely loses its addresses. Its groups shrink
//!   at once; an empty group goes, and the routes that use it.
//! - Deleting an object does the same, but says so: `RTM_DELNEXTHOP` for the object and an empty
//!   group, `RTM_NEWNEXTHOP` for a shrunken one. ENOENT when the object is not there.
//! - CREATE|REPLACE is atomic and creates what is missing. An object stays single or group for
//!   life: replacing one by the other is EINVAL. **A replaced group keeps the protocol that it was
//!   created with** (`replace_nexthop_grp`); a single object takes the new one.
//! - A group is of family `AF_UNSPEC` both ways, and its members are objects, never groups, each at
//!   most once.
//! - A request has scope 0; an answer has what the kernel found (link with a gateway, host without).
//! - A dump with any family but `AF_UNSPEC`, or with `NHA_OIF`, leaves out the groups
//!   (`nh_dump_filtered`). It is checked strictly with or without `NETLINK_GET_STRICT_CHK`: any
//!   other field of the header set is EINVAL (`__nh_valid_dump_req`), which arrives as the code of
//!   `NLMSG_DONE`; likewise in a deletion, as an error. There is no filter by protocol.
//! - Kernels before 5.3 know none of this and answer EOPNOTSUPP (`rtnetlink_rcv_msg`).

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, ErrorContext, Nla, NlaBuffer, NlasIterator, Parseable, ParseableParametrized,
    parse_ip, parse_u16, parse_u32,
};

use crate::kernel::netlink::constants::{
    AF_INET, NHA_BLACKHOLE, NHA_GATEWAY, NHA_GROUP, NHA_GROUP_TYPE, NHA_ID, NHA_OIF, NHA_OP_FLAG_RESP_GRP_RESVD_0,
    NHA_OP_FLAGS, RTNH_F_DEAD, RTNH_F_ONLINK,
};
use crate::model::routing::FoundNextHop;

#[cfg(test)]
mod tests;

const HEADER_LEN: usize = 8;
const GROUP_ENTRY_LEN: usize = 8;

/// `struct nhmsg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NexthopHeader {
    /// Of the gateway; `AF_UNSPEC` of a group.
    pub family: u8,
    /// Set by the kernel only.
    pub scope: u8,
    /// Who installed the object.
    pub protocol: u8,
    /// The `RTNH_F_*` bits; of these a request can have `RTNH_F_ONLINK` only.
    pub flags: u32,
}

impl Emitable for NexthopHeader {
    fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer[..4].copy_from_slice(&[self.family, self.scope, self.protocol, 0]);
        buffer[4..HEADER_LEN].copy_from_slice(&self.flags.to_ne_bytes());
    }
}

impl Parseable<[u8]> for NexthopHeader {
    fn parse(buffer: &[u8]) -> Result<Self, DecodeError> {
        let Some(&[family, scope, protocol, _reserved, ref flags @ ..]) = buffer.first_chunk::<HEADER_LEN>() else {
            return Err(DecodeError::buffer_too_small(buffer.len(), HEADER_LEN));
        };
        Ok(Self { family, scope, protocol, flags: parse_u32(flags)? })
    }
}

/// A member of a group: `struct nexthop_grp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NexthopGroupEntry {
    pub id: u32,
    /// From 1. More than 255 needs Linux 6.12, and is EINVAL before (`nh_check_attr_group`: the value on the wire, one
    /// less, is at most 254).
    pub weight: u16,
}

impl NexthopGroupEntry {
    fn emit(self, buffer: &mut [u8]) {
        // On the wire: weight - 1, the low byte and then the high one, in either byte order.
        let [low, high] = self.weight.saturating_sub(1).to_le_bytes();
        buffer[..4].copy_from_slice(&self.id.to_ne_bytes());
        buffer[4..].copy_from_slice(&[low, high, 0, 0]);
    }

    fn parse(raw: [u8; GROUP_ENTRY_LEN], high_byte: bool) -> Result<Self, DecodeError> {
        let [id @ .., low, high, _, _] = raw;
        let weight = u16::from_le_bytes([low, if high_byte { high } else { 0 }])
            .checked_add(1)
            .ok_or_else(|| DecodeError::from("weight of a group's member over 65535"))?;
        Ok(Self { id: u32::from_ne_bytes(id), weight })
    }
}

/// `NHA_*`: those that are sent or read here; others unparsed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NexthopAttribute {
    Id(u32),
    /// The members of a group, at most 8191.
    Group(Vec<NexthopGroupEntry>),
    /// 0: hash threshold, the default; 1: resilient.
    GroupType(u16),
    /// Drops what is sent to it.
    Blackhole,
    Oif(u32),
    Gateway(IpAddr),
    /// Flags of the answer.
    OpFlags(u32),
    Other(DefaultNla),
}

impl Nla for NexthopAttribute {
    fn value_len(&self) -> usize {
        match self {
            Self::Id(_) | Self::Oif(_) | Self::OpFlags(_) | Self::Gateway(IpAddr::V4(_)) => 4,
            Self::Gateway(IpAddr::V6(_)) => 16,
            Self::Group(entries) => entries.len() * GROUP_ENTRY_LEN,
            Self::GroupType(_) => 2,
            Self::Blackhole => 0,
            Self::Other(nla) => nla.value_len(),
        }
    }

    fn kind(&self) -> u16 {
        match self {
            Self::Id(_) => NHA_ID,
            Self::Group(_) => NHA_GROUP,
            Self::GroupType(_) => NHA_GROUP_TYPE,
            Self::Blackhole => NHA_BLACKHOLE,
            Self::Oif(_) => NHA_OIF,
            Self::Gateway(_) => NHA_GATEWAY,
            Self::OpFlags(_) => NHA_OP_FLAGS,
            Self::Other(nla) => nla.kind(),
        }
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        match self {
            Self::Id(value) | Self::Oif(value) | Self::OpFlags(value) => buffer.copy_from_slice(&value.to_ne_bytes()),
            Self::Gateway(IpAddr::V4(addr)) => buffer.copy_from_slice(&addr.octets()),
            Self::Gateway(IpAddr::V6(addr)) => buffer.copy_from_slice(&addr.octets()),
            Self::Group(entries) => {
                for (entry, raw) in entries.iter().zip(buffer.chunks_exact_mut(GROUP_ENTRY_LEN)) {
                    entry.emit(raw);
                }
            }
            Self::GroupType(value) => buffer.copy_from_slice(&value.to_ne_bytes()),
            Self::Blackhole => {}
            Self::Other(nla) => nla.emit_value(buffer),
        }
    }
}

/// The parameter: whether the high byte of the members' weights is valid.
impl<'a, T: AsRef<[u8]> + ?Sized> ParseableParametrized<NlaBuffer<&'a T>, bool> for NexthopAttribute {
    fn parse_with_param(nla: &NlaBuffer<&'a T>, high_byte: bool) -> Result<Self, DecodeError> {
        let value = nla.value();
        Ok(match nla.kind() {
            NHA_ID => Self::Id(parse_u32(value).context("NHA_ID")?),
            NHA_GROUP => Self::Group(parse_group(value, high_byte).context("NHA_GROUP")?),
            NHA_GROUP_TYPE => Self::GroupType(parse_u16(value).context("NHA_GROUP_TYPE")?),
            NHA_BLACKHOLE if value.is_empty() => Self::Blackhole,
            NHA_BLACKHOLE => return Err("NHA_BLACKHOLE with a value".into()),
            NHA_OIF => Self::Oif(parse_u32(value).context("NHA_OIF")?),
            NHA_GATEWAY => Self::Gateway(parse_ip(value).context("NHA_GATEWAY")?),
            NHA_OP_FLAGS => Self::OpFlags(parse_u32(value).context("NHA_OP_FLAGS")?),
            _ => Self::Other(DefaultNla::parse(nla)?),
        })
    }
}

fn parse_group(value: &[u8], high_byte: bool) -> Result<Vec<NexthopGroupEntry>, DecodeError> {
    match value.as_chunks() {
        (entries, []) => entries.iter().map(|&raw| NexthopGroupEntry::parse(raw, high_byte)).collect(),
        _ => Err(DecodeError::invalid_buffer("nexthop_grp", value.len(), GROUP_ENTRY_LEN)),
    }
}

/// A nexthop object, or a request about some.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NexthopMessage {
    pub header: NexthopHeader,
    /// In any order.
    pub attributes: Vec<NexthopAttribute>,
}

impl NexthopMessage {
    /// An IPv4 nexthop by one device. `onlink` (do not check that the device reaches the gateway) is left out without a
    /// gateway, where the kernel would refuse it.
    pub fn device(id: u32, protocol: u8, oif: u32, gateway: Option<Ipv4Addr>, onlink: bool) -> Self {
        let flags = if onlink && gateway.is_some() { RTNH_F_ONLINK } else { 0 };
        let mut attributes = vec![NexthopAttribute::Id(id)];
        attributes.extend(gateway.map(|addr| NexthopAttribute::Gateway(addr.into())));
        attributes.push(NexthopAttribute::Oif(oif));
        let header = NexthopHeader { family: AF_INET, protocol, flags, ..NexthopHeader::default() };
        Self { header, attributes }
    }

    /// A group of existing objects, by id and weight (0 counts as 1).
    pub fn group(id: u32, protocol: u8, members: &[(u32, u16)]) -> Self {
        let entries = members.iter().map(|&(id, weight)| NexthopGroupEntry { id, weight }).collect();
        Self {
            header: NexthopHeader { protocol, ..NexthopHeader::default() },
            attributes: vec![NexthopAttribute::Id(id), NexthopAttribute::Group(entries)],
        }
    }

    /// A request to delete an object.
    pub fn delete(id: u32) -> Self {
        Self { attributes: vec![NexthopAttribute::Id(id)], ..Self::default() }
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.attributes.iter().find_map(|a| if let NexthopAttribute::Id(id) = a { Some(*id) } else { None })
    }

    /// `None`: it is no group.
    pub(crate) fn members(&self) -> Option<&[NexthopGroupEntry]> {
        self.attributes.iter().find_map(|a| if let NexthopAttribute::Group(all) = a { Some(&all[..]) } else { None })
    }

    /// The next hop, if it is no group and has a device.
    pub(crate) fn hop(&self) -> Option<FoundNextHop> {
        let flags = self.header.flags;
        let (mut device, mut gateway) = (None, None);
        for attribute in &self.attributes {
            match attribute {
                NexthopAttribute::Oif(index) => device = Some(*index),
                NexthopAttribute::Gateway(addr) => gateway = Some(*addr),
                _ => {}
            }
        }
        let (onlink, dead) = (flags & RTNH_F_ONLINK != 0, flags & RTNH_F_DEAD != 0);
        Some(FoundNextHop { onlink, dead, ..FoundNextHop::new(device?, gateway) })
    }

    /// A request for all objects, with groups.
    pub fn dump() -> Self {
        Self::default()
    }
}

impl Emitable for NexthopMessage {
    fn buffer_len(&self) -> usize {
        self.header.buffer_len() + self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.header.emit(buffer);
        self.attributes.as_slice().emit(&mut buffer[HEADER_LEN..]);
    }
}

impl Parseable<[u8]> for NexthopMessage {
    fn parse(buffer: &[u8]) -> Result<Self, DecodeError> {
        let header = NexthopHeader::parse(buffer).context("nexthop header")?;
        let nlas = NlasIterator::new(&buffer[HEADER_LEN..]);
        // Kernels before 6.12 left the byte uninitialised that is now the high byte of the weight.
        let high_byte = nlas.flatten().any(|nla| {
            nla.kind() == NHA_OP_FLAGS
                && parse_u32(nla.value()).is_ok_and(|flags| flags & NHA_OP_FLAG_RESP_GRP_RESVD_0 != 0)
        });
        let attributes =
            nlas.map(|nla| NexthopAttribute::parse_with_param(&nla?, high_byte)).collect::<Result<_, _>>()?;
        Ok(Self { header, attributes })
    }
}
