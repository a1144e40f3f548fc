//! Runs iptables-restore(8), iptables-save(8), their twins of IPv6 and the like, without a shell or an environment, and
//! from fixed directories: pppd sets no PATH.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::time::Duration;

use thiserror::Error;

use super::program;
use crate::model::firewall::{
    self, Batch, Fingerprint, FoundChainRule, FoundChains, FoundFirewall, Leftover, RESTORE_OPTIONS, Table, Variant,
    is_ours,
};
use crate::model::names::Family;

/// Time limit of iptables-restore(8). With two runs of iptables-save(8) it is shorter than the default lock-timeout.
const RESTORE_LIMIT: Duration = Duration::from_secs(10);

/// Time limit of iptables-save(8), which waits for no lock.
const SAVE_LIMIT: Duration = Duration::from_secs(5);

/// Where distributions install iptables.
const DIRECTORIES: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];

/// Why the packet filter was not read or changed.
#[derive(Debug, Error)]
pub enum Error {
    #[error(
        "{program} is in none of {}: install iptables, or write firewall = \"nftables\" in [settings] where the \
         kernel has it", DIRECTORIES.join(", ")
    )]
    Missing { program: &'static str },
    #[error("cannot run {}: {source}", path.display())]
    Run { path: PathBuf, source: io::Error },
    #[error("{} had not ended after {} s and was killed: run it by hand to see what it waits for", path.display(), limit.as_secs())]
    Hung { path: PathBuf, limit: Duration },
    #[error("{} has refused the rules ({status}): {stderr}", path.display())]
    Refused {
        path: PathBuf,
        status: ExitStatus,
        /// Its error output, shortened.
        stderr: String,
    },
}

impl Error {
    /// Whether this machine has no such iptables, or its kernel no tables for it.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self, Self::Missing { .. }) || self.is_about_rules()
    }

    /// Whether iptables does not know something in the batch, so that another batch might succeed.
    pub(crate) fn is_about_rules(&self) -> bool {
        // RESOURCE_PROBLEM of iptables(8): another process holds its lock.
        const BUSY: i32 = 4;
        matches!(self, Self::Refused { status, .. } if status.signal().is_none() && status.code() != Some(BUSY))
    }
}

/// Loads a batch atomically.
pub fn restore(batch: &Batch) -> Result<(), Error> {
    let (path, output) =
        run(batch.variant.restore(batch.table.family), &RESTORE_OPTIONS, batch.text.as_bytes(), RESTORE_LIMIT)?;
    if output.status.success() { Ok(()) } else { Err(refused(path, &output)) }
}

/// Adds what the machine's iptables has of a family, whichever variant it is.
pub(crate) fn add_usual(found: &mut FoundFirewall, family: Family) -> Result<(), Error> {
    if family == Family::V6 {
        // All in one run: the caller has seen that there are tables.
        let tables = tables(Variant::Usual, family, &[], found)?;
        found.tables.extend(tables);
        return Ok(());
    }
    for table in Table::of(family) {
        let tables = tables(Variant::Usual, family, &["-t", table.name()], found)?;
        found.tables.extend(tables);
    }
    Ok(())
}

/// Adds what `ip_tables` or `ip6_tables` has to what was found elsewhere: managed chains, and whether foreign rules may
/// rewrite sources. The caller has seen that it has tables.
pub(crate) fn add_legacy(found: &mut FoundFirewall, family: Family) -> Result<(), Error> {
    // Before iptables 1.8 there was no other variant, and no name for this one.
    let has_name = find(Variant::Legacy.save(family)).is_some() || usual_variant(family) == Some(Variant::Nft);
    let variant = if has_name { Variant::Legacy } else { Variant::Usual };
    // All existing tables: asking for one by name would create it.
    let tables = tables(variant, family, &[], found)?;
    found.leftovers.extend(Some(Leftover { variant, tables }).filter(Leftover::any));
    Ok(())
}

/// The managed chains by iptables-save(8) of a variant. Notes whether foreign rules may rewrite sources.
fn tables(
    variant: Variant,
    family: Family,
    options: &[&str],
    found: &mut FoundFirewall,
) -> Result<BTreeMap<Table, FoundChains>, Error> {
    let text = saved(variant, family, options)?;
    let mut tables = BTreeMap::new();
    for table in Table::of(family) {
        let Some((_, rest)) = text.split_once(&format!("*{}\n", table.name())) else { continue };
        let rules = rest.split("COMMIT\n").next().unwrap_or_default();
        found.foreign_nat |= table.is_nat_of_ipv4() && rules.lines().any(is_foreign_nat);
        tables.insert(table, read(rules));
    }
    Ok(tables)
}

/// Whether a line of iptables-save(8) for the nat table is a foreign rule that may rewrite sources.
fn is_foreign_nat(line: &str) -> bool {
    line.starts_with("-A POSTROUTING ") && !line.contains(firewall::PREFIX)
}

/// The variant of the machine's iptables of a family, by the target of its symbolic link.
pub(crate) fn usual_variant(family: Family) -> Option<Variant> {
    let file = find(Variant::Usual.save(family)).and_then(|path| path.canonicalize().ok())?;
    let name = file.file_name()?.to_str()?;
    match (name.contains("legacy"), name.contains("nft")) {
        (true, false) => Some(Variant::Legacy),
        (false, true) => Some(Variant::Nft),
        _ => None,
    }
}

/// The output of iptables-save(8) of a variant.
pub(crate) fn saved(variant: Variant, family: Family, options: &[&str]) -> Result<String, Error> {
    output(variant.save(family), options)
}

/// The output of a program that reads the packet filter.
pub(crate) fn output(program: &'static str, args: &[&str]) -> Result<String, Error> {
    let (path, output) = run(program, args, b"", SAVE_LIMIT)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(refused(path, &output))
    }
}

fn find(program: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|dir| Path::new(dir).join(program)).find(|path| path.exists())
}

fn run(program: &'static str, args: &[&str], input: &[u8], limit: Duration) -> Result<(PathBuf, Output), Error> {
    let path = find(program).ok_or(Error::Missing { program })?;
    let failed = |source| Error::Run { path: path.clone(), source };
    match program::run(&path, args, input, limit).map_err(failed)? {
        Some(output) => Ok((path, output)),
        None => Err(Error::Hung { path, limit }),
    }
}

fn refused(path: PathBuf, output: &Output) -> Error {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Error::Refused { path, status: output.status, stderr: lines.join("; ").chars().take(300).collect() }
}

/// The chains of one table, from the output of iptables-save(8). Built-in chains without rules are left out, which
/// makes no difference.
fn read(text: &str) -> FoundChains {
    let mut chains = FoundChains::new();
    for line in text.lines() {
        if let Some(chain) = line.strip_prefix(':') {
            if let Some(name) = chain.split(' ').next().filter(|name| is_ours(name)) {
                chains.entry(name.to_owned()).or_default();
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let Some((chain, rule)) = rule.split_once(' ') else { continue };
            let found = if let Some(to) = rule.strip_prefix("-j ").filter(|to| is_ours(to)) {
                FoundChainRule::Jump { to: to.to_owned(), handle: None }
            } else {
                Fingerprint::find(rule.as_bytes()).map_or(FoundChainRule::Other, FoundChainRule::Fingerprint)
            };
            chains.entry(chain.to_owned()).or_default().push(found);
        }
    }
    // Foreign and built-in chains count only if they jump to managed ones.
    chains.retain(|name, rules| is_ours(name) || rules.iter().any(|rule| matches!(rule, FoundChainRule::Jump { .. })));
    chains
}
