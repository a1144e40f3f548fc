//! The only code that knows netlink.

pub mod nexthop;
