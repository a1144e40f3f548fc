//! The layout of src: no folder uses one that stands below it in lib.rs, so that what only mhctl needs is in no hook, and
//! no two files use each other.

use std::collections::{BTreeMap, BTreeSet};
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

/// A path of modules from the root of the crate.
type Module = Vec<String>;

/// A machine whose states have their methods in files of their own.
const KNOWN_CIRCLES: [&str; 2] = ["watch::health::dead", "watch::health::machine"];

/// The modules with what each of them says, without tests.
fn modules() -> BTreeMap<Module, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::new();
    for path in sources(&src) {
        let mut module: Module = path
            .strip_prefix(&src)
            .unwrap()
            .with_extension("")
            .iter()
            .map(|part| part.to_str().unwrap().to_owned())
            .collect();
        if module.iter().any(|part| part == "tests" || part == "lib") {
            continue;
        }
        module.pop_if(|part| part == "mod");
        let text = fs::read_to_string(&path).unwrap();
        modules.insert(module, text.split("#[cfg(test)]").next().unwrap().to_owned());
    }
    modules
}

/// The paths in a text that begin at the root of the crate; of a list in braces each.
fn paths(text: &str, module: &Module) -> Vec<Module> {
    let mut paths = Vec::new();
    for (at, _) in text.match_indices("crate::").chain(text.match_indices("super::")) {
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        let mut path = module.clone();
        for part in rest[..end].split("::").filter(|part| !part.is_empty()) {
            match part {
                "crate" => path.clear(),
                "super" => _ = path.pop(),
                part => path.push(part.to_owned()),
            }
        }
        let list = rest[end..].strip_prefix('{').and_then(|list| list.split('}').next());
        for item in list.unwrap_or_default().split(',') {
            let first = item.trim().split("::").next().unwrap().to_owned();
            paths.push([path.clone(), vec![first]].concat());
        }
    }
    paths
}

#[test]
fn no_two_files_use_each_other() {
    let modules = modules();
    let mut uses: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, text) in &modules {
        for mut path in paths(text, module) {
            while !path.is_empty() && !modules.contains_key(&path) {
                path.pop();
            }
            // Of both the first part in which they differ: a file or a folder beside the other.
            let common = module.iter().zip(&path).take_while(|(a, b)| a == b).count();
            if module.len() > common && path.len() > common {
                uses.entry(module[..=common].to_vec()).or_default().insert(path[..=common].to_vec());
            }
        }
    }
    // What uses none of the others, or is used by none, is in no circle.
    loop {
        let targets: BTreeSet<_> = uses.values().flatten().cloned().collect();
        let before = uses.len();
        let rest = uses.clone();
        uses.retain(|module, of| targets.contains(module) && of.iter().any(|used| rest.contains_key(used)));
        if uses.len() == before {
            break;
        }
    }
    let circles: Vec<_> = uses.keys().map(|module| module.join("::")).collect();
    assert_eq!(circles, KNOWN_CIRCLES);
}
