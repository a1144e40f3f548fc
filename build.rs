//! How release executables are linked: without what only a debugger or an unwinding panic would read.

use std::path::Path;
use std::{env, fs, io};

/// Panics abort, and backtraces of a stripped executable name nothing: the unwinding tables, a tenth of
/// the file, are for nobody. GNU ld and lld take this as an addition to their own script.
const SCRIPT: &str = "SECTIONS { /DISCARD/ : { *(.eh_frame .eh_frame_hdr .gcc_except_table .gcc_except_table.*) } } \
                      INSERT AFTER .text;";

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let (Ok(profile), Ok(out)) = (env::var("PROFILE"), env::var("OUT_DIR")) else { return Ok(()) };
    if profile == "release" {
        let script = Path::new(&out).join("no-unwinding.ld");
        fs::write(&script, SCRIPT)?;
        println!("cargo:rustc-link-arg-bins=-T{}", script.display());
        // DT_RELR: a bit for each address that a static-pie adjusts at start, instead of 24 bytes.
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    Ok(())
}
