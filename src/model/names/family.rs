//! IP versions, and how other programs call them.

use std::fmt;
use std::net::IpAddr;

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    #[must_use]
    pub fn other(self) -> Self {
        if self == Self::V4 { Self::V6 } else { Self::V4 }
    }

    /// The word of nft(8), conntrack(8) and `/proc/sys/net`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// ip(8) with its option for the family; IPv4 is its default.
    pub(crate) fn ip(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip -6",
        }
    }

    /// Number of its ICMP among the IP protocols.
    pub(crate) fn icmp(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 58,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::V4 { "IPv4" } else { "IPv6" })
    }
}
