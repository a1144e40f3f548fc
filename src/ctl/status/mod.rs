//! `mhctl status`: what is up, where traffic goes, and whether the kernel is as it should be.

mod facts;
mod text;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use self::facts::{Clock, Facts, Seen};
use super::show::{self, Screen};
use super::{Error, detours};
use crate::cli::Common;
use crate::config;
use crate::ctl::counters::Meter;
use crate::ctl::lookup::read::{Fib, Neighbour};
use crate::kernel::{Kernel, Linux};
use crate::model::names::IfName;
use crate::model::observed::Scope;
use crate::reconcile::link_state::{LinkStates, LiveLink};
use crate::state::drain;
use crate::state::records::Store;

/// Options of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
No privileges are needed. States of a link:
  up          it carries traffic, or would if its tier or a policy wanted it
  down        no caller has reported it up
  stale       reported up, but its interface is gone
  dead        reported up, but its interface is down or has lost its address
  no-carrier  it carries traffic as soon as its interface has a carrier again
  no-gateway  an Ethernet without a router, not used while another uplink is up
  drained     a drill keeps it out of new connections (JSON: held)
SHARE is what an uplink carries now of new connections that no policy is about:
0 % where it waits for a better tier to go, - where it is not up.
The kernel is asked for the way of some packets, too: what takes traffic
elsewhere is a problem, whoever made it.
Example: mhctl status --watch  # until Ctrl-C")]
pub struct Args {
    /// Show it again whenever something changes, and every second
    #[arg(long)]
    watch: bool,
    /// Print JSON; with --watch one object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, common: &Common) -> Result<ExitCode, Error> {
    if args.watch {
        return watch::run(args.json, common);
    }
    let facts = look(common, &mut Meter::open()?)?;
    if args.json {
        show::json(&facts)?;
    } else {
        std::io::stdout().lock().write_all(text::text(&facts, Screen::stdout()).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Looks at everything.
fn look(common: &Common, meter: &mut Meter) -> Result<Facts, Error> {
    let config = config::load(&common.config)?;
    let (mut records, errors) = Store::new(&common.state_dir).load(&config);
    let observed = Linux::open()?.observe(&Scope::new(&config, &records))?;
    records.follow_names(&observed);
    let mut counters = BTreeMap::new();
    for name in observed.interfaces.keys() {
        if let Some(found) = meter.read(name)? {
            counters.insert(name.clone(), found);
        }
    }
    let states = LinkStates::new(&config, &records, &observed);
    let live = states.live().v4;
    let mhctl = common.mhctl();
    let ways = detours::look(&config, &states, &observed, &mhctl)?;
    let silent = silent(&live)?;
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let clock = Clock { unix, uptime: drain::uptime() };
    let seen = Seen {
        config: &config,
        records: &records,
        observed: &observed,
        states: &states,
        counters: &counters,
        ways: &ways,
        silent: &silent,
        mhctl: &mhctl,
    };
    Ok(Facts::new(&seen, clock, errors.iter().map(ToString::to_string).collect()))
}

/// Devices whose gateway the kernel has asked for in vain.
fn silent(live: &[LiveLink<'_>]) -> Result<BTreeSet<IfName>, Error> {
    let mut fib = Fib::open()?;
    let mut silent = BTreeSet::new();
    for LiveLink { next_hop, .. } in live {
        if let Some(gateway) = next_hop.gateway
            && fib.neighbour(next_hop.device.index, gateway.get())? == Neighbour::Silent
        {
            silent.insert(next_hop.device.name.clone());
        }
    }
    Ok(silent)
}
