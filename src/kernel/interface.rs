//! Network devices: read by name, index or group; their device groups and sysctls.
//!
//! The link message of netlink-packet-route would parse all hundred attributes, and fail if a newer kernel has changed
//! an unused one.

use std::ops::Range;

use netlink_packet_core::{DefaultNla, Emitable, parse_u32};

use super::netlink::nla::{self, attribute};
use super::netlink::socket::{self, Socket};
use super::{Error, read};
use crate::kernel::netlink::constants::{
    AF_INET, AF_INET6, IFF_LOWER_UP, IFF_NOARP, IFF_POINTOPOINT, IFF_UP, IFLA_AF_SPEC, IFLA_EXT_MASK, IFLA_GROUP,
    IFLA_IFNAME, IFLA_INET_CONF, IFLA_INET6_CONF, IFLA_STATS64, IPV4_DEVCONF_ARP_ANNOUNCE, IPV4_DEVCONF_ARP_IGNORE,
    IPV4_DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN, IPV4_DEVCONF_RP_FILTER, IPV6_DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN,
    RTEXT_FILTER_SKIP_STATS, RTM_GETLINK, RTM_SETLINK,
};
use crate::model::names::{DeviceName, IfName};
use crate::model::observed::InterfaceState;
use crate::model::routing::{ArpKey, Device};

/// `struct ifinfomsg`: family, padding, type, index, flags, change.
const IFINFO_LEN: usize = 16;

/// A request about one device.
#[derive(Default)]
struct Request {
    /// 0: the attributes name the device.
    index: u32,
    attributes: Vec<DefaultNla>,
}

impl Emitable for Request {
    fn buffer_len(&self) -> usize {
        IFINFO_LEN + self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(IFINFO_LEN);
        header.fill(0);
        header[4..8].copy_from_slice(&self.index.to_ne_bytes());
        self.attributes.as_slice().emit(attributes);
    }
}

impl Request {
    fn by_name(name: &IfName) -> Self {
        Self { attributes: vec![nla::text(IFLA_IFNAME, name.as_str())], ..Self::default() }
    }

    fn with(mut self, kind: u16, value: u32) -> Self {
        self.attributes.push(DefaultNla::new(kind, value.to_ne_bytes().to_vec()));
        self
    }
}

/// A network device, as far as it is read.
#[derive(Debug)]
pub(crate) struct InterfaceInfo {
    pub(crate) index: u32,
    pub(crate) name: DeviceName,
    pub(crate) group: u32,
    /// Whether packets can leave by it.
    pub(crate) state: InterfaceState,
    /// It uses ARP.
    pub(crate) arp: bool,
    /// `net.ipv4.conf.NAME.rp_filter`; `None`: the device has no IPv4.
    pub(crate) rp_filter: Option<u32>,
    /// The ARP sysctls that would have to be raised.
    pub(crate) lax_arp: Vec<ArpKey>,
    /// `net.ipv4.conf.NAME.ignore_routes_with_linkdown`; `None` likewise, and before Linux 4.2.
    pub(crate) ignores_linkdown: Option<bool>,
    /// `net.ipv6.conf.NAME.ignore_routes_with_linkdown`; `None`: the device has no IPv6, and before Linux 4.3.
    pub(crate) ignores_linkdown6: Option<bool>,
    /// Packets received and sent, then bytes.
    pub(crate) counters: Option<[u64; 4]>,
}

/// The interface of that name.
pub(crate) fn by_name(socket: &mut Socket, name: &IfName) -> Result<Option<InterfaceInfo>, Error> {
    named(socket, name, &Request::by_name(name).with(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS))
}

/// The interface of that name, with its counters.
pub(crate) fn with_counters(socket: &mut Socket, name: &IfName) -> Result<Option<InterfaceInfo>, Error> {
    named(socket, name, &Request::by_name(name))
}

/// The interface of that index.
pub(crate) fn by_index(socket: &mut Socket, index: u32) -> Result<Option<InterfaceInfo>, Error> {
    get(socket, &Request { index, ..Request::default() }.with(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS))
}

