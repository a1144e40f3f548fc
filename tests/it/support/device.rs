//! Lines' devices, made and taken away by rtnetlink: other code than ours at the other side of the
//! kernel, and no process for each step.

use std::net::Ipv4Addr;

use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::{Error, Handle, LinkUnspec, LinkVeth};
use tokio::runtime::Builder;

/// A veth device, unless there is one, and its other end `DEVICE-far`, both up, with this address.
pub fn create(device: &str, local: Ipv4Addr, peer: Ipv4Addr) {
    let far = format!("{device}-far");
    netlink(async |netlink: Handle| {
        if if_nametoindex(device).is_err() {
            netlink.link().add(LinkVeth::new(device, &far).build()).execute().await?;
        }
        for end in [far.as_str(), device] {
            let up = LinkUnspec::new_with_index(if_nametoindex(end).unwrap()).up().build();
            netlink.link().change(up).execute().await?;
        }
        let mut address = netlink.address().add(if_nametoindex(device).unwrap(), local.into(), 32).replace();
        address.message_mut().attributes =
            vec![AddressAttribute::Local(local.into()), AddressAttribute::Address(peer.into())];
        address.execute().await
    });
}

/// Takes a device away, with its other end.
pub fn delete(device: &str) {
    netlink(async |netlink: Handle| netlink.link().del(if_nametoindex(device).unwrap()).execute().await);
}

/// Asks the kernel of the thread's namespace for something, which it has to do.
fn netlink(task: impl AsyncFnOnce(Handle) -> Result<(), Error>) {
    let runtime = Builder::new_current_thread().enable_io().build().unwrap();
    runtime
        .block_on(async {
            let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            task(netlink).await
        })
        .unwrap();
}
