//! What a drill has shown.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::connections::{Connections, Listed, Summary};
use crate::ctl::probe::Samples;
use crate::ctl::show::{Align, Screen, Tone, bytes, table};
use crate::model::names::LinkName;

/// Why a drill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its time was over.
    Time,
    /// Somebody ended it.
    Signal,
    /// The last other uplink was lost.
    Alone,
}

/// What a link has carried meanwhile.
#[derive(Debug, Serialize)]
pub(super) struct Carried {
    pub(super) link: String,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
}

/// What a sampler was answered.
#[derive(Debug, Serialize)]
pub(super) struct Routes {
    no_route_seconds: Option<f64>,
    longest_gap_seconds: Option<f64>,
    asked: u64,
    resolution_seconds: f64,
}

impl Routes {
    /// `None`: it could not be found out.
    pub(super) fn new(samples: Option<&Samples>) -> Self {
        Self {
            no_route_seconds: samples.map(|s| s.without.as_secs_f64()),
            longest_gap_seconds: samples.map(|s| s.longest_gap.as_secs_f64()),
            asked: samples.map_or(0, |s| s.asked),
            resolution_seconds: samples.map_or(0.0, |s| s.longest_pause.as_secs_f64()),
        }
    }

    /// A line of the report, behind its first word.
    fn text(&self, screen: Screen) -> String {
        match (self.no_route_seconds, self.longest_gap_seconds) {
            (Some(without), Some(longest)) if without > 0.0 => {
                let text = screen.paint(Tone::Bad, &format!("none for {:.1} ms", without * 1e3));
                format!("{text}, at most {:.1} ms at a stretch", longest * 1e3)
            }
            (Some(_), _) => {
                let text = screen.paint(Tone::Good, "there all the time");
                let resolution = self.resolution_seconds * 1e3;
                format!("{text}: asked for {} times, at most {resolution:.1} ms apart", self.asked)
            }
            _ => screen.paint(Tone::Odd, "could not be asked for"),
        }
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    link: String,
    seconds: f64,
    /// Ended by a signal, or for want of another uplink.
    cut_short: bool,
    no_other_uplink: bool,
    /// Whether the link is in use again.
    back: bool,
    /// Of IPv4, if the link had it.
    #[serde(flatten)]
    ipv4: Option<Routes>,
    /// The same of IPv6, if the link had it.
    ipv6: Option<Routes>,
    /// What became of those that were sticky to the link.
    connections: Connections,
    /// What the link itself still carried: what was bound to it, or came in by it.
    own: Vec<Carried>,
    others: Vec<Carried>,
}

impl Report {
    pub(super) fn new(
        link: &LinkName,
        elapsed: Duration,
        end: End,
        back: bool,
        [ipv4, ipv6]: [Option<Routes>; 2],
        connections: Connections,
        carried: Vec<Carried>,
    ) -> Self {
        let (own, others) = carried.into_iter().partition(|carried| carried.link == link.as_str());
        Self {
            link: link.to_string(),
            seconds: elapsed.as_secs_f64(),
            cut_short: end != End::Time,
            no_other_uplink: end == End::Alone,
            back,
            ipv4,
            ipv6,
            connections,
            own,
            others,
        }
    }

    /// Whether there was a route all the time, and the link is in use again.
    pub(super) fn is_good(&self) -> bool {
        let is_there =
            |routes: &Option<Routes>| routes.as_ref().is_none_or(|routes| routes.no_route_seconds == Some(0.0));
        is_there(&self.ipv4) && is_there(&self.ipv6) && self.back
    }

    /// The report as people read it.
    pub(super) fn text(&self, screen: Screen) -> String {
        let Self { link, seconds, .. } = self;
        let mut out = String::new();
        let early = match (self.cut_short, self.no_other_uplink) {
            (false, _) => "",
            (true, false) => ", ended early",
            (true, true) => ", ended early since no other uplink was up",
        };
        let back = if self.back {
            screen.paint(Tone::Good, "is in use again")
        } else {
            screen.paint(Tone::Bad, "is NOT in use again: see `mhctl status`")
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "{link} was drained for {seconds:.1} s{early}, and {back}");
        for (word, routes) in [("route", &self.ipv4), ("IPv6", &self.ipv6)] {
            if let Some(routes) = routes {
                let _ = writeln!(out, "  {word:<8} {}", routes.text(screen));
            }
        }
        let wide =
            self.others.iter().map(|carried| carried.link.chars().count()).max().unwrap_or(0).max(link.chars().count());
        for (what, carried) in self.others.iter().map(|c| ("carried", c)).chain(self.own.iter().map(|c| ("left", c))) {
            let Carried { link, received_bytes, sent_bytes } = carried;
            let (received, sent) = (bytes(*received_bytes), bytes(*sent_bytes));
            let _ = writeln!(out, "  {what:8} by {link:wide$}  {received} in, {sent} out");
        }
        match &self.connections {
            Connections::Known(summary) => self.add_connections(summary, screen, &mut out),
            Connections::Unknown { unknown } => {
                let _ = writeln!(out, "  sticky   connections are not known: {unknown}");
            }
        }
        out
    }

    fn add_connections(&self, summary: &Summary, screen: Screen, out: &mut String) {
        let Summary { sticky, broken, moved, back, silent, missed, listed } = summary;
        // Writing to a String cannot fail, here and below.
        let _ = match sticky {
            0 => writeln!(out, "  sticky   no connection"),
            1 => write!(out, "  sticky   1 connection:"),
            n => write!(out, "  sticky   {n} connections:"),
        };
        let mut counts = Vec::new();
        for (n, what) in [
            (broken, "broke"),
            (moved, "moved"),
            (back, "back"),
            (silent, if *missed { "silent since or not seen" } else { "silent since" }),
        ] {
            match *n {
                0 => {}
                n if n == *sticky => counts.push(format!(" {what}")),
                n => counts.push(format!(" {n} {what}")),
            }
        }
        if !counts.is_empty() {
            let _ = writeln!(out, "{}", counts.join(","));
        }
        let mut rows = Vec::new();
        for Listed { fate, by, proto, from, to } in listed {
            let (fate, tone) = match (*fate, by) {
                ("broken", Some(by)) => (format!("broke by {by}"), Some(Tone::Bad)),
                ("broken", None) => ("broke".to_owned(), Some(Tone::Bad)),
                ("moved", Some(by)) => (format!("moved to {by}"), Some(Tone::Good)),
                ("back", _) => (format!("back by {}", self.link), Some(Tone::Odd)),
                (fate, _) => (fate.to_owned(), None),
            };
            rows.push(vec![(fate, tone), (format!("{proto} {from} to {to}"), None)]);
        }
        for line in table(&rows, &[Align::Left, Align::Left], screen) {
            let _ = writeln!(out, "           {line}");
        }
        if let Some(more) = sticky.checked_sub(listed.len()).filter(|more| *more > 0) {
            let _ = writeln!(out, "           and {more} more");
        }
    }
}
