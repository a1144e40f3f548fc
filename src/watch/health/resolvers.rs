//! The uplink's own resolvers: its provider's, so that they say little of what is beyond it. They are asked only where too
//! few of the configured targets answer.

use std::time::Duration;

use super::machine::Health;
use super::target::{Role, Target};

/// While so many configured targets count, no resolver is asked. One alone may have died by itself.
const ENOUGH: usize = 2;

impl Health {
    /// The uplink has so many resolvers, which are others than before. Their indices follow those of the configured
    /// targets.
    pub fn set_resolvers(&mut self, now: Duration, count: usize) {
        // Whether they are asked stays: what is dead is judged by the targets that it was judged by before.
        let is_asked = self.targets.iter().any(|target| target.is_asked() && !target.is_configured());
        self.targets.retain(Target::is_configured);
        let configured = self.targets.len();
        let resolver = Target { role: Role::Resolver { is_asked }, ..Target::default() };
        self.targets.resize(configured + count, resolver);
        if self.under_way.iter().any(|probe| probe.target >= configured) {
            self.restarted(now);
        }
    }

    /// Asks the resolvers of an uplink that is good from now on, or no longer. What is suspected or dead is judged by the
    /// targets that were asked before: when its provider has lost the way out, nobody but resolvers would answer after an
    /// hour.
    pub(super) fn choose_resolvers(&mut self, now: Duration) {
        let configured = self.targets.iter().filter(|target| target.is_configured());
        let too_few = configured.filter(|target| target.is_usable(now)).count() < ENOUGH;
        for target in &mut self.targets {
            if let Role::Resolver { is_asked } = &mut target.role {
                *is_asked = too_few;
            }
        }
    }
}
