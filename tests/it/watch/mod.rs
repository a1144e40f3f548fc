//! `mh-watch` as it runs: the real program, the real kernel.

mod beyond;
mod doctor;
mod events;
mod hard;
mod health;
mod metrics;
mod repair;
mod resolvers;
mod service;
mod stranded;

use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::*;

const WATCH: &str = env!("CARGO_BIN_EXE_mh-watch");

/// A running `mh-watch`; it is killed with this.
struct Watcher {
    child: Child,
    /// What systemd would be told.
    told: UnixDatagram,
    events: Receiver<Value>,
    log: PathBuf,
}

impl Watcher {
    /// Starts it, and waits until it listens and the first pass is over.
    fn start(server: &Server) -> Self {
        Self::start_with(server, |_| {})
    }

    fn start_with(server: &Server, change: impl FnOnce(&mut Command)) -> Self {
        let path = server.config().with_file_name("notify");
        let _ = std::fs::remove_file(&path);
        let told = UnixDatagram::bind(&path).unwrap();
        told.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let log = server.config().with_file_name("watch.log");
        let mut command = server.bare(WATCH);
        command.args(["--json", "-v"]).env("NOTIFY_SOCKET", &path);
        command.stdout(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, events) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}: {e}"));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let watcher = Self { child, told, events, log };
        watcher.told_that("READY=1");
        watcher
    }

    /// The same, when the first pass is over.
    fn settled(server: &Server) -> Self {
        let watcher = Self::start(server);
        watcher.told_that("STATUS=links up");
        watcher
    }

    /// Waits until systemd would be told this.
    fn told_that(&self, what: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = match self.told.recv(&mut buffer) {
                // A signal to the tests.
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                received => received.unwrap_or_else(|e| panic!("no {what}: {e}: {}", self.said())),
            };
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains(what) {
                return text;
            }
        }
    }

    /// The next event of this kind.
    fn event(&self, kind: &str) -> Value {
        loop {
            let event = self.events.recv_timeout(Duration::from_mins(1));
            let event = event.unwrap_or_else(|e| panic!("no {kind}: {e}: {}", self.said()));
            if event["kind"] == kind {
                return event;
            }
        }
    }

    /// The events that have come.
    fn kinds(&self) -> Vec<String> {
        self.events.try_iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    }

    /// What it has logged.
    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn send(&self, signal: Signal) {
        send(signal, &self.child);
    }

    /// Seconds of a processor that it has used.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
        f64::from(ticks) / 100.0
    }

    /// Ends it as systemd does.
    fn stop(mut self) -> String {
        self.send(Signal::SIGTERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.said());
        self.said()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The article's server with both lines up.
fn both_up() -> Server {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    server
}

/// How long it takes until `done`.
fn time(what: &str, done: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    until(what, done);
    start.elapsed()
}
