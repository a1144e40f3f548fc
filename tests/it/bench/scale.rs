//! How the cost of an event grows, and with what it does not.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::house::{Hooks, House, Keeper, batch};
use super::measure::{Spread, Subject, quiet, short, side_by_side};
use crate::support::internet::Namespace;
use crate::support::{ARTICLE, ISP1, ISP2, ok};

const ROUNDS: usize = 20;

/// The article's configuration with so many policies more.
pub fn policies(count: usize) -> String {
    let mut config = ARTICLE.to_owned();
    for n in 0..count {
        let _ = write!(
            config,
            "[[policy]]\nname = \"policy {n}\"\nto = \"10.{}.{}.0/24\"\nvia = [\"isp1\", \"isp2\"]\n",
            n / 250,
            n % 250
        );
    }
    config
}

/// A server with that many Ethernet lines, all up.
fn many_links(dir: &Path, count: usize) -> House {
    let mut config = String::new();
    let mut lines = String::new();
    for n in 1..=count {
        let _ = write!(config, "[[uplink]]\nname = \"line{n}\"\ninterface = \"eth{n}\"\ngateway = \"10.1.{n}.1\"\n");
        let _ = write!(lines, "link add eth{n} type veth peer name far{n}\nlink set far{n} up\nlink set eth{n} up\n");
        let _ = writeln!(lines, "addr add 10.1.{n}.2/24 dev eth{n}");
    }
    let house = House { namespace: Namespace::new(), hooks: Hooks::new(Keeper::Objects, dir, &config) };
    house.namespace.run(|| {
        batch(dir, &lines);
        ok(house.hooks.ours("mhctl").arg("apply"));
    });
    house
}

fn routes(house: &House, count: u32) {
    let mut lines = "link add eth9 type veth peer name far9\nlink set far9 up\nlink set eth9 up\n".to_owned();
    for n in 0..count {
        let [_, b, c, d] = n.to_be_bytes();
        let _ = writeln!(lines, "route add 20{}.{}.{c}.{d} dev eth9", b / 100, b % 100);
    }
    house.namespace.run(|| batch(&house.hooks.dir, &lines));
}

/// Tracked connections of the first line.
fn connections(house: &House, count: usize) {
    let mut lines = String::new();
    for n in 0..count {
        let (b, c, d) = (n / 62_500, n / 250 % 250, n % 250);
        let _ = writeln!(lines, "-I -p udp -s 10.{b}.{c}.{d} -d 100.64.1.1 --sport 999 --dport 53 -t 3600 -m 1");
    }
    let file = house.hooks.dir.join("connections");
    fs::write(&file, lines).unwrap();
    house.namespace.run(|| ok(Command::new("conntrack").arg("-R").arg(&file)));
    fs::remove_file(file).unwrap();
}

fn up<'a>(name: &str, house: &'a House) -> Subject<'a> {
    Subject::plain(name, &house.namespace, || house.hooks.up(ISP1))
}

/// The tables of costs.
pub fn scale(dir: &Path) -> String {
    let new = |name: &str, config: &str| House::new(Keeper::Objects, &dir.join(name), config);
    let links = [2, 8, 31].map(|n| (n, many_links(&dir.join(format!("links-{n}")), n)));
    let with_policies = [0, 10, 100, 1000].map(|n| (n, new(&format!("policies-{n}"), &policies(n))));
    let with_routes = [1, 10_000, 1_000_000].map(|n| {
        let house = new(&format!("routes-{n}"), ARTICLE);
        routes(&house, n);
        (n, house)
    });
    let with_connections = [0, 100_000].map(|n| {
        let house = new(&format!("connections-{n}"), ARTICLE);
        connections(&house, n);
        (n, house)
    });
    let mut all: Vec<Subject<'_>> = Vec::new();
    for (n, House { namespace, hooks }) in &links {
        let apply = || {
            let mut command = hooks.ours("mhctl");
            command.arg("apply");
            command
        };
        all.push(Subject::plain(&format!("{n} links, `mhctl apply`"), namespace, apply));
    }
    for (n, house) in &with_policies {
        all.push(up(&format!("{n} policies ({} rules)", 2 * n), house));
    }
    for (n, house) in &with_routes {
        all.push(up(&format!("{n} routes in main"), house));
    }
    for (n, house) in &with_connections {
        let before = Box::new(|| house.there(ISP2));
        all.push(Subject { before, ..up(&format!("{n} tracked connections"), house) });
    }
    for (n, house) in &with_connections {
        let name = format!("{n} tracked connections, `mh-ip-down`");
        let plain = Subject::plain(&name, &house.namespace, || house.hooks.down(ISP2));
        all.push(Subject { before: Box::new(|| house.going(ISP2)), ..plain });
    }
    let series = side_by_side(ROUNDS, &all);
    let mut text = format!(
        "\n## Scale\n\n`mh-ip-up` of a line that is up, hence nothing changes, unless something else is said; \
         {ROUNDS} times each in turn, milliseconds.\n\n| | wall | CPU |\n|---|---|---|\n"
    );
    for (subject, series) in all.iter().zip(&series) {
        let _ = writeln!(text, "| {} | {} | {} |", subject.name, Spread::of(&series.wall), Spread::of(&series.cpu));
    }
    text
}

/// Many hooks at once.
pub fn crowd(dir: &Path) -> String {
    const CROWD: usize = 64;
    const TIMES: usize = 5;
    let mut text = format!(
        "\n## {CROWD} hooks at once\n\nAll are started for two lines that are up; {TIMES} times each in turn. `Overtaken` is \
         the share of pairs that ended in another order than they were started in.\n\n\
         | | all done, ms | for each, ms | overtaken, per cent |\n|---|---|---|---|\n"
    );
    let houses = [Keeper::Objects, Keeper::Script]
        .map(|keeper| (keeper, House::new(keeper, &dir.join(format!("crowd-{}", keeper as u8)), ARTICLE)));
    let mut results = [const { (Vec::new(), Vec::new()) }; 2];
    for _ in 0..TIMES {
        for ((_, house), (all, overtaken)) in houses.iter().zip(&mut results) {
            house.namespace.run(|| {
                let start = Instant::now();
                let lines = [ISP1, ISP2].into_iter().cycle().take(CROWD);
                let children: Vec<_> = lines.map(|line| quiet(&mut house.hooks.up(line)).spawn().unwrap()).collect();
                let ends: Vec<_> = std::thread::scope(|scope| {
                    let wait = |mut child: std::process::Child| {
                        scope.spawn(move || {
                            assert!(child.wait().unwrap().success());
                            start.elapsed()
                        })
                    };
                    let threads: Vec<_> = children.into_iter().map(wait).collect();
                    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
                });
                let pairs = |n: usize| (n + 1..CROWD).filter(|m| ends[*m] < ends[n]).count();
                let inversions: usize = (0..CROWD).map(pairs).sum();
                all.push(ends.iter().max().unwrap().as_secs_f64() * 1e3);
                overtaken.push(200.0 * inversions as f64 / (CROWD * (CROWD - 1)) as f64);
            });
        }
    }
    for ((keeper, _), (all, overtaken)) in houses.iter().zip(&results) {
        let each = short(Spread::of(all).0 / CROWD as f64);
        let _ = writeln!(text, "| {} | {} | {each} | {} |", keeper.name(), Spread::of(all), Spread::of(overtaken));
    }
    text
}
