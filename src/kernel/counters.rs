//! What has gone through an interface, as the kernel counts it (`IFLA_STATS64`).

use netlink_packet_core::NlasIterator;

use super::link::{HEADER_LEN, RTM_GETLINK, Request};
use super::socket::Socket;
use super::{Error, observe};
use crate::types::IfName;

const IFLA_STATS64: u16 = 23;

/// Bytes since the interface was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Index of the interface: one that was made anew counts from 0.
    pub index: u32,
    /// Bytes that came in.
    pub received: u64,
    /// Bytes that went out.
    pub sent: u64,
}

/// Reads counters.
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
        let answer =
            self.socket.get(RTM_GETLINK, &Request::by_name(name)).map_err(observe::read("an interface's counters"))?;
        Ok(answer.and_then(|body| counters(&body)))
    }
}

fn counters(body: &[u8]) -> Option<Counters> {
    let [_, _, _, _, i0, i1, i2, i3, ..] = *body.first_chunk::<HEADER_LEN>()?;
    let mut attributes = NlasIterator::new(&body[HEADER_LEN..]).flatten();
    let stats = attributes.find(|nla| nla.kind() == IFLA_STATS64)?;
    // `struct rtnl_link_stats64` begins: rx_packets, tx_packets, rx_bytes, tx_bytes.
    let number = |at: usize| stats.value().get(at * 8..)?.first_chunk().map(|n| u64::from_ne_bytes(*n));
    Some(Counters { index: u32::from_ne_bytes([i0, i1, i2, i3]), received: number(2)?, sent: number(3)? })
}
