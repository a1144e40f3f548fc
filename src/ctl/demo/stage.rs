//! Where the demo plays: a network namespace and a directory of its own. Both go with the process,
//! or when it is told to end.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{getegid, geteuid};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use super::Error;

/// The place, while it lasts.
pub(super) struct Stage {
    dir: TempDir,
    /// Where mhctl and the hooks are.
    programs: PathBuf,
    told_to_end: Arc<AtomicBool>,
    /// The hooks' log lines stay out of this machine's log.
    pub(super) quiet: bool,
}

impl Stage {
    /// Moves the process there; it has to have one thread only.
    pub(super) fn enter() -> Result<Self, Error> {
        // In a chroot that has moved to another mount namespace the kernel gives the path outside of it.
        let mut programs = env::current_exe().map_err(Error::io("find out where mhctl is"))?;
        programs.pop();
        let (uid, gid) = (geteuid(), getegid());
        let spaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
        match unshare(spaces) {
            // Not root: then in a user namespace in which we are.
            Err(Errno::EPERM) => {
                unshare(CloneFlags::CLONE_NEWUSER | spaces).map_err(|e| Error::Namespace(e.into()))?;
                for (file, text) in [
                    // Without it gid_map is refused (user_namespaces(7)).
                    ("setgroups", "deny".to_owned()),
                    ("uid_map", format!("0 {uid} 1")),
                    ("gid_map", format!("0 {gid} 1")),
                ] {
                    fs::write(Path::new("/proc/self").join(file), text).map_err(Error::Namespace)?;
                }
            }
            made => made.map_err(|e| Error::Namespace(e.into()))?,
        }
        // As pppd has it when it runs a hook.
        umask(Mode::from_bits_truncate(0o077));
        let quiet = hide_log().is_ok();
        let told_to_end = watch_signals().map_err(Error::io("watch for signals"))?;
        let dir = tempfile::Builder::new()
            .prefix("multihome-demo-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(Error::io("make a temporary directory"))?;
        Ok(Self { dir, programs, told_to_end, quiet })
    }

    /// Where configuration and state are.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A hook that was installed with mhctl.
    pub(super) fn hook(&self, name: &str) -> Result<PathBuf, Error> {
        let program = self.programs.join(name);
        if program.is_file() { Ok(program) } else { Err(Error::NoHook(program)) }
    }

    /// An error when somebody wants the demo to end.
    pub(super) fn go_on(&self) -> Result<(), Error> {
        if self.told_to_end.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Removes the directory; dropping does the same, but cannot tell of a failure.
    pub(super) fn leave(self) -> Result<(), Error> {
        self.dir.close().map_err(Error::io("remove the temporary directory"))
    }
}

/// Moves the calling thread to one more network namespace.
pub(super) fn another_namespace() -> Result<(), Error> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| Error::Namespace(e.into()))
}

/// Hides syslog's socket: a line about isp1 in the log of a real server would frighten its owner.
fn hide_log() -> nix::Result<()> {
    const NONE: Option<&str> = None;
    // What is mounted here must not appear outside.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    match mount(Some("/dev/null"), "/dev/log", NONE, MsFlags::MS_BIND, NONE) {
        Err(Errno::ENOENT) => Ok(()),
        done => done,
    }
}

/// From here on the signals that end a process only set the flag, so that the directory is removed.
fn watch_signals() -> std::io::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    drop(entered);
    let flag = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&flag);
    thread::Builder::new().spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        told.store(true, Ordering::Relaxed);
    })?;
    Ok(flag)
}
