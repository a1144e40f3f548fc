//! Requests that take effect all together, or not at all.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{SndBuf, SndBufForce};

use super::netfilter::{self, Message};
use super::nla::bytes;
use super::socket::{Error, Socket, split, verdict};
use crate::kernel::netlink::constants::{NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END};

/// A request of a transaction.
pub(crate) struct Request {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) message: Message,
}

impl Socket {
    /// Sends the requests as one batch of `nf_tables`, all of which take effect or none. The error comes with the
    /// index of the refused request, if it is about a single one.
    ///
    /// The kernel answers what it refuses and what asks for it (`nfnetlink_rcv_batch()`): only the last request does.
    pub(crate) fn transaction(&mut self, requests: &[Request]) -> Result<(), (Option<usize>, Error)> {
        let whole = |error: io::Error| (None, error.into());
        let mut batch = Vec::new();
        let begin = self.add(&mut batch, NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, &bytes(&netfilter::batch()));
        let mut last = begin;
        for (index, request) in requests.iter().enumerate() {
            let acknowledged = if index + 1 == requests.len() { NLM_F_ACK } else { 0 };
            last = self.add(
                &mut batch,
                request.kind,
                NLM_F_REQUEST | request.flags | acknowledged,
                &bytes(&request.message),
            );
        }
        self.add(&mut batch, NFNL_MSG_BATCH_END, NLM_F_REQUEST, &bytes(&netfilter::batch()));
        // The kernel refuses what exceeds the send buffer (`netlink_sendmsg()`). Root of a user namespace may make it as
        // large as `net.core.wmem_max` says, which is enough for some thousand rules.
        let size = 2 * batch.len();
        if setsockopt(&self.netlink, SndBufForce, &size).is_err() {
            setsockopt(&self.netlink, SndBuf, &size).map_err(|e| whole(e.into()))?;
        }
        self.netlink.send(&batch, 0).map_err(whole)?;
        loop {
            self.buffer.clear();
            let (length, from) = self.netlink.recv_from(&mut self.buffer, 0).map_err(whole)?;
            if from.port_number() != 0 {
                continue;
            }
            let mut rest = self.buffer.get(..length).unwrap_or_default();
            while let Some((answer, after)) = split(rest).map_err(|e| (None, e))? {
                rest = after;
                let index = answer.sequence.wrapping_sub(begin);
                match verdict(&answer) {
                    // 0 is the beginning of the batch: the kernel could not make all of it take effect.
                    Err(error) => return Err((usize::try_from(index).ok().and_then(|i| i.checked_sub(1)), error)),
                    Ok(()) if answer.sequence == last => return Ok(()),
                    Ok(()) => {}
                }
            }
        }
    }
}
