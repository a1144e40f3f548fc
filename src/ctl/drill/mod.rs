//! `mhctl drill`: drains a link for a while, puts it back whatever happens, and tells how the
//! others did.
//!
//! The link is drained (see [`crate::state::drain`]). This process puts it back at the end and at a signal. When it is
//! killed or panics, the next event does, or the timer's apply within a minute, since nobody has the drain's lock any
//! more. Where no other uplink is left, the drain counts for nothing, so any event puts the link back, and this process
//! does so itself where a line goes without one.

mod connections;
pub mod conntrack;
mod report;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::connections::Watched;
use self::report::{Carried, End, Report, Routes};
use super::link::find;
use super::show::{self, Screen};
use super::{Error as CtlError, complete};
use crate::cli;
use crate::cli::Common;
use crate::config::{self, Link};
use crate::ctl::counters::{Counters, Meter};
use crate::ctl::monitor::{Monitor, Wakeup};
use crate::ctl::probe::Sampler;
use crate::hook::pass::{self, Pass};
use crate::kernel::{Kernel, Linux};
use crate::model::firewall::Firewall;
use crate::model::names::{Family, IfName, LinkName};
use crate::model::observed::Scope;
use crate::reconcile::link_state::{LinkState, LinkStates};
use crate::reconcile::{Failure, preview};
use crate::state::drain::{Drain, DrainLock};
use crate::state::records::Store;

/// Options of `drill`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The line itself stays up; only new routes leave it out. Ctrl-C ends the drill,
and so does the end of the last other uplink, unless --force is given. After a
drill that was killed the next event puts the link back, or the timer's
`mhctl apply` within a minute.
Of the connections that were sticky to the link it is told what became of them:
  moved    it goes by another link, and is answered there
  broke    it was reset there, or is not answered
  back     its other end went on by the drilled link
  silent   nothing has been sent since, so nobody knows
Exit status: 0 there was a route all the time, 1 there was none for a moment,
or it failed.
Example: mhctl drill isp1 --for 30s")]
pub struct Args {
    /// Link to drain
    #[arg(value_name = "LINK")]
    link: String,
    /// For how long: 1s to 24h
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = duration)]
    time: Duration,
    /// Even while no other uplink is up
    #[arg(long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Why there was no drill.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It carries nothing that could fail over.
    #[error("{0} is not up: see `mhctl status`")]
    NotUp(LinkName),
    #[error("{link} is drained by process {pid} already")]
    Drained { link: LinkName, pid: u32 },
    /// One whose time is over, and that has been stopped.
    #[error("another drill of {0} has not ended yet")]
    Unended(LinkName),
    /// It would cut everybody off.
    #[error("no other uplink is up: without {0} there would be no Internet; --force does it all the same")]
    Alone(LinkName),
    /// Nobody would notice the end of its time.
    #[error("a drill needs /proc, and it cannot be read")]
    NoProc,
}

/// Between two looks for other uplinks while the kernel changes things all the time; the first change has one at once.
const BURST: Duration = Duration::from_millis(20);

fn duration(text: &str) -> Result<Duration, String> {
    let limits = Duration::from_secs(1)..=Duration::from_hours(24);
    humantime::parse_duration(text)
        .ok()
        .filter(|time| limits.contains(time))
        .ok_or_else(|| "write a time such as 30s or 5m, from 1s to 24h".to_owned())
}

pub(super) fn run(args: &Args, common: &Common) -> Result<ExitCode, CtlError> {
    let config = config::load(&common.config)?;
    let link = find(&args.link, &config)?;
    let pass =
        Pass { config: &config, store: Store::new(&common.state_dir), who: format!("mhctl drill {}", link.name) };
    let families = check(&pass, link, args.force)?;
    // A drain counts in whole seconds; the drill itself ends on time, and never after it.
    let drain = Drain::by_me(args.time.as_secs() + 1, args.force).ok_or(Error::NoProc)?;
    if common.dry_run {
        let mut records = pass.link_records();
        records.drained.insert(link.name.clone(), drain);
        let plan = preview(&config, &records, &mut Linux::open()?)?;
        pass::print(&plan, config.settings.protocol)?;
        return complete(plan.problems.into_iter().map(Failure::Problem).collect());
    }
    let report = Drill { pass: &pass, link, families, time: args.time }.run(drain, args.json)?;
    if args.json {
        show::json(&report)?;
    } else {
        std::io::stdout().lock().write_all(report.text(Screen::stdout()).as_bytes())?;
    }
    Ok(if report.is_good() { cli::DONE } else { cli::FAILED }.into())
}

