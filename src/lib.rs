//! multihome: keeps the routes of a Linux server with several Internet lines right.
//!
//! Desired state = f(configuration, links that are up); observed state = what the kernel holds;
//! plan = the difference, in an order that makes before it breaks. Every event runs the same
//! function.
//!
//! No folder uses one that stands below it here (`tests/it/house.rs` holds that).

/// The words: names, routes, rules, packet filter, and changes of them.
pub mod model;

/// What the administrator wrote.
pub mod config;

/// What a caller said.
pub mod event;

/// What we remember.
pub mod state;

/// What the kernel holds, and how it is changed.
pub mod kernel;

/// What all of this comes to: the links that are up, what is wanted, and the plan.
pub mod reconcile;

/// Arguments in; log lines and an exit status out.
pub mod cli;

/// The life of an event.
pub mod hook;

/// `mh-watch`, and all that only it needs.
pub mod watch;

/// `mhctl`, and all that only it needs.
pub mod ctl;
