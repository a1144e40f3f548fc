//! What happens at an event, in a few words for the log.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::told::Told;
use crate::config::{Config, Link};
use crate::event::{Addresses, Change, Event, Family};
use crate::kernel::removal::settle::Outcome;
use crate::state::records::Effect;

impl Told<'_> {
    /// What the event says.
    pub(super) fn headline(&self) -> String {
        let Event { change, interface, .. } = self.event;
        let name = &self.link.name;
        let family = match change {
            Change::Up(addresses) => return self.came_up(addresses),
            Change::Down(family) => *family,
        };
        if let Some(now) = self.still_up() {
            let what = if family == Family::V4 { "went down" } else { "has no IPv6" };
            return format!("late word that {name} {what} on {interface}: it is up on {} since", now.interface);
        }
        match (&self.effect, family) {
            (Effect::Remove(_), Family::V4) => format!("{name} down on {interface}"),
            (Effect::Remove(_), Family::V6) => format!("{name} has no IPv6 any more on {interface}"),
            (_, Family::V4) if self.link.gateway.is_some() => format!(
                "{name} was not recorded as up on {interface}: with its gateway configured it is up while {interface} is"
            ),
            (_, family) => {
                let family = if family == Family::V4 { "IPv4" } else { "IPv6" };
                format!("{name} was not recorded as up with {family} on {interface}: nothing to take down")
            }
        }
    }

    fn came_up(&self, addresses: &Addresses) -> String {
        let (name, interface) = (&self.link.name, &self.event.interface);
        match addresses {
            Addresses::V4 { local, gateway } => {
                let mut line = format!("{name} up on {interface}");
                // Writing to a String cannot fail.
                let _ = local.map(|a| write!(line, ", {a}"));
                let _ = gateway.map(|a| write!(line, " via {a}"));
                let drained = self.before.drained.get(name);
                let _ = drained.map(|drain| write!(line, ", kept out of use by a drill (process {})", drain.pid));
                line
            }
            Addresses::V6 { local, remote } => {
                format!("{name} has IPv6 on {interface} ({local} to {remote}): recorded, IPv6 is not routed yet")
            }
        }
    }
}

/// That the event is none of our business. Its caller's names may be anything, and of any length.
pub(super) fn unknown(event: &Event, config: &Path) -> String {
    let shown = |name: &String| format!("{:?}", name.chars().take(64).collect::<String>());
    let names: Vec<_> = event.names.iter().map(shown).collect();
    let called = if names.is_empty() { String::new() } else { format!(", called {}", names.join(" and ")) };
    format!("{}{called}, is no link of {}: nothing to do", event.interface, config.display())
}

/// That the event may be a link's all the same, whose name has been misspelt where its caller has it from: it comes up on
/// that link's interface.
pub(super) fn misnamed(event: &Event, config: &Config) -> Option<String> {
    let is_named_up = matches!(event.change, Change::Up(Addresses::V4 { .. })) && !event.names.is_empty();
    let link = config.links.iter().find(|link| is_named_up && link.interface == event.interface)?;
    let Link { name, interface, ipparam, .. } = link;
    Some(format!(
        "{interface} is the interface of {name}: if this is {name}, write ipparam {ipparam} in its peer's file"
    ))
}

/// That a tunnel's process may not write, and need not.
pub(super) fn nothing_left(event: &Event, link: &Link) -> String {
    let (name, interface) = (&link.name, &event.interface);
    format!("{name} is down: {interface} is gone, and without privileges there is nothing left to do")
}

/// What is written down of an event while the configuration cannot be read.
pub(super) fn recorded(event: &Event) -> String {
    let interface = &event.interface;
    let what = match event.change {
        Change::Up(Addresses::V4 { .. }) => "up",
        Change::Up(Addresses::V6 { .. }) => "up with IPv6",
        Change::Down(Family::V4) => "down",
        Change::Down(Family::V6) => "down with IPv6",
    };
    format!("{interface} is recorded as {what}, and no more is done: once that is mended, run `mhctl apply`")
}

/// How waiting for an interface has ended.
pub(super) fn settled(event: &Event, outcome: Outcome, waited: Duration) -> String {
    let interface = &event.interface;
    let ms = waited.as_millis();
    match outcome {
        Outcome::Gone => format!("{interface} is gone after {ms} ms"),
        Outcome::Back => format!("{interface} has an address again after {ms} ms"),
        Outcome::Terminated => format!("told to end while waiting for {interface} to go"),
        Outcome::Stayed => format!("{interface} is still there after {ms} ms"),
    }
}
