//! `mhctl doctor`: problems, why they are such, and the command that fixes each.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::Error;
use super::setup::{self, distribution::Distribution, manifest::Manifest};
use super::tree::Tree;
use crate::cli::Common;

mod check;
mod firewall;
mod forwarding;
mod ifupdown;
mod ipv6;
mod kill_switch;
mod managers;
mod marks;
mod network;
mod nftables;
mod peers;
mod pppd;

/// Options of doctor.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: mhctl doctor  # exit status 1 if it finds trouble")]
pub struct Args {
    /// File tree to look at; the kernel is always ours
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    /// Something goes wrong.
    Trouble,
    /// Something may go wrong, depending on what is wanted.
    Note,
}

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    #[serde(rename = "weight")]
    severity: Severity,
    what: String,
    why: String,
    /// A command that fixes it, or what to do.
    #[serde(rename = "mend")]
    fix: String,
}

impl Finding {
    fn trouble(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Trouble, what: what.into(), why: why.into(), fix: fix.into() }
    }

    fn note(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::trouble(what, why, fix) }
    }
}

pub(super) fn run(args: &Args, common: &Common) -> Result<ExitCode, Error> {
    let mhctl = &common.mhctl();
    let mut findings = Vec::new();
    let tree = Tree::new(&args.root);
    let config = match setup::load_config(&args.root, common) {
        Ok(Some(config)) => Some(config),
        Ok(None) => {
            let init = format!("{mhctl} init --write");
            let what = format!("there is no configuration at {}", common.config.display());
            findings.push(Finding::trouble(what, "without it nothing is done at all", init));
            None
        }
        Err(error) => {
            let why = "an event with a wrong configuration does nothing";
            let fix = format!("{mhctl} {}", if error.place.is_some() { "check" } else { "init --write" });
            findings.push(Finding::trouble(error.to_string(), why, fix));
            None
        }
    };
    // A manifest that cannot be read is setup's to tell.
    let manifest = Manifest::load(&tree).unwrap_or_default();
    let distribution = setup::distribution(&manifest, &args.root).unwrap_or(Distribution::Plain);
    findings.extend(pppd::hooks(&tree, distribution, mhctl));
    if let Some(config) = &config {
        findings.extend(pppd::options(&tree, config));
        findings.extend(peers::unknown(&tree, config));
        findings.extend(check::look(&tree, config, &common.state_dir)?);
        findings.extend(managers::networkd(&tree, config));
        findings.extend(managers::network_manager(&tree, config));
        findings.extend(ifupdown::gateways(&tree, config));
        findings.extend(network::names(&tree, config));
        findings.extend(network::kernel(config, common)?);
        findings.extend(firewall::look(config, crate::kernel::sysctl::forwards()?, mhctl)?);
    }
    findings.sort_by_key(|finding| finding.severity);
    let troubles = findings.iter().filter(|f| f.severity == Severity::Trouble).count();
    let mut out = io::stdout().lock();
    if args.json {
        super::show::json(&serde_json::json!({ "troubles": troubles, "findings": findings }))?;
    } else {
        print(&findings, troubles, &mut out)?;
    }
    Ok(if troubles == 0 { ExitCode::SUCCESS } else { crate::cli::FAILED.into() })
}

fn print(findings: &[Finding], troubles: usize, out: &mut impl Write) -> io::Result<()> {
    for Finding { severity, what, why, fix } in findings {
        let word = if *severity == Severity::Trouble { "TROUBLE" } else { "note" };
        writeln!(out, "{word:<8} {what}\n{:8} {why}\n{:8} fix: {fix}\n", "", "")?;
    }
    match (troubles, findings.len() - troubles) {
        (0, 0) => writeln!(out, "no problem found"),
        (t, n) => writeln!(out, "{}, {}", count(t, "trouble"), count(n, "note")),
    }
}

fn count(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

/// The value of the last `key = value` in a section of an ini-like text.
fn ini<'a>(text: &'a str, section: &str, key: &str) -> Option<&'a str> {
    ini_all(text, section, key).pop()
}

/// The values of `key` in a section, which may come more than once.
fn ini_all<'a>(text: &'a str, section: &str, key: &str) -> Vec<&'a str> {
    let mut current = "";
    let mut values = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            current = name;
        } else if let Some((k, v)) = line.split_once('=')
            && current.eq_ignore_ascii_case(section)
            && k.trim() == key
        {
            values.push(v.trim());
        }
    }
    values
}

/// Whether a name ends in one of the extensions.
fn ends(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == extension)
}
