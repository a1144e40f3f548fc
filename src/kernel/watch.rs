//! Notices of the kernel as they come: devices that go, addresses that appear.

use std::io;
use std::time::Instant;

use futures_util::{FutureExt, Stream, StreamExt};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::observe::lookup;
use super::socket::Socket;
use crate::settle::{Notice, Outcome, Settle};
use crate::types::IfName;

/// Why there is nothing to watch with.
#[derive(Debug, Error)]
#[error("cannot watch interfaces: {0}")]
pub struct Error(#[from] io::Error);

/// A subscription, from the moment it is made: what happens before it is waited for is not lost.
pub struct Watch {
    runtime: tokio::runtime::Runtime,
    notices: Box<dyn Stream<Item = Event> + Unpin>,
    terminate: Signal,
}

type Event = NetlinkMessage<RouteNetlinkMessage>;

impl Watch {
    /// Subscribes, and takes SIGTERM over from here on.
    pub fn subscribe() -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let entered = runtime.enter();
        let (connection, _, messages) = new_multicast_connection(&[MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr])?;
        let terminate = signal(SignalKind::terminate())?;
        runtime.spawn(connection);
        drop(entered);
        let notices = Box::new(messages.map(|(message, _)| message));
        Ok(Self { runtime, notices, terminate })
    }

    /// Waits until `settle`, about `interface`, has its outcome.
    pub fn wait(mut self, settle: &Settle, interface: &IfName, index: u32) -> Result<Outcome, Error> {
        // Gone before we subscribed: then no notice will come.
        if let Some(outcome) = settle.notice(lost(interface, index)?) {
            return Ok(outcome);
        }
        loop {
            let Some(left) = settle.remaining(Instant::now()) else { return Ok(Outcome::Stayed) };
            let next = async {
                futures_util::select_biased! {
                    _ = self.terminate.recv().fuse() => Some(Notice::Terminated),
                    message = self.notices.next().fuse() => match message {
                        Some(message) => notice(&message),
                        None => Some(Notice::Lost { exists: true }),
                    },
                }
            };
            let next = self.runtime.block_on(async { tokio::time::timeout(left, next).await });
            let Ok(next) = next else { return Ok(Outcome::Stayed) };
            let Some(next) = next else { continue };
            let next = if matches!(next, Notice::Lost { .. }) { lost(interface, index)? } else { next };
            if let Some(outcome) = settle.notice(next) {
                return Ok(outcome);
            }
        }
    }
}

/// Looks for itself where notices may be missing.
fn lost(interface: &IfName, index: u32) -> Result<Notice, Error> {
    let mut socket = Socket::open()?;
    let found = lookup(&mut socket, interface).map_err(io::Error::other)?;
    Ok(Notice::Lost { exists: found.is_some_and(|(i, _)| i == index) })
}

fn notice(message: &Event) -> Option<Notice> {
    match &message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
            // A port that leaves its bridge says the same, in the bridge's family.
            let unregistered = link.header.interface_family == AddressFamily::Unspec;
            unregistered.then_some(Notice::Gone { index: link.header.index })
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(address)) => {
            Some(Notice::Addressed { index: address.header.index })
        }
        // The socket's buffer ran over.
        NetlinkPayload::Overrun(_) => Some(Notice::Lost { exists: true }),
        _ => None,
    }
}
