//! `mh-watch`: notices what happens to the links, repairs at once what others delete, and tells of it. It is never
//! needed: without it the kernel fails over, the hooks register, and a timer repairs once a minute.

mod checks;
mod drains;
mod failback;
pub mod health;
mod links;
mod loaded;
pub mod memory;
pub mod metrics;
mod notice;
mod pass;
pub mod probe;
mod program;
mod repair;
mod run;
mod service;
pub mod tell;
mod told;
pub mod traffic;

pub use program::{MhWatch, main};
