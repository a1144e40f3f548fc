//! What the packet filter adds to an event: nftables beside both variants of iptables.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::house::{Hooks, House, Keeper};
use super::measure::{Spread, Subject, side_by_side};
use super::scale::policies;
use crate::support::alternatives::use_legacy;
use crate::support::internet::Namespace;
use crate::support::{ISP1, ok};

const ROUNDS: usize = 20;

/// A packet filter of the comparison.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filter {
    Nftables,
    Iptables,
    Legacy,
    None,
}

impl Filter {
    const ALL: [Self; 4] = [Self::Nftables, Self::Iptables, Self::Legacy, Self::None];

    fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables-nft",
            Self::Legacy => "iptables-legacy",
            Self::None => "none",
        }
    }

    /// The configuration's word.
    fn setting(self) -> &'static str {
        match self {
            Self::Iptables | Self::Legacy => "iptables",
            other => other.name(),
        }
    }

    /// Makes the calling thread's machine one with this iptables.
    fn install(self) {
        if self == Self::Legacy {
            use_legacy();
        }
    }

    /// Another program takes the rules away.
    fn flush(self) {
        match self {
            Self::Nftables => drop(ok(Command::new("nft").args(["flush", "ruleset"]))),
            Self::Iptables | Self::Legacy => {
                for table in ["mangle", "nat"] {
                    for what in ["-F", "-X"] {
                        ok(Command::new("iptables").args(["-t", table, what]));
                    }
                }
            }
            Self::None => {}
        }
    }

    fn house(self, dir: &Path, count: usize) -> House {
        let config = format!("{}\n[settings]\nfirewall = \"{}\"\n", policies(count), self.setting());
        let dir = dir.join(format!("{}-{count}", self.name()));
        let house = House { namespace: Namespace::new(), hooks: Hooks::new(Keeper::Objects, &dir, &config) };
        house.namespace.run(|| {
            self.install();
            ISP1.create();
            ok(&mut house.hooks.up(ISP1));
        });
        house
    }
}

/// The table.
pub fn filters(dir: &Path) -> String {
    let mut houses = Vec::new();
    for filter in Filter::ALL {
        for count in [0, 100] {
            houses.push((filter, count, filter.house(&dir.join("filters"), count)));
        }
    }
    let mut all: Vec<Subject<'_>> = Vec::new();
    for (filter, count, house) in &houses {
        let what = format!("{}, {count} policies", filter.name());
        let up = |name: &str| Subject::plain(&format!("{what}: {name}"), &house.namespace, || house.hooks.up(ISP1));
        all.push(Subject { before: Box::new(|| filter.install()), ..up("nothing changes") });
        let flushed = || {
            filter.install();
            filter.flush();
        };
        all.push(Subject { before: Box::new(flushed), ..up("all rules of the filter are made") });
    }
    let series = side_by_side(ROUNDS, &all);
    let mut text = format!(
        "\n## The packet filter\n\n`mh-ip-up` of a line that is up; {ROUNDS} times each in turn, milliseconds. Where nothing \
         changes but the filter's rules, these are made once, by one transaction or by two runs of iptables-restore.\n\n\
         | | wall | CPU |\n|---|---|---|\n"
    );
    for (subject, series) in all.iter().zip(&series) {
        let _ = writeln!(text, "| {} | {} | {} |", subject.name, Spread::of(&series.wall), Spread::of(&series.cpu));
    }
    text
}
