//! What setup and unsetup do to a file tree, path by path, so that what is somebody else's stays.

use std::io::{self, Write};

use super::Error;
use super::manifest::{self, Content, Item, Manifest};
use super::wanted;
use crate::ctl::tree::Tree;

/// What is to be done with one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: it is as it should be.
    There(Item),
    /// Make it, where there is nothing.
    Make(Item),
    /// Bring it up to date: it is ours, from before.
    Renew(Item),
    /// It was ours, and nothing wants it any more.
    Remove(Item),
    /// Somebody else's is there, and stays.
    Foreign(Item),
}

/// What to do so that `tree`, in which `manifest` was made, has `wanted`. `keep` says which of what
/// was made stays although nothing wants it.
pub(super) fn steps(
    tree: &Tree,
    manifest: &Manifest,
    wanted: Vec<Item>,
    keep: impl Fn(&str) -> bool,
) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    for (path, content) in &manifest.made {
        if wanted.iter().any(|item| item.path == *path) || keep(path) || !tree.has(path) {
            continue;
        }
        let item = Item { path: path.clone(), content: content.clone() };
        let unchanged = tree.content(path)?.as_ref() == Some(content);
        steps.push(if unchanged { Step::Remove(item) } else { Step::Foreign(item) });
    }
    for item in wanted {
        let found = tree.content(&item.path)?;
        let ours = found.is_some() && found.as_ref() == manifest.made.get(&item.path);
        steps.push(match found {
            None if !tree.has(&item.path) => Step::Make(item),
            Some(found) if found == item.content => Step::There(item),
            Some(_) if ours => Step::Renew(item),
            Some(found) if wanted::serves(&found, &item) => Step::There(item),
            _ => Step::Foreign(item),
        });
    }
    Ok(steps)
}

/// Carries the steps out. What is going to be made is written down first: whenever this ends,
/// unsetup knows.
pub(super) fn carry_out(tree: &Tree, manifest: &mut Manifest, steps: &[Step]) -> Result<(), Error> {
    let made: Vec<_> =
        steps.iter().filter_map(|s| if let Step::Make(i) | Step::Renew(i) = s { Some(i) } else { None }).collect();
    for path in made.iter().map(|item| item.path.as_str()).chain(made.first().map(|_| manifest::PATH)) {
        for dir in tree.missing_directories(path) {
            if !manifest.directories.contains(&dir) {
                manifest.directories.push(dir);
            }
        }
    }
    if !made.is_empty() {
        make_directories(tree, manifest::PATH)?;
        let new = made.iter().filter(|item| !manifest.made.contains_key(&item.path));
        let mut ahead = manifest.clone();
        ahead.made.extend(new.map(|item| (item.path.clone(), item.content.clone())));
        ahead.save(tree)?;
    }
    for step in steps {
        match step {
            Step::Make(item) | Step::Renew(item) => {
                make_directories(tree, &item.path)?;
                tree.put(&item.path, &item.content)?;
                manifest.made.insert(item.path.clone(), item.content.clone());
            }
            Step::Remove(item) => {
                tree.remove(&item.path)?;
                manifest.made.remove(&item.path);
            }
            Step::There(_) | Step::Foreign(_) => {}
        }
    }
    // What somebody took away, or made his own, is no longer ours.
    manifest.made.retain(|path, _| tree.has(path));
    for step in steps {
        if let Step::Foreign(item) = step {
            manifest.made.remove(&item.path);
        }
    }
    if manifest.made.is_empty() {
        manifest.save(tree)?;
        // Children before parents.
        manifest.directories.reverse();
        manifest.directories.retain(|dir| !tree.remove_directory(dir));
        return Ok(());
    }
    manifest.save(tree)
}

/// Makes the directories above a path that are missing.
fn make_directories(tree: &Tree, path: &str) -> Result<(), Error> {
    tree.missing_directories(path).iter().try_for_each(|dir| tree.make_directory(dir))
}

impl Step {
    pub fn item(&self) -> &Item {
        let (Self::There(item) | Self::Make(item) | Self::Renew(item) | Self::Remove(item) | Self::Foreign(item)) =
            self;
        item
    }

    pub fn is_change(&self) -> bool {
        matches!(self, Self::Make(_) | Self::Renew(_) | Self::Remove(_))
    }

    /// One line, and where something has to be done by hand another.
    pub fn print(&self, dry_run: bool, out: &mut impl Write) -> io::Result<()> {
        let (word, item) = match self {
            Self::There(item) => ("there", item),
            Self::Make(item) => (if dry_run { "would make" } else { "made" }, item),
            Self::Renew(item) => (if dry_run { "would renew" } else { "renewed" }, item),
            Self::Remove(item) => (if dry_run { "would remove" } else { "removed" }, item),
            Self::Foreign(item) => ("foreign", item),
        };
        write!(out, "{word:<12} {}", item.path)?;
        match (self, &item.content) {
            (Self::Foreign(_), Content::Link(target)) if !target.starts_with("/etc/") => {
                writeln!(out, "\n{:13}it stays; add this line to it: {target} \"$@\"", "")
            }
            (Self::Foreign(_), Content::Script(text)) => {
                let line = text.lines().last().unwrap_or_default();
                writeln!(out, "\n{:13}it stays; add this line to it: {line}", "")
            }
            (Self::Foreign(_), _) => writeln!(out, "\n{:13}it stays; move it away and run this again", ""),
            (Self::Make(_) | Self::Renew(_), Content::Link(target)) if !target.starts_with("/etc/") => {
                writeln!(out, " -> {target}")
            }
            _ => writeln!(out),
        }
    }
}
