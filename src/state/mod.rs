//! The state directory: what is remembered from one event to the next.

pub mod clock;
pub mod deprecated;
pub mod drain;
pub(crate) mod files;
pub mod lock;
pub mod records;
