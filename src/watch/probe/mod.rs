//! Asks targets by one link, and tells which questions were answered. What that means is not decided here.
//!
//! A probe leaves by its link or not at all: its socket has the mark, the device and the source address of the link. By the
//! mark alone it would go by another link while this one has no route; by the device alone the kernel would not look into
//! the link's table, and take the target for a neighbour. It does so, too, while the table has no route, in IPv4 even where
//! that is `unreachable`: an Ethernet that is not routed looks dead then.
//!
//! Only the target's own answer to this very question counts, with what was random in it. That a router refuses the
//! question is no answer, and neither is what a stranger sends.

mod connection;
mod datagrams;
mod dns;
mod echo;
mod socket;

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Instant;

use connection::Connection;
use datagrams::Datagrams;
use thiserror::Error;

use crate::config::{Method, Target};
use crate::model::names::IfName;

/// How the packets of a link leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Of each packet: its rules lead to the link's table.
    pub mark: u32,
    pub interface: IfName,
    /// Of the interface: another one of the same name is not asked by.
    pub index: u32,
    /// `None`: the kernel chooses.
    pub source: Option<IpAddr>,
}

/// Why a probe was not sent.
#[derive(Debug, Error)]
pub enum Error {
    #[error("there is no interface {0} any more, or another one bears its name")]
    Gone(IfName),
    /// A privilege is of no help here: `ping_init_sock()` asks for groups only.
    #[error(
        "net.ipv4.ping_group_range keeps this process from asking by ICMP echo: \
         run `sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"`, or write targets such as \"tcp:ADDRESS:PORT\""
    )]
    PingGroups,
    #[error("cannot {action} {target}: {source}")]
    Socket { action: &'static str, target: Target, source: io::Error },
}

/// The target of a probe has answered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// What [`Prober::send`] was given.
    pub probe: u64,
    pub at: Instant,
    /// The question may have been repeated: nobody knows how long the answer took.
    pub is_ambiguous: bool,
}

/// Asks by one link, in the families of the targets that it is given. For each target that is asked by datagrams it has one
/// socket as long as it lives, so that connection tracking has one entry.
#[derive(Debug)]
pub struct Prober {
    binding: Binding,
    datagrams: Vec<Datagrams>,
    /// The oldest first.
    connections: Vec<Connection>,
    /// Which of `datagrams` is looked at first.
    turn: usize,
}

/// Connections to one target that may be waited for. The oldest is given up for the next.
const MOST_CONNECTIONS: usize = 16;

impl Prober {
    /// One whose packets leave so. It needs a runtime of tokio, with I/O, whenever it is used.
    pub fn new(binding: Binding) -> Self {
        Self { binding, datagrams: Vec::new(), connections: Vec::new(), turn: 0 }
    }

    /// Which link it asks by. A link that comes back with another index or address needs another prober.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Sends a question; its answer bears the number of the probe. An error is none about the target: the question has not
    /// left, since there is no route, say. Never blocks.
    pub fn send(&mut self, target: Target, probe: u64) -> Result<(), Error> {
        if let Method::Tcp(port) = target.method() {
            let all = self.connections.iter().enumerate();
            let mut of_target = all.filter(|(_, connection)| connection.target() == target).map(|(index, _)| index);
            if let (Some(oldest), true) = (of_target.next(), of_target.count() + 1 >= MOST_CONNECTIONS) {
                self.connections.remove(oldest);
            }
            let address = SocketAddr::new(target.address(), port);
            self.connections.push(Connection::begin(&self.binding, target, address, probe)?);
            return Ok(());
        }
        if let Some(known) = self.datagrams.iter_mut().find(|datagrams| datagrams.target() == target) {
            return known.ask(probe);
        }
        let mut new = Datagrams::open(&self.binding, target)?;
        let asked = new.ask(probe);
        self.datagrams.push(new);
        asked
    }

    /// Forgets all targets but these.
    pub fn keep(&mut self, targets: &[Target]) {
        self.datagrams.retain(|known| targets.contains(&known.target()));
    }

    /// The next answer. Dropping this loses none. Without a question it waits for good.
    pub async fn answer(&mut self) -> Answer {
        poll_fn(|context| self.poll_answer(context)).await
    }

    /// The same, for who waits for many probers.
    pub fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Answer> {
        // Whoever floods one socket must not keep the others waiting.
        self.turn = self.turn.wrapping_add(1);
        for step in 0..self.datagrams.len() {
            let at = self.turn.wrapping_add(step) % self.datagrams.len();
            if let Some(datagrams) = self.datagrams.get_mut(at)
                && let Poll::Ready(probe) = datagrams.poll(context)
            {
                return Poll::Ready(Answer { probe, at: Instant::now(), is_ambiguous: false });
            }
        }
        let mut at = 0;
        while let Some(connection) = self.connections.get_mut(at) {
            match connection.poll(context) {
                Poll::Pending => at += 1,
                Poll::Ready(is_answered) => {
                    let connection = self.connections.remove(at);
                    if is_answered {
                        return Poll::Ready(connection.answer());
                    }
                }
            }
        }
        Poll::Pending
    }
}
