//! Messages to and from the kernel.

pub mod netfilter;
pub mod nexthop;
pub mod nla;
pub mod socket;
