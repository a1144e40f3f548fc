//! `make bench`: what an event costs, beside the shell script of the article, and what it costs the
//! traffic. Prints tables, and writes them to the end of `docs/figures.md`.
//!
//! All that is compared runs in turn within the same minutes, so that a busy machine is busy for
//! all of it alike; that is why the figures are ratios.

mod counters;
mod filters;
mod house;
mod measure;
mod scale;
mod traffic;
mod watch;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::house::{House, Keeper};
use self::measure::{Spread, Subject, anatomy, short, side_by_side};
use crate::support::six::SIX2;
use crate::support::{ARTICLE, ISP1, ISP2, VPN0, ok};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// From here on `docs/figures.md` is written by this program.
const MARK: &str = "<!-- From here on written by `make bench`. -->";

/// How often each of the short ones runs.
const ROUNDS: usize = 60;

/// The part about mh-watch alone, which is soon over.
#[test]
#[ignore = "measures for some minutes"]
fn watching() {
    println!("{}", watch::watching(tempfile::tempdir().unwrap().path()));
}

#[test]
#[ignore = "measures for some minutes: `make bench`"]
fn bench() {
    let dir = tempfile::tempdir().unwrap();
    // As /run is: on a disk, journals would be measured.
    unshare(CloneFlags::CLONE_NEWNS).expect("mount namespaces need root: tests/run-as-root");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let tmpfs = |path: &Path| mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    tmpfs(dir.path());
    // What a Shorewall of this machine has there is no business of ours.
    for state in ["/var/lib/shorewall", "/etc/shorewall"].map(Path::new).into_iter().filter(|path| path.exists()) {
        tmpfs(state);
    }

    let mut report = String::new();
    for part in [
        machine,
        events,
        filters::filters,
        traffic::losses,
        scale::scale,
        scale::crowd,
        counters::counters,
        watch::watching,
        sizes,
    ] {
        let text = part(dir.path());
        println!("{text}");
        report.push_str(&text);
    }
    let figures = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/figures.md");
    let old = fs::read_to_string(&figures).unwrap();
    let by_hand = old.split(MARK).next().unwrap();
    fs::write(&figures, format!("{by_hand}{MARK}\n{report}")).unwrap();
}

/// What this was measured on, in general words.
fn machine(_: &Path) -> String {
    let said = |program: &str, args: &[&str]| {
        let output = ok(Command::new(program).args(args));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let release = said("uname", &["-r"]);
    let kernel: Vec<_> = release.split(['.', '-']).take(2).collect();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap();
    let kind = if cpu.contains(" hypervisor") { "virtual machine" } else { "machine" };
    let processors = std::thread::available_parallelism().unwrap();
    let iptables = if said("iptables", &["-V"]).contains("nf_tables") { "nf_tables" } else { "legacy" };
    format!("\nA {kind} with {processors} processors, Linux {}, iptables of the {iptables} kind.\n", kernel.join("."))
}

/// A program that only says hello: what a static one takes before it can do anything.
fn hello(dir: &Path) -> PathBuf {
    let (source, program) = (dir.join("hello.rs"), dir.join("hello"));
    fs::write(&source, "fn main() { println!(\"hello\"); }").unwrap();
    let mut rustc = Command::new("rustc");
    rustc.args(["-O", "-C", "target-feature=+crt-static", "-o"]).arg(&program).arg(&source);
    ok(&mut rustc);
    program
}

/// Each hook from exec to exit.
fn events(dir: &Path) -> String {
    let hello = hello(dir);
    let new = |keeper| House::new(keeper, &dir.join(format!("events-{}", keeper as u8)), ARTICLE);
    let houses: Vec<_> = Keeper::all().into_iter().map(new).collect();
    let dual = House::dual(&dir.join("events-dual"), ARTICLE);
    let [objects, _, script, ..] = &houses[..] else { unreachable!("these are always there") };
    objects.namespace.run(|| VPN0.create());
    let (here, hooks) = (&objects.namespace, &objects.hooks);
    let late = || {
        let mut command = hooks.down(ISP1);
        command.env("PPPD_PID", "1");
        command
    };
    let tunnel = || {
        let mut command = hooks.ours("mh-vpn-up");
        command.args(["--strict", "tun0", "1500", "0", VPN0.local, VPN0.remote, "init"]).env("script_type", "up");
        command
    };
    let with = |mut command: Command, args: &[&str]| {
        command.args(args);
        command
    };
    let mut subjects = vec![
        Subject::plain("static hello", here, move || Command::new(&hello)),
        Subject::plain("`mh-ip-up --version`", here, || with(hooks.ours("mh-ip-up"), &["--version"])),
        Subject::plain("`ip route show`", here, || with(Command::new("ip"), &["route", "show"])),
        Subject::plain("`mh-ip-up`, nothing changes", here, || hooks.up(ISP1)),
        Subject::plain("`mh-ip-down`, nothing changes (stale event)", here, late),
        Subject::plain("`mh-vpn-up`, nothing changes", here, tunnel),
        Subject::plain("the script's ip-up, nothing changes", &script.namespace, || script.hooks.up(ISP1)),
    ];
    for house in &houses {
        let [up, down] = house.hooks.keeper.hooks();
        subjects.push(Subject {
            before: Box::new(|| house.lost(ISP2)),
            ..Subject::plain(up, &house.namespace, || house.hooks.up(ISP2))
        });
        subjects.push(Subject {
            before: Box::new(|| house.going(ISP2)),
            ..Subject::plain(down, &house.namespace, || house.hooks.down(ISP2))
        });
    }
    subjects
        .push(Subject::plain("`mh-ip-up`, nothing changes, both families", &dual.namespace, || dual.hooks.up(ISP1)));
    subjects.push(Subject {
        before: Box::new(|| dual.lost6(SIX2)),
        ..Subject::plain("`mh-ip-up` of IPv6, second line", &dual.namespace, || dual.hooks.up6(SIX2))
    });
    subjects.push(Subject {
        before: Box::new(|| dual.going6(SIX2)),
        ..Subject::plain("`mh-ip-down`, device gone, both families", &dual.namespace, || dual.hooks.down(ISP2))
    });
    let series = side_by_side(ROUNDS, &subjects);
    let floor = Spread::of(&series[0].cpu).0;
    let mut text = format!(
        "\n## An event\n\nFrom exec to exit, {ROUNDS} times each in turn: median (10th and 90th of a hundred), \
         milliseconds. CPU is user and system time with all children.\n\n\
         | | wall | CPU | CPU, hello is 1 | system calls | processes | resident, MiB |\n|---|---|---|---|---|---|---|\n"
    );
    for (subject, series) in subjects.iter().zip(&series) {
        let anatomy = anatomy(subject, dir);
        let (wall, cpu) = (Spread::of(&series.wall), Spread::of(&series.cpu));
        let (ratio, resident) = (short(cpu.0 / floor), short(anatomy.resident as f64 / 1024.0));
        let (name, calls, processes) = (&subject.name, anatomy.calls, anatomy.processes);
        let _ = writeln!(text, "| {name} | {wall} | {cpu} | {ratio} | {calls} | {processes} | {resident} |");
    }
    text
}

/// Size of each executable.
fn sizes(_: &Path) -> String {
    let mut text = "\n## Size\n\n| | bytes |\n|---|---|\n".to_owned();
    for name in ["mh-ip-up", "mh-ip-down", "mh-vpn-up", "mh-watch", "mhctl"] {
        let _ = writeln!(text, "| `{name}` | {} |", fs::metadata(house::program(name)).unwrap().len());
    }
    text
}
