//! Where messages go: standard error on a terminal, syslog (daemon facility) without one, since
//! pppd gives its scripts no other place.

use std::io::{self, IsTerminal, Write};
use std::os::unix::net::UnixDatagram;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
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
        let builder = builder.log_internal_errors(false);
        let terminal = io::stderr().is_terminal();
        let syslog = if terminal { None } else { Syslog::open(program).ok() };
        // Only the first subscriber of a process counts, and an executable has just one.
        let _ = match syslog {
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
            // Nor is standard error that is closed or full, which would have `eprintln!` panic.
            let _ = writeln!(io::stderr(), "{}: {message}", self.program);
        }
    }
}

/// The system's log, as syslog(3) writes to it: a datagram a message (RFC 3164). Not syslog(3)
/// itself, which would add 40 kB of C library to each hook.
struct Syslog {
    socket: UnixDatagram,
    program: &'static str,
}

impl Syslog {
    fn open(program: &'static str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // Nobody may be listening, as in a container; then there is no log. Nor may one that does not
        // read keep an event waiting.
        let _ = socket.connect("/dev/log");
        socket.set_nonblocking(true)?;
        Ok(Self { socket, program })
    }

    fn line(&self, severity: u8) -> Line<'_> {
        const DAEMON: u8 = 3;
        let text = format!("<{}>{}[{}]: ", DAEMON << 3 | severity, self.program, std::process::id()).into_bytes();
        Line { socket: &self.socket, text }
    }
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        self.line(5)
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        // Severities of RFC 3164. What we inform of, a line an event, is "normal but significant": a notice, which
        // our unit's LogLevelMax lets through.
        self.line(match *meta.level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 5,
            Level::DEBUG | Level::TRACE => 7,
        })
    }
}

/// A message in the making; it is sent when it is dropped.
struct Line<'a> {
    socket: &'a UnixDatagram,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        // A log that is gone or full is no reason to fail.
        let _ = self.socket.send(self.text.trim_ascii_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_datagram_with_its_severity() {
        let (socket, log) = UnixDatagram::pair().unwrap();
        let syslog = Syslog { socket, program: "mh-ip-up" };
        let mut line = syslog.line(4);
        line.write_all(b"isp1 up").unwrap();
        line.write_all(b" on ppp0\n").unwrap();
        drop(line);
        let mut datagram = [0; 100];
        let length = log.recv(&mut datagram).unwrap();
        let expected = format!("<28>mh-ip-up[{}]: isp1 up on ppp0", std::process::id());
        assert_eq!(String::from_utf8_lossy(&datagram[..length]), expected);
    }
}
