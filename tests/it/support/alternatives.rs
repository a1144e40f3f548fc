//! Which iptables a machine has: what update-alternatives(1) decides.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::ok;

/// From here on, this thread and its children find `file` in the place of `path`.
pub fn instead_of(path: &str, file: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    mount(Some(file), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// Makes the commands of iptables others, as update-alternatives(1) does: `target` says which by name.
pub fn alternatives(target: impl Fn(&str) -> PathBuf) {
    // Mounted over, it has to stay as long as the thread's mounts.
    let dir = tempfile::tempdir().unwrap().keep();
    for entry in fs::read_dir("/etc/alternatives").unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let is_iptables = name.starts_with("iptables") || name.starts_with("ip6tables");
        let target = if is_iptables { target(&name) } else { entry.path().canonicalize().unwrap_or_default() };
        if target.exists() {
            symlink(target, dir.join(name)).unwrap();
        }
    }
    instead_of("/etc/alternatives", &dir);
}

pub fn variant(variant: &str, name: &str) -> PathBuf {
    PathBuf::from("/usr/sbin").join(name.replacen("tables", &format!("tables-{variant}"), 1))
}

pub fn use_legacy() {
    alternatives(|name| variant("legacy", name));
    let version = ok(Command::new("iptables").arg("-V")).stdout;
    assert!(String::from_utf8(version).unwrap().contains("legacy"));
}
