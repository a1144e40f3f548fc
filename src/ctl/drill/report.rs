//! What a drill has shown. Which connections moved or broke belongs here as well, once conntrack is
//! read.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::probing::Probed;
use crate::ctl::show::{Screen, Tone, bytes};
use crate::types::LinkName;

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
    /// Ended by a signal.
    cut_short: bool,
    /// Whether the link is in use again.
    back: bool,
    /// None: it could not be found out.
    no_route_seconds: Option<f64>,
    longest_gap_seconds: Option<f64>,
    /// How often the kernel was asked for a route.
    asked: u64,
    /// Longest time between two answers.
    resolution_seconds: f64,
    /// What the link itself still carried: what was bound to it, or came in by it.
    own: Vec<Carried>,
    others: Vec<Carried>,
}

impl Report {
    pub(super) fn new(
        link: &LinkName,
        elapsed: Duration,
        cut_short: bool,
        back: bool,
        probed: Option<Probed>,
        own: Vec<Carried>,
        others: Vec<Carried>,
    ) -> Self {
        Self {
            link: link.to_string(),
            seconds: elapsed.as_secs_f64(),
            cut_short,
            back,
            no_route_seconds: probed.map(|p| p.without.as_secs_f64()),
            longest_gap_seconds: probed.map(|p| p.longest.as_secs_f64()),
            asked: probed.map_or(0, |p| p.asked),
            resolution_seconds: probed.map_or(0.0, |p| p.blind.as_secs_f64()),
            own,
            others,
        }
    }

    /// Whether there was a route all the time.
    pub(super) fn never_without(&self) -> bool {
        self.no_route_seconds == Some(0.0)
    }

    /// The report as people read it.
    pub(super) fn text(&self, screen: Screen) -> String {
        let Self { link, seconds, asked, .. } = self;
        let mut out = String::new();
        let early = if self.cut_short { ", ended early" } else { "" };
        let back = if self.back {
            screen.paint(Tone::Good, "is in use again")
        } else {
            screen.paint(Tone::Bad, "is NOT in use again: see `mhctl status`")
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "{link} was out of use for {seconds:.1} s{early}, and {back}");
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
        out
    }
}
