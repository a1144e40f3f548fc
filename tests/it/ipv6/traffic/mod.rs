//! Traffic in IPv6 beside IPv4.

mod advertised;
pub mod internet;
mod nat;
mod paths;
mod shares;
mod sticky;
