//! Random configurations, and what random histories leave behind.

mod configuration;
mod step;
mod world;

use std::fmt;

use multihome::config::Config;
use multihome::state::records::LinkRecords;
use proptest::prelude::*;

use crate::fake::Fake;
use configuration::configs;
use step::steps;
use world::World;

/// Our protocol number.
pub const OURS: u8 = 77;

/// An event that is about to be carried out.
pub struct Scene {
    /// The configuration as text, and what has happened.
    story: String,
    pub config: Config,
    pub records: LinkRecords,
    pub fake: Fake,
}

impl fmt::Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records: Vec<_> =
            self.records.iter().map(|(name, r)| format!("{name}: {} {}", r.interface, r.index)).collect();
        write!(f, "{}\n{}\nrecords: {records:?}", self.story, self.fake)
    }
}

/// Random scenes; one in eight on a kernel without nexthop objects.
pub fn scenes() -> impl Strategy<Value = Scene> {
    scenes_on(Fake::default())
}

/// Random scenes that began with this kernel.
pub fn scenes_on(kernel: Fake) -> impl Strategy<Value = Scene> {
    (1..=5_usize, 0..=2_usize)
        .prop_flat_map(|(uplinks, tunnels)| (configs(uplinks, tunnels), configs(uplinks, tunnels)))
        .prop_flat_map(|(old, new)| {
            (Just(old), Just(new), any::<bool>(), proptest::collection::vec(steps(), 0..30), 0..8_u8)
        })
        .prop_map(move |(old, new, same, steps, objects)| {
            let (text, new) = if same { old.clone() } else { new };
            let mut world = World::new(kernel.clone(), old.1, new);
            if objects == 0 {
                world.fake.nexthops = None;
            }
            for step in &steps {
                world.step(step);
            }
            Scene { story: format!("{text}\n{steps:?}"), config: world.new, records: world.records, fake: world.fake }
        })
}
