//! Checks of uplinks: the machines of `health` get answers and counters, their probes are sent, and their verdicts become
//! levels of drains.

use std::collections::BTreeMap;
use std::future::{pending, poll_fn};
use std::task::Poll;
use std::time::Duration;

use tracing::{debug, warn};

use super::drains::{self, Levels};
use super::health::{Counted, Event, Evidence, Key, Saved, Settings, Uplink, Uplinks, Verdict, Why};
use super::links::{LinkView, Links, Status};
use super::probe::{Answer, Binding, Error, Prober};
use super::traffic::{ByUplink, Meter};
use crate::config::{Config, Method, Target};
use crate::model::names::{Family, HostAddr, LinkName};
use crate::state::drain::Level;

/// All uplinks of a configuration with a `[check]`. Times are since the start of the process.
pub(super) struct Checks {
    uplinks: Uplinks,
    /// By the number that the machines give them: those that are configured, then the uplink's resolvers.
    targets: BTreeMap<Key, Vec<Target>>,
    probers: BTreeMap<Key, Prober>,
    /// `None`: it could not be opened, and only probes tell of life.
    meter: Option<Meter>,
    /// Of the probes by each uplink.
    marks: BTreeMap<LinkName, u32>,
    /// Why a verdict is what it is, and whether it is that the uplink is used.
    reasons: BTreeMap<Key, (bool, String)>,
    /// An answer has come that nobody has judged.
    has_news: bool,
    /// What keeps probes from being sent was said.
    has_complained: bool,
    /// How often each uplink that is probed was found dead.
    detections: BTreeMap<Key, u64>,
}

impl Checks {
    /// `None`: there is no `[check]`, or no uplink that it is about.
    pub(super) fn new(config: &Config, now: Duration) -> Option<Self> {
        let check = config.check.as_ref()?;
        let marks = config.checked().filter_map(|link| Some((link.name.clone(), config.probe_marks(link)?))).collect();
        let settings = Settings {
            interval: check.interval,
            down_after: check.down_after,
            cut_after: check.cut_after,
            up_after: check.up_after,
        };
        let (mut targets, mut uplinks) = (BTreeMap::new(), Vec::new());
        for link in config.uplinks() {
            for family in Family::BOTH.into_iter().filter(|family| link.ipv6 || *family == Family::V4) {
                let key = Key { uplink: link.name.clone(), family };
                let of_family = check.targets.iter().filter(|target| link.check && target.family() == family);
                let asked: Vec<Target> = of_family.copied().collect();
                uplinks.push(Uplink {
                    key: key.clone(),
                    tier: link.tier().map_or(0, |tier| u16::from(tier.get())),
                    metered: link.metered,
                    targets: asked.iter().map(ToString::to_string).collect(),
                });
                targets.insert(key, asked);
            }
        }
        let meter = Meter::open().inspect_err(|e| warn!("{e}: only probes tell whether an uplink lives")).ok();
        let (probers, reasons) = Default::default();
        let probed = uplinks.iter().filter(|uplink| !uplink.targets.is_empty());
        let detections = probed.map(|uplink| (uplink.key.clone(), 0)).collect();
        let uplinks = Uplinks::new(now, settings, uplinks);
        let (has_news, has_complained) = (false, false);
        Some(Self { uplinks, targets, probers, meter, marks, reasons, has_news, has_complained, detections })
    }

    /// Takes over what an earlier process knew, `away` ago.
    pub(super) fn restore(&mut self, now: Duration, away: Duration, saved: &Saved) {
        self.uplinks.restore(now, away, saved);
    }

    pub(super) fn save(&self, now: Duration) -> Saved {
        self.uplinks.save(now)
    }

    /// How often each uplink that is probed was found dead.
    pub(super) fn detections(&self) -> BTreeMap<Key, u64> {
        self.detections.clone()
    }

    /// Counts on from what was counted before.
    pub(super) fn count_on(&mut self, before: &BTreeMap<Key, u64>) {
        for (key, count) in &mut self.detections {
            *count = before.get(key).copied().unwrap_or_default();
        }
    }

    /// The targets that have never answered by an uplink, while others did.
    pub(super) fn silent(&self, key: &Key) -> Vec<String> {
        let known = self.uplinks.health(key).map_or(&[][..], |health| health.targets());
        if known.iter().all(|target| target.answered.is_none()) {
            return Vec::new();
        }
        let named = known.iter().zip(self.targets.get(key).into_iter().flatten());
        named
            .filter(|(known, _)| known.is_configured() && known.never_answers())
            .map(|(_, target)| target.to_string())
            .collect()
    }

