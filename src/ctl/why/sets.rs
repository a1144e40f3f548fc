//! Which named sets the addresses of a packet are in, as the kernel says, and the mark that our rules give it for that.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::config::Config;
use crate::ctl::lookup::read::Fib;
use crate::ctl::lookup::{Answer, Packet};
use crate::kernel::{self, nftables};
use crate::model::firewall::set::End;
use crate::model::names::{Family, SetName};
use crate::reconcile::firewall::sets;

/// A set that was asked about an address.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Membership {
    set: String,
    address: IpAddr,
    #[serde(flatten)]
    answer: Answered,
}

/// What the kernel said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "membership", rename_all = "kebab-case")]
enum Answered {
    In,
    Out,
    /// There is no such set in the kernel.
    Missing,
    /// Only root can tell.
    Hidden,
}

impl Membership {
    /// Whether it could not be told.
    pub(super) fn is_hidden(&self) -> bool {
        self.answer == Answered::Hidden
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { set, address, answer } = self;
        match answer {
            Answered::In => write!(f, "{address} is in set {set}"),
            Answered::Out => write!(f, "{address} is not in set {set}"),
            Answered::Missing => write!(f, "set {set} is not in the kernel: mhctl apply"),
            Answered::Hidden => write!(f, "whether {address} is in set {set}, only root can tell"),
        }
    }
}

/// Asks for the sets of all policies, and gives `packet` the marks that come of it. One of this host's own has its source
/// by then: it was routed before it came to our rules.
pub(super) fn mark(packet: &mut Packet, config: &Config, fib: &mut Fib) -> Result<Vec<Membership>, kernel::Error> {
    let pairs = config.sets();
    let mut asked = Vec::new();
    if pairs.is_empty() {
        return Ok(asked);
    }
    packet.mark &= !config.set_marks();
    let source = match packet.from {
        None => match fib.ask(packet)? {
            Some(Answer::Way { source, local: false, .. }) => source,
            // It gets no further.
            _ => return Ok(asked),
        },
        given => given,
    };
    let mut marks = 0;
    for pair in pairs {
        let mut is_in = true;
        for (end, name) in [(End::Source, &pair.from), (End::Destination, &pair.to)] {
            let address = if end == End::Source { source } else { Some(packet.to) };
            let (Some(name), Some(address)) = (name, address) else { continue };
            is_in &= ask(name, address, config, &mut asked)? == Answered::In;
        }
        marks |= if is_in { pair.mark.get() } else { 0 };
    }
    if marks != 0 {
        packet.mark |= marks;
        packet.from = source;
    }
    Ok(asked)
}

/// Asks the kernel whether the address is in the set, once.
fn ask(
    name: &SetName,
    address: IpAddr,
    config: &Config,
    asked: &mut Vec<Membership>,
) -> Result<Answered, kernel::Error> {
    if let Some(known) = asked.iter().find(|known| known.set == name.as_str() && known.address == address) {
        return Ok(known.answer);
    }
    let set = sets::find(config, name, Family::of(address));
    let answer = match set.map(|set| nftables::set::holds(&set, address)) {
        Some(Ok(Some(true))) => Answered::In,
        Some(Ok(Some(false))) => Answered::Out,
        Some(Err(error)) if error.is_permission() => Answered::Hidden,
        Some(Err(error)) => return Err(error),
        Some(Ok(None)) | None => Answered::Missing,
    };
    asked.push(Membership { set: name.to_string(), address, answer });
    Ok(answer)
}
