//! How commands show what they found: colour only on a terminal that wants it, columns, JSON.

use std::io::{self, IsTerminal, Write};

use serde::{Serialize, Serializer};

use crate::model::change::Change;
use crate::model::names::DeviceName;
use crate::reconcile::link_state::Status;
use crate::reconcile::plan::Plan;

/// What a text means, and so how it is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Odd,
    Faint,
    Strong,
}

/// The place that output goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Screen {
    pub(super) colour: bool,
    /// Characters on a line; `None`: as many as one likes.
    pub(super) width: Option<usize>,
    /// Lines; `None`: no end.
    pub(super) height: Option<usize>,
}

impl Screen {
    /// Neither colour nor an end.
    #[cfg(test)]
    pub(super) const PLAIN: Self = Self { colour: false, width: None, height: None };

    /// Standard output, as it is now: a window changes its size.
    pub(super) fn stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        // no-color.org: whatever its value, if it has one.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let size = if terminal { terminal_size::terminal_size_of(io::stdout()) } else { None };
        Self {
            colour: terminal && !dumb && !refused,
            // A serial console says 0.
            width: size.map(|(width, _)| width.0.into()).filter(|width| *width > 0),
            height: size.map(|(_, height)| height.0.into()).filter(|height| *height > 0),
        }
    }

    /// `text` in its colour.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Odd => "33",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Columns of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows as lines with columns as wide as their widest cell; the first row is the heading.
pub(super) fn table(rows: &[Vec<(String, Option<Tone>)>], align: &[Align], screen: Screen) -> Vec<String> {
    let mut widths = vec![0; align.len()];
    for row in rows {
        for ((text, _), width) in row.iter().zip(&mut widths) {
            *width = text.chars().count().max(*width);
        }
    }
    let mut lines = Vec::with_capacity(rows.len());
    for row in rows {
        let cells = row.iter().zip(align).zip(&widths).map(|(((text, tone), align), width)| {
            let room = " ".repeat(width - text.chars().count());
            let text = tone.map_or_else(|| text.clone(), |tone| screen.paint(tone, text));
            if *align == Align::Left { text + &room } else { room + &text }
        });
        lines.push(cells.collect::<Vec<_>>().join("  ").trim_end().to_owned());
    }
    lines
}

/// Policies by their names, in quotes, as many as `most`; `None`: there are none.
pub(super) fn policies<'a>(names: impl IntoIterator<Item = &'a str>, most: usize) -> Option<String> {
    let quoted: Vec<_> = names.into_iter().map(|name| format!("{name:?}")).collect();
    match &quoted[..] {
        [] => None,
        [only] => Some(format!("policy {only}")),
        all if all.len() > most => Some(format!("policies {} and {} more", all[..most].join(", "), all.len() - most)),
        all => Some(format!("policies {}", all.join(", "))),
    }
}

/// A number of pending changes, in words.
pub(super) fn pending(changes: usize) -> String {
    if changes == 1 { "1 change is pending".to_owned() } else { format!("{changes} changes are pending") }
}

/// Three digits and a unit in steps of 1000.
pub(super) fn scaled(mut n: f64, units: [&str; 6]) -> String {
    let mut unit = 0;
    // 999.5 would be shown as 1000.
    while n >= 999.5 && unit < units.len() - 1 {
        n /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || n >= 99.95 { 0 } else { usize::from(n < 9.995) + 1 };
    format!("{n:.digits$} {}", units[unit])
}

/// JSON has escapes of its own.
impl Serialize for DeviceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// A number of bytes.
pub(super) fn bytes(n: u64) -> String {
    // Beyond 2^53 a byte more or less does not show.
    #[allow(clippy::cast_precision_loss)]
    scaled(n as f64, ["B", "kB", "MB", "GB", "TB", "PB"])
}

/// Prints `value` as JSON, for eyes and programs alike.
pub(super) fn json(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)
}

/// A plan as JSON.
#[derive(Debug, Serialize)]
pub(super) struct PlanJson {
    changes: Vec<ChangeJson>,
    problems: Vec<String>,
    firewall_hidden: bool,
}

/// A change as JSON.
#[derive(Debug, Serialize)]
pub(super) struct ChangeJson {
    /// What one would type.
    command: String,
}

pub(super) fn changes(all: &[Change], protocol: u8) -> Vec<ChangeJson> {
    all.iter().map(|change| ChangeJson { command: change.command(protocol).to_string() }).collect()
}

impl PlanJson {
    pub(super) fn new(plan: &Plan, protocol: u8) -> Self {
        Self {
            changes: changes(&plan.changes, protocol),
            problems: plan.problems.iter().map(ToString::to_string).collect(),
            firewall_hidden: plan.is_filter_hidden,
        }
    }
}
