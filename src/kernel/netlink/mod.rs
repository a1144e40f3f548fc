//! Messages to and from the kernel.

pub(crate) mod constants;
pub mod netfilter;
pub mod nexthop;
pub mod nla;
pub(crate) mod route;
pub mod socket;
