//! The layout of src: no folder uses one that stands below it in lib.rs, so that what only mhctl needs is in no hook.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders in the order of lib.rs.
fn folders() -> Vec<&'static str> {
    let lib = include_str!("../../src/lib.rs");
    lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect()
}

/// The Rust files below `dir`.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// What a text names behind `prefix`.
fn used<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let after = text.split(prefix).skip(1);
    after.map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap_or_default()).collect()
}

#[test]
fn no_folder_uses_one_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let folders = folders();
    assert_eq!((folders.first(), folders.last()), (Some(&"model"), Some(&"ctl")));
    let mut upwards = Vec::new();
    for (rank, folder) in folders.iter().enumerate() {
        for path in sources(&src.join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            // By the other way to the root of the crate.
            let by_parents = used(&text, "super::").into_iter().filter(|name| folders.contains(name));
            for name in used(&text, "crate::").into_iter().chain(by_parents) {
                let below = folders.iter().position(|other| *other == name);
                let below =
                    below.unwrap_or_else(|| panic!("{}: write one folder in each `use crate::`", path.display()));
                if below > rank {
                    upwards.push(format!("{} uses {name}", path.strip_prefix(&src).unwrap().display()));
                }
            }
        }
    }
    assert_eq!(upwards, [""; 0]);
}

#[test]
fn no_source_is_outside_of_the_folders() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut outside: Vec<_> = fs::read_dir(&src).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    outside.retain(|name| !folders().iter().any(|folder| name == *folder));
    assert_eq!(outside, ["lib.rs"]);
}

#[test]
fn a_hook_is_made_of_nothing_but_hooks() {
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("bin");
    let mut hooks = sources(&bin);
    hooks.retain(|path| !path.ends_with("mhctl.rs") && !path.ends_with("mh-watch.rs"));
    assert_eq!(hooks.len(), 3);
    for path in hooks {
        let text = fs::read_to_string(&path).unwrap();
        assert!(used(&text, "multihome::").iter().all(|name| *name == "hook"), "{}", path.display());
    }
}