/// All devices in these groups, with their groups. The kernel cannot filter by group: it dumps all devices.
pub(crate) fn in_groups(socket: &mut Socket, groups: &Range<u32>) -> Result<Vec<(Device, u32)>, Error> {
    let request = Request::default().with(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    let found = socket.list(RTM_GETLINK, &request, |body| {
        let InterfaceInfo { index, name, group, .. } = parse(body).ok_or_else(cut_short)?;
        // A device whose name a configuration cannot contain was not put into a managed group.
        let name = name.checked().filter(|_| groups.contains(&group));
        Ok(name.map(|name| (Device { index, name }, group)))
    });
    found.map_err(read("interfaces"))
}

/// Puts a device into a group.
pub(crate) fn set_group(socket: &mut Socket, index: u32, group: u32) -> Result<(), socket::Error> {
    socket.change(RTM_SETLINK, 0, &Request { index, ..Request::default() }.with(IFLA_GROUP, group))
}

/// Makes lookups skip the routes by a device while it has no carrier. Over netlink, here and below: containers and
/// confined services mount /proc/sys read-only.
pub(crate) fn ignore_linkdown(socket: &mut Socket, index: u32) -> Result<(), socket::Error> {
    set_sysctl(socket, index, IPV4_DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN, 1)
}

/// Makes a device answer ARP for its own addresses only.
pub(crate) fn set_arp(socket: &mut Socket, index: u32, key: ArpKey) -> Result<(), socket::Error> {
    set_sysctl(socket, index, arp_number(key), key.value())
}

fn arp_number(key: ArpKey) -> u16 {
    match key {
        ArpKey::Ignore => IPV4_DEVCONF_ARP_IGNORE,
        ArpKey::Announce => IPV4_DEVCONF_ARP_ANNOUNCE,
    }
}

/// Sets a sysctl of a device by its number in `IFLA_INET_CONF`.
fn set_sysctl(socket: &mut Socket, index: u32, number: u16, value: u32) -> Result<(), socket::Error> {
    let setting = DefaultNla::new(number, value.to_ne_bytes().to_vec());
    let conf = nla::nested(IFLA_INET_CONF, &[setting]);
    let attributes = vec![nla::nested(IFLA_AF_SPEC, &[nla::nested(AF_INET.into(), &[conf])])];
    socket.change(RTM_SETLINK, 0, &Request { index, attributes })
}

fn named(socket: &mut Socket, name: &IfName, request: &Request) -> Result<Option<InterfaceInfo>, Error> {
    // The kernel also finds an interface by an alternative name, which does not count here.
    Ok(get(socket, request)?.filter(|found| found.name.as_str() == name.as_str()))
}

fn get(socket: &mut Socket, request: &Request) -> Result<Option<InterfaceInfo>, Error> {
    let answer = socket.get(RTM_GETLINK, request).map_err(read("an interface"))?;
    answer.map(|body| parse(&body).ok_or_else(|| read("an interface")(cut_short()))).transpose()
}

fn cut_short() -> socket::Error {
    socket::Error::Decode("a link that is cut short".to_owned())
}

pub(crate) fn parse(body: &[u8]) -> Option<InterfaceInfo> {
    let [_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, _, _, _, _] = *body.first_chunk::<IFINFO_LEN>()?;
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let attributes = &body[IFINFO_LEN..];
    let name = attribute(attributes, IFLA_IFNAME)?;
    let conf = sysctls(attributes, AF_INET, IFLA_INET_CONF);
    let conf6 = sysctls(attributes, AF_INET6, IFLA_INET6_CONF);
    let mut lax_arp = Vec::new();
    for key in [ArpKey::Ignore, ArpKey::Announce] {
        if sysctl(conf, arp_number(key)).is_some_and(|value| value < key.value()) {
            lax_arp.push(key);
        }
    }
    Some(InterfaceInfo {
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        name: DeviceName::new(nla::string(name)),
        group: attribute(attributes, IFLA_GROUP).and_then(|group| parse_u32(group).ok()).unwrap_or_default(),
        state: match (flags & IFF_UP != 0, flags & IFF_LOWER_UP != 0) {
            (false, _) => InterfaceState::Down,
            (true, false) => InterfaceState::NoCarrier,
            (true, true) => InterfaceState::Up,
        },
        arp: flags & (IFF_POINTOPOINT | IFF_NOARP) == 0,
        rp_filter: sysctl(conf, IPV4_DEVCONF_RP_FILTER),
        ignores_linkdown: sysctl(conf, IPV4_DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN).map(|value| value != 0),
        ignores_linkdown6: conf6
            .and_then(|conf| number(conf, IPV6_DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN))
            .map(|value| value != 0),
        lax_arp,
        counters: attribute(attributes, IFLA_STATS64).and_then(counters),
    })
}

/// What `struct rtnl_link_stats64` begins with: `rx_packets`, `tx_packets`, `rx_bytes`, `tx_bytes`.
fn counters(stats: &[u8]) -> Option<[u64; 4]> {
    Some([counter(stats, 0)?, counter(stats, 1)?, counter(stats, 2)?, counter(stats, 3)?])
}

/// A counter of `struct rtnl_link_stats64`, by its index.
fn counter(stats: &[u8], index: usize) -> Option<u64> {
    stats.get(index * 8..)?.first_chunk().map(|n| u64::from_ne_bytes(*n))
}

/// The sysctls of a family, by the kind of their attribute.
fn sysctls(attributes: &[u8], family: u8, kind: u16) -> Option<&[u8]> {
    attribute(attribute(attribute(attributes, IFLA_AF_SPEC)?, family.into())?, kind)
}

/// The value of a sysctl in `IFLA_INET_CONF`, by its number, from 1.
fn sysctl(conf: Option<&[u8]>, number: u16) -> Option<u32> {
    self::number(conf?, usize::from(number).checked_sub(1)?)
}

/// A number of an array, by its index.
fn number(array: &[u8], index: usize) -> Option<u32> {
    array.get(index * 4..)?.first_chunk().map(|n| u32::from_ne_bytes(*n))
}
