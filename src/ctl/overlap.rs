//! What two selectors have in common, part by part: a missing part, or an empty list, selects everything. Pure.

use ipnet::{IpNet, Ipv4Net};

use crate::model::names::IfName;
use crate::model::routing::{FwMark, PortRange, UidRange};

/// A part of a selector.
pub(super) trait Overlap {
    /// Whether it selects all that `other` selects.
    fn covers(&self, other: &Self) -> bool;

    /// Whether something is selected by both.
    fn meets(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl Overlap for Ipv4Net {
    fn covers(&self, other: &Self) -> bool {
        self.contains(other)
    }
}

impl Overlap for IpNet {
    fn covers(&self, other: &Self) -> bool {
        self.contains(other)
    }
}

impl Overlap for IfName {
    fn covers(&self, other: &Self) -> bool {
        self == other
    }
}

/// A protocol or a code point.
impl Overlap for u8 {
    fn covers(&self, other: &Self) -> bool {
        self == other
    }
}

impl Overlap for PortRange {
    fn covers(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    fn meets(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

impl Overlap for UidRange {
    fn covers(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    fn meets(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

impl Overlap for FwMark {
    fn covers(&self, other: &Self) -> bool {
        self.meets(other) && other.mask & self.mask == self.mask
    }

    fn meets(&self, other: &Self) -> bool {
        (self.value ^ other.value) & self.mask & other.mask == 0
    }
}

impl<T: Overlap> Overlap for Option<T> {
    fn covers(&self, other: &Self) -> bool {
        self.as_ref().is_none_or(|part| other.as_ref().is_some_and(|other| part.covers(other)))
    }

    fn meets(&self, other: &Self) -> bool {
        self.as_ref().zip(other.as_ref()).is_none_or(|(part, other)| part.meets(other))
    }
}

impl<T: Overlap> Overlap for Vec<T> {
    fn covers(&self, other: &Self) -> bool {
        self.is_empty() || !other.is_empty() && other.iter().all(|other| self.iter().any(|part| part.covers(other)))
    }

    fn meets(&self, other: &Self) -> bool {
        self.is_empty() || other.is_empty() || self.iter().any(|part| other.iter().any(|other| part.meets(other)))
    }
}
