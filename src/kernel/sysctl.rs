//! Sysctls of the network namespace that affect routing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::str::{self, FromStr};

use super::Error;
use crate::model::names::{Family, IfName};

const IPV4: &str = "/proc/sys/net/ipv4";
const IPV6: &str = "/proc/sys/net/ipv6";

fn read<T: FromStr>(path: PathBuf) -> Result<Option<T>, Error> {
    // One number and a line end, read in one call.
    let mut text = [0; 16];
    match File::open(&path).and_then(|mut file| file.read(&mut text)) {
        Ok(length) => Ok(str::from_utf8(&text[..length]).ok().and_then(|text| text.trim().parse().ok())),
        // The interface is gone, or the kernel lacks the sysctl.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Sysctl { action: "read", path, source }),
    }
}

fn write(path: PathBuf, value: &str) -> Result<(), Error> {
    fs::write(&path, value).map_err(|source| Error::Sysctl { action: "write", path, source })
}

fn rp_filter_path(interface: &str) -> PathBuf {
    PathBuf::from(format!("{IPV4}/conf/{interface}/rp_filter"))
}

/// The reverse path filter of `conf.all`; netlink gives that of an interface.
pub(crate) fn rp_filter_of_all() -> Result<Option<u32>, Error> {
    read(rp_filter_path("all"))
}

/// Makes the reverse path filter of `interface` loose.
pub(crate) fn loosen_rp_filter(interface: &IfName) -> Result<(), Error> {
    write(rp_filter_path(interface.as_str()), "2")
}

/// Makes IPv6 lookups skip the routes by `interface` while it has no carrier. The kernel sets no sysctl of IPv6 over
/// netlink (`inet6_set_link_af()`).
pub(crate) fn ignore_linkdown6(interface: &IfName) -> Result<(), Error> {
    write(PathBuf::from(format!("{IPV6}/conf/{interface}/ignore_routes_with_linkdown")), "1")
}

/// Whether this host forwards packets.
pub(crate) fn forwards() -> Result<bool, Error> {
    Ok(read::<u8>(PathBuf::from(format!("{IPV4}/ip_forward")))? == Some(1))
}

/// A number under `/proc/sys/net/ipv6/conf` of an interface, or of `all`; `None`: there is none.
pub(crate) fn ipv6(interface: &str, key: &str) -> Result<Option<i64>, Error> {
    read(PathBuf::from(format!("{IPV6}/conf/{interface}/{key}")))
}

/// Whether this host forwards IPv6 packets.
pub(crate) fn forwards6() -> Result<bool, Error> {
    Ok(ipv6("all", "forwarding")? == Some(1))
}

/// The first and the last of the groups that may send ICMP echoes by sockets of their own; `None`: the kernel lacks it.
pub(crate) fn ping_groups() -> Result<Option<(u32, u32)>, Error> {
    let path = PathBuf::from(format!("{IPV4}/ping_group_range"));
    let text = match fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|source| Error::Sysctl { action: "read", path, source })?,
    };
    let mut groups = text.split_whitespace().filter_map(|group| group.parse().ok());
    Ok(groups.next().zip(groups.next()))
}

fn hash_policy_path(family: Family) -> PathBuf {
    let dir = if family == Family::V4 { IPV4 } else { IPV6 };
    PathBuf::from(format!("{dir}/fib_multipath_hash_policy"))
}

/// `fib_multipath_hash_policy` of a family; `None`: the kernel lacks it.
pub fn hash_policy(family: Family) -> Result<Option<u8>, Error> {
    read(hash_policy_path(family))
}

/// Sets `fib_multipath_hash_policy` of a family.
pub(crate) fn set_hash_policy(family: Family, policy: u8) -> Result<(), Error> {
    write(hash_policy_path(family), &policy.to_string())
}

/// As `ip route flush cache`. Linux has no IPv4 route cache since 3.6, but this still drops learnt path MTUs and
/// redirects. User namespaces hide the file, and containers mount it read-only; then these expire after a few minutes.
pub fn flush_route_cache() -> Result<(), Error> {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    match write(PathBuf::from(format!("{IPV4}/route/flush")), "-1") {
        Err(Error::Sysctl { source, .. })
            if matches!(source.kind(), NotFound | PermissionDenied | ReadOnlyFilesystem) =>
        {
            Ok(())
        }
        done => done,
    }
}
