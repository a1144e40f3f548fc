//! IPv6 as the real kernel holds it.

mod callers;
mod ctl;
mod detours;
mod doctor;
mod drill;
mod flush;
mod lan;
mod layout;
mod lines;
mod routers;
pub mod traffic;
mod why;
