//! The fake kernel against the kernel itself: random requests about IPv6 default routes, and what becomes of interfaces,
//! have the same effect on both.

use std::collections::BTreeSet;
use std::fmt::Write;

use multihome::kernel::{Kernel, Linux};
use multihome::model::change::Change;
use multihome::model::names::{Family, HostAddr, TableId, Weight};
use multihome::model::observed::Scope;
use multihome::model::routing::{
    Action, DefaultRoute, Device, FoundRoute, FoundTarget, NextHop, Rule, Selector, Target, WeightedNextHop,
};
use nix::sched::{CloneFlags, unshare};

use crate::fake::Fake;
use crate::support::ip;
use crate::support::random::{Random, given};

const OURS: u8 = 77;
const NAMES: [&str; 3] = ["d0", "d1", "d2"];

/// Both kernels.
struct Both {
    real: Linux,
    fake: Fake,
    scope: Scope,
    /// Whether routes without a gateway are at the metrics of next hops. What stands between these the kernel overlooks
    /// when a device goes down (`fib6_clean_node()`), so that either is tried for itself.
    mixes: bool,
}

impl Both {
    /// In a network namespace of this thread's own.
    fn new(mixes: bool) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut text = String::new();
        for name in NAMES {
            ip(&format!("link add {name} type veth peer name far-{name}"));
            ip(&format!("link set far-{name} up"));
            ip(&format!("link set {name} up"));
            let shown = ip(&format!("-o link show {name}"));
            let index = shown.split(':').next().unwrap();
            writeln!(text, "link {index} {name} up address fe80::1:1/64").unwrap();
        }
        let interfaces = NAMES.into_iter().map(|name| name.parse().unwrap()).collect();
        let tables = BTreeSet::from([TableId::observed(7)]);
        let scope = Scope { interfaces, tables, protocol: OURS, ipv6: true, ..Scope::default() };
        let mut both = Self { real: Linux::open().unwrap(), fake: Fake::parse(&text), scope, mixes };
        // With a rule of ours all tables are looked through.
        let action = Action::Lookup { table: TableId::observed(7), suppress_prefixlength: None };
        let rule = Rule { family: Family::V6, priority: 100, selector: Selector::default(), action };
        both.apply(&Change::Rule(rule), OURS);
        both
    }

    fn routes(&mut self) -> Vec<FoundRoute> {
        let of_v6 = |routes: Vec<FoundRoute>| -> Vec<_> {
            let mut of_v6: Vec<_> = routes.into_iter().filter(|route| route.family == Family::V6).collect();
            // Those of one table and metric in the kernel's order.
            of_v6.sort_by_key(|route| (route.table, route.metric));
            of_v6
        };
        let real = of_v6(self.real.observe(&self.scope).unwrap().routes);
        let fake = of_v6(self.fake.observe(&self.scope).unwrap().routes);
        assert_eq!(real, fake, "{}{}", self.fake, ip("-6 -N route show table all default"));
        real
    }

    fn apply(&mut self, change: &Change, protocol: u8) {
        let (real, fake) = (self.real.apply(change, protocol), self.fake.apply(change, protocol));
        assert_eq!(real.is_ok(), fake.is_ok(), "{} {real:?} {fake:?}\n{}", change.command(protocol), self.fake);
    }

    fn add(&mut self, random: &mut Random) {
        let name = random.pick(&NAMES).parse().unwrap();
        let Some(nic) = self.fake.nics.get(&name) else { return };
        let gateway = [None, Some("fe80::9"), Some("fe80::a"), Some("2001:db8::1")][random.below(4)];
        let gateway = gateway.map(|gateway| gateway.parse().unwrap());
        // A gateway may be behind any route by the device; the fake looks at addresses only.
        let onlink = gateway.is_some_and(|gateway: HostAddr| !gateway.is_link_local() || random.once_in(4));
        let device = Device { index: nic.index, name };
        let next_hop = NextHop { device, gateway, onlink };
        let weight = Weight::new(random.pick(&[1, 8, 256])).unwrap();
        let target = Target::NextHops(vec![WeightedNextHop { next_hop, weight }]);
        let table = if random.once_in(4) { TableId::observed(7) } else { TableId::MAIN };
        let is_apart = gateway.is_none() && !self.mixes;
        let metric = if is_apart { 2048 } else { random.pick(&[512, 512, 1024]) };
        let route = DefaultRoute { family: Family::V6, table, metric, target };
        self.apply(&Change::Route(route), random.pick(&[OURS, OURS, 4]));
    }

    fn delete(&mut self, random: &mut Random) {
        let routes = self.routes();
        if routes.is_empty() {
            return;
        }
        let mut route = routes[random.below(routes.len())].clone();
        if let FoundTarget::NextHops(hops) = &mut route.target
            && hops.len() > 1
            && !random.once_in(3)
        {
            *hops = vec![hops[random.below(hops.len())].clone()];
            route.protocol = random.pick(&[0, OURS, 4]);
        }
        self.apply(&Change::DeleteRoute(route), OURS);
    }

    fn befall(&mut self, random: &mut Random) {
        let name = random.pick(&NAMES);
        let parsed = name.parse().unwrap();
        if !self.fake.nics.contains_key(&parsed) {
            return;
        }
        match random.below(9) {
            0 => {
                ip(&format!("link del {name}"));
                self.fake.unregister(&parsed);
            }
            1..5 => {
                ip(&format!("link set {name} down"));
                self.fake.down(&parsed);
            }
            _ => {
                ip(&format!("link set {name} up"));
                self.fake.up(&parsed);
            }
        }
    }
}

#[test]
fn the_fake_does_to_ipv6_routes_what_linux_does() {
    let seeds = given("SEED").map_or(0..20, |seed| seed..seed + 1);
    for seed in seeds {
        crate::support::apart(move || {
            let mut both = Both::new(seed % 2 == 1);
            let mut random = Random::new(seed);
            for _ in 0..80 {
                match random.below(8) {
                    0..4 => both.add(&mut random),
                    4..7 => both.delete(&mut random),
                    _ if both.mixes => {}
                    _ => both.befall(&mut random),
                }
                both.routes();
            }
        });
    }
}
