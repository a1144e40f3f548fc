//! Named sets of our table, and what is in them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};

use crate::model::names::{Family, LinkName, SetName};

/// What the name of the set of an uplink's prefixes has behind the uplink's. Those of policies end with a digit.
const PREFIXES: &str = "-prefixes";

/// A set of addresses of one family.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AddressSet {
    /// Its name in our table.
    pub name: String,
    pub family: Family,
    /// The set's number in a transaction that makes it.
    pub id: u32,
}

impl AddressSet {
    /// The set of that name of policies for a family: the name has a `4` or a `6` behind it.
    pub fn of(name: &SetName, family: Family, id: u32) -> Self {
        let digit = if family == Family::V4 { 4 } else { 6 };
        Self { name: format!("{name}{digit}"), family, id }
    }

    /// The set of the IPv6 prefixes of an uplink.
    pub(crate) fn prefixes(link: &LinkName, id: u32) -> Self {
        Self { name: format!("{link}{PREFIXES}"), family: Family::V6, id }
    }

    /// Whether a set of our table has prefixes of an uplink.
    pub(crate) fn has_prefixes(name: &str) -> bool {
        name.ends_with(PREFIXES)
    }

    /// The type of its elements.
    pub(super) fn kind(&self) -> &'static str {
        if self.family == Family::V4 { "ipv4_addr" } else { "ipv6_addr" }
    }
}

/// The address of a packet that a set is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    Source,
    Destination,
}

/// An element of a set: addresses of one family, from the first to the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    pub first: IpAddr,
    pub last: IpAddr,
    /// How long it stays after it was added; `None`: for good.
    pub timeout: Option<Duration>,
    /// How long it stays from now on; only of one that was read.
    pub expires: Option<Duration>,
}

impl Element {
    /// All addresses of a network.
    pub fn new(net: IpNet, timeout: Option<Duration>) -> Self {
        Self { first: net.network(), last: last(net), timeout, expires: None }
    }

    pub(crate) fn family(&self) -> Family {
        if self.first.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Whether an address is in both.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.family() == other.family() && self.first <= other.last && other.first <= self.last
    }

    /// Whether all addresses of the other are in it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.family() == other.family() && self.first <= other.first && other.last <= self.last
    }

    /// Whether it is the same addresses.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        (self.first, self.last) == (other.first, other.last)
    }

    /// The address behind the last one; `None`: there is none.
    pub(crate) fn end(&self) -> Option<IpAddr> {
        match self.last {
            IpAddr::V4(last) => u32::from(last).checked_add(1).map(|end| Ipv4Addr::from(end).into()),
            IpAddr::V6(last) => u128::from(last).checked_add(1).map(|end| Ipv6Addr::from(end).into()),
        }
    }

    /// The only network that it is; `None`: it is several.
    fn network(&self) -> Option<IpNet> {
        let mut nets: Vec<IpNet> = match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0).map(Into::into).take(2).collect(),
            (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0).map(Into::into).take(2).collect(),
            _ => Vec::new(),
        };
        nets.pop().filter(|_| nets.is_empty())
    }

    /// Its addresses as nft(8) has them: an address, a network, or a range.
    pub(crate) fn addresses(&self) -> String {
        match self.network() {
            _ if self.first == self.last => self.first.to_string(),
            Some(net) => net.to_string(),
            None => format!("{}-{}", self.first, self.last),
        }
    }
}

fn last(net: IpNet) -> IpAddr {
    match net {
        IpNet::V4(net) => Ipv4Net::broadcast(&net).into(),
        IpNet::V6(net) => Ipv6Net::broadcast(&net).into(),
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.addresses())?;
        match self.timeout {
            Some(timeout) => write!(f, " timeout {}", Time(timeout)),
            None => Ok(()),
        }
    }
}

/// A time in whole seconds, as nft(8) has it: `1d2h3m4s`.
pub(crate) struct Time(pub(crate) Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let parts = [(seconds / 86400, 'd'), (seconds / 3600 % 24, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
        for (n, unit) in parts.into_iter().filter(|(n, _)| *n > 0) {
            write!(f, "{n}{unit}")?;
        }
        if seconds == 0 { f.write_str("0s") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_an_address_a_network_or_a_range() {
        let shown = |net: &str, seconds: Option<u64>| {
            Element::new(net.parse().unwrap(), seconds.map(Duration::from_secs)).to_string()
        };
        assert_eq!(shown("192.0.2.1/32", None), "192.0.2.1");
        assert_eq!(shown("192.0.2.0/24", Some(3600)), "192.0.2.0/24 timeout 1h");
        assert_eq!(shown("0.0.0.0/0", Some(90_061)), "0.0.0.0/0 timeout 1d1h1m1s");
        assert_eq!(shown("2001:db8::/33", Some(59)), "2001:db8::/33 timeout 59s");
        let range = |first: &str, last: &str| {
            let (first, last) = (first.parse().unwrap(), last.parse().unwrap());
            Element { first, last, timeout: None, expires: None }.to_string()
        };
        assert_eq!(range("192.0.2.0", "192.0.2.2"), "192.0.2.0-192.0.2.2");
        assert_eq!(range("2001:db8::", "2001:db8::ffff"), "2001:db8::/112");
    }
}
