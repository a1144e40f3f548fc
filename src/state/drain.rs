//! Drains: links that `mhctl drill` or `mh-watch` keeps out of new connections for a while. A drain names its process and
//! its end. The process holds a lock, which the kernel releases however the process ends. Without the lock, or after its
//! end, a drain is ignored: if the process dies or stands still, the next event uses the link again. A drain that is not
//! forced is also ignored if only drained uplinks remain.
//!
//! The lock has a file of its own, of mode 0600, because whoever can open a file can lock it. The drain itself is
//! readable by all, for `mhctl status`. A process that cannot open the lock's file checks whether the process exists
//! instead, which is wrong only if another process has got the pid of a killed drill.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::{F_UNLCK, F_WRLCK, SEEK_SET, flock};

use crate::model::names::Family;

/// How far a link is out of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// No new connection takes it. Its table, its mark rule and its source rules stay, for the connections that it has.
    Drained,
    /// Its connections are flushed as well, and neither mark nor source leads to it. Its spare stays, behind all others,
    /// and probes go by it.
    Cut,
    /// As if its line were gone.
    Held,
}

/// A drain of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    pub pid: u32,
    /// In seconds since boot, a clock that cannot be set.
    pub until: u64,
    /// It counts even if no other uplink is up.
    pub force: bool,
    /// `None`: IPv4 is in full use.
    pub v4: Option<Level>,
    /// IPv6 likewise.
    pub v6: Option<Level>,
}

impl Drain {
    /// One by this process that holds the link for `seconds` from now; `None`: `/proc` is missing.
    pub(crate) fn by_me(seconds: u64, force: bool) -> Option<Self> {
        let until = uptime()?.saturating_add(seconds);
        Some(Self { pid: std::process::id(), until, force, v4: Some(Level::Held), v6: Some(Level::Held) })
    }

    /// How far a family of the link is out of use; `None`: it is not.
    pub fn level(&self, family: Family) -> Option<Level> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Whether the drain is in force now; `lock` is the file of its lock.
    pub(super) fn is_in_force(&self, lock: &Path) -> bool {
        let is_over = uptime().is_none_or(|now| now >= self.until);
        !is_over && is_locked(lock).unwrap_or_else(|_| Path::new("/proc").join(self.pid.to_string()).exists())
    }
}

/// The lock of a drain: an open-file-description lock (fcntl(2)). It ends when this is dropped or the process ends.
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

/// Whether any process holds the lock.
fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match open(path, &mut OpenOptions::new()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    let mut found = whole_file();
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok(i32::from(found.l_type) != F_UNLCK)
}

/// std opens with `O_CLOEXEC`: no child process keeps the lock.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(path)
}

/// The pid of such a lock must be 0.
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
    use std::thread;
    use std::time::{Duration, Instant};

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
        // A process that another test starts has the lock as well, until it runs its program.
        let deadline = Instant::now() + Duration::from_mins(1);
        while drain.is_in_force(&path) {
            assert!(Instant::now() < deadline, "it is still in force");
            thread::sleep(Duration::from_millis(1));
        }
        assert!(path.exists());
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
        // Opening it fails, as it does without permission.
        let lock = Path::new("/proc/self/comm/lock");
        let mine = Drain::by_me(60, false).unwrap();
        assert!(mine.is_in_force(lock));
        assert!(!Drain { pid: u32::MAX, ..mine }.is_in_force(lock));
    }
}
