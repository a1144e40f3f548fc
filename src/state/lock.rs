//! An exclusive lock on a file, with a deadline: one hook at a time.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fs2::FileExt;
use nix::fcntl::OFlag;
use thiserror::Error;

/// Why the lock was not acquired.
#[derive(Debug, Error)]
pub enum Error {
    /// Another process held the lock until the deadline.
    #[error(
        "{} is still locked after {} by {holder}; if that process hangs, end it: the next event repairs everything \
         that is recorded",
        path.display(), humantime::format_duration(*timeout)
    )]
    Timeout {
        path: PathBuf,
        timeout: Duration,
        /// The holder, as far as it is known.
        holder: String,
    },
    #[error("cannot lock {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Error {
    /// Whether the reason is a lack of privileges.
    pub(crate) fn is_permission(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// A lock, held until this is dropped or the process ends. Its descriptor is closed on exec, so no child process keeps
/// it. The file is never removed: two processes could hold locks on two files of the same name.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits at most `timeout` for the lock on `path`; `who` names this process to others that wait.
    ///
    /// # Errors
    /// [`Error::Timeout`]: another process has it still; it is named in the message.
    pub(crate) fn acquire(path: &Path, timeout: Duration, who: &str) -> Result<Self, Error> {
        let failed = |source| Error::Io { path: path.to_owned(), source };
        // 0600: whoever can open it can lock it (flock(2)), and so delay every event.
        let file = open(path, OpenOptions::new().write(true).create(true).truncate(false).mode(0o600));
        let file = match file {
            Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => open(path, &mut OpenOptions::new()),
            file => file,
        };
        let file = file.map_err(failed)?;
        let file = match file.try_lock_exclusive() {
            Ok(()) => file,
            Err(e) if e.kind() == fs2::lock_contended_error().kind() => wait(file, path, timeout)?,
            Err(e) => return Err(failed(e)),
        };
        // An earlier version, or a person, may have created it with a wider mode.
        if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
        }
        // Best effort: it only names the holder. Readers take the first line. Truncating the rest would take
        // milliseconds on a file system with a journal.
        let _ = (&file).write_all(format!("{who}, pid {}\n", std::process::id()).as_bytes());
        Ok(Self { _file: file })
    }
}

/// std opens with `O_CLOEXEC`. A symbolic link in the lock's place is refused.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

/// flock(2) has no deadline, so a thread waits in it. After a time-out the thread stays behind. It ends with the
/// process, or releases the lock as soon as it gets it.
fn wait(file: File, path: &Path, timeout: Duration) -> Result<File, Error> {
    let (sender, receiver) = mpsc::sync_channel(0);
    let waiting = thread::Builder::new().spawn(move || {
        let result = file.lock_exclusive();
        // After a time-out nobody listens: the file is dropped, and the lock with it.
        let _ = sender.send(result.map(|()| file));
    });
    waiting.map_err(|source| Error::Io { path: path.to_owned(), source })?;
    match receiver.recv_timeout(timeout) {
        Ok(Ok(file)) => Ok(file),
        Ok(Err(source)) => Err(Error::Io { path: path.to_owned(), source }),
        Err(_) => {
            let holder = holder(path).unwrap_or_else(|| "another program".to_owned());
            Err(Error::Timeout { path: path.to_owned(), timeout, holder })
        }
    }
}

/// The process that the file names. If it is gone, it holds nothing: another program has locked the file.
pub(crate) fn holder(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?;
    let pid: u32 = line.rsplit(' ').next()?.parse().ok()?;
    Path::new("/proc").join(pid.to_string()).exists().then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_can_take_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        drop(Lock::acquire(&path, Duration::ZERO, "").unwrap());
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        drop(Lock::acquire(&path, Duration::ZERO, "").unwrap());
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn the_second_waits_for_the_first_and_names_it_at_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::acquire(&path, Duration::ZERO, "mh-ip-up ppp0").unwrap();
        let error = Lock::acquire(&path, Duration::from_millis(20), "second").unwrap_err().to_string();
        let holder = format!("by mh-ip-up ppp0, pid {}", std::process::id());
        assert!(error.contains(&holder) && error.contains("20ms"), "{error}");

        let waiting = thread::spawn({
            let path = path.clone();
            move || Lock::acquire(&path, Duration::from_secs(10), "second").map(drop)
        });
        thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        drop(first);
        waiting.join().unwrap().unwrap();
    }
}