    /// For status and metrics.
    pub(super) fn uplinks(&self) -> &Uplinks {
        &self.uplinks
    }

    /// Follows the links: which are up, and how their probes leave.
    pub(super) fn follow(&mut self, links: &Links, now: Duration) {
        let keys: Vec<_> = self.uplinks.keys().cloned().collect();
        for key in keys {
            let view = links.get(&key.uplink, key.family);
            let Some(binding) = view.filter(|view| is_up(view)).and_then(|view| self.binding(view)) else {
                self.uplinks.down(&key);
                self.probers.remove(&key);
                self.reasons.remove(&key);
                continue;
            };
            if self.probers.get(&key).is_none_or(|prober| *prober.binding() != binding) {
                self.probers.insert(key.clone(), Prober::new(binding));
                self.uplinks.up(now, &key);
                self.has_news = true;
            }
            self.set_resolvers(&key, view, now);
        }
    }

    /// Where there are targets of the family, the uplink's resolvers are among them.
    fn set_resolvers(&mut self, key: &Key, view: Option<&LinkView>, now: Duration) {
        let known = self.uplinks.health(key).map_or(&[][..], |health| health.targets());
        let configured = known.iter().filter(|target| target.is_configured()).count();
        let Some(targets) = self.targets.get_mut(key).filter(|_| configured > 0) else { return };
        let mut resolvers = Vec::new();
        for resolver in view.into_iter().flat_map(|view| &view.resolvers) {
            let target = Target::new(resolver.get(), Method::Dns);
            resolvers.extend(target.filter(|target| !targets[..configured].contains(target)));
        }
        if targets[configured..] == resolvers {
            return;
        }
        targets.truncate(configured);
        targets.extend(&resolvers);
        if let Some(prober) = self.probers.get_mut(key) {
            prober.keep(targets);
        }
        if let Some(health) = self.uplinks.health_mut(key) {
            health.set_resolvers(now, resolvers.len());
            self.has_news = true;
        }
    }

    fn binding(&self, view: &LinkView) -> Option<Binding> {
        let (next_hop, _) = view.way.as_ref()?;
        // From a link-local address nobody beyond the router is asked.
        let source = view.local.filter(|local| !local.is_link_local()).map(HostAddr::get);
        let device = &next_hop.device;
        let mark = *self.marks.get(&view.name)?;
        Some(Binding { mark, interface: device.name.clone(), index: device.index, source })
    }

    /// When [`Self::poll`] is wanted next.
    pub(super) fn wake(&self) -> Option<Duration> {
        if self.has_news { Some(Duration::ZERO) } else { self.uplinks.wake() }
    }

    /// The next answer to a probe. Dropping this loses none.
    pub(super) async fn answer(&mut self) -> (Key, Answer) {
        poll_fn(|context| {
            for (key, prober) in &mut self.probers {
                if let Poll::Ready(answer) = prober.poll_answer(context) {
                    return Poll::Ready((key.clone(), answer));
                }
            }
            Poll::Pending
        })
        .await
    }

    pub(super) fn answered(&mut self, key: &Key, answer: Answer, at: Duration) {
        let Some(health) = self.uplinks.health_mut(key) else { return };
        let rtt = match answer {
            Answer { probe, is_ambiguous: true, .. } => health.answered_ambiguously(at, probe),
            Answer { probe, .. } => health.answered(at, probe),
        };
        self.has_news |= rtt.is_some();
    }

    /// Reads counters, sends the probes that are due, and judges. Whether a verdict has changed.
    pub(super) fn poll(&mut self, now: Duration) -> bool {
        self.has_news = false;
        self.count(now);
        let outcome = self.uplinks.poll(now);
        for (key, probe) in outcome.probes {
            let target = self.targets.get(&key).and_then(|targets| targets.get(probe.target));
            let (Some(target), Some(prober)) = (target, self.probers.get_mut(&key)) else { continue };
            if let Err(error) = prober.send(*target, probe.id) {
                self.complain(&key, &error);
                if let Some(health) = self.uplinks.health_mut(&key) {
                    health.refused(now, probe.id);
                }
            }
        }
        let mut is_changed = false;
        for event in &outcome.events {
            is_changed |= self.note(event);
        }
        is_changed
    }

