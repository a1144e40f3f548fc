//! Pairs of virtual devices (veth(4)) that stand for lines, made and removed by rtnetlink in the thread's network
//! namespace.

use std::io;
use std::net::Ipv4Addr;

use netlink_packet_route::address::AddressAttribute;
use rtnetlink::{Error as Refused, Handle, LinkUnspec, LinkVeth};
use tokio::runtime::Builder;

use super::Error;
use crate::model::names::IfName;

/// Makes a pair of which both ends are up; the far one comes last, since `veth_open()` of the kernel refuses it while the
/// near one is not there yet.
pub(super) fn make(near: &IfName, far: &IfName) -> Result<(), Error> {
    netlink("make a pair of virtual devices", async |netlink| {
        netlink.link().add(LinkVeth::new(near.as_str(), far.as_str()).up().build()).execute().await?;
        netlink.link().change(LinkUnspec::new_with_name(far.as_str()).up().build()).execute().await
    })
}

/// Gives a device an address and a peer's, as pppd does.
pub(super) fn add_address(index: u32, local: Ipv4Addr, peer: Ipv4Addr) -> Result<(), Error> {
    netlink("give a virtual device an address", async |netlink| {
        let mut address = netlink.address().add(index, local.into(), 32);
        address.message_mut().attributes =
            vec![AddressAttribute::Local(local.into()), AddressAttribute::Address(peer.into())];
        address.execute().await
    })
}

/// Removes a device; its far end goes with it.
pub(super) fn delete(index: u32) -> Result<(), Error> {
    netlink("remove a virtual device", async |netlink| netlink.link().del(index).execute().await)
}

/// Asks the kernel for something.
fn netlink(action: &'static str, task: impl AsyncFnOnce(Handle) -> Result<(), Refused>) -> Result<(), Error> {
    let runtime = Builder::new_current_thread().enable_io().build().map_err(Error::io(action))?;
    runtime.block_on(async {
        let (connection, netlink, _) = rtnetlink::new_connection().map_err(Error::io(action))?;
        tokio::spawn(connection);
        task(netlink).await.map_err(|refused| {
            let source = match refused {
                Refused::NetlinkError(message) => message.to_io(),
                refused => io::Error::other(refused),
            };
            Error::io(action)(source)
        })
    })
}
