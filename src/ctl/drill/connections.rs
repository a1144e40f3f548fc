//! What becomes of the connections that were pinned to the drilled link: looked for before it is taken
//! out of use, which has the kernel forget them, and before it is put back; of those that end in between
//! the kernel tells.
//!
//! What can be known of each is where it goes now, whether it is answered there, and whether TCP was
//! reset. Of one that has been silent since nothing can be known.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tracing::warn;

use crate::config::{Config, Firewall, Link};
use crate::fib::proto_text;
use crate::kernel;
use crate::kernel::conntrack::{Connection, Ends, Tuple, connections};

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
    /// It came in by the drilled link again, and is pinned to it once more.
    Back,
    /// Nothing has been sent since.
    Silent,
}

/// The connections, or why nothing is known of them.
pub(super) enum Watched<'a> {
    Known(Pinned<'a>),
    Unknown(&'static str),
}

/// Connections that were pinned to a link.
pub(super) struct Pinned<'a> {
    config: &'a Config,
    link: &'a Link,
    /// The bits of all pins.
    mask: u32,
    ends: Ends,
    fates: BTreeMap<Tuple, Fate>,
}

impl<'a> Watched<'a> {
    /// Those that are pinned to `link` now, and in which both ends have talked.
    pub(super) fn of(link: &'a Link, config: &'a Config) -> Self {
        if config.settings.firewall == Firewall::None {
            return Self::Unknown("firewall = \"none\" in [settings]: none is pinned");
        }
        match Pinned::of(link, config) {
            Ok(Some(pinned)) => Self::Known(pinned),
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
        if let Self::Known(pinned) = self
            && let Err(error) = pinned.listen()
        {
            *self = Self::failed(&error);
        }
    }

    /// Looks where they are now.
    pub(super) fn look(&mut self) {
        if let Self::Known(pinned) = self
            && let Err(error) = pinned.look()
        {
            *self = Self::failed(&error);
        }
    }

    /// What there is to report.
    pub(super) fn report(self) -> Connections {
        match self {
            Self::Known(pinned) => Connections::Known(pinned.summary()),
            Self::Unknown(unknown) => Connections::Unknown { unknown },
        }
    }
}

impl<'a> Pinned<'a> {
    /// None: no connections are tracked.
    fn of(link: &'a Link, config: &'a Config) -> Result<Option<Self>, kernel::Error> {
        let mask = config.marks();
        let Some(ends) = Ends::listen()? else { return Ok(None) };
        let pinned = connections(|c| c.mark & mask == link.mark.get() && c.is_established())?;
        let fates = pinned.into_iter().map(|c| (c.tuple, Fate::Silent)).collect();
        Ok(Some(Self { config, link, mask, ends, fates }))
    }

    fn listen(&mut self) -> Result<(), kernel::Error> {
        let Self { config, link, mask, ends, fates } = self;
        ends.since(|gone| {
            // What goes with the drilled link's pin is what a pass has the kernel forget.
            let fate = fate(gone, *mask, link, config);
            if let Some(noted) = fates.get_mut(&gone.tuple).filter(|_| fate != Fate::Back) {
                *noted = fate;
            }
        })
    }

    fn look(&mut self) -> Result<(), kernel::Error> {
        self.listen()?;
        if self.fates.is_empty() {
            return Ok(());
        }
        for found in connections(|c| self.fates.contains_key(&c.tuple))? {
            let fate = fate(&found, self.mask, self.link, self.config);
            self.fates.insert(found.tuple, fate);
        }
        Ok(())
    }

    fn summary(&self) -> Summary {
        let mut all: Vec<_> = self.fates.iter().map(|(tuple, fate)| (fate, tuple)).collect();
        all.sort();
        let count = |is: fn(&Fate) -> bool| all.iter().filter(|(fate, _)| is(fate)).count();
        let one = |(fate, tuple): &(&Fate, &Tuple)| {
            let (fate, by) = match fate {
                Fate::Broken(by) => ("broken", by.clone()),
                Fate::Moved(by) => ("moved", Some(by.clone())),
                Fate::Back => ("back", Some(self.link.name.to_string())),
                Fate::Silent => ("silent", None),
            };
            let Tuple { proto, from, to, sport, dport } = tuple;
            let end = |address, port: &u16| if *port == 0 { format!("{address}") } else { format!("{address}:{port}") };
            Listed { fate, by, proto: proto_text(*proto), from: end(from, sport), to: end(to, dport) }
        };
        Summary {
            pinned: all.len(),
            broken: count(|fate| matches!(fate, Fate::Broken(_))),
            moved: count(|fate| matches!(fate, Fate::Moved(_))),
            back: count(|fate| *fate == Fate::Back),
            silent: count(|fate| *fate == Fate::Silent),
            missed: self.ends.missed,
            listed: all.iter().take(LISTED).map(one).collect(),
        }
    }
}

/// What a tracked connection says of itself.
fn fate(connection: &Connection, mask: u32, drilled: &Link, config: &Config) -> Fate {
    let pin = connection.mark & mask;
    if pin == drilled.mark.get() {
        return Fate::Back;
    }
    let other = config.links.iter().find(|link| link.mark.get() == pin);
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
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) pinned: usize,
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
