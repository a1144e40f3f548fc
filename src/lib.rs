//! multihome: keeps the routes of a Linux server with several Internet lines right.
//!
//! Desired state = f(configuration, links that are up); observed state = what the kernel holds;
//! plan = the difference, in an order that makes before it breaks. Every event runs the same
//! function.

pub mod caller;
pub mod cli;
pub mod config;
pub mod ctl;
pub mod desired;
pub mod fib;
pub mod firewall;
pub mod hold;
pub mod hook;
pub mod kernel;
pub mod layout;
pub mod links;
pub mod lock;
pub mod log;
pub mod observed;
pub mod pass;
pub mod plan;
pub mod reconcile;
pub mod records;
pub mod settle;
pub mod sh;
pub mod state;
pub mod types;
