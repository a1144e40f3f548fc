//! `mhctl demo`: the main job before one's eyes. Two lines of a server that exists in a throwaway
//! network namespace come up, share, die, come back and flap, while a thread asks the kernel for
//! the way to the Internet without a pause. Each step promises something and looks whether it holds.

use std::io;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::cli;
use crate::config;
use crate::ctl::probe::{Probe, Sampler, Samples, destination};
use crate::kernel;

use screen::{Screen, count, ms};
use server::{ISP1, ISP2, Line, Server, index};
use stage::Stage;

mod screen;
mod server;
mod stage;
mod veth;

/// How many destinations are asked for when the share of each line is looked at.
const DESTINATIONS: usize = 200;
/// Five standard deviations around 160 of 200 at 8:2: a right share is outside once in two million.
const SHARE: std::ops::RangeInclusive<usize> = 132..=188;
/// How often each line flaps.
const FLAPS: u64 = 20;

/// No options of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mhctl demo  # takes a few seconds, and needs neither root nor a setup")]
pub struct Args {}

/// Why the demo could not be shown.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no place to show it in.
    #[error(
        "cannot make a network namespace: {0}. Run it as root; an ordinary user needs user namespaces \
         (none in a chroot; sysctl user.max_user_namespaces not 0, and where they exist \
         kernel.unprivileged_userns_clone = 1, kernel.apparmor_restrict_unprivileged_userns = 0)"
    )]
    Namespace(#[source] io::Error),
    /// The hooks are not installed together with mhctl.
    #[error("{} is missing: the demo runs the hooks that are in the directory of mhctl; install them there", .0.display())]
    NoHook(PathBuf),
    /// The kernel is too old for what is shown.
    #[error("this kernel has no nexthop objects (Linux 5.3 has), which the demo is about")]
    NoNexthopObjects,
    #[error("cannot {action}: {source}")]
    Io { action: &'static str, source: io::Error },
    /// A line's device is not there, although the demo has just made it.
    #[error("device {0} has gone by itself: does another program change devices in new network namespaces?")]
    Vanished(&'static str),
    #[error("`{command}` failed ({status}): {said}")]
    Hook { command: String, status: ExitStatus, said: String },
    #[error("`{command}` failed: {said}")]
    Ip { command: String, said: String },
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
    #[error("told to end before the end; nothing is left behind")]
    Interrupted,
}

impl Error {
    fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

pub(super) fn run(_: &Args) -> Result<ExitCode, super::Error> {
    let start = Instant::now();
    let stage = Stage::enter()?;
    let mut screen = Screen::new();
    let shown = show(&stage, &mut screen);
    // Ctrl-C reaches the hooks as well: that they failed is then no news.
    let ending = stage.go_on();
    stage.leave()?;
    ending.and(shown)?;
    screen.summary(start.elapsed())?;
    Ok(if screen.broken.is_empty() { cli::DONE } else { cli::FAILED }.into())
}

fn show(stage: &Stage, screen: &mut Screen) -> Result<(), Error> {
    let server = Server::new(stage, "objects", "objects")?;
    if server.observe()?.nexthops.is_none() {
        return Err(Error::NoNexthopObjects);
    }
    screen.title("multihome: one server, two Internet lines, and what happens when they fail")?;
    screen.say(
        "This happens in a throwaway network namespace, with virtual cables as lines:\n\
         the network of your machine is not touched. Kernel and hooks are the real ones.",
    )?;
    if !stage.quiet {
        screen.say("(This container forbids mounts, so the hooks' log lines do reach its syslog.)")?;
    }
    screen.introduce_ip()?;
    screen.say("")?;
    for Line { name, device, local, remote, weight, .. } in [ISP1, ISP2] {
        let addresses = format!("{local} -> {remote}");
        screen
            .say(&format!("      {name} on {device}  {addresses:<30} weight {weight}: {weight} of 10 connections"))?;
    }

    let steps = [nothing_up, both_come_up, shared, one_dies, it_comes_back, both_flap, ipv6_too];
    for step in steps {
        stage.go_on()?;
        step(stage, screen, &server)?;
    }
    Ok(())
}

fn nothing_up(_: &Stage, screen: &mut Screen, server: &Server) -> Result<(), Error> {
    screen.step("1. No line is up", "The server does not know any way to anywhere.")?;
    screen.ip("route", server)?;
    screen.promise(server.leads_by(&[])?, "no default route")?;
    Ok(())
}

fn both_come_up(_: &Stage, screen: &mut Screen, server: &Server) -> Result<(), Error> {
    screen.step("2. Both lines come up", "pppd has dialled in. For each line it runs one small program, the hook:")?;
    for line in [&ISP1, &ISP2] {
        line.appear()?;
        let ran = server.ip_up(line)?;
        screen.ran(&ran.command, ran.took)?;
    }
    screen.tell(
        "Now the default route leads by both lines, 8 to 2. Behind it each line has a\n\
         spare, which carries only while all before it are lost:",
    )?;
    screen.ip("route", server)?;
    screen.tell("The first is a group of nexthops that the kernel itself looks after (step 4):")?;
    screen.ip("nexthop", server)?;
    screen.tell(
        "Rules keep on a line what belongs to it: connections with its mark, and replies\n\
         from its address. Tables 1 and 2 hold a default route by isp1 and by isp2 alone:",
    )?;
    screen.ip("rule", server)?;
    let right = server.leads_by(&[&ISP1, &ISP2])? && server.is_right()?;
    screen.promise(right, "routes, nexthops, tables and rules are what the configuration wants")?;
    Ok(())
}

fn shared(_: &Stage, screen: &mut Screen, _: &Server) -> Result<(), Error> {
    let about = format!("Asking the kernel by which line it would send to {DESTINATIONS} addresses of the Internet:");
    screen.step("3. The lines share the work", &about)?;
    let (isp1, isp2) = (index(&ISP1)?, index(&ISP2)?);
    let mut probe = Probe::open()?;
    let (mut by1, mut by2) = (0, 0);
    for (n, _) in (0..).zip(0..DESTINATIONS) {
        let way = probe.device_towards(destination(n))?;
        by1 += usize::from(way.is_some() && way == isp1);
        by2 += usize::from(way.is_some() && way == isp2);
    }
    screen.bar(&ISP1, by1, DESTINATIONS)?;
    screen.bar(&ISP2, by2, DESTINATIONS)?;
    let right = SHARE.contains(&by1) && by1 + by2 == DESTINATIONS;
    screen.promise(right, &format!("{by1}:{by2}, where 8:2 means 160:40 give or take chance (132 to 188)"))?;
    Ok(())
}

fn one_dies(stage: &Stage, screen: &mut Screen, server: &Server) -> Result<(), Error> {
    screen.step(
        "4. isp1 dies the hard way",
        "Its device vanishes before any program can do anything. Meanwhile a thread asks\n\
         the kernel for the way to the Internet, again and again without a pause.",
    )?;
    let sampler = server.sampler();
    server.vanish(&ISP1)?;
    let at_once = server.leads_by(&[&ISP2])?;
    screen.tell("The device is gone, no hook has run. The kernel has moved to isp2 by itself:")?;
    screen.ip("route", server)?;
    screen.tell("Then pppd runs the hook, which has only to tidy up:")?;
    let ran = server.ip_down(&ISP1)?;
    screen.ran(&ran.command, ran.took)?;
    screen.ip("rule", server)?;
    let seen = sampler.stop()?;
    screen.promise(at_once, "the default route led by isp2 alone before any hook ran")?;
    let right = server.leads_by(&[&ISP2])? && server.is_right()?;
    screen.promise(right, "after the hook, too, and everything of isp1 is tidied up")?;

    compare(stage, screen, &seen)
}

/// The same where there are no nexthop objects; `group` is what was seen of them.
fn compare(stage: &Stage, screen: &mut Screen, group: &Samples) -> Result<(), Error> {
    stage.go_on()?;
    screen.tell(
        "For comparison the same death on a server with a classic multipath route (\"ip\n\
         route add default nexthop ... nexthop ...\"), which kernels before 5.3 get. The\n\
         kernel drops it as a whole. Here the spare carries until the hook has run;\n\
         where spares are taken away there is no way until then, although the hook is\n\
         started as soon as the removal of the device has returned:",
    )?;
    let spared = thread::scope(|scope| joined(scope.spawn(|| classic(stage, true)).join()))?;
    let alone = thread::scope(|scope| joined(scope.spawn(|| classic(stage, false)).join()))?;
    screen.say("")?;
    screen.say("      default route            asked      no way   without a default")?;
    for (what, seen) in [("nexthop group", group), ("multipath and spares", &spared), ("multipath alone", &alone)] {
        let (asked, lost) = (count(seen.asked), count(seen.unreachable));
        screen.say(&format!("      {what:<20} {asked:>9} {lost:>11}   {:>17}", ms(seen.without)))?;
    }
    for (what, seen) in [("nexthop group", group), ("multipath and spares", &spared)] {
        let text = format!("{what}: asked {} times, no default: {}", count(seen.asked), ms(seen.without));
        screen.promise(seen.unreachable == 0 && seen.owed == seen.asked, &text)?;
    }
    Ok(())
}

/// The death of the same line, in a namespace of the thread's own, where default routes are classic.
fn classic(stage: &Stage, spares: bool) -> Result<Samples, Error> {
    stage::another_namespace()?;
    let server = Server::new(stage, if spares { "multipath" } else { "alone" }, "multipath")?;
    for line in [&ISP1, &ISP2] {
        line.appear()?;
        server.ip_up(line)?;
    }
    if !spares {
        server.drop_spares()?;
    }
    let sampler = server.sampler();
    server.vanish(&ISP1)?;
    server.ip_down(&ISP1)?;
    Ok(sampler.stop()?)
}

fn it_comes_back(_: &Stage, screen: &mut Screen, server: &Server) -> Result<(), Error> {
    screen.step("5. isp1 comes back", "A new device of the same name, and the hook again:")?;
    let sampler = server.sampler();
    ISP1.appear()?;
    let ran = server.ip_up(&ISP1)?;
    screen.ran(&ran.command, ran.took)?;
    let seen = sampler.stop()?;
    screen.ip("route", server)?;
    let right = server.leads_by(&[&ISP1, &ISP2])? && server.is_right()? && seen.unreachable == 0;
    screen.promise(
        right,
        &format!("as in step 2; asked {} times on the way, never without a default", count(seen.asked)),
    )?;
    Ok(())
}

fn both_flap(stage: &Stage, screen: &mut Screen, server: &Server) -> Result<(), Error> {
    let about = format!(
        "Each dies and comes back {FLAPS} times, the hard way, without regard to the\n\
         other. Sometimes two hooks run at once, and sometimes both lines are down."
    );
    screen.step("6. Both lines flap at once", &about)?;
    let sampler = server.sampler();
    let start = Instant::now();
    let flapped = thread::scope(|scope| {
        // Different for both, so that they meet in every phase.
        let one = scope.spawn(|| flap(stage, server, &ISP1, 2.0));
        let two = flap(stage, server, &ISP2, 1.4);
        joined(one.join()).and(two)
    });
    let took = start.elapsed();
    let seen = sampler.stop()?;
    flapped?;
    screen.ip("route", server)?;
    screen.say(&format!(
        "  {} hooks in {:.1} s; asked {} times, {} times while a line was up",
        4 * FLAPS,
        took.as_secs_f64(),
        count(seen.asked),
        count(seen.owed),
    ))?;
    let text = format!("no default while a line was up: {} times", count(seen.unreachable));
    screen.promise(seen.unreachable == 0 && seen.owed > 0, &text)?;
    let right = server.leads_by(&[&ISP1, &ISP2])? && server.is_right()?;
    screen.promise(right, "afterwards everything is as in step 2")?;
    Ok(())
}

fn ipv6_too(_: &Stage, screen: &mut Screen, server: &Server) -> Result<(), Error> {
    screen.step("7. IPv6, too", "pppd negotiates it apart from IPv4, and runs the hook once more for each line:")?;
    if !server.may_have_ipv6()? {
        screen.say("  (There is no IPv6 here: the kernel is without, or new network namespaces are.)")?;
        return Ok(());
    }
    for line in [&ISP1, &ISP2] {
        let ran = server.ipv6_up(line)?;
        screen.ran(&ran.command, ran.took)?;
    }
    screen.ip("-6 route", server)?;
    let both = server.leads6_by(&[&ISP1, &ISP2])?;
    screen.tell("isp1 dies as in step 4, and now the thread asks for the way in IPv6:")?;
    let sampler = Sampler::start6();
    server.vanish(&ISP1)?;
    let at_once = server.leads6_by(&[&ISP2])?;
    let ran = server.ip_down(&ISP1)?;
    screen.ran(&ran.command, ran.took)?;
    let seen = sampler.stop()?;
    screen.ip("-6 route", server)?;
    screen.promise(both, "the default route of IPv6 led by both lines, 8 to 2")?;
    screen.promise(at_once && server.is_right()?, "then by isp2 alone, before any hook ran")?;
    let text = format!("asked {} times, no default: {}", count(seen.asked), ms(seen.without));
    screen.promise(seen.unreachable == 0, &text)?;
    Ok(())
}

/// Lets a line go and come again; it stays up `stay` times as long as it was down.
fn flap(stage: &Stage, server: &Server, line: &Line, stay: f64) -> Result<(), Error> {
    // On a slow machine the demo should not take for ever.
    const LONGEST: Duration = Duration::from_millis(100);
    for _ in 0..FLAPS {
        stage.go_on()?;
        let gone = Instant::now();
        server.vanish(line)?;
        server.ip_down(line)?;
        line.appear()?;
        server.ip_up(line)?;
        thread::sleep(gone.elapsed().mul_f64(stay).min(LONGEST));
    }
    Ok(())
}

/// What a thread returned; its panic goes on here.
fn joined<T>(ended: thread::Result<T>) -> T {
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
