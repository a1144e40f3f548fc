//! Messages of interface addresses, the body of `RTM_NEWADDR`.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, parse_ip, parse_u32};

use super::nla::{Attributes, Body, attribute};
use super::socket;
use crate::kernel::netlink::constants::{
    IFA_ADDRESS, IFA_CACHEINFO, IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_FLAGS, IFA_LOCAL, RT_SCOPE_UNIVERSE,
};

/// `struct ifaddrmsg`: family, prefix length, flags, scope, index.
const HEADER_LEN: usize = 8;

/// Asks for the addresses of a family (0: both) of the interface with this index (0: all).
pub(crate) fn request(family: u8, index: u32) -> Body<HEADER_LEN> {
    let [a, b, c, d] = index.to_ne_bytes();
    Body::new([family, 0, 0, 0, a, b, c, d])
}

/// The address of this body with another preferred lifetime: as long as it is valid, or none.
pub(crate) fn with_preferred(body: &[u8], is_preferred: bool) -> Result<Body<HEADER_LEN>, socket::Error> {
    let (header, nlas) = split(body)?;
    let mut changed = Body::new(*header);
    for attribute in Attributes::new(nlas) {
        let (kind, value) = attribute.map_err(decode)?;
        let mut value = value.to_vec();
        // `struct ifa_cacheinfo` begins with the preferred and the valid lifetime.
        if let (IFA_CACHEINFO, [preferred, valid, ..]) = (kind, value.as_chunks_mut::<4>().0) {
            *preferred = if is_preferred { *valid } else { [0; 4] };
        }
        changed.push(kind, &value);
    }
    Ok(changed)
}

/// An address as the kernel holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundAddress {
    pub(crate) index: u32,
    pub(crate) local: IpAddr,
    /// The peer, or the subnet.
    pub(crate) reaches: IpNet,
    /// Not of a link or host only.
    pub(crate) is_global: bool,
    pub(crate) is_deprecated: bool,
    /// Another host has it, too.
    pub(crate) is_duplicate: bool,
}

impl FoundAddress {
    /// Reads the body of a message; `None`: it is no address of IP.
    pub(crate) fn parse(body: &[u8]) -> Result<Option<Self>, socket::Error> {
        let (&[_, length, flags, scope, ref index @ ..], nlas) = split(body)?;
        let address = |kind| attribute(nlas, kind).map(parse_ip).transpose().map_err(decode);
        // IFA_ADDRESS is the peer, and the address itself where there is none (if_addr.h).
        let (local, peer) = (address(IFA_LOCAL)?, address(IFA_ADDRESS)?);
        let flags = attribute(nlas, IFA_FLAGS).and_then(|flags| parse_u32(flags).ok()).unwrap_or(flags.into());
        let (Some(local), Some(reaches)) = (local.or(peer), peer.or(local)) else { return Ok(None) };
        let reaches =
            IpNet::new(reaches, length).map_err(|_| decode(DecodeError::from("a prefix that is too long")))?;
        Ok(Some(Self {
            index: u32::from_ne_bytes(*index),
            local,
            reaches: reaches.trunc(),
            is_global: scope == RT_SCOPE_UNIVERSE,
            is_deprecated: flags & IFA_F_DEPRECATED != 0,
            is_duplicate: flags & IFA_F_DADFAILED != 0,
        }))
    }
}

fn split(body: &[u8]) -> Result<(&[u8; HEADER_LEN], &[u8]), socket::Error> {
    body.split_first_chunk().ok_or_else(|| decode(DecodeError::buffer_too_small(body.len(), HEADER_LEN)))
}

// `map_err` hands it over.
#[allow(clippy::needless_pass_by_value)]
fn decode(error: DecodeError) -> socket::Error {
    socket::Error::Decode(error.to_string())
}
