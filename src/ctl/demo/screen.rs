//! What the demo prints: steps, commands with their output and what changed in it, promises kept
//! or broken. Fits 80 columns.

use std::collections::HashMap;
use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::Command;
use std::time::Duration;

use super::Error;
use super::server::{Line, Server};
use crate::ctl::lookup::observed_next_hops;
use crate::model::names::{Family, TableId};
use crate::model::observed::Observed;
use crate::model::routing::{FoundTarget, NexthopKind};

/// Where ip(8) may be when PATH of an ordinary user does not lead to it.
const IP: [&str; 3] = ["ip", "/usr/sbin/ip", "/sbin/ip"];

/// Of an output of which so many lines are the same as before, only the others are shown.
const MANY: usize = 6;

/// How text stands out on a terminal (ECMA-48, SGR).
#[derive(Clone, Copy)]
enum Look {
    Title,
    Command,
    Good,
    Bad,
    Gone,
    Faint,
}

/// Standard output.
pub(super) struct Screen {
    out: io::Stdout,
    colour: bool,
    /// Program that is ip(8); `None`: there is none.
    ip: Option<&'static str>,
    /// Last output of each ip command, to tell what changed.
    last: HashMap<&'static str, Vec<String>>,
    kept: u32,
    /// Promises that were not kept.
    pub(super) broken: Vec<String>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let plain = env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || env::var_os("TERM").is_none_or(|term| term == "dumb");
        let out = io::stdout();
        Self {
            colour: out.is_terminal() && !plain,
            ip: IP.into_iter().find(|ip| Command::new(ip).arg("-V").output().is_ok_and(|o| o.status.success())),
            last: HashMap::new(),
            kept: 0,
            broken: Vec::new(),
            out,
        }
    }

    fn line(&self, look: Look, text: &str) -> io::Result<()> {
        let mut out = self.out.lock();
        if !self.colour {
            return writeln!(out, "{text}");
        }
        let code = match look {
            Look::Title | Look::Command => "1",
            Look::Good => "32",
            Look::Bad => "1;31",
            Look::Gone => "31",
            Look::Faint => "2",
        };
        writeln!(out, "\x1b[{code}m{text}\x1b[0m")
    }

    /// What comes next, apart from what was.
    pub(super) fn tell(&self, text: &str) -> io::Result<()> {
        self.say(&format!("\n{text}"))
    }

    /// Plain lines.
    pub(super) fn say(&self, text: &str) -> io::Result<()> {
        writeln!(self.out.lock(), "{text}")
    }

    /// The first line of all.
    pub(super) fn title(&self, text: &str) -> io::Result<()> {
        self.line(Look::Title, text)
    }

    /// Begins a step: a heading, and what it is about.
    pub(super) fn step(&self, title: &str, about: &str) -> io::Result<()> {
        self.say("")?;
        self.line(Look::Title, title)?;
        self.say(about)
    }

    /// Says that there is no ip(8), once.
    pub(super) fn introduce_ip(&self) -> io::Result<()> {
        match self.ip {
            Some(_) => self.say("Lines with + are new since a command was shown last, those with - are gone."),
            None => self.say(
                "ip(8) is not installed here (package iproute2). Below its commands stands what\n\
                 multihome itself reads of the kernel, of routes only the default ones. Lines\n\
                 with + are new since the command was shown last, those with - are gone.",
            ),
        }
    }

    /// A hook that was run.
    pub(super) fn ran(&self, command: &str, took: Duration) -> io::Result<()> {
        self.line(Look::Command, &format!("  # {command:<66} {}", ms(took)))
    }

    /// An ip command, its output, and what changed in it.
    pub(super) fn ip(&mut self, args: &'static str, server: &Server) -> Result<(), Error> {
        let now = match self.ip {
            Some(ip) => output(ip, args)?,
            None => observed(args, &server.observe()?),
        };
        self.line(Look::Command, &format!("  $ ip {args}"))?;
        if now.is_empty() {
            self.line(Look::Faint, "      (nothing)")?;
        }
        let before = self.last.get(args);
        for line in before.into_iter().flatten().filter(|line| !now.contains(line)) {
            self.line(Look::Gone, &format!("    - {line}"))?;
        }
        let old = before.map_or(0, |before| now.iter().filter(|line| before.contains(line)).count());
        let show_old = old < MANY;
        for line in &now {
            let is_old = before.is_some_and(|before| before.contains(line));
            if before.is_none() || is_old && show_old {
                self.say(&format!("      {line}"))?;
            } else if !is_old {
                self.line(Look::Good, &format!("    + {line}"))?;
            }
        }
        if !show_old {
            self.line(Look::Faint, &format!("      (the other {old} are as before)"))?;
        }
        self.last.insert(args, now);
        Ok(())
    }

    /// A bar of `count` out of `of`.
    pub(super) fn bar(&self, line: &Line, count: usize, of: usize) -> io::Result<()> {
        const WIDTH: usize = 50;
        let bar = "#".repeat((count * WIDTH + of / 2) / of.max(1));
        self.say(&format!("      {:<6}{count:>4}  {bar}", line.name))
    }

    /// Says whether something is as promised.
    pub(super) fn promise(&mut self, kept: bool, text: &str) -> io::Result<()> {
        if kept {
            self.kept += 1;
            self.line(Look::Good, &format!("  ok: {text}"))
        } else {
            self.broken.push(text.to_owned());
            self.line(Look::Bad, &format!("  NOT AS PROMISED: {text}"))
        }
    }

    /// The last line.
    pub(super) fn summary(&self, took: Duration) -> io::Result<()> {
        self.say("")?;
        let took = took.as_secs_f64();
        if self.broken.is_empty() {
            let text =
                format!("All {} promises kept, in {took:.1} s. Nothing is left of this on your machine.", self.kept);
            self.line(Look::Good, &text)
        } else {
            let all = self.broken.len() + self.kept as usize;
            self.line(Look::Bad, &format!("{} of {all} promises broken: {}", self.broken.len(), self.broken.join("; ")))
        }
    }
}

