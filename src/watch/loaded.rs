//! The configuration as it was read last, and whether its file has changed since.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::config::{self, Config};

/// A configuration, and what tells whether its file is still the same.
pub(super) struct Loaded {
    pub(super) config: Arc<Config>,
    pub(super) stamp: Option<Stamp>,
}

/// Changes whenever the file does.
pub(super) type Stamp = (u64, u64, i64, i64);

pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let meta = path.metadata().ok()?;
    Some((meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

impl Loaded {
    pub(super) fn load(path: &Path) -> Result<Self, config::Error> {
        // Before it is read: if it changes meanwhile, it is read again.
        let stamp = stamp(path);
        Ok(Self { config: Arc::new(config::load(path)?), stamp })
    }
}
