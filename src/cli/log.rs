//! Logging: to standard error on a terminal, otherwise to syslog (facility daemon), since pppd discards the output of
//! its scripts. mhctl uses syslog only for commands that change something.

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

    /// Starts logging on standard error only, for a command that changes nothing.
    pub fn on_stderr(program: &'static str, verbose: bool) -> Self {
        Self::set(program, verbose, true, None)
    }

    fn set(program: &'static str, verbose: bool, on_stderr: bool, syslog: Option<UnixDatagram>) -> Self {
        let level = if verbose { Level::DEBUG } else { Level::INFO };
        // Fails only if there is a subscriber already.
        let _ = tracing::subscriber::set_global_default(Lines {
            program,
            level,
            on_stderr: on_stderr || syslog.is_none(),
            syslog,
        });
        Self { program, on_stderr }
    }

    /// Logs an error, and prints it on standard error, on one line.
    pub fn complain(&self, message: &str) {
        tracing::error!("{message}");
        if !self.on_stderr {
            // `eprintln!` would panic if standard error is closed or full.
            let _ = writeln!(io::stderr(), "{}: {message}", self.program);
        }
    }
}

/// The socket of syslog(3), whose code in the C library would add 40 kB to each hook.
fn syslog() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // In a container there may be no listener, and then no log. A listener that does not read must not block an event.
    let _ = socket.connect("/dev/log");
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A subscriber of tracing that writes each event as a line. The registry of tracing-subscriber would cost each hook 32
/// KiB and a tenth of its page faults, for spans that nothing here uses.
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
        // A failure of the log is ignored, here and below.
        if let Some(syslog) = &self.syslog {
            let _ = syslog.send(datagram(self.program, level, &message).as_bytes());
        }
        if self.on_stderr {
            // In one write, since other processes may share the terminal.
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

/// A message in the format of syslog (RFC 3164).
fn datagram(program: &str, level: Level, message: &str) -> String {
    const DAEMON: u8 = 3;
    // Info messages, one per event, have the severity "notice" (normal but significant), which LogLevelMax of
    // multihome's unit lets through.
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
