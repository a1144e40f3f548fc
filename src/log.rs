//! Where messages go: standard error on a terminal, syslog (daemon facility) without one, since
//! pppd gives its scripts no other place.

use std::borrow::Cow;
use std::ffi::CString;
use std::io::{self, IsTerminal};

use syslog_tracing::{Facility, Options, Syslog};
use tracing::Level;
use tracing_subscriber::fmt::writer::MakeWriterExt;

/// A started log.
#[derive(Debug)]
pub struct Log {
    program: &'static str,
    on_stderr: bool,
}

impl Log {
    /// Starts logging as `program`; `verbose` adds debug lines, and standard error to syslog.
    pub fn start(program: &'static str, verbose: bool) -> Self {
        let level = if verbose { Level::DEBUG } else { Level::INFO };
        let builder = tracing_subscriber::fmt().without_time().with_target(false).with_max_level(level);
        // A program's name holds no NUL.
        let identity = Cow::Owned(CString::new(program).unwrap_or_default());
        let terminal = io::stderr().is_terminal();
        let syslog = || Syslog::new(identity, Options::LOG_PID, Facility::Daemon);
        // Only the first subscriber of a process counts, and an executable has just one.
        let _ = match if terminal { None } else { syslog() } {
            None => builder.with_writer(io::stderr).try_init(),
            Some(syslog) if verbose => builder.with_level(false).with_writer(syslog.and(io::stderr)).try_init(),
            Some(syslog) => builder.with_level(false).with_writer(syslog).try_init(),
        };
        Self { program, on_stderr: terminal || verbose }
    }

    /// Tells what went wrong, on one line: in the log and on standard error, wherever that leads.
    pub fn complain(&self, message: &str) {
        tracing::error!("{message}");
        if !self.on_stderr {
            eprintln!("{}: {message}", self.program);
        }
    }
}
