//! A file tree: `/`, or a scratch one.

use std::fs;
use std::path::{Path, PathBuf};

/// A file tree, with paths as the system has them.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The tree at `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Where `path` of the system is.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Whether there is something at `path`, be it a link to nowhere.
    pub fn has(&self, path: &str) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    /// The text of a file; empty if it cannot be read.
    pub(super) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_default()
    }

    /// The names and texts of the files in a directory, by name; none if it cannot be read.
    pub(super) fn files(&self, dir: &str) -> Vec<(String, String)> {
        let Ok(entries) = fs::read_dir(self.at(dir)) else { return Vec::new() };
        let mut all = Vec::new();
        for entry in entries.flatten() {
            if let (Ok(name), Ok(text)) = (entry.file_name().into_string(), fs::read_to_string(entry.path())) {
                all.push((name, text));
            }
        }
        all.sort();
        all
    }
}
