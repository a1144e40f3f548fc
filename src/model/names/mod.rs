//! Types of names, numbers and addresses, each checked once, where it enters the program.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

use crate::model::sh;

mod family;

pub use family::Family;

/// An invalid value from outside; the message says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} {value:?} is not valid: {expected}")]
pub struct InvalidValue {
    what: &'static str,
    value: String,
    expected: &'static str,
}

impl InvalidValue {
    /// `what` names the value, `value` is the given one (shortened here, and escaped when shown), `expected` says what
    /// to write instead.
    pub fn new(what: &'static str, value: &str, expected: &'static str) -> Self {
        // A hostile peer must not flood the log.
        let value = value.chars().take(64).collect();
        Self { what, value, expected }
    }

    /// What to write instead.
    pub fn expected(&self) -> &'static str {
        self.expected
    }
}

/// Name of a link, and of its routing table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkName(String);

impl LinkName {
    /// Maximum length in bytes, that of an interface name.
    pub const MAX: usize = 15;

    /// Safe as a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LinkName {
    type Err = InvalidValue;

    fn from_str(s: &str) -> Result<Self, InvalidValue> {
        let invalid = |expected| InvalidValue::new("link name", s, expected);
        if !is_plain_name(s, Self::MAX) {
            return Err(invalid(
                "write a lowercase letter, then lowercase letters, digits, '_' or '-', at most 15 characters",
            ));
        }
        // The link's routing table has the same name, and these have a meaning for ip-route(8).
        if ["main", "local", "default", "unspec", "all"].contains(&s) {
            return Err(invalid("ip-route(8) reserves this table name; choose another"));
        }
        Ok(Self(s.to_owned()))
    }
}

/// Name of a named set: that of `nf_tables` with a `4` or a `6` behind it, for each family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetName(String);

impl SetName {
    /// Maximum length in bytes. Before Linux 4.14 the kernel takes 31 for the name of a set (`NFT_SET_MAXNAMELEN`).
    pub const MAX: usize = 30;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SetName {
    type Err = InvalidValue;

    fn from_str(s: &str) -> Result<Self, InvalidValue> {
        if !is_plain_name(s, Self::MAX) {
            let expected =
                "write a lowercase letter, then lowercase letters, digits, '_' or '-', at most 30 characters";
            return Err(InvalidValue::new("set name", s, expected));
        }
        // `ip6` and `icmpv6`.
        if ["ip", "icmpv"].contains(&s) {
            return Err(InvalidValue::new("set name", s, "with a 6 behind it nft(8) reserves it; choose another"));
        }
        Ok(Self(s.to_owned()))
    }
}

/// Whether it has a lowercase letter first, and nothing but lowercase letters, digits, `_` and `-`.
fn is_plain_name(s: &str, longest: usize) -> bool {
    s.len() <= longest
        && s.starts_with(|c: char| c.is_ascii_lowercase())
        && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
}

/// Name of a network interface, as `dev_valid_name()` of the kernel accepts it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IfName(String);

impl IfName {
    /// Safe as one component of a path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as the kernel has it.
    pub(crate) fn device(&self) -> DeviceName {
        DeviceName(self.0.clone())
    }

    /// The name quoted for sh(1): the kernel allows `x;id&`.
    pub(crate) fn quoted(&self) -> Cow<'_, str> {
        sh::quoted(&self.0)
    }
}

impl FromStr for IfName {
    type Err = InvalidValue;

    fn from_str(s: &str) -> Result<Self, InvalidValue> {
        let ok = (1..=15).contains(&s.len())
            && s != "."
            && s != ".."
            && s.chars().all(|c| c.is_ascii_graphic() && c != '/' && c != ':');
        if ok {
            Ok(Self(s.to_owned()))
        } else {
            Err(InvalidValue::new("interface name", s, "write 1 to 15 printable characters without '/', ':' or spaces"))
        }
    }
}

/// Name of a network device as the kernel has it, which any root of this host has chosen: in it is everything but `/`, `:`
/// and blanks, also what a terminal obeys. That is shown escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName(String);

impl DeviceName {
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// As it is: to compare, to quote, and for JSON. What is printed is its `Display`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, if a link's interface may have it.
    pub(crate) fn checked(&self) -> Option<IfName> {
        self.0.parse().ok()
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if sh::is_shown(c) { write!(f, "{c}")? } else { write!(f, "{}", c.escape_default())? }
        }
        Ok(())
    }
}

/// Number of a routing table, not one of the kernel's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(u32);

impl TableId {
    /// Table `main`, never a link's.
    pub const MAIN: Self = Self(254);
    /// Table `local`, of this host's addresses.
    pub const LOCAL: Self = Self(255);
    /// Table `default`, which the kernel's last rule looks up.
    pub(crate) const DEFAULT: Self = Self(253);

    /// Whether default routes there carry what no policy takes.
    pub(crate) fn carries_default(self) -> bool {
        self == Self::MAIN || self == Self::DEFAULT
    }

