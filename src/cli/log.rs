//! Where messages go: standard error on a terminal, syslog (daemon facility) without one, since
//! pppd gives its scripts no other place. Of mhctl that holds for what changes something.

use std::fmt::{Debug, Write as _};
use std::io::{self, IsTerminal, Write};
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// A started log.
#[derive(Debug)]
pub struct Log {
    program: &'static str,
    on_stderr: bool,
}

impl Log {
    /// Starts logging as `program`; `verbose` adds debug lines, and standard error to syslog.
    pub fn start(program: &'static str, verbose: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let syslog = if terminal { None } else { syslog().ok() };
        Self::set(program, verbose, terminal || verbose, syslog)
    }

    /// Starts logging on standard error alone: for a command that changes nothing, and answers who has typed it.
    pub fn on_stderr(program: &'static str, verbose: bool) -> Self {
        Self::set(program, verbose, true, None)
    }

    fn set(program: &'static str, verbose: bool, on_stderr: bool, syslog: Option<UnixDatagram>) -> Self {
        let level = if verbose { Level::DEBUG } else { Level::INFO };
        // Only the first subscriber of a process counts, and an executable has just one.
        let _ = tracing::subscriber::set_global_default(Lines {
            program,
            level,
            on_stderr: on_stderr || syslog.is_none(),
            syslog,
        });
        Self { program, on_stderr }
    }

    /// Tells what went wrong, on one line: in the log and on standard error, wherever that leads.
    pub fn complain(&self, message: &str) {
        tracing::error!("{message}");
        if !self.on_stderr {
            // Nor is standard error that is closed or full, which would have `eprintln!` panic.
            let _ = writeln!(io::stderr(), "{}: {message}", self.program);
        }
    }
}

/// The system's log, as syslog(3) writes to it. Not syslog(3) itself, which would add 40 kB of C
/// library to each hook.
fn syslog() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // Nobody may be listening, as in a container; then there is no log. Nor may one that does not
    // read keep an event waiting.
    let _ = socket.connect("/dev/log");
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Events of tracing, each a line. Not tracing-subscriber, whose registry of spans costs each hook 32 KiB and
/// a tenth of its page faults: nothing here has a span.
struct Lines {
    program: &'static str,
    level: Level,
    on_stderr: bool,
    syslog: Option<UnixDatagram>,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let (level, message) = (*event.metadata().level(), message.0);
        // A log that is gone or full is no reason to fail, here and below.
        if let Some(syslog) = &self.syslog {
            let _ = syslog.send(datagram(self.program, level, &message).as_bytes());
        }
        if self.on_stderr {
            // In one write: other processes may have the same terminal.
            let _ = io::stderr().write_all(format!("{level:>5} {message}\n").as_bytes());
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The text of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Writing to a String cannot fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

/// A message as syslog takes it (RFC 3164).
fn datagram(program: &str, level: Level, message: &str) -> String {
    const DAEMON: u8 = 3;
    // What we inform of, a line an event, is "normal but significant": a notice, which our unit's
    // LogLevelMax lets through.
    let severity = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 5,
        Level::DEBUG | Level::TRACE => 7,
    };
    format!("<{}>{program}[{}]: {}", DAEMON << 3 | severity, std::process::id(), message.trim_ascii_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_datagram_with_its_severity() {
        let (socket, log) = UnixDatagram::pair().unwrap();
        let lines = Lines { program: "mh-ip-up", level: Level::INFO, on_stderr: false, syslog: Some(socket) };
        tracing::subscriber::with_default(lines, || {
            tracing::debug!("nobody wants to know");
            let interface = "ppp0";
            tracing::warn!("isp1 up on {interface}");
        });
        let mut datagram = [0; 100];
        let length = log.recv(&mut datagram).unwrap();
        let expected = format!("<28>mh-ip-up[{}]: isp1 up on ppp0", std::process::id());
        assert_eq!(String::from_utf8_lossy(&datagram[..length]), expected);
        log.set_nonblocking(true).unwrap();
        assert_eq!(log.recv(&mut datagram).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
