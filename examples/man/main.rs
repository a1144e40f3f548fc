//! Writes the man pages and shell completions: `cargo run --example man -- DIR`. They come from the
//! definitions that the executables parse by; only multihome.toml(5) is written by hand.

mod completions;
mod pages;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let dir: PathBuf = std::env::args_os().nth(1).context("usage: man DIR")?.into();
    write_all(&dir)
}

/// Writes all of them into a directory.
pub fn write_all(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for program in multihome::ctl::all() {
        let name = program.get_name().to_owned();
        completions::write(&program, &name, dir)?;
        pages::write(program, &name, dir)?;
    }
    let by_hand = include_str!("../../man/multihome.toml.5");
    fs::write(dir.join("multihome.toml.5"), by_hand)?;
    Ok(())
}
