//! What becomes of the connections that were sticky to the drilled link: looked for before it is drained, which flushes
//! them, and before it is put back; of those that end in between the kernel tells.
//!
//! What can be known of each is where it goes now, whether it is answered there, and whether TCP was
//! reset. Of one that has been silent since nothing can be known.
//!
//! A UDP socket of this host may change its address with the link, as OpenVPN's does, and is another connection to the
//! kernel then: it is known by its port, and by whom it talks to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde::Serialize;
use tracing::warn;

use crate::config::{Config, Firewall, Link};
use crate::ctl::drill::conntrack::{Connection, DestroyEvents, Tuple, connections};
use crate::ctl::lookup::proto_text;
use crate::kernel;
use crate::kernel::netlink::constants::IPPROTO_UDP;

/// The kernel keeps what it tells in a buffer of limited size: empty it so often.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// That many are told of one by one.
const LISTED: usize = 10;

/// What became of a connection; the worst first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// It went by another link, and was reset or not answered there; or by none.
    Broken(Option<String>),
    /// It goes by another link, and is answered there.
    Moved(String),
    /// It came in by the drilled link again, and is sticky to it once more.
    Back,
    /// Nothing has been sent since.
    Silent,
}

/// The connections, or why nothing is known of them.
pub(super) enum Watched<'a> {
    Known(StickyConnections<'a>),
    Unknown(&'static str),
}

/// Connections that were sticky to a link.
pub(super) struct StickyConnections<'a> {
    config: &'a Config,
    link: &'a Link,
    /// All links' marks.
    mask: u32,
    destroyed: DestroyEvents,
    fates: BTreeMap<Tuple, Fate>,
    /// Addresses of this host on its links.
    ours: BTreeSet<IpAddr>,
    /// By what stays of them when they change their address: those of UDP sockets of this host.
    sockets: BTreeMap<Tuple, Tuple>,
    /// The same sockets' connections by other addresses, from an earlier change, and their timeouts at the beginning.
    earlier: BTreeMap<Tuple, u32>,
    begin: Instant,
}

impl<'a> Watched<'a> {
    /// Those that are sticky to `link` now, and in which both ends have talked; `ours` are this host's addresses.
    pub(super) fn of(link: &'a Link, config: &'a Config, ours: BTreeSet<IpAddr>) -> Self {
        if config.settings.firewall == Firewall::None {
            return Self::Unknown("firewall = \"none\" in [settings]: none is sticky");
        }
        match StickyConnections::of(link, config, ours) {
            Ok(Some(sticky)) => Self::Known(sticky),
            Ok(None) => Self::Unknown("this kernel tracks none (nf_conntrack)"),
            Err(error) => Self::failed(&error),
        }
    }

    fn failed(error: &kernel::Error) -> Self {
        warn!("{error}");
        Self::Unknown("they cannot be read")
    }

    /// Hears of those that have ended.
    pub(super) fn listen(&mut self) {
        if let Self::Known(sticky) = self
            && let Err(error) = sticky.listen()
        {
            *self = Self::failed(&error);
        }
    }

    /// Looks where they are now; `ours` are this host's addresses by now.
    pub(super) fn look(&mut self, ours: BTreeSet<IpAddr>) {
        if let Self::Known(sticky) = self
            && let Err(error) = sticky.look(ours)
        {
            *self = Self::failed(&error);
        }
    }

    /// What there is to report.
    pub(super) fn report(self) -> Connections {
        match self {
            Self::Known(sticky) => Connections::Known(sticky.summary()),
            Self::Unknown(unknown) => Connections::Unknown { unknown },
        }
    }
}

impl<'a> StickyConnections<'a> {
    /// None: no connections are tracked.
    fn of(link: &'a Link, config: &'a Config, ours: BTreeSet<IpAddr>) -> Result<Option<Self>, kernel::Error> {
        let mask = config.marks();
        let Some(destroyed) = DestroyEvents::listen()? else { return Ok(None) };
        let sticky = connections(|c| c.mark & mask == link.mark.get() && c.is_established())?;
        let fates: BTreeMap<_, _> = sticky.into_iter().map(|c| (c.tuple, Fate::Silent)).collect();
        let of_sockets = fates.keys().filter(|tuple| tuple.proto == IPPROTO_UDP && ours.contains(&tuple.from));
        let sockets: BTreeMap<_, _> = of_sockets.map(|tuple| (socket(tuple), *tuple)).collect();
        let earlier = if sockets.is_empty() {
            Vec::new()
        } else {
            connections(|c| sockets.get(&socket(&c.tuple)).is_some_and(|tuple| *tuple != c.tuple))?
        };
        let earlier = earlier.into_iter().map(|c| (c.tuple, c.timeout)).collect();
        Ok(Some(Self { config, link, mask, destroyed, fates, ours, sockets, earlier, begin: Instant::now() }))
    }