/// The families in which the link is up, if there can be a drill.
fn check(pass: &Pass<'_>, link: &Link, force: bool) -> Result<Vec<Family>, CtlError> {
    let records = pass.link_records();
    let observed = Linux::open()?.observe(&Scope::new(pass.config, &records))?;
    let states = LinkStates::new(pass.config, &records, &observed);
    let of_families = Family::BOTH.map(|family| states.state(link, family));
    if let Some(LinkState::Drained(_, drain)) = of_families.iter().find(|state| matches!(state, LinkState::Drained(..)))
    {
        return Err(Error::Drained { link: link.name.clone(), pid: drain.pid }.into());
    }
    let up = families_up(&states, link);
    if up.is_empty() {
        return Err(Error::NotUp(link.name.clone()).into());
    }
    let live = states.live();
    let mut uplinks = up.iter().flat_map(|family| live.of(*family)).filter(|l| l.link.is_uplink());
    let others = uplinks.any(|l| l.link.name != link.name);
    if others || force || !link.is_uplink() { Ok(up) } else { Err(Error::Alone(link.name.clone()).into()) }
}

/// The families in which a link can carry traffic.
fn families_up(states: &LinkStates<'_>, link: &Link) -> Vec<Family> {
    Family::BOTH.into_iter().filter(|family| states.state(link, *family).live().is_some()).collect()
}

/// One that asks for routes in each family of the link.
struct Samplers([Option<Sampler>; 2]);

impl Samplers {
    fn start(families: &[Family]) -> Self {
        Self([
            families.contains(&Family::V4).then(Sampler::start),
            families.contains(&Family::V6).then(Sampler::start6),
        ])
    }

    fn set_busy(&self, busy: bool) {
        for sampler in self.0.iter().flatten() {
            sampler.set_busy(busy);
        }
    }

    /// What they were answered; each that was started has an answer, if only that nothing is known.
    fn stop(self) -> [Option<Routes>; 2] {
        self.0.map(|sampler| {
            let samples = sampler?.stop().inspect_err(|error| tracing::warn!("{error}")).ok();
            Some(Routes::new(samples.as_ref()))
        })
    }
}

struct Drill<'a> {
    pass: &'a Pass<'a>,
    link: &'a Link,
    /// Those in which it was up.
    families: Vec<Family>,
    time: Duration,
}

