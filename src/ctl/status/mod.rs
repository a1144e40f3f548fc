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
use crate::kernel::{Kernel, Linux, sysctl};
use crate::model::names::{Family, IfName};
use crate::model::observed::Scope;
use crate::reconcile::link_state::{LinkStates, Live, LiveLink};
use crate::state::drain;
use crate::state::records::Store;
use crate::watch::memory::Report;

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
  drained     no new connection takes it: mh-watch says that nothing is answered
              there, or a drill is on (JSON: held)
  cut         mh-watch has given it up: its connections have left it, too
A second table has the links that have IPv6, or should.
SHARE is what an uplink carries now of new connections that no policy is about:
0 % where it waits for a better tier to go, - where it is not up.
RTT and LOSS are what mh-watch measures, where it runs and [check] is there.
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
    let store = Store::new(&common.state_dir);
    let (mut records, errors) = store.load(&config);
    let since6 = since6(&store);
    let observed = Linux::open()?.observe(&Scope::new(&config, &records))?;
    records.follow_names(&observed);
    let mut counters = BTreeMap::new();
    for name in observed.interfaces.keys() {
        if let Some(found) = meter.read(name)? {
            counters.insert(name.clone(), found);
        }
    }
    let states = LinkStates::new(&config, &records, &observed);
    let mhctl = common.mhctl();
    let ways = detours::look(&config, &states, &observed, &mhctl)?;
    let silent = silent(&states.live())?;
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let clock = Clock { unix, uptime: drain::uptime() };
    let report = Report::of_running(&common.state_dir);
    let seen = Seen {
        config: &config,
        records: &records,
        observed: &observed,
        states: &states,
        counters: &counters,
        ways: &ways,
        silent: &silent,
        forwards6: sysctl::forwards6()?,
        since6: &since6,
        report: report.as_ref(),
        mhctl: &mhctl,
    };
    Ok(Facts::new(&seen, clock, errors.iter().map(ToString::to_string).collect()))
}

/// When IPv6 came up, by the index of the interface: the record of a link says this of IPv4 where it has both. What cannot
/// be read is in the errors of the link records.
fn since6(store: &Store) -> BTreeMap<u32, u64> {
    let (records, _) = store.records();
    let of_ipv6 = records.iter().filter(|record| record.family() == Family::V6);
    of_ipv6.map(|record| (record.index, record.since.unix)).collect()
}

/// Devices whose gateway the kernel has asked for in vain.
fn silent(live: &Live<'_>) -> Result<BTreeSet<(Family, IfName)>, Error> {
    let mut fib = Fib::open()?;
    let mut silent = BTreeSet::new();
    for LiveLink { family, next_hop, .. } in live.iter() {
        if let Some(gateway) = next_hop.gateway
            && fib.neighbour(next_hop.device.index, gateway.get())? == Neighbour::Silent
        {
            silent.insert((*family, next_hop.device.name.clone()));
        }
    }
    Ok(silent)
}
