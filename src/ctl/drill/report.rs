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
    /// None: it could not be found out.
    no_route_seconds: Option<f64>,
    longest_gap_seconds: Option<f64>,
    /// How often the kernel was asked for a route.
    asked: u64,
    /// Longest time between two answers.
    resolution_seconds: f64,
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
        samples: Option<&Samples>,
        connections: Connections,
        (own, others): (Vec<Carried>, Vec<Carried>),
    ) -> Self {
        Self {
            link: link.to_string(),
            seconds: elapsed.as_secs_f64(),
            cut_short: end != End::Time,
            no_other_uplink: end == End::Alone,
            back,
            no_route_seconds: samples.map(|s| s.without.as_secs_f64()),
            longest_gap_seconds: samples.map(|s| s.longest_gap.as_secs_f64()),
            asked: samples.map_or(0, |s| s.asked),
            resolution_seconds: samples.map_or(0.0, |s| s.longest_pause.as_secs_f64()),
            connections,
            own,
            others,
        }
    }

    /// Whether there was a route all the time, and the link is in use again.
    pub(super) fn is_good(&self) -> bool {
        self.no_route_seconds == Some(0.0) && self.back
    }

    /// The report as people read it.
    pub(super) fn text(&self, screen: Screen) -> String {
        let Self { link, seconds, asked, .. } = self;
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
        let resolution = self.resolution_seconds * 1e3;
        let _ = match (self.no_route_seconds, self.longest_gap_seconds) {
            (Some(without), Some(longest)) if without > 0.0 => {
                let text = format!("none for {:.1} ms", without * 1e3);
                let text = screen.paint(Tone::Bad, &text);
                writeln!(out, "  route    {text}, at most {:.1} ms at a stretch", longest * 1e3)
            }
            (Some(_), _) => {
                let text = screen.paint(Tone::Good, "there all the time");
                writeln!(out, "  route    {text}: asked for {asked} times, at most {resolution:.1} ms apart")
            }
            _ => writeln!(out, "  route    {}", screen.paint(Tone::Odd, "could not be asked for")),
        };
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
        let counts = [
            (broken, "broke"),
            (moved, "moved"),
            (back, "back"),
            (silent, if *missed { "silent since or not seen" } else { "silent since" }),
        ];
        let counts: Vec<_> = counts
            .iter()
            .filter(|(n, _)| **n > 0)
            .map(|(n, what)| if sticky == *n { format!(" {what}") } else { format!(" {n} {what}") })
            .collect();
        if !counts.is_empty() {
            let _ = writeln!(out, "{}", counts.join(","));
        }
        let row = |Listed { fate, by, proto, from, to }: &Listed| {
            let (fate, tone) = match (*fate, by) {
                ("broken", Some(by)) => (format!("broke by {by}"), Some(Tone::Bad)),
                ("broken", None) => ("broke".to_owned(), Some(Tone::Bad)),
                ("moved", Some(by)) => (format!("moved to {by}"), Some(Tone::Good)),
                ("back", _) => (format!("back by {}", self.link), Some(Tone::Odd)),
                (fate, _) => (fate.to_owned(), None),
            };
            vec![(fate, tone), (format!("{proto} {from} to {to}"), None)]
        };
        let rows: Vec<_> = listed.iter().map(row).collect();
        for line in table(&rows, &[Align::Left, Align::Left], screen) {
            let _ = writeln!(out, "           {line}");
        }
        if let Some(more) = sticky.checked_sub(listed.len()).filter(|more| *more > 0) {
            let _ = writeln!(out, "           and {more} more");
        }
    }
}
