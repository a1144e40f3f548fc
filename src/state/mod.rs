//! What we remember in the state directory, from one event to the next.

pub mod clock;
pub mod drain;
pub mod lock;
pub mod records;