    fn count(&mut self, now: Duration) {
        let counted = self.meter.as_mut().map(Meter::counted).transpose();
        let by_rules = counted.inspect_err(|e| debug!("{e}")).ok().flatten().unwrap_or_default();
        for key in self.probers.keys() {
            let of_rules = by_rules.get(key).copied().map(Counted::Ours);
            let counted = of_rules.or_else(|| of_interface(&mut self.meter, &by_rules, key, &self.probers));
            if let Some(health) = self.uplinks.health_mut(key) {
                health.counted(now, counted);
            }
        }
    }

    /// An interface that is gone is told of by the kernel; else what is wrong is wrong with each probe.
    fn complain(&mut self, key: &Key, error: &Error) {
        debug!("{} is not probed: {error}", key.uplink);
        if matches!(error, Error::PingGroups) && !self.has_complained {
            self.has_complained = true;
            warn!("{error}");
        }
    }

    /// Notes why a verdict has changed, if the event is about that.
    fn note(&mut self, event: &Event) -> bool {
        match event {
            Event::Drained { key, silent, evidence } | Event::Cut { key, silent, evidence } => {
                self.reasons.insert(key.clone(), (false, silence(*silent, evidence)));
                if matches!(event, Event::Drained { .. }) {
                    *self.detections.entry(key.clone()).or_default() += 1;
                }
                true
            }
            Event::Back { key, why: Why::Answers { after } } => {
                let after = humantime::format_duration(Duration::from_secs(after.as_secs()));
                self.reasons.insert(key.clone(), (true, format!("it answers again, after {after}")));
                true
            }
            Event::Back { key, why: Why::NoOther } => {
                self.reasons.insert(key.clone(), (true, "no uplink answers, so none is left".to_owned()));
                true
            }
            Event::AllDead { family, uplinks } => {
                warn!(
                    "nothing is answered by any of {uplinks} uplinks ({family}): none is drained, since none is better"
                );
                false
            }
            Event::AllDeadOver { family, after } => {
                warn!("an uplink answers again ({family}), after {} s", after.as_secs());
                false
            }
        }
    }

    /// Why a link has been drained or cut, or put back; `None`: that was not our verdict. A drain is void where no other
    /// uplink is left, say, or another process has one.
    pub(super) fn reason(&self, key: &Key, is_back: bool) -> Option<&str> {
        self.reasons.get(key).filter(|(of_back, _)| *of_back == is_back).map(|(_, reason)| &reason[..])
    }

    /// The drains that the verdicts come to.
    pub(super) fn levels(&self) -> Levels {
        let mut levels = Levels::new();
        for key in self.uplinks.keys() {
            let level = match self.uplinks.verdict(key) {
                Verdict::Use => continue,
                Verdict::Drained => Level::Drained,
                Verdict::Cut => Level::Cut,
            };
            drains::add(&mut levels, &key.uplink, key.family, level);
        }
        levels
    }
}

/// The next answer to a probe. Never comes where nothing is probed.
pub(super) async fn answer(checks: &mut Option<Checks>) -> (Key, Answer) {
    match checks {
        Some(checks) => checks.answer().await,
        None => pending().await,
    }
}

/// Without a carrier there is nothing to probe, and a link that a drill holds is not to be judged by what it lacks.
fn is_up(view: &LinkView) -> bool {
    matches!(view.status, Status::Up | Status::Drained | Status::Cut)
}

/// What the interface has counted, where our rules count nothing.
fn of_interface(
    meter: &mut Option<Meter>,
    by_rules: &ByUplink,
    key: &Key,
    probers: &BTreeMap<Key, Prober>,
) -> Option<Counted> {
    // Some of our rules count: this uplink's are missing for a moment only. An interface with both families does not say
    // which of them lives.
    let other = Key { uplink: key.uplink.clone(), family: key.family.other() };
    if !by_rules.is_empty() || probers.contains_key(&other) {
        return None;
    }
    let (meter, prober) = (meter.as_mut()?, probers.get(key)?);
    let counters = meter.of_interface(&prober.binding().interface).inspect_err(|e| debug!("{e}")).ok().flatten();
    counters.map(Counted::Anybodys)
}

fn silence(silent: Duration, evidence: &Evidence) -> String {
    let (silent, Evidence { lost, targets, has_replies }) = (silent.as_secs_f64(), evidence);
    if *has_replies {
        return format!(
            "none of {targets} targets has answered by it for {silent:.1} s ({lost} probes), whatever else has come by it"
        );
    }
    format!("nothing has come by it for {silent:.1} s, and {lost} probes of {targets} targets were not answered")
}
