//! The log line of an event, in a few words.

use std::fmt::{Display, Write};
use std::path::Path;
use std::time::Duration;

use super::recorded::Recorded;
use crate::config::{Config, Link};
use crate::event::{Addresses, Event, EventKind, Family};
use crate::kernel::removal::wait::WaitOutcome;
use crate::state::records::Effect;

impl Recorded<'_> {
    /// What happened.
    pub(super) fn headline(&self) -> String {
        let Event { kind, interface, .. } = self.event;
        let name = &self.link.name;
        let family = match kind {
            EventKind::Up(addresses) => return self.came_up(addresses),
            EventKind::Down(family) => *family,
        };
        if let Some(now) = self.still_up() {
            if self.has_moved() {
                let family = if family == Family::V4 { "" } else { " with IPv6" };
                return format!("{name} down{family} on {interface}, and up on {} by another session", now.interface);
            }
            let what = if family == Family::V4 { "went down" } else { "has no IPv6" };
            return format!("stale down event: {name} {what} on {interface}, and is up on {} since", now.interface);
        }
        match (&self.effect, family) {
            (Effect::Remove(_), Family::V4) => format!("{name} down on {interface}"),
            (Effect::Remove(_), Family::V6) => format!("{name} has no IPv6 any more on {interface}"),
            (_, family) if self.link.gateway_of(family).is_some() => format!(
                "{name} was not recorded as up on {interface}: with its gateway configured it is up while {interface} is"
            ),
            (_, family) => {
                let family = if family == Family::V4 { "IPv4" } else { "IPv6" };
                format!("{name} was not recorded as up with {family} on {interface}: nothing to take down")
            }
        }
    }

    /// Whether the down event ends the session that counted until now.
    fn has_moved(&self) -> bool {
        let Effect::Remove(record) = &self.effect else { return false };
        self.before.get(&self.link.name).is_some_and(|before| before.index == record.index)
    }

    fn came_up(&self, addresses: &Addresses) -> String {
        let (name, interface) = (&self.link.name, &self.event.interface);
        let Addresses { family, local, gateway, prefixes } = addresses;
        let mut line = match family {
            Family::V4 => format!("{name} up on {interface}"),
            Family::V6 => format!("{name} up with IPv6 on {interface}"),
        };
        // Writing to a String cannot fail.
        let _ = local.map(|a| write!(line, ", {a}"));
        let _ = gateway.map(|a| write!(line, " via {a}"));
        for prefix in prefixes {
            let _ = write!(line, ", {prefix}");
        }
        let drained = self.before.drained.get(name);
        let _ = drained.map(|drain| write!(line, ", drained by a drill (process {})", drain.pid));
        line
    }
}

/// The event is about no configured link. The caller's names may be anything, of any length.
pub(super) fn unknown(event: &Event, config: &Path) -> String {
    let mut called = String::new();
    for name in &event.names {
        let shown: String = name.chars().take(64).collect();
        // Writing to a String cannot fail.
        let _ = write!(called, "{}{shown:?}", if called.is_empty() { ", called " } else { " and " });
    }
    format!("{}{called}, is no link of {}: nothing to do", event.interface, config.display())
}

/// The event may be a link's all the same, whose name is misspelt where its caller has it from: it comes up on that link's
/// interface.
pub(super) fn misnamed(event: &Event, config: &Config) -> Option<String> {
    let is_named_up = matches!(event.kind, EventKind::Up(_)) && !event.names.is_empty();
    let link = config.link_on(&event.interface).filter(|_| is_named_up)?;
    let Link { name, interface, ipparam, .. } = link;
    Some(format!(
        "{interface} is the interface of {name}: if this is {name}, write ipparam {ipparam} in its peer's file"
    ))
}

/// The interface of a tunnel is gone, and its process may not write, which is not necessary either.
pub(super) fn nothing_left(event: &Event, link: &Link) -> String {
    let (name, interface) = (&link.name, &event.interface);
    format!("{name} is down: {interface} is gone, and without privileges there is nothing left to do")
}

/// What is recorded of an event, and nothing else done, because the configuration cannot be read.
pub(super) fn recorded(event: &Event) -> String {
    let what = what(event);
    format!("{} is recorded as {what}, and no more is done: once that is fixed, run `mhctl apply`", event.interface)
}

/// What the caller has reported in vain, and does not repeat.
pub(super) fn unrecorded(event: &Event) -> String {
    format!("{} is not recorded as {}: when that is fixed, report it again (mhctl link)", event.interface, what(event))
}

/// What is not recorded either.
pub(super) fn not_recorded(event: &Event, error: &impl Display) -> String {
    format!("{} is not recorded as {} either: {error}", event.interface, what(event))
}

/// What an event says, in a word or three.
fn what(event: &Event) -> &'static str {
    match (&event.kind, event.kind.family()) {
        (EventKind::Up(_), Family::V4) => "up",
        (EventKind::Up(_), Family::V6) => "up with IPv6",
        (EventKind::Down(_), Family::V4) => "down",
        (EventKind::Down(_), Family::V6) => "down with IPv6",
    }
}

/// How the wait for the removal of an interface ended.
pub(super) fn waited_for(event: &Event, outcome: WaitOutcome, waited: Duration) -> String {
    let interface = &event.interface;
    let ms = waited.as_millis();
    match outcome {
        WaitOutcome::Removed => format!("{interface} is gone after {ms} ms"),
        WaitOutcome::Restored => format!("{interface} has an address again after {ms} ms"),
        WaitOutcome::Terminated => format!("stopped by SIGTERM while waiting for {interface} to go"),
        WaitOutcome::TimedOut => format!("{interface} is still there after {ms} ms"),
    }
}
