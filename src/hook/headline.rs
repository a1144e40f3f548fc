//! The log line of an event, in a few words.

use std::fmt::{Display, Write};
use std::path::Path;
use std::time::Duration;

use super::recorded::Recorded;
use crate::config::{Config, Link};
use crate::event::{Addresses, Event, EventKind, Family};
use crate::kernel::removal::wait::WaitOutcome;
use crate::model::names::IfName;
use crate::state::drain::Level;
use crate::state::records::Effect;

impl Recorded<'_> {
    /// What happened. A caller that takes both families down need not know which of them were up.
    pub(super) fn headline(&self) -> String {
        let mut told: Vec<_> = self.told().filter(|(_, effect)| **effect != Effect::NotUp).collect();
        if told.is_empty() {
            told.extend(self.told().next());
        }
        let lines: Vec<_> = told.into_iter().map(|(event, effect)| self.headline_of(event, effect)).collect();
        lines.join("; ")
    }

    fn headline_of(&self, event: &Event, effect: &Effect) -> String {
        let Event { kind, interface, .. } = event;
        let name = &self.link.name;
        let family = match kind {
            EventKind::Up(addresses) => return self.came_up(interface, addresses),
            EventKind::Down(family) => *family,
        };
        if let Some(now) = self.still_up(event) {
            if self.has_moved(effect) {
                let family = if family == Family::V4 { "" } else { " with IPv6" };
                return format!("{name} down{family} on {interface}, and up on {} by another session", now.interface);
            }
            let what = if family == Family::V4 { "went down" } else { "has no IPv6" };
            return format!("stale down event: {name} {what} on {interface}, and is up on {} since", now.interface);
        }
        match (effect, family) {
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
    fn has_moved(&self, effect: &Effect) -> bool {
        let Effect::Remove(record) = effect else { return false };
        self.before.get(&self.link.name).is_some_and(|before| before.index == record.index)
    }

    fn came_up(&self, interface: &IfName, addresses: &Addresses) -> String {
        let name = &self.link.name;
        let Addresses { family, local, gateway, prefixes, .. } = addresses;
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
        if let Some((drain, level)) = self.before.drain(name, *family) {
            let whose = if level == Level::Held { "a drill" } else { "mh-watch" };
            let _ = write!(line, ", drained by {whose} (process {})", drain.pid);
        }
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
    // Once a session: the same one brings IPv6.
    let is_up = matches!(event.kind, EventKind::Up(Addresses { family: Family::V4, .. }));
    let is_named_up = is_up && !event.names.is_empty();
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

/// What is recorded of events, and nothing else done, because the configuration cannot be read.
pub(super) fn recorded(events: &[Event]) -> String {
    let (interface, what) = what(events);
    format!("{interface} is recorded as {what}, and no more is done: once that is fixed, run `mhctl apply`")
}

/// What the caller has reported in vain, and does not repeat.
pub(super) fn unrecorded(events: &[Event]) -> String {
    let (interface, what) = what(events);
    format!("{interface} is not recorded as {what}: when that is fixed, report it again (mhctl link)")
}

/// What is not recorded either.
pub(super) fn not_recorded(events: &[Event], error: &impl Display) -> String {
    let (interface, what) = what(events);
    format!("{interface} is not recorded as {what} either: {error}")
}

/// What events say of their interface, in a word or four.
fn what(events: &[Event]) -> (&IfName, String) {
    let Event { kind, interface, .. } = &events[0];
    let change = if matches!(kind, EventKind::Up(_)) { "up" } else { "down" };
    let families = match (events.len(), kind.family()) {
        (1, Family::V4) => "",
        (1, Family::V6) => " with IPv6",
        _ => " with IPv4 and IPv6",
    };
    (interface, format!("{change}{families}"))
}

/// How the wait for the removal of an interface ended.
pub(super) fn waited_for(interface: &IfName, outcome: WaitOutcome, waited: Duration) -> String {
    let ms = waited.as_millis();
    match outcome {
        WaitOutcome::Removed => format!("{interface} is gone after {ms} ms"),
        WaitOutcome::Restored => format!("{interface} has an address again after {ms} ms"),
        WaitOutcome::Terminated => format!("stopped by SIGTERM while waiting for {interface} to go"),
        WaitOutcome::TimedOut => format!("{interface} is still there after {ms} ms"),
    }
}
