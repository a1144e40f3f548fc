//! The last thing that setup does: what is up already is used from now on.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use tracing::warn;

use super::super::{Error, complete, take_up};
use crate::cli::Common;
use crate::config::Config;
use crate::hook;
use crate::hook::pass::{self, Pass};
use crate::model::names::LinkName;
use crate::reconcile::Carrying;
use crate::state::records::Store;

/// Whether the tree at `root` is that of the system that runs here: whoever prepares another one, in a directory or by
/// chroot(2), wants this one's routes left alone.
pub(super) fn is_this_system(root: &Path) -> bool {
    let here = id(root);
    here == id("/".as_ref()) && id("/proc/1/root/".as_ref()).is_none_or(|first| Some(first) == here)
}

/// Device and inode of a directory.
fn id(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok()
}

/// Takes up the links that are up and that nobody has told of, and applies the configuration.
pub(super) fn bring_up(config: &Config, common: &Common, out: &mut impl Write) -> Result<ExitCode, Error> {
    let pass = Pass { config, store: Store::new(&common.state_dir), who: "mhctl setup".to_owned() };
    let (known, unknown): (Vec<_>, Vec<_>) =
        take_up::untold(config, &pass.link_records())?.into_iter().partition(|untold| untold.event().is_some());
    writeln!(out)?;
    for untold in &known {
        let word = if common.dry_run { "would take up" } else { "taken up" };
        writeln!(out, "{word:<12} {} on {untold}", untold.link.name)?;
        let events = untold.event().into_iter().filter(|_| !common.dry_run);
        for event in events {
            // What is wrong is still so in the pass below, which fails for it.
            if let Err(error) = hook::run("mhctl setup", &[event], common, false) {
                warn!("{error}");
            }
        }
    }
    if common.dry_run {
        take_up::advise(&unknown, true, &common.mhctl(), out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = pass.run()?;
    pass.report(&pass::headline(&outcome, config.settings.protocol), &outcome);
    for (word, links) in [("links up", &outcome.carrying.v4), ("with IPv6", &outcome.carrying.v6)] {
        let names: Vec<_> = links.iter().map(LinkName::as_str).collect();
        if !names.is_empty() {
            writeln!(out, "{word:<12} {}", names.join(" "))?;
        }
    }
    take_up::advise(&unknown, outcome.carrying != Carrying::default(), &common.mhctl(), out)?;
    complete(outcome.failures)
}
