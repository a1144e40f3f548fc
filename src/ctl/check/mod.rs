//! `mhctl check`: the configuration alone, without a look at the system.

pub mod advice;
mod covering;
mod ipv6;
mod numbers;
pub mod uncovered;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use self::numbers::Numbers;
use super::Error;
use super::show::{self, Screen, Tone};
use crate::cli;
use crate::cli::Common;
use crate::config::{self, Place};
use crate::ctl::check::advice::{About, advice};
use crate::ctl::check::uncovered::{Addresses, Uncovered, uncovered};

/// Options of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 there is no error, 1 there is one.
Example: mhctl check new.toml && mv new.toml /etc/multihome.toml && mhctl apply")]
pub struct Args {
    /// File to check instead of that of --config
    file: Option<PathBuf>,
    /// Print JSON: the error or none, the warnings, the numbers
    #[arg(long)]
    json: bool,
}

/// What there is to say of one place.
#[derive(Debug, Serialize)]
struct Remark {
    #[serde(flatten)]
    at: Option<At>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    message: String,
}

/// A place.
#[derive(Debug, Serialize)]
struct At {
    line: usize,
    column: usize,
}

/// The line that an error is on.
#[derive(Debug)]
struct Excerpt {
    source: String,
    /// How many characters of it are meant.
    length: usize,
}

/// All that there is to say.
#[derive(Debug, Serialize)]
struct Report {
    file: PathBuf,
    error: Option<Remark>,
    #[serde(skip)]
    excerpt: Option<Excerpt>,
    warnings: Vec<Remark>,
    /// What kill switches do not cover.
    uncovered: Vec<String>,
    numbers: Option<Numbers>,
}

pub(super) fn run(args: &Args, common: &Common) -> Result<ExitCode, Error> {
    let file = args.file.as_ref().unwrap_or(&common.config);
    let report = match config::read(file) {
        Ok(text) => report(&text, file),
        // Not even a text: what cannot be read has no line.
        Err(error) => Report::error(&error, "", file),
    };
    if args.json {
        show::json(&report)?;
    } else {
        std::io::stdout().lock().write_all(text(&report, Screen::stdout()).as_bytes())?;
    }
    Ok(if report.error.is_none() { cli::DONE } else { cli::FAILED }.into())
}

/// Checks `text`, which is called `file`. Pure.
fn report(text: &str, file: &Path) -> Report {
    let config = match config::parse(text, file) {
        Ok(config) => config,
        Err(error) => return Report::error(&error, text, file),
    };
    let (links, policies) = config::places(text);
    let warnings = advice(&config).into_iter().map(|advice| {
        let place = match advice.about {
            About::Link(at) => links.get(at),
            About::Policy(at) => policies.get(at),
        };
        Remark { at: place.map(At::new), key: None, message: advice.message }
    });
    let warnings = warnings.collect();
    let uncovered =
        uncovered(&config, Addresses::Guessed).into_iter().map(|Uncovered { what, fix, .. }| format!("{what} ({fix})"));
    let (uncovered, numbers) = (uncovered.collect(), Some(Numbers::new(&config)));
    Report { file: file.to_owned(), error: None, excerpt: None, warnings, uncovered, numbers }
}

impl Report {
    fn error(error: &config::Error, text: &str, file: &Path) -> Self {
        let excerpt = error.place.as_ref().map(|place| Excerpt::new(place, text));
        let at = error.place.as_ref().map(At::new);
        let error = Remark { at, key: error.key.clone(), message: error.message.clone() };
        Self { file: file.to_owned(), error: Some(error), excerpt, warnings: vec![], uncovered: vec![], numbers: None }
    }
}

impl At {
    fn new(place: &Place) -> Self {
        Self { line: place.line, column: place.column }
    }
}

impl Excerpt {
    fn new(place: &Place, text: &str) -> Self {
        let source = text.lines().nth(place.line - 1).unwrap_or_default();
        let left = source.chars().count().saturating_sub(place.column - 1);
        let meant = text.get(place.span.clone()).map_or(1, |meant| meant.lines().next().unwrap_or("").chars().count());
        Self {
            length: meant.min(left).max(1),
            // One column each, and nothing that a terminal would obey.
            source: source.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        }
    }
}

/// The report as people read it.
fn text(report: &Report, screen: Screen) -> String {
    let mut out = String::new();
    let file = report.file.to_string_lossy();
    if let Some(remark) = &report.error {
        line(&mut out, &file, remark, &screen.paint(Tone::Bad, "error"));
        excerpt(&mut out, report, screen);
    }
    for remark in &report.warnings {
        line(&mut out, &file, remark, &screen.paint(Tone::Odd, "warning"));
    }
    if let Some(numbers) = &report.numbers {
        if !report.warnings.is_empty() {
            out.push('\n');
        }
        let verdict = match report.warnings.len() {
            0 => screen.paint(Tone::Good, "no errors, no warnings"),
            1 => "no errors, 1 warning".to_owned(),
            n => format!("no errors, {n} warnings"),
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "{file}: {verdict}\n");
        out.push_str(&numbers.text(screen));
        if !report.uncovered.is_empty() {
            out.push_str("\notherwise = \"unreachable\" does not cover:\n");
        }
        for line in &report.uncovered {
            let _ = writeln!(out, "- {line}");
        }
    }
    out
}

fn line(out: &mut String, file: &str, remark: &Remark, word: &str) {
    if let Some(at) = &remark.at {
        let _ = write!(out, "{file}:{}:{}: ", at.line, at.column);
    }
    let key = remark.key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default();
    let _ = writeln!(out, "{word}: {key}{}", remark.message);
}

/// The line that is meant, with a caret.
fn excerpt(out: &mut String, report: &Report, screen: Screen) {
    let at = report.error.as_ref().and_then(|error| error.at.as_ref());
    if let (Some(At { line, column }), Some(Excerpt { source, length })) = (at, &report.excerpt) {
        // A table written in one line of a thousand columns helps nobody.
        let shown: String = source.chars().take(200).collect();
        let caret = screen.paint(Tone::Bad, &"^".repeat((*length).min(200)));
        let _ = writeln!(out, "{line:>5} | {shown}");
        if *column <= 200 {
            let _ = writeln!(out, "      | {}{caret}", " ".repeat(column - 1));
        }
    }
}

#[cfg(test)]
mod tests;
