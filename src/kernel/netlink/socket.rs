//! One request at a time over a netlink socket, `NETLINK_ROUTE` or `NETLINK_NETFILTER`.
//!
//! The connection of the rtnetlink crate does not report the failure code in `NLMSG_DONE`, the flag of an interrupted
//! dump, or the kernel's reason behind an error. It skips messages that it cannot parse, which must be errors here. It
//! cannot stop a dump early, so an event would read all routes of a full table. And it makes each hook 0.4 MB larger.

use std::io;
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NLMSG_NOOP, NLMSG_OVERRUN, NlasIterator, parse_i32,
};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket as Netlink, SocketAddr};
use nix::libc;
use thiserror::Error;

use super::nla::bytes;
use crate::kernel::netlink::constants::NLMSGERR_ATTR_MSG;

/// `struct nlmsghdr`.
const HEADER_LEN: usize = 16;
/// Number of attempts, if an answer is interrupted or fails temporarily.
const ATTEMPTS: u32 = 20;
/// Pause before the next attempt: memory is not free at once.
const PAUSE: Duration = Duration::from_millis(1);

/// Size of the receive buffer. The kernel makes the parts of a dump as large as the buffers that it has seen
/// (`netlink_recvmsg()`, `netlink_dump()`): with a small one a dump that stops early costs little.
const RECEIVE_BUFFER: usize = 4 << 10;
/// Size after a message did not fit: a foreign nexthop group can have thousands of members. The kernel's parts have at
/// most 32 KiB.
const LARGE_RECEIVE_BUFFER: usize = 64 << 10;

/// Why a request failed.
#[derive(Debug, Error)]
pub enum Error {
    #[error("{source}{}", reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default())]
    Refused {
        source: io::Error,
        /// The kernel's message, if it gives one (extended acknowledgement).
        reason: Option<String>,
    },
    #[error("netlink socket: {0}")]
    Socket(#[from] io::Error),
    #[error("cannot read the kernel's answer: {0}")]
    Decode(String),
    /// Changes interrupted the dump at every attempt.
    #[error("the kernel's tables change faster than they can be read; try again")]
    Interrupted,
}

impl Error {
    /// The error number, if the kernel refused the request.
    pub fn refused(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the same request may succeed at the next attempt. ENOBUFS: the socket could not take a message, such as
    /// an answer (`netlink_overrun()`).
    pub(crate) fn is_retryable(&self) -> bool {
        let number = match self {
            Self::Refused { source, .. } | Self::Socket(source) => source.raw_os_error(),
            Self::Decode(_) | Self::Interrupted => None,
        };
        matches!(number, Some(libc::EINTR | libc::EAGAIN | libc::ENOMEM | libc::ENOBUFS))
    }

    /// Whether the object does not exist: ESRCH for routes, ENOENT for rules and nexthop objects, ENODEV if the device
    /// is gone, too.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.refused(), Some(libc::ENOENT | libc::ESRCH | libc::ENODEV))
    }

    /// Whether the process lacks privileges.
    pub(crate) fn is_permission(&self) -> bool {
        self.refused() == Some(libc::EPERM)
    }

    /// Whether this kernel does not know the request.
    pub(crate) fn is_unsupported(&self) -> bool {
        self.refused() == Some(libc::EOPNOTSUPP)
    }
}

/// A socket for requests.
#[derive(Debug)]
pub struct Socket {
    pub(super) netlink: Netlink,
    protocol: isize,
    sequence: u32,
    pub(super) buffer: Vec<u8>,
}

/// One message of an answer.
pub(crate) struct Answer<'a> {
    pub(crate) kind: u16,
    flags: u16,
    pub(super) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// What is done with each object of a dump, and, without one, at each beginning.
type Step<'a> = dyn FnMut(Option<&[u8]>) -> Result<ControlFlow<()>, Error> + 'a;

impl Socket {
    /// A socket of `NETLINK_ROUTE` in the thread's network namespace.
    pub fn open() -> io::Result<Self> {
        Self::of(NETLINK_ROUTE)
    }

    /// A socket of `NETLINK_NETFILTER`, for connection tracking and `nf_tables`.
    pub(crate) fn open_netfilter() -> io::Result<Self> {
        Self::of(NETLINK_NETFILTER)
    }

    pub(crate) fn of(protocol: isize) -> io::Result<Self> {
        Ok(Self { netlink: connect(protocol)?, protocol, sequence: 0, buffer: Vec::with_capacity(RECEIVE_BUFFER) })
    }

    /// Sends `body` as a request of type `kind`, and waits until the kernel has acknowledged it.
    pub fn change(&mut self, kind: u16, flags: u16, body: &impl Emitable) -> Result<(), Error> {
        self.send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, &bytes(body))?;
        self.receive(&mut |_| ControlFlow::Continue(())).map(drop)
    }

    /// Asks for one object; `None`: it does not exist (ENODEV, ENOENT).
    pub fn get(&mut self, kind: u16, body: &impl Emitable) -> Result<Option<Vec<u8>>, Error> {
        self.object(kind, &bytes(body))
    }

