//! IPv6 as the real kernel holds it.

mod lan;
mod layout;
mod lines;
