//! Where messages go: standard error on a terminal, syslog (daemon facility) without one, since
//! pppd gives its scripts no other place.

use std::borrow::Cow;
use std::ffi::CString;
use std::io::{self, IsTerminal};

use syslog_tracing::{Facility, Options, Syslog};
use tracing::Level;
use tracing_subscriber::fmt::writer::MakeWriterExt;

/// Starts logging as `program`; `verbose` adds debug lines, and standard error to syslog.
pub fn start(program: &str, verbose: bool) {
    let level = if verbose { Level::DEBUG } else { Level::INFO };
    let builder = tracing_subscriber::fmt().without_time().with_target(false).with_max_level(level);
    // Only the first call of a process counts, and each executable makes just one.
    let _ = if io::stderr().is_terminal() {
        builder.with_writer(io::stderr).try_init()
    } else {
        // A program's name holds no NUL.
        let identity = CString::new(program).unwrap_or_default();
        let builder = builder.with_level(false);
        match Syslog::new(Cow::Owned(identity), Options::LOG_PID, Facility::Daemon) {
            Some(syslog) if verbose => builder.with_writer(syslog.and(io::stderr)).try_init(),
            Some(syslog) => builder.with_writer(syslog).try_init(),
            None => builder.with_writer(io::stderr).try_init(),
        }
    };
}
