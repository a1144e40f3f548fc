//! When a pass is due, and how often the same thing is repaired. Pure: the clock, the time since the start, is handed
//! in.

mod budget;
mod origin;
mod schedule;
#[cfg(test)]
mod tests;

pub(super) use budget::Budget;
pub(super) use origin::Origins;
pub(super) use schedule::Schedule;
