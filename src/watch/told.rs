//! What comes of a pass: events, repairs that are counted, and when the next is due.

use std::time::Duration;

use tracing::{error, info};

use super::failback;
use super::notice::Thing;
use super::pass::Passed;
use super::run::Watch;
use super::tell::{Event, Kind, between};
use crate::hook::pass::{self, links_up};
use crate::reconcile::{Outcome, summary};

impl Watch<'_> {
    /// Tells what a pass has come to, and when the next is due.
    pub(super) fn passed(&mut self, passed: Result<Passed, String>) {
        let now = self.now();
        let trouble = match passed {
            Ok(passed) => self.tell(passed, now),
            Err(error) => error,
        };
        if trouble.is_empty() {
            if !self.trouble.is_empty() {
                info!("all is done that could not be done before");
            }
            self.schedule.done();
        } else {
            if trouble != self.trouble {
                error!("{trouble}");
            }
            self.schedule.failed(now);
        }
        self.trouble = trouble;
    }

    /// The same of one that could be made; what it has left undone.
    fn tell(&mut self, passed: Passed, now: Duration) -> String {
        let Passed { outcome, links, interest, began, have_lapsed, undrained, unflushed } = passed;
        self.interest = interest;
        // What had to be changed although no link has changed, others have changed.
        let is_repair = !self.is_new && !have_lapsed && self.links.as_ref() == Some(&links);
        if outcome.made.is_empty() {
            self.origins.forget_before(began);
        } else {
            self.tell_of_changes(&outcome, is_repair, now);
        }
        if let Some(before) = &self.links {
            for mut event in between(before, &links) {
                self.give_reason(&mut event);
                self.teller.tell(event);
            }
            self.stranded.follow(&self.config, before, &links, now);
            let leaving = failback::leaving(&self.config, before, &links);
            if !leaving.is_empty() {
                self.schedule.at(now);
            }
            if unflushed.is_none() {
                self.leaving.clear();
            }
            self.leaving.extend(leaving);
        }
        if let Some(checks) = &mut self.checks {
            checks.follow(&links, now);
        }
        self.links = Some(links);
        self.is_new = false;
        self.service.status(links_up(&outcome.carrying));
        let undrained = undrained.map(|error| format!("a dead uplink stays in use: {error}"));
        let unflushed = unflushed.map(|error| error.to_string());
        let undone = Some(summary(&outcome.failures)).filter(|undone| !undone.is_empty());
        [undrained, unflushed, undone].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// Of a link that is drained, cut or back, the checks know more than its state says.
    fn give_reason(&self, event: &mut Event) {
        if matches!(event.kind, Kind::Drained | Kind::Cut | Kind::Back)
            && let (Some(checks), Some(key)) = (&self.checks, &event.key)
            && let Some(reason) = checks.reason(key, event.kind == Kind::Back)
        {
            event.reason = reason.to_owned();
        }
    }

    fn tell_of_changes(&mut self, outcome: &Outcome, is_repair: bool, now: Duration) {
        let protocol = self.config.settings.protocol;
        let made = pass::headline(outcome, protocol);
        let mut things: Vec<_> = outcome.made.iter().filter_map(Thing::of).collect();
        things.sort_unstable();
        things.dedup();
        if !is_repair || things.is_empty() {
            pass::report(&made, outcome, protocol);
            return;
        }
        let by = things.iter().find_map(|thing| self.origins.of(*thing)).map(ToString::to_string);
        let who = by.as_ref().map(|by| format!(" what {by} has changed")).unwrap_or_default();
        pass::report(&format!("repaired{who}: {made}"), outcome, protocol);
        let reason = "it had been changed, and no link had".to_owned();
        let changes = outcome.made.iter().map(|change| change.command(protocol).to_string()).collect();
        self.teller.tell(Event { by, changes, ..Event::new(Kind::Repair, reason) });
        for thing in things {
            let Some(fight) = self.budget.repaired(thing, now) else { continue };
            if fight.is_news {
                let by = self.origins.of(thing).map(ToString::to_string);
                let who = by.as_deref().unwrap_or("another program");
                let reason = format!(
                    "{thing} had to be repaired {} times, and {who} changes that again and again: nothing is done \
                     about it for {} s; end one of the two",
                    fight.repairs,
                    fight.pause.as_secs()
                );
                let pause = Some(fight.pause.as_secs());
                self.teller.tell(Event { by, pause, ..Event::new(Kind::Fight, reason) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::{fs, io};

    use tokio::runtime::Builder;

    use super::*;
    use crate::kernel;
    use crate::model::change::Change;
    use crate::model::names::Family;
    use crate::watch::loaded::Loaded;
    use crate::watch::pass::over;
    use crate::watch::program::MhWatch;

    fn options(dir: &Path) -> MhWatch {
        MhWatch {
            config: dir.join("multihome.toml"),
            state_dir: dir.join("state"),
            json: false,
            metrics: None,
            verbose: false,
        }
    }

    /// A pass that has changed nothing.
    fn nothing() -> Passed {
        let (outcome, links, interest, began) = Default::default();
        Passed { outcome, links, interest, began, have_lapsed: false, undrained: None, unflushed: None }
    }

    fn watched(test: impl AsyncFnOnce(Watch<'_>)) {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        fs::write(&options.config, "uplink = [{ name = 'isp1', interface = 'ppp0' }]\n").unwrap();
        // No pass gets the lock here, and so none touches the kernel.
        fs::write(&options.state_dir, "").unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { test(Watch::new(&options, Loaded::load(&options.config).unwrap()).unwrap()).await });
    }

    #[test]
    fn connections_that_are_to_leave_are_not_forgotten_with_a_pass_that_fails() {
        watched(async |mut watch| {
            watch.leaving = [(Family::V4, "isp1".parse().unwrap())].into();
            watch.begin(watch.now());
            let passed = over(&mut watch.running).await;
            assert!(passed.is_err());
            watch.passed(passed);
            assert_eq!(watch.leaving.len(), 1);
            let refused = kernel::Error::Open(io::ErrorKind::OutOfMemory.into());
            watch.passed(Ok(Passed { unflushed: Some(refused), ..nothing() }));
            assert_eq!(watch.leaving.len(), 1);
            watch.passed(Ok(nothing()));
            assert_eq!(watch.leaving.len(), 0);
        });
    }

    #[test]
    fn what_was_done_while_it_stood_still_is_no_harm_that_it_repairs() {
        watched(async |mut watch| {
            let changed = || {
                let made = vec![Change::DeleteNexthop(7001)];
                Passed { outcome: Outcome { made, ..Outcome::default() }, ..nothing() }
            };
            watch.passed(Ok(nothing()));
            watch.passed(Ok(Passed { have_lapsed: true, ..changed() }));
            assert_eq!(watch.teller.counts.events(), 0);
            watch.passed(Ok(changed()));
            assert_eq!(watch.teller.counts.events(), 1);
        });
    }
}
