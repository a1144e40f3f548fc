//! Pairs of virtual devices (veth(4)) that stand for lines: made, given an address, removed. What
//! `mhctl demo` needs of rtnetlink(7) beside what a server needs.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};

use crate::kernel::Error;
use crate::kernel::interface::Request;
use crate::kernel::netlink::constants::{
    IFF_UP, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK, VETH_INFO_PEER,
};
use crate::kernel::netlink::nla::{bytes, nested};
use crate::kernel::netlink::socket::{self, Socket};
use crate::model::names::IfName;

/// Makes and removes devices in the thread's network namespace.
#[derive(Debug)]
pub(super) struct Devices {
    socket: Socket,
}

impl Devices {
    pub(super) fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open().map_err(Error::Open)? })
    }

    /// Makes a pair: `name`, which is up, and `far`, which [`Devices::set_up`] has to bring up: `veth_open()`
    /// of the kernel refuses a far end while the near one is not there yet.
    pub(super) fn make_veth(&mut self, name: &IfName, far: &IfName) -> Result<(), Error> {
        let mut device = Request { flags: IFF_UP, ..Request::by_name(name) };
        let peer = [DefaultNla::new(VETH_INFO_PEER, bytes(&Request::by_name(far)))];
        let info = [DefaultNla::new(IFLA_INFO_KIND, b"veth".to_vec()), nested(IFLA_INFO_DATA, &peer)];
        device.attributes.push(nested(IFLA_LINKINFO, &info));
        let done = self.socket.change(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &device);
        done.map_err(refused(|| format!("ip link add {name} up type veth peer name {far}")))
    }

    /// Brings a device up.
    pub(super) fn set_up(&mut self, index: u32) -> Result<(), Error> {
        let done = self.socket.change(RTM_NEWLINK, 0, &Request { index, flags: IFF_UP, ..Request::default() });
        done.map_err(refused(|| format!("ip link set up index {index}")))
    }

    /// Gives a device an address and a peer's, as pppd does.
    pub(super) fn add_address(&mut self, index: u32, local: Ipv4Addr, peer: Ipv4Addr) -> Result<(), Error> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = 32;
        message.header.index = index;
        message.attributes =
            vec![AddressAttribute::Local(IpAddr::V4(local)), AddressAttribute::Address(IpAddr::V4(peer))];
        let done = self.socket.change(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &message);
        done.map_err(refused(|| format!("ip address add {local} peer {peer} dev index {index}")))
    }

    /// Removes a device; a veth's far end goes with it.
    pub(super) fn delete_device(&mut self, index: u32) -> Result<(), Error> {
        let done = self.socket.change(RTM_DELLINK, 0, &Request { index, ..Request::default() });
        done.map_err(refused(|| format!("ip link del index {index}")))
    }
}

fn refused(command: impl Fn() -> String) -> impl Fn(socket::Error) -> Error {
    move |source| Error::Change { command: command(), source }
}
