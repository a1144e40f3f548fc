//! The file that `mh-watch --metrics` keeps: for `node_exporter`'s textfile collector, or whoever reads it.

use std::fs;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{debug, error, info};

use crate::state::files;

/// After an event it is written at once, but not more often than this.
const SOONEST: Duration = Duration::from_secs(1);

/// It is written so often whenever there is something else to wake up for.
const OFTEN: Duration = Duration::from_secs(15);

/// It is written so often if there is nothing else.
const LATEST: Duration = Duration::from_mins(1);

/// When it is written, and that it is. Times are since the start.
#[derive(Debug, Default)]
pub(in crate::watch) struct Textfile {
    /// `None`: none is kept.
    path: Option<PathBuf>,
    /// When it was written last.
    begun: Option<Duration>,
    /// How many events there were then.
    events: u64,
    running: Option<JoinHandle<Result<(), String>>>,
    /// Why it could not be written the last time: said once.
    trouble: String,
}

impl Textfile {
    pub(in crate::watch) fn new(path: Option<PathBuf>) -> Self {
        Self { path, ..Self::default() }
    }

    /// When it has to be written at the latest, after so many events; `None`: not before something happens.
    pub(in crate::watch) fn wake(&self, events: u64) -> Option<Duration> {
        self.due(events, LATEST)
    }

    /// Whether it is to be written, since there is something to wake up for.
    pub(in crate::watch) fn is_due(&self, now: Duration, events: u64) -> bool {
        self.due(events, OFTEN).is_some_and(|due| now >= due)
    }

    fn due(&self, events: u64, without_news: Duration) -> Option<Duration> {
        if self.path.is_none() || self.running.is_some() {
            return None;
        }
        let Some(begun) = self.begun else { return Some(Duration::ZERO) };
        Some(begun + if events == self.events { without_news } else { SOONEST })
    }

    /// Begins to write what `text` gives, in a thread of its own: a disk may hang.
    pub(in crate::watch) fn write(
        &mut self,
        now: Duration,
        events: u64,
        text: impl FnOnce() -> Result<String, String> + Send + 'static,
    ) {
        let Some(path) = self.path.clone() else { return };
        (self.begun, self.events) = (Some(now), events);
        self.running = Some(spawn_blocking(move || {
            let text = text()?;
            replace(&path, &text).map_err(|e| format!("cannot write metrics to {}: {e}", path.display()))
        }));
    }

    /// Waits until it is written. Never ends while it is not being written.
    pub(in crate::watch) async fn over(&mut self) {
        let Some(running) = &mut self.running else { return pending().await };
        let done = running.await.unwrap_or_else(|e| Err(e.to_string()));
        self.running = None;
        let trouble = done.err().unwrap_or_default();
        if trouble.is_empty() && !self.trouble.is_empty() {
            info!("metrics can be written again");
        } else if !trouble.is_empty() && trouble != self.trouble {
            error!("{trouble}");
        }
        self.trouble = trouble;
    }

    pub(in crate::watch) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Nobody is to take what was once for what is.
    pub(in crate::watch) fn remove(&self) {
        if let Some(path) = self.path.as_ref().filter(|_| self.begun.is_some())
            && let Err(e) = replaceable(path).and_then(|()| fs::remove_file(path))
        {
            debug!("{}: {e}", path.display());
        }
    }
}

/// Replaces a file that anybody may read. A reader finds the old one or the new one, as a whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    replaceable(path)?;
    // node_exporter reads names that end in .prom only. One that is there was left by a process that died.
    let temporary = path.with_file_name(format!(".{}.new", name.display()));
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    files::make(&temporary, text)?;
    fs::rename(&temporary, path).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// A device, say, is nothing to put a file in the place of: `--metrics /dev/null` would take it from everybody.
fn replaceable(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::other("there is something else than a regular file")),
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_written_after_events_with_other_work_and_once_a_minute() {
        assert_eq!(Textfile::new(None).wake(1), None);
        let mut file = Textfile::new(Some("/x".into()));
        assert!(file.is_due(Duration::ZERO, 0));
        (file.begun, file.events) = (Some(100 * S), 3);
        assert_eq!(file.wake(3), Some(160 * S));
        assert!(!file.is_due(114 * S, 3) && file.is_due(115 * S, 3));
        assert_eq!(file.wake(4), Some(101 * S));
        assert!(!file.is_due(100 * S, 4) && file.is_due(101 * S, 4));
    }

    #[test]
    fn it_is_replaced_as_a_whole_for_all_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.prom");
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "mine").unwrap();
        // Left over, or laid there by somebody.
        std::os::unix::fs::symlink(&elsewhere, dir.path().join(".a.prom.new")).unwrap();
        replace(&path, "one\n").unwrap();
        replace(&path, "two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        fs::create_dir(dir.path().join("d")).unwrap();
        assert!(replace(&dir.path().join("d"), "x").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nothing is left over");
    }

    #[test]
    fn what_is_no_regular_file_is_neither_replaced_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert!(replace(&link, "x").unwrap_err().to_string().contains("regular file"));
        Textfile { path: Some(link.clone()), begun: Some(S), ..Textfile::default() }.remove();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