/// Milliseconds, as precise as they are interesting.
pub(super) fn ms(duration: Duration) -> String {
    if duration.is_zero() { "0 ms".to_owned() } else { format!("{:.1} ms", duration.as_secs_f64() * 1e3) }
}

/// A number with its thousands apart.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// What ip(8) prints.
fn output(ip: &str, args: &str) -> Result<Vec<String>, Error> {
    let output = Command::new(ip).args(args.split(' ')).output().map_err(Error::io("run ip(8)"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Ip { command: format!("{ip} {args}"), said });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(|line| line.trim_end().replace('\t', "    ")).collect())
}

/// The same from our own observation, as commands of ip(8) would say it.
fn observed(args: &str, observed: &Observed) -> Vec<String> {
    match args {
        "route" | "-6 route" => {
            let family = if args == "route" { Family::V4 } else { Family::V6 };
            let mut lines = Vec::new();
            for route in observed.routes.iter().filter(|r| r.table == TableId::MAIN && r.family == family) {
                let metric = if route.metric == 0 { String::new() } else { format!(" metric {}", route.metric) };
                lines.push(format!("default {} proto {}{metric}", route.target, route.protocol));
                if let FoundTarget::Nexthop { .. } = route.target {
                    for (next_hop, weight) in observed_next_hops(&route.target, observed) {
                        lines.push(format!("    nexthop {next_hop} weight {weight}"));
                    }
                }
            }
            lines
        }
        "rule" => {
            let rules = observed.rules.iter().filter(|found| found.rule.family == Family::V4);
            rules.map(|found| found.rule.to_string()).collect()
        }
        _ => observed
            .nexthops
            .iter()
            .flatten()
            .map(|(id, found)| match &found.kind {
                NexthopKind::Single(next_hop) => format!("id {id} {next_hop}"),
                NexthopKind::Group(members) => {
                    let members: Vec<_> = members.iter().map(|m| format!("{},{}", m.id, m.weight)).collect();
                    format!("id {id} group {}", members.join("/"))
                }
                NexthopKind::ForeignDevice | NexthopKind::Other => format!("id {id}"),
            })
            .collect(),
    }
}
