//! `mhctl flush`: takes away everything of ours, and leaves a plain default route through the best
//! link, so that nobody is cut off.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use tracing::{info, warn};

use self::steps::{CutOff, Seen, Step, steps};
use self::told::{lost, opened};
use super::Error;
use crate::cli::Common;
use crate::config::{self, Config};
use crate::hook::pass::{self, Pass};
use crate::kernel::{Kernel, Linux};
use crate::model::change::Change;
use crate::model::routing::{DefaultRoute, Target};
use crate::model::sh::quoted;
use crate::reconcile::link_state::LinkStates;
use crate::state::deprecated::Deprecated;
use crate::state::records::{Effect, LinkRecords, Records, Store};
use crate::watch::memory::Report;

mod steps;
mod told;

/// Starts the timer at boot, whoever has enabled it.
const TIMER: &str = "/etc/systemd/system/timers.target.wants/multihome.timer";

/// Other programs may change things meanwhile; after so many looks they win.
const ROUNDS: usize = 16;

/// No options of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Goes:  rules, routes and nexthops with our protocol number, our table of
       nftables, our chains in iptables, our device groups, the records of
       links that are up; in both families.
Comes: a plain default route, of protocol static, by the best uplink; of IPv6
       only where no router's advertisement or anybody else has made one.
Ends:  policies with otherwise = \"unreachable\": what they refuse goes by that
       route. Their names are said.
Stays: what others made; marks of tracked connections, which nothing heeds any
       more; a reverse path filter that was made loose, a hash-policy and
       ignore_routes_with_linkdown that were set, since what they were is not
       known.
Afterwards a link counts again at its next event, or with `mhctl link up`.
Rules, and links with a gateway in the configuration, come back at any event or
apply, so stop the timer before: systemctl stop multihome.timer
While mh-watch runs, which would put everything back at once, nothing is done:
systemctl stop mh-watch
Example: mhctl flush --dry-run  # see it; without --dry-run do it")]
pub struct Args {}

pub(super) fn run(_: &Args, common: &Common) -> Result<ExitCode, Error> {
    let config = config::load(&common.config)?;
    let pass = Pass { config: &config, store: Store::new(&common.state_dir), who: "mhctl flush".to_owned() };
    let watcher = Report::of_running(&common.state_dir).map(|report| report.pid);
    if common.dry_run {
        return show(&pass, watcher, common);
    }
    if let Some(pid) = watcher {
        return Err(Error::Watched { pid });
    }
    let lock = pass.lock("lock")?;
    let (entries, _) = pass.store.records();
    let records = undrilled(&pass, None)?;
    let mut kernel = Linux::open()?;
    let before = Seen::by(&mut kernel, &config, &records)?;
    let live = LinkStates::new(&config, &records, &before.observed).routed();
    let steps = steps(&config, &live, &before, &[]).map_err(|CutOff| Error::CutOff)?;
    let (opened, lost) =
        (opened(&config, &live, &before.observed, &steps), lost(&live.v4, &before.observed, &common.mhctl()));
    let made = flush(&config, &records, &mut kernel)?;
    if records.deprecated != Deprecated::default() {
        pass.store.write_deprecated(&Deprecated::default()).map_err(pass::Error::from)?;
    }
    forget(&pass, &entries)?;
    drop(lock);
    kernel.flush_route_cache()?;
    let count = entries.iter().len();
    let lines = if count == 1 { "1 record".to_owned() } else { format!("{count} records") };
    info!("flushed: {}, {lines}", pass::changes(made));
    for told in [opened, lost].iter().flatten() {
        warn!("{told}");
    }
    if Path::new("/run/systemd/system").exists() && Path::new(TIMER).exists() {
        warn!("multihome.timer brings our rules back within a minute: systemctl stop multihome.timer");
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what a flush would do.
fn show(pass: &Pass<'_>, watcher: Option<u32>, common: &Common) -> Result<ExitCode, Error> {
    let config = pass.config;
    let records = undrilled(pass, watcher)?;
    let seen = Seen::by(&mut Linux::open()?, config, &records)?;
    let live = LinkStates::new(config, &records, &seen.observed).routed();
    let steps = steps(config, &live, &seen, &[]).map_err(|CutOff| Error::CutOff)?;
    let mut out = io::stdout();
    if let Some(pid) = watcher {
        writeln!(out, "# {}", Error::Watched { pid })?;
    }
    if seen.observed.firewall.hidden {
        writeln!(out, "# {}", pass::FILTER_HIDDEN)?;
    }
    print(&steps, &pass.store.records().0, &pass.store)?;
    let (opened, lost) =
        (opened(config, &live, &seen.observed, &steps), lost(&live.v4, &seen.observed, &common.mhctl()));
    for told in [opened, lost].iter().flatten() {
        writeln!(out, "# {told}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The records, if no drill drains a link. Drains of `watcher`, an mh-watch, end with it.
fn undrilled(pass: &Pass<'_>, watcher: Option<u32>) -> Result<LinkRecords, Error> {
    let mut records = pass.link_records();
    records.drained.retain(|_, drain| Some(drain.pid) != watcher);
    match records.drained.iter().next() {
        Some((link, drain)) => Err(Error::Drilled { link: link.clone(), pid: drain.pid }),
        None => Ok(records),
    }
}

/// Makes the changes, and looks again until there is nothing left; how many there were.
fn flush(config: &Config, records: &LinkRecords, kernel: &mut impl Kernel) -> Result<usize, Error> {
    let mut refused = Vec::new();
    let mut refusal = None;
    let mut made = 0;
    for _ in 0..ROUNDS {
        let seen = Seen::by(kernel, config, records)?;
        let live = LinkStates::new(config, records, &seen.observed).routed();
        let steps = match steps(config, &live, &seen, &refused) {
            Ok(steps) if steps.is_empty() => return Ok(made),
            Ok(steps) => steps,
            Err(CutOff) => return Err(refusal.map_or(Error::CutOff, Error::Kernel)),
        };
        for Step { change, protocol } in steps {
            match (kernel.apply(&change, protocol), change) {
                (Ok(()), _) => made += 1,
                // The best link will not do: the next best, before anything is broken.
                (Err(error), Change::Route(DefaultRoute { target: Target::NextHops(legs), .. }))
                    if !error.is_permission() =>
                {
                    refused.extend(legs.into_iter().map(|leg| leg.next_hop));
                    refusal = Some(error);
                    break;
                }
                (Err(error), _) => return Err(error.into()),
            }
        }
    }
    Err(Error::NotConverging)
}

/// Removes the records as they were read: what was noted since is of an event that comes after us.
fn forget(pass: &Pass<'_>, seen: &Records) -> Result<(), Error> {
    let _lock = pass.lock("records.lock")?;
    let (now, _) = pass.store.records();
    let written = pass.store.convert_old(&now);
    let mut gone = now.iter().filter(|entry| seen.iter().any(|other| other == *entry));
    let removed = written.and_then(|()| gone.try_for_each(|entry| pass.store.write(&Effect::Remove(entry.clone()))));
    Ok(removed.map_err(pass::Error::from)?)
}

fn print(steps: &[Step], entries: &Records, store: &Store) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for Step { change, protocol } in steps {
        writeln!(out, "{}", change.command(*protocol))?;
    }
    for entry in entries {
        let path = store.path(&entry.interface, entry.family());
        writeln!(out, "rm -f {}", quoted(&fs::canonicalize(&path).unwrap_or(path)))?;
    }
    let nothing = steps.is_empty() && entries.iter().next().is_none();
    writeln!(out, "{}", if nothing { "# nothing to take away" } else { "ip route flush cache" })
}
