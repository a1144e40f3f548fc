//! mh-watch: notices uplinks that are up but dead.

pub mod health;
