//! An event, as text for the log and as a line of JSON (docs/events.md).

use std::fmt;
use std::time::SystemTime;

use serde::Serialize;

use crate::model::names::{Family, IfName, LinkName};
use crate::watch::health::Key;

/// Version of the JSON. It grows when a key goes or changes its meaning, not when one is added.
pub const VERSION: u32 = 1;

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A link can carry traffic.
    Up,
    /// It cannot.
    Down,
    /// It is kept out of new connections.
    Drained,
    /// The same, and its connections are flushed.
    Cut,
    /// It is drained or cut no more.
    Back,
    /// A worse tier carries traffic.
    Failover,
    /// A better tier does.
    Failback,
    /// What another program has changed is as it was.
    Repair,
    /// It is not, because the other does so again and again.
    Fight,
}

impl Kind {
    pub(in crate::watch) const ALL: [Self; 9] = [
        Self::Up,
        Self::Down,
        Self::Drained,
        Self::Cut,
        Self::Back,
        Self::Failover,
        Self::Failback,
        Self::Repair,
        Self::Fight,
    ];

    /// As JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Drained => "drained",
            Self::Cut => "cut",
            Self::Back => "back",
            Self::Failover => "failover",
            Self::Failback => "failback",
            Self::Repair => "repair",
            Self::Fight => "fight",
        }
    }
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    pub kind: Kind,
    /// The link that it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// `IPv4` or `IPv6`, if it is about one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Both, for those who look something up.
    #[serde(skip)]
    pub(in crate::watch) key: Option<Key>,
    /// The link's interface, if it has a next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Why, for people.
    pub reason: String,
    /// Repair, fight: who has made what was undone, as far as the kernel says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Failover, failback: the uplinks that carry traffic now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub carrying: Vec<String>,
    /// Repair: the changes, as commands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Fight: seconds until the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<u64>,
}

impl Event {
    /// An event without a link.
    pub fn new(kind: Kind, reason: String) -> Self {
        Self {
            kind,
            link: None,
            family: None,
            key: None,
            interface: None,
            reason,
            by: None,
            carrying: Vec::new(),
            changes: Vec::new(),
            pause: None,
        }
    }

    /// An event of a link in a family.
    pub fn of_link(kind: Kind, link: &LinkName, family: Family, interface: Option<&IfName>, reason: &str) -> Self {
        Self {
            link: Some(link.to_string()),
            family: Some(family.to_string()),
            key: Some(Key { uplink: link.clone(), family }),
            interface: interface.map(ToString::to_string),
            ..Self::new(kind, reason.to_owned())
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(link) = &self.link {
            write!(f, "{link} ")?;
        }
        f.write_str(self.kind.as_str())?;
        if let Some(family) = &self.family {
            write!(f, " ({family})")?;
        }
        write!(f, ": {}", self.reason)?;
        if self.carrying.is_empty() { Ok(()) } else { write!(f, "; now: {}", self.carrying.join(" ")) }
    }
}

/// An event with its time.
#[derive(Debug, Clone, Serialize)]
pub(in crate::watch) struct Told {
    version: u32,
    /// RFC 3339, UTC, with milliseconds.
    time: String,
    #[serde(flatten)]
    event: Event,
    /// For the administrator's program: events before this one that it has not been told of.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) missed: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it in so")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Told {
    pub(in crate::watch) fn new(event: Event, time: SystemTime) -> Self {
        let time = humantime::format_rfc3339_millis(time).to_string();
        Self { version: VERSION, time, event, missed: 0 }
    }

    /// JSON, and the end of the line.
    pub(in crate::watch) fn line(&self) -> String {
        // Strings and numbers only, which always have a JSON.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}
