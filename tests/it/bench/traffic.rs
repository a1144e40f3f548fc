//! What the end of a line costs: time without a default route, and packets of flows at 10,000 a
//! second, on the line that goes and on the one that stays.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::house::{Hooks, Keeper};
use super::measure::{Spread, quiet};
use crate::support::flow::{Flow, PER_SECOND};
use crate::support::internet::{ECHO, Internet, ask_udp};
use crate::support::{ISP1, ISP2, Line, Prober, apart, defaults, ok};
use nix::sched::{CloneFlags, unshare};

const MASQUERADED: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nweight = 8\nmasquerade = true\n\
                           [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\nweight = 2\nmasquerade = true\n";
/// How often a line is lost.
const TIMES: usize = 10;
/// From ip-down's start until the device is gone, as with pppd's TERM.
const RACE: Duration = Duration::from_millis(30);

struct Loss {
    gaps: Vec<f64>,
    gaps_at_once: Vec<f64>,
    dying: Vec<f64>,
    staying: Vec<f64>,
}

pub fn losses(dir: &Path) -> String {
    let mut text = format!(
        "\n## The end of a line\n\nThe second of two lines goes as with pppd: interface down, address gone, ip-down runs, \
         {} ms later the device goes. {TIMES} times each: median (10th and 90th of a hundred). `Without a default` is the \
         longest time between two answers with a way out, of a prober that asks the kernel without a pause, where \
         answers without one lie between; the flows, of a host of the LAN, send {PER_SECOND} packets a second to an echo service, for 1 s \
         around the event. *For good*: no default was there when all was done, until the next event.\n\n\
         | | without a default, ms | the same, device gone at once | lost on the dying line | lost on the surviving line |\n\
         |---|---|---|---|---|\n",
        RACE.as_millis()
    );
    for keeper in Keeper::all() {
        let dir = dir.join(format!("traffic-{}", keeper as u8));
        let loss = apart(move || lose(keeper, &dir));
        let values = [&loss.gaps, &loss.gaps_at_once, &loss.dying, &loss.staying];
        let [gaps, at_once, dying, staying] = values.map(|values| Spread::of(values));
        let _ = writeln!(text, "| {} | {gaps} | {at_once} | {dying} | {staying} |", keeper.name());
    }
    text
}

fn lose(keeper: Keeper, dir: &Path) -> Loss {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    crate::support::ip("link set lo up");
    let hooks = Hooks::new(keeper, dir, MASQUERADED);
    hooks.prepare();
    let internet = Internet::new();
    let come = |line: Line| {
        internet.connect(line);
        ok(&mut hooks.up(line));
        hooks.mend();
    };
    let go = |race| {
        ISP2.hang_up();
        let mut down = quiet(&mut hooks.down(ISP2)).spawn().unwrap();
        std::thread::sleep(race);
        ISP2.unregister();
        let status = down.wait().unwrap();
        // Shorewall's may fail when the device goes under its hands.
        assert!(status.success() || keeper == Keeper::Shorewall, "{}: {status}", keeper.name());
    };
    come(ISP1);
    let mut loss = Loss { gaps: Vec::new(), gaps_at_once: Vec::new(), dying: Vec::new(), staying: Vec::new() };
    for _ in 0..TIMES {
        for (race, gaps) in [(RACE, &mut loss.gaps), (Duration::ZERO, &mut loss.gaps_at_once)] {
            come(ISP2);
            let prober = Prober::start();
            go(race);
            std::thread::sleep(Duration::from_millis(10));
            let seen = prober.stop();
            gaps.push(match seen.unreachable {
                0 => 0.0,
                // Nobody looks at it any more.
                _ if defaults("main").is_empty() => f64::INFINITY,
                _ => seen.longest_gap.as_secs_f64() * 1e3,
            });
        }

        come(ISP2);
        let host = |line: Line| {
            let mut hosts = (0..250).map(|n| format!("100.64.9.{n}"));
            let by = Some(line.local.parse().unwrap());
            let mut ask = |host: &String| {
                let seen = ask_udp((host, ECHO));
                assert!(seen.is_some(), "{}: the LAN has no way to {host}", keeper.name());
                seen == by
            };
            internet.lan.run(|| hosts.find(&mut ask)).unwrap()
        };
        let (on_dying, on_staying) = (host(ISP2), host(ISP1));
        let (dying, staying) = internet.lan.run(|| (Flow::new(), Flow::new()));
        let mut lost_staying = 0.0;
        let (sent, back, _) = dying.during(&on_dying, || {
            let (sent, back, _) = staying.during(&on_staying, || {
                std::thread::sleep(Duration::from_millis(200));
                go(RACE);
                std::thread::sleep(Duration::from_millis(800));
            });
            lost_staying = (sent - back) as f64;
        });
        loss.dying.push((sent - back) as f64);
        loss.staying.push(lost_staying);
    }
    loss
}