    /// A link's table: not 0 (unspec), 253 (default), 254 (main) or 255 (local).
    pub fn new(n: u32) -> Result<Self, InvalidValue> {
        if n == 0 || (253..=255).contains(&n) {
            let expected = "0 and 253 to 255 are the kernel's; write another number";
            return Err(InvalidValue::new("table", &n.to_string(), expected));
        }
        Ok(Self(n))
    }

    /// Any table that the kernel names.
    pub fn observed(n: u32) -> Self {
        Self(n)
    }

    pub fn get(self) -> u32 {
        self.0
    }
}

/// The mark of a link: exactly one bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark(u32);

impl Mark {
    /// `n` must have exactly one bit.
    pub fn new(n: u32) -> Result<Self, InvalidValue> {
        if n.is_power_of_two() {
            Ok(Self(n))
        } else {
            Err(InvalidValue::new("mark", &format!("{n:#x}"), "write one bit: 0x1, 0x2, 0x4, ... 0x80000000"))
        }
    }

    /// The bit, as value and as mask.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Weight of an uplink among the uplinks of its tier, 1 to 256: the range of the kernel's `rtnh_hops` (weight - 1,
/// eight bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Weight(u16);

impl Weight {
    /// The largest in a nexthop group before Linux 6.12 (`nh_check_attr_group()`).
    pub const HEAVIEST_MEMBER: Self = Self(255);

    /// 1 to 256.
    pub fn new(n: u16) -> Result<Self, InvalidValue> {
        if (1..=256).contains(&n) {
            Ok(Self(n))
        } else {
            Err(InvalidValue::new("weight", &n.to_string(), "write a number from 1 to 256"))
        }
    }

    pub fn get(self) -> u16 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

/// Rank of an uplink: the uplinks of the lowest tier that is up carry traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tier(u8);

impl Tier {
    /// Highest tier, one for each possible link.
    pub const MAX: u8 = 32;

    /// 1 to 32.
    pub fn new(n: u8) -> Result<Self, InvalidValue> {
        if (1..=Self::MAX).contains(&n) {
            Ok(Self(n))
        } else {
            Err(InvalidValue::new("tier", &n.to_string(), "write a number from 1 to 32"))
        }
    }

    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Tier {
    fn default() -> Self {
        Self(1)
    }
}

/// Unicast address of a host: a link's own address or its gateway. Not unspecified, loopback, multicast, broadcast or
/// reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostAddr(IpAddr);

impl HostAddr {
    /// Checks that a host on an uplink can have the address.
    pub fn new(addr: impl Into<IpAddr>) -> Result<Self, InvalidValue> {
        let addr = addr.into();
        let is_possible = match addr {
            IpAddr::V4(addr) => can_be_hosts(addr),
            IpAddr::V6(addr) => can_be_hosts6(addr),
        };
        if is_possible {
            Ok(Self(addr))
        } else {
            Err(InvalidValue::new("address", &addr.to_string(), "no host on a line can have it"))
        }
    }

    pub fn get(self) -> IpAddr {
        self.0
    }

    pub fn family(self) -> Family {
        Family::of(self.0)
    }

    /// The address, if it is an IPv4 address.
    pub fn v4(self) -> Option<Ipv4Addr> {
        if let IpAddr::V4(addr) = self.0 { Some(addr) } else { None }
    }

    /// The address, if it is an IPv6 address.
    pub fn v6(self) -> Option<Ipv6Addr> {
        if let IpAddr::V6(addr) = self.0 { Some(addr) } else { None }
    }

    /// Whether it holds on one link only (`fe80::/10`).
    pub fn is_link_local(self) -> bool {
        self.v6().is_some_and(|addr| addr.is_unicast_link_local())
    }
}

/// 0/8 and 127/8 never leave a host, 224/4 is multicast, 240/4 reserved or broadcast.
fn can_be_hosts(addr: Ipv4Addr) -> bool {
    let first = addr.octets()[0];
    first != 0 && first != 127 && first < 224
}

/// `::/8` has the unspecified address, that of loopback, and those with an IPv4 address inside (RFC 4291, 2.5.5);
/// `ff00::/8` is multicast.
fn can_be_hosts6(addr: Ipv6Addr) -> bool {
    !matches!(addr.octets()[0], 0 | 0xff)
}

impl FromStr for HostAddr {
    type Err = InvalidValue;

    fn from_str(s: &str) -> Result<Self, InvalidValue> {
        let expected = "write an IP address such as 192.0.2.1 or fe80::1";
        Self::new(s.parse::<IpAddr>().map_err(|_| InvalidValue::new("address", s, expected))?)
    }
}

macro_rules! display_inner {
    ($($t:ty => $fmt:literal),* $(,)?) => {$(
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $fmt, self.0)
            }
        }
    )*};
}
display_inner!(LinkName => "{}", SetName => "{}", IfName => "{}", TableId => "{}", Mark => "{:#x}", Weight => "{}", Tier => "{}", HostAddr => "{}");

#[cfg(test)]
mod tests;
