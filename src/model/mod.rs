//! The vocabulary of the program: names, numbering, routes, rules, the packet filter, and changes of them.

pub mod change;
pub mod firewall;
pub mod names;
pub mod numbering;
pub mod observed;
pub mod routing;
pub mod sh;
