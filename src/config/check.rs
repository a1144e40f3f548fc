//! `[check]`: whom `mh-watch` asks whether an uplink carries anything, and how long it waits before it acts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::error::SpannedError;
use super::field::{Field, digits, optional, refused};
use super::raw::{self, Entry, RawCheck};
use crate::model::names::{Family, HostAddr};

/// `[check]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// 1 to 16, each once.
    pub targets: Vec<Target>,
    /// Between two probes of an uplink by which no replies come.
    pub interval: Duration,
    /// Silence after which an uplink is drained.
    pub down_after: Duration,
    /// Silence after which it is cut; more than `down_after`.
    pub cut_after: Duration,
    /// How long targets must answer before it is back.
    pub up_after: Duration,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            targets: OPERATORS.map(Target::echo).to_vec(),
            interval: Duration::from_secs(1),
            down_after: Duration::from_millis(2500),
            cut_after: Duration::from_secs(10),
            up_after: Duration::from_secs(5),
        }
    }
}

/// Cloudflare, Quad9 and OpenDNS: three operators, so that none of them alone is evidence.
const OPERATORS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(208, 67, 222, 222)];

/// Each has a socket for each uplink.
const MOST_TARGETS: usize = 16;

/// A host beyond the uplinks that answers. Shown as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    address: IpAddr,
    method: Method,
}

/// What a target is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// ICMP echo.
    Icmp,
    /// A connection to this port.
    Tcp(u16),
    /// A question to its name server.
    Dns,
}

impl Target {
    /// `None`: no host beyond an uplink can have the address.
    pub fn new(address: IpAddr, method: Method) -> Option<Self> {
        let host = HostAddr::new(address).ok()?;
        (!host.is_link_local()).then_some(Self { address, method })
    }

    fn echo(address: Ipv4Addr) -> Self {
        Self { address: IpAddr::V4(address), method: Method::Icmp }
    }

    pub fn address(self) -> IpAddr {
        self.address
    }

    pub fn method(self) -> Method {
        self.method
    }

    pub fn family(self) -> Family {
        Family::of(self.address)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.method {
            Method::Icmp => "",
            Method::Tcp(_) => "tcp:",
            Method::Dns => "dns:",
        })?;
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}")?,
            IpAddr::V6(address) => write!(f, "[{address}]")?,
        }
        if let Method::Tcp(port) = self.method { write!(f, ":{port}") } else { Ok(()) }
    }
}

const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);
const SHORTEST_SILENCE: Duration = Duration::from_millis(500);

/// `None`: there is no such table.
pub(super) fn read(entry: Entry<'_>) -> Result<Option<Check>, SpannedError> {
    raw::table("[check]", entry)?.map(|raw| check(&raw)).transpose()
}

fn check(raw: &RawCheck<'_>) -> Result<Check, SpannedError> {
    let default = Check::default();
    let silence = |field: Field<'_>| field.duration(SHORTEST_SILENCE, 10);
    let check = Check {
        targets: optional("targets", &raw.targets, targets)?.unwrap_or(default.targets),
        interval: optional("interval", &raw.interval, |f| f.duration(SHORTEST_INTERVAL, 1))?
            .unwrap_or(default.interval),
        down_after: optional("down-after", &raw.down_after, silence)?.unwrap_or(default.down_after),
        cut_after: optional("cut-after", &raw.cut_after, silence)?.unwrap_or(default.cut_after),
        up_after: optional("up-after", &raw.up_after, silence)?.unwrap_or(default.up_after),
    };
    if check.down_after >= check.cut_after {
        // The error points at a key that is written in the file.
        refused("cut-after", &raw.cut_after, "write more than down-after: a link is drained before it is cut")?;
        refused("down-after", &raw.down_after, "write less than cut-after, 10s, or cut-after as well")?;
    }
    Ok(check)
}

fn targets(field: Field<'_>) -> Result<Vec<Target>, SpannedError> {
    let targets = field.list(target)?;
    if targets.len() > MOST_TARGETS {
        return Err(field.error(format!("write at most {MOST_TARGETS}: each is probed by each uplink")));
    }
    Ok(targets)
}

fn target(field: Field<'_>) -> Result<Target, SpannedError> {
    let Some((address, method)) = parts(field.text()?) else {
        return Err(field.invalid(
            "write an address, \"192.0.2.1\", \"tcp:192.0.2.1:443\" or \"dns:192.0.2.1\", IPv6 in brackets, \
             \"[2001:db8::1]\"; never a host name",
        ));
    };
    Target::new(address, method).ok_or_else(|| field.invalid("no host beyond a line can have it"))
}

fn parts(text: &str) -> Option<(IpAddr, Method)> {
    if let Some(rest) = text.strip_prefix("tcp:") {
        let (address, port) = rest.rsplit_once(':')?;
        let port = digits(port).filter(|port| *port > 0)?;
        return Some((bracketed(address)?, Method::Tcp(port)));
    }
    match text.strip_prefix("dns:") {
        Some(address) => Some((bracketed(address)?, Method::Dns)),
        None => Some((bracketed(text)?, Method::Icmp)),
    }
}

/// An address as it stands before a port.
fn bracketed(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address: IpAddr = inner.unwrap_or(text).parse().ok()?;
    (address.is_ipv6() == inner.is_some()).then_some(address)
}
