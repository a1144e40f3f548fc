//! Files and directories that anybody may read, whatever the umask (pppd's is 077): `mhctl status` needs no root.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Makes a new file of mode 0644 with this text. One that cannot be filled is removed: on a full disk it would take space.
pub(crate) fn make(path: &Path, text: &str) -> io::Result<()> {
    let filled = fill(path, text);
    if filled.is_err() {
        let _ = fs::remove_file(path);
    }
    filled
}

fn fill(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())
}

/// Creates a directory with mode 0755 and its parents. Existing directories stay as they are.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    let mut missing: Vec<_> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    while let Some(dir) = missing.pop() {
        match DirBuilder::new().mode(0o755).create(dir) {
            Ok(()) => fs::set_permissions(dir, Permissions::from_mode(0o755))?,
            // Another hook has created it meanwhile.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
