//! The fake kernel with somebody beside it, who sees each change before it is made, and may refuse it
//! or have something happen.

use std::ops::Range;

use multihome::kernel::{self, Kernel};
use multihome::model::change::Change;
use multihome::model::names::Family;
use multihome::model::observed::{Observed, Scope};
use multihome::model::routing::Device;
use multihome::model::routing::FwMark;

use super::{Fake, refusal};

/// A kernel to which something happens before each change, by number.
pub struct Watched<'a, F> {
    fake: &'a mut Fake,
    made: usize,
    before: F,
}

impl<'a, F: FnMut(usize, &Change, &mut Fake) -> Result<(), i32>> Watched<'a, F> {
    pub fn new(fake: &'a mut Fake, before: F) -> Self {
        Self { fake, made: 0, before }
    }
}

impl<F: FnMut(usize, &Change, &mut Fake) -> Result<(), i32>> Kernel for Watched<'_, F> {
    fn observe(&mut self, scope: &Scope) -> Result<Observed, kernel::Error> {
        self.fake.observe(scope)
    }

    fn apply(&mut self, change: &Change, protocol: u8) -> Result<(), kernel::Error> {
        (self.before)(self.made, change, self.fake).map_err(|number| refusal(change, protocol, number))?;
        self.made += 1;
        self.fake.apply(change, protocol)
    }

    fn in_groups(&mut self, groups: &Range<u32>) -> Result<Vec<(Device, u32)>, kernel::Error> {
        self.fake.in_groups(groups)
    }

    fn has_connections(&mut self, family: Family, mark: FwMark) -> Result<bool, kernel::Error> {
        self.fake.has_connections(family, mark)
    }

    fn flush_route_cache(&mut self) -> Result<(), kernel::Error> {
        Ok(())
    }
}
