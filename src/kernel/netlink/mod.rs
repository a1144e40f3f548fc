//! Netlink: the socket, and messages in both directions.

pub(crate) mod address;
pub(crate) mod constants;
pub mod netfilter;
pub mod nexthop;
pub mod nla;
pub(crate) mod route;
pub(crate) mod route_request;
pub(crate) mod rule;
pub mod socket;
pub(crate) mod transaction;