impl Drill<'_> {
    fn run(&self, drain: Drain, quiet: bool) -> Result<Report, CtlError> {
        // From here on signals end the drill and not the process.
        let mut notices = Monitor::subscribe()?;
        let before = self.counters()?;
        let mut watched = Watched::of(self.link, self.pass.config, self.addresses()?);
        let samplers = Samplers::start(&self.families);
        let begin = Instant::now();
        let lock = self.take(drain)?;
        let drilled = self
            .reconcile("is drained for a drill")
            .and_then(|_| self.wait(&mut notices, quiet, &samplers, &mut watched));
        // The link is put back whatever cannot be read.
        watched.look(self.addresses().unwrap_or_default());
        samplers.set_busy(true);
        // Whatever came before, this is done.
        let put_back = self.put_back(lock);
        let elapsed = begin.elapsed();
        let routes = samplers.stop();
        let (end, is_back, carried) = (drilled?, put_back?, self.carried(&before)?);
        Ok(Report::new(&self.link.name, elapsed, end, is_back, routes, watched.report(), carried))
    }

    /// What each link has carried since these counters were read. An interface that is another now says nothing.
    fn carried(&self, before: &[(LinkName, IfName, Counters)]) -> Result<Vec<Carried>, CtlError> {
        let mut all = Vec::new();
        for (name, _, after) in self.counters()? {
            if let Some((.., before)) = before.iter().find(|(n, _, before)| *n == name && before.index == after.index) {
                all.push(Carried {
                    link: name.to_string(),
                    received_bytes: after.received.saturating_sub(before.received),
                    sent_bytes: after.sent.saturating_sub(before.sent),
                });
            }
        }
        Ok(all)
    }

    /// Drains the link, for whoever reconciles next.
    fn take(&self, drain: Drain) -> Result<DrainLock, CtlError> {
        let _lock = self.pass.lock("records.lock")?;
        let link = &self.link.name;
        if let Some(other) = self.pass.link_records().drained.get(link) {
            return Err(Error::Drained { link: link.clone(), pid: other.pid }.into());
        }
        self.pass
            .store
            .drain(link, &drain)
            .map_err(pass::Error::from)?
            .ok_or_else(|| Error::Unended(link.clone()).into())
    }

    fn wait(
        &self,
        notices: &mut Monitor,
        quiet: bool,
        samplers: &Samplers,
        watched: &mut Watched<'_>,
    ) -> Result<End, CtlError> {
        if !quiet {
            let time = humantime::format_duration(self.time);
            // If nobody can read it, that is no reason to end with the link drained.
            let _ = writeln!(std::io::stdout(), "{} is drained for {time}; Ctrl-C ends that", self.link.name);
        }
        samplers.set_busy(false);
        let end = Instant::now() + self.time;
        let mut kernel = Linux::open()?;
        // Also at first: the other line may have gone while this one was being drained.
        let mut changed = true;
        let mut looked = Instant::now();
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            watched.listen();
            if changed {
                looked = Instant::now();
                if self.is_alone(&mut kernel)? {
                    return Ok(End::Alone);
                }
            }
            match notices.wait(left.min(connections::INTERVAL), BURST.saturating_sub(looked.elapsed()))? {
                Wakeup::StopRequested => return Ok(End::Signal),
                woken => changed = woken == Wakeup::Changed,
            }
        }
        Ok(End::Time)
    }

    /// Whether our drain counts for nothing, since no other uplink is left.
    fn is_alone(&self, kernel: &mut Linux) -> Result<bool, CtlError> {
        // What cannot be read is told of by the passes.
        let (records, _) = self.pass.store.load(self.pass.config);
        let scope = Scope { firewall: Firewall::None, ..Scope::new(self.pass.config, &records) };
        let states = LinkStates::new(self.pass.config, &records, &kernel.observe(&scope)?);
        let is_held =
            Family::BOTH.iter().any(|family| matches!(states.state(self.link, *family), LinkState::Drained(..)));
        let is_used = !is_held && !families_up(&states, self.link).is_empty();
        Ok(is_used && records.drained.contains_key(&self.link.name))
    }

    /// Puts the link back; whether it carries traffic then.
    fn put_back(&self, drain: DrainLock) -> Result<bool, CtlError> {
        {
            let _lock = self.pass.lock("records.lock")?;
            self.pass.store.undrain(&self.link.name, drain).map_err(pass::Error::from)?;
        }
        self.reconcile("is in use again")
    }

    /// Reconciles; whether the link carries traffic then.
    fn reconcile(&self, what: &str) -> Result<bool, CtlError> {
        let outcome = self.pass.run()?;
        self.pass.report(&format!("{} {what}", self.link.name), &outcome);
        let live = self.families.iter().all(|family| outcome.carrying.of_family(*family).contains(&self.link.name));
        complete(outcome.failures).map(|_| live)
    }

    /// This host's addresses on its links.
    fn addresses(&self) -> Result<BTreeSet<IpAddr>, CtlError> {
        let scope = Scope { firewall: Firewall::None, ..Scope::new(self.pass.config, &self.pass.link_records()) };
        let observed = Linux::open()?.observe(&scope)?;
        let interfaces = observed.interfaces.values();
        let addresses = interfaces.flat_map(|interface| interface.addresses.iter().chain(&interface.addresses6));
        Ok(addresses.map(|address| address.local.get()).collect())
    }

    /// Counters of the links' interfaces.
    fn counters(&self) -> Result<Vec<(LinkName, IfName, Counters)>, CtlError> {
        let records = self.pass.link_records();
        let mut meter = Meter::open()?;
        let mut all = Vec::new();
        for link in &self.pass.config.links {
            let interface = records.get(&link.name).map_or(&link.interface, |record| &record.interface);
            if let Some(counters) = meter.read(interface)? {
                all.push((link.name.clone(), interface.clone(), counters));
            }
        }
        Ok(all)
    }
}