    fn object(&mut self, kind: u16, body: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let found = self.ask(|socket| {
            // The answer is the object or an error, so no acknowledgement is needed.
            socket.send(kind, NLM_F_REQUEST, body)?;
            let mut found = None;
            socket.receive(&mut |body| {
                found = Some(body.to_vec());
                ControlFlow::Break(())
            })?;
            Ok(found)
        });
        match found {
            Err(e) if matches!(e.refused(), Some(libc::ENODEV | libc::ENOENT)) => Ok(None),
            found => found,
        }
    }

    /// For a dump of very many objects that is read to its end: for each part of a set the kernel begins anew at the set's
    /// first element (`nft_rbtree_walk()`).
    pub(crate) fn with_large_parts(mut self) -> Self {
        self.buffer = Vec::with_capacity(LARGE_RECEIVE_BUFFER);
        self
    }

    /// Dumps all objects that `body` selects and calls `each` for each of them, until that breaks off. If changes
    /// interrupt the dump, it starts again with a new state from `restart`.
    pub fn dump<S>(
        &mut self,
        kind: u16,
        body: &impl Emitable,
        mut restart: impl FnMut() -> S,
        mut each: impl FnMut(&mut S, &[u8]) -> Result<ControlFlow<()>, Error>,
    ) -> Result<S, Error> {
        let mut state = restart();
        self.walk(kind, &bytes(body), &mut |message| {
            let Some(body) = message else {
                state = restart();
                return Ok(ControlFlow::Continue(()));
            };
            each(&mut state, body)
        })?;
        Ok(state)
    }

    /// The same for any state: `step` is told of each object, and of each beginning by `None`. There is one of it in an
    /// executable, whatever is dumped.
    fn walk(&mut self, kind: u16, body: &[u8], step: &mut Step<'_>) -> Result<(), Error> {
        self.ask(|socket| {
            let _ = step(None)?;
            let mut failed = None;
            socket.send(kind, NLM_F_REQUEST | NLM_F_DUMP, body)?;
            let complete = socket.receive(&mut |body| {
                step(Some(body)).unwrap_or_else(|e| {
                    failed = Some(e);
                    ControlFlow::Break(())
                })
            })?;
            match failed {
                Some(error) => Err(error),
                None if complete => Ok(()),
                None => Err(Error::Interrupted),
            }
        })
    }

