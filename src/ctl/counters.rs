//! What has gone through an interface, as the kernel counts it (`IFLA_STATS64`).

use crate::kernel::netlink::socket::Socket;
use crate::kernel::{Error, interface};
use crate::model::names::IfName;

/// Traffic since the interface was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Index of the interface: one that was made anew counts from 0.
    pub index: u32,
    pub received_packets: u64,
    pub sent_packets: u64,
    /// Bytes.
    pub received: u64,
    pub sent: u64,
}

#[derive(Debug)]
pub struct Meter {
    socket: Socket,
}

impl Meter {
    /// A meter of the thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open().map_err(Error::Open)? })
    }

    /// The counters of an interface; `None`: there is no such interface.
    pub fn read(&mut self, name: &IfName) -> Result<Option<Counters>, Error> {
        let found = interface::with_counters(&mut self.socket, name)?;
        Ok(found.and_then(|link| {
            let [received_packets, sent_packets, received, sent] = link.counters?;
            Some(Counters { index: link.index, received_packets, sent_packets, received, sent })
        }))
    }
}
