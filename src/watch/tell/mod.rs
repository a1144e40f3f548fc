//! Tells of events: in the log, as JSON on standard output, and to the administrator's program.

mod between;
mod command;
mod event;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::SystemTime;

use tokio::task::{JoinHandle, spawn};
use tracing::{info, warn};

use super::metrics::Counts;
pub(super) use between::between;
pub(super) use event::Told;
pub use event::{Event, Kind, VERSION};

/// So many events wait for the program at most; then the oldest are left out.
const WAITING: usize = 64;

/// So many lines wait for the reader of standard output at most.
const LINES: usize = 1024;

/// Where events are told.
#[derive(Debug)]
pub(super) struct Teller {
    /// To the thread that writes to standard output, which may block.
    lines: Option<SyncSender<String>>,
    /// The reader of standard output is too slow, and that was said.
    is_slow: bool,
    /// The administrator's program and its arguments; empty: none.
    command: Vec<String>,
    waiting: VecDeque<Told>,
    /// Events that were left out since the program ran last.
    missed: u32,
    running: Option<JoinHandle<()>>,
    pub(super) counts: Counts,
}

impl Teller {
    /// With `json` events are also lines on standard output.
    pub(super) fn new(json: bool, command: Vec<String>) -> io::Result<Self> {
        let lines = if json { Some(writer()?) } else { None };
        let (waiting, counts) = Default::default();
        Ok(Self { lines, is_slow: false, command, waiting, missed: 0, running: None, counts })
    }

    /// The configuration names another program, perhaps. One that runs goes on.
    pub(super) fn run_instead(&mut self, command: Vec<String>) {
        self.command = command;
    }

    /// Tells of an event now.
    pub(super) fn tell(&mut self, event: Event) {
        // Of repairs the log has the line of the pass.
        match event.kind {
            Kind::Repair => {}
            Kind::Fight => warn!("{event}"),
            _ => info!("{event}"),
        }
        let time = SystemTime::now();
        self.counts.add(event.kind, time);
        let told = Told::new(event, time);
        self.print(&told);
        if self.command.is_empty() {
            return;
        }
        if self.waiting.len() == WAITING {
            self.waiting.pop_front();
            self.missed += 1;
            if self.missed == 1 {
                warn!("{} is slower than the events: it misses some", self.command[0]);
            }
        }
        self.waiting.push_back(told);
        if self.running.is_none() {
            self.run_next();
        }
    }

    /// Waits until the program has ended, and starts it for the next event. Never ends while it does not run.
    pub(super) async fn next(&mut self) {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        if let Err(e) = running.await {
            warn!("event-command: {e}");
        }
        self.running = None;
        self.run_next();
    }

    fn run_next(&mut self) {
        if let Some(mut told) = self.waiting.pop_front()
            && !self.command.is_empty()
        {
            told.missed = std::mem::take(&mut self.missed);
            self.running = Some(spawn(command::run(self.command.clone(), told.line())));
        }
    }

    fn print(&mut self, told: &Told) {
        let Some(lines) = &self.lines else { return };
        match lines.try_send(told.line()) {
            Ok(()) => self.is_slow = false,
            Err(TrySendError::Full(_)) if self.is_slow => {}
            Err(TrySendError::Full(_)) => {
                self.is_slow = true;
                warn!("nobody reads standard output: events are left out there");
            }
            // The writer has said why.
            Err(TrySendError::Disconnected(_)) => self.lines = None,
        }
    }
}

/// The thread that writes lines to standard output, until that is closed.
fn writer() -> io::Result<SyncSender<String>> {
    let (sender, lines) = sync_channel::<String>(LINES);
    thread::Builder::new().name("mh-watch".to_owned()).spawn(move || {
        for line in lines {
            let mut out = io::stdout().lock();
            if let Err(e) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
                warn!("no more events on standard output: {e}");
                return;
            }
        }
    })?;
    Ok(sender)
}
