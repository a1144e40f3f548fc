//! The words that all the rest is told in: names, routes and rules, the packet filter, and changes of them.

pub mod change;
pub mod firewall;
pub mod names;
pub mod numbering;
pub mod observed;
pub mod routing;
pub mod sh;