    fn listen(&mut self) -> Result<(), kernel::Error> {
        let Self { config, link, mask, destroyed, fates, .. } = self;
        destroyed.take(|gone| {
            // What ends with the drilled link's mark is what a pass has flushed.
            let fate = fate(gone, *mask, link, config);
            if let Some(noted) = fates.get_mut(&gone.tuple).filter(|_| fate != Fate::Back) {
                *noted = fate;
            }
        })
    }

    fn look(&mut self, ours: BTreeSet<IpAddr>) -> Result<(), kernel::Error> {
        self.listen()?;
        if self.fates.is_empty() {
            return Ok(());
        }
        self.ours.extend(ours);
        let found = connections(|c| self.fates.contains_key(&c.tuple) || self.goes_on(c).is_some())?;
        for connection in &found {
            let fate = fate(connection, self.mask, self.link, self.config);
            match self.goes_on(connection) {
                None => drop(self.fates.insert(connection.tuple, fate)),
                // What its other end still sends to the old address does not count.
                Some(tuple) if matches!(fate, Fate::Moved(_)) => drop(self.fates.insert(tuple, fate)),
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The connection that goes on as this one, by another address.
    fn goes_on(&self, connection: &Connection) -> Option<Tuple> {
        let tuple = *self.sockets.get(&socket(&connection.tuple))?;
        // Without a packet since the beginning as much would be left of it; the kernel counts whole seconds.
        let silent = self.earlier.get(&connection.tuple).is_some_and(|timeout| {
            u64::from(connection.timeout) <= u64::from(*timeout).saturating_sub(self.begin.elapsed().as_secs()) + 1
        });
        (tuple != connection.tuple && self.ours.contains(&connection.tuple.from) && !silent).then_some(tuple)
    }

    fn summary(&self) -> Summary {
        let mut all: Vec<_> = self.fates.iter().map(|(tuple, fate)| (fate, tuple)).collect();
        all.sort();
        let mut summary = Summary { sticky: all.len(), missed: self.destroyed.overrun, ..Summary::default() };
        for (fate, tuple) in all {
            let (fate, by, count) = match fate {
                Fate::Broken(by) => ("broken", by.clone(), &mut summary.broken),
                Fate::Moved(by) => ("moved", Some(by.clone()), &mut summary.moved),
                Fate::Back => ("back", Some(self.link.name.to_string()), &mut summary.back),
                Fate::Silent => ("silent", None, &mut summary.silent),
            };
            *count += 1;
            if summary.listed.len() < LISTED {
                let Tuple { proto, from, to, sport, dport } = *tuple;
                let (from, to) = (end(from, sport), end(to, dport));
                summary.listed.push(Listed { fate, by, proto: proto_text(proto), from, to });
            }
        }
        summary
    }
}

/// One end of a connection in words.
fn end(address: IpAddr, port: u16) -> String {
    if port == 0 { address.to_string() } else { SocketAddr::new(address, port).to_string() }
}

/// What stays of a connection when its socket takes another address.
fn socket(tuple: &Tuple) -> Tuple {
    let from = match tuple.from {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    Tuple { from, ..*tuple }
}

/// What a tracked connection says of itself.
fn fate(connection: &Connection, mask: u32, drilled: &Link, config: &Config) -> Fate {
    let by = connection.mark & mask;
    if by == drilled.mark.get() {
        return Fate::Back;
    }
    let other = config.links.iter().find(|link| link.mark.get() == by);
    match other.map(|link| link.name.to_string()) {
        Some(other) if connection.is_answered() => Fate::Moved(other),
        other => Fate::Broken(other),
    }
}

/// What is known of the connections.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Connections {
    Known(Summary),
    Unknown { unknown: &'static str },
}

/// How many there were, and what became of them.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    #[serde(rename = "pinned")]
    pub(super) sticky: usize,
    pub(super) broken: usize,
    pub(super) moved: usize,
    pub(super) back: usize,
    pub(super) silent: usize,
    /// The kernel told of more ends than could be read: of those that count as silent some may be broken.
    pub(super) missed: bool,
    /// The first of them, the worst first.
    pub(super) listed: Vec<Listed>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    pub(super) fate: &'static str,
    /// Link that it goes by.
    pub(super) by: Option<String>,
    pub(super) proto: String,
    pub(super) from: String,
    pub(super) to: String,
}
