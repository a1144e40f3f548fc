//! A link that is kept out of use for a while although it is up (`mhctl drill`). The drain names the process that wants
//! it and an end; while it lives that process holds a lock, which the kernel takes away in whatever way it ends. Without
//! the lock, or after the end, the drain counts for nothing, so that no way of dying leaves a link out of use for longer
//! than until the next event. Nor does it count while it would leave the server without any uplink, unless it was forced.
//!
//! The lock is on a file of its own, of mode 0600: whoever may open a file may lock it, and all may read of a drain, for
//! `mhctl status`. Who may not ask for the lock asks whether the process is there, which is right but for a killed drill
//! whose number another process bears.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::{F_UNLCK, F_WRLCK, SEEK_SET, flock};

/// A drain of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    pub pid: u32,
    /// Its end, in seconds since boot: nobody sets that clock.
    pub until: u64,
    /// Even while no other uplink is up.
    pub force: bool,
}

impl Drain {
    /// A drain by this process for `seconds` from now; `None`: there is no `/proc` to tell the time.
    pub(crate) fn by_me(seconds: u64, force: bool) -> Option<Self> {
        Some(Self { pid: std::process::id(), until: uptime()?.saturating_add(seconds), force })
    }

    /// Whether it counts now; `lock` is its lock's file.
    pub(super) fn is_in_force(&self, lock: &Path) -> bool {
        let is_over = uptime().is_none_or(|now| now >= self.until);
        !is_over && is_locked(lock).unwrap_or_else(|_| Path::new("/proc").join(self.pid.to_string()).exists())
    }
}

/// The lock of a drain: an open-file-description lock (fcntl(2)), which ends with this or with the process.
#[derive(Debug)]
pub struct DrainLock {
    _file: File,
}

impl DrainLock {
    /// Takes the lock; `None`: another process has it.
    pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        let file = open(path, options.write(true).create(true).truncate(false).mode(0o600))?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => Ok(Some(Self { _file: file })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

/// Whether somebody has the lock.
fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match open(path, &mut OpenOptions::new()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    let mut found = whole_file();
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok(i32::from(found.l_type) != F_UNLCK)
}

/// `O_CLOEXEC` is std's default: no child keeps the lock.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(path)
}

/// Of a lock of this kind the pid has to be 0.
#[expect(clippy::cast_possible_truncation, reason = "C's constants are ints, and these are 1 and 0")]
fn whole_file() -> flock {
    flock { l_type: F_WRLCK as _, l_whence: SEEK_SET as _, l_start: 0, l_len: 0, l_pid: 0 }
}

/// Seconds since boot (proc(5), `/proc/uptime`).
pub(crate) fn uptime() -> Option<u64> {
    fs::read_to_string("/proc/uptime").ok()?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_drain_ends_with_its_time_or_with_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (drain, over) = (Drain::by_me(60, false).unwrap(), Drain::by_me(0, false).unwrap());
        assert!(!drain.is_in_force(&path), "there is no lock");
        let lock = DrainLock::take(&path).unwrap().unwrap();
        assert!(drain.is_in_force(&path) && !over.is_in_force(&path));
        assert!(DrainLock::take(&path).unwrap().is_none(), "another has it");
        drop(lock);
        assert!(path.exists() && !drain.is_in_force(&path));
        drop(DrainLock::take(&path).unwrap().unwrap());
    }

    #[test]
    fn nobody_else_may_lock_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _lock = DrainLock::take(&path).unwrap().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn who_may_not_ask_for_the_lock_asks_for_the_process() {
        // As good as a file that may not be opened.
        let lock = Path::new("/proc/self/comm/lock");
        let mine = Drain::by_me(60, false).unwrap();
        assert!(mine.is_in_force(lock));
        assert!(!Drain { pid: u32::MAX, ..mine }.is_in_force(lock));
    }
}