    /// Dumps all objects that `body` selects, and collects the results of `read`.
    pub(crate) fn list<T>(
        &mut self,
        kind: u16,
        body: &impl Emitable,
        read: impl Fn(&[u8]) -> Result<Option<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        self.dump(kind, body, Vec::new, |all, body| {
            all.extend(read(body)?);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Asks a question, and repeats it after temporary errors. Changes are not repeated here: their effect must be
    /// observed first.
    fn ask<T>(&mut self, mut question: impl FnMut(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        for _ in 1..ATTEMPTS {
            match question(self) {
                Err(Error::Interrupted) => {}
                // A part of the answer may be in the old socket.
                Err(e) if e.refused() == Some(libc::EMSGSIZE) && self.buffer.capacity() < LARGE_RECEIVE_BUFFER => {
                    self.buffer = Vec::with_capacity(LARGE_RECEIVE_BUFFER);
                    self.netlink = connect(self.protocol)?;
                }
                Err(e) if e.is_retryable() => {
                    thread::sleep(PAUSE);
                    // The old socket may be in the middle of a dump, and would refuse another (EBUSY).
                    self.netlink = connect(self.protocol)?;
                }
                answer => return answer,
            }
        }
        question(self)
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<(), Error> {
        let mut message = Vec::new();
        self.add(&mut message, kind, flags, body);
        self.netlink.send(&message, 0)?;
        Ok(())
    }

    /// Adds a request to a datagram; its sequence number.
    pub(super) fn add(&mut self, datagram: &mut Vec<u8>, kind: u16, flags: u16, body: &[u8]) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        let (start, length) = (datagram.len(), HEADER_LEN + body.len());
        datagram.resize(start + length.next_multiple_of(4), 0);
        let message = &mut datagram[start..start + length];
        // A request has a few hundred bytes; the kernel would refuse a truncated one.
        message[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[6..8].copy_from_slice(&flags.to_ne_bytes());
        message[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        message[HEADER_LEN..].copy_from_slice(body);
        self.sequence
    }

    /// Reads the answer to the last request, up to where `each` breaks off. `false`: changes interrupted the dump.
    fn receive(&mut self, each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<bool, Error> {
        let (mut complete, mut stopped_early) = (true, false);
        loop {
            self.buffer.clear();
            // MSG_TRUNC: the result is the full length of a truncated message.
            let (length, from) = self.netlink.recv_from(&mut self.buffer, libc::MSG_TRUNC)?;
            if from.port_number() != 0 {
                continue; // Another process's, not the kernel's.
            }
            let Some(datagram) = self.buffer.get(..length) else {
                return Err(Error::Refused { source: io::Error::from_raw_os_error(libc::EMSGSIZE), reason: None });
            };
            let progress = answers(datagram, self.sequence, &mut complete, &mut |body| {
                if stopped_early { ControlFlow::Break(()) } else { each(body) }
            });
            match progress {
                Err(_) if stopped_early => return Ok(true),
                Err(e) => return Err(e),
                Ok(Progress::Continues) => {}
                Ok(Progress::Done) => return Ok(complete || stopped_early),
                // The rest of the dump would come before the next answer. Behind a part that is far from full comes
                // only its end, and reading that is cheaper than a new socket.
                Ok(Progress::StoppedEarly) if length < RECEIVE_BUFFER / 2 => stopped_early = true,
                Ok(Progress::StoppedEarly) => {
                    self.netlink = connect(self.protocol)?;
                    return Ok(true);
                }
            }
        }
    }
}

/// The state of an answer after a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More datagrams follow.
    Continues,
    /// The answer has ended.
    Done,
    /// `each` broke off, and more datagrams follow.
    StoppedEarly,
}

/// Calls `each` for the messages in a datagram that answer the request `sequence`. Clears `complete` if changes have
/// interrupted the dump. A refusal is an error.
pub(crate) fn answers(
    datagram: &[u8],
    sequence: u32,
    complete: &mut bool,
    each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<Progress, Error> {
    let mut rest = datagram;
    while let Some((answer, after)) = split(rest)? {
        rest = after;
        if answer.sequence != sequence {
            continue;
        }
        *complete &= answer.flags & NLM_F_DUMP_INTR == 0;
        match answer.kind {
            NLMSG_NOOP => {}
            NLMSG_ERROR | NLMSG_DONE => return verdict(&answer).map(|()| Progress::Done),
            NLMSG_OVERRUN => return Err(Error::Decode("overrun".to_owned())),
            _ if each(answer.body).is_continue() => {}
            // A single message, or the end of the dump follows in the same datagram.
            _ if answer.flags & NLM_F_MULTIPART == 0 || has_end(rest)? => return Ok(Progress::Done),
            _ => return Ok(Progress::StoppedEarly),
        }
    }
    Ok(Progress::Continues)
}

/// Whether the end of a dump is among these messages.
fn has_end(mut rest: &[u8]) -> Result<bool, Error> {
    while let Some((answer, after)) = split(rest)? {
        if matches!(answer.kind, NLMSG_DONE | NLMSG_ERROR) {
            return Ok(true);
        }
        rest = after;
    }
    Ok(false)
}

fn connect(protocol: isize) -> io::Result<Netlink> {
    let netlink = Netlink::new(protocol)?;
    // This assigns a port, too (`netlink_connect()`).
    netlink.connect(&SocketAddr::new(0, 0))?;
    // Older kernels lack these. Then reasons are missing (before 4.12), and dumps are not filtered (before 4.20), which
    // only costs time: every answer is filtered again here.
    let _ = netlink.set_ext_ack(true);
    let _ = netlink.set_cap_ack(true);
    let _ = netlink.set_netlink_get_strict_chk(true);
    Ok(netlink)
}

/// The first message of a datagram, and what follows it.
pub(crate) fn split(datagram: &[u8]) -> Result<Option<(Answer<'_>, &[u8])>, Error> {
    if datagram.is_empty() {
        return Ok(None);
    }
    let short = || Error::Decode(format!("a message of {} bytes is cut", datagram.len()));
    let header = datagram.first_chunk::<HEADER_LEN>().ok_or_else(short)?;
    let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, _, _, _, _] = *header;
    let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).map_err(|_| short())?;
    let body = datagram.get(HEADER_LEN..length).ok_or_else(short)?;
    let answer = Answer {
        kind: u16::from_ne_bytes([k0, k1]),
        flags: u16::from_ne_bytes([f0, f1]),
        sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
        body,
    };
    let after = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    Ok(Some((answer, after)))
}

/// The result in an `NLMSG_ERROR` or `NLMSG_DONE`: both begin with a negative error number or 0.
pub(super) fn verdict(answer: &Answer<'_>) -> Result<(), Error> {
    let code = match answer.body.get(..4) {
        Some(code) => parse_i32(code).map_err(|e| Error::Decode(e.to_string()))?,
        None if answer.kind == NLMSG_DONE => 0,
        None => return Err(Error::Decode("an error without its number".to_owned())),
    };
    if code == 0 {
        return Ok(());
    }
    // The attributes come after the number and, in an error, after the header of the request without its body
    // (NETLINK_CAP_ACK).
    let skip = if answer.kind == NLMSG_ERROR { 4 + HEADER_LEN } else { 4 };
    let attributes = NlasIterator::new(answer.body.get(skip..).unwrap_or_default());
    let reason = attributes.flatten().find(|nla| nla.kind() == NLMSGERR_ATTR_MSG).map(|nla| {
        let text = nla.value();
        String::from_utf8_lossy(text.strip_suffix(&[0]).unwrap_or(text)).into_owned()
    });
    Err(Error::Refused { source: io::Error::from_raw_os_error(code.saturating_abs()), reason })
}
