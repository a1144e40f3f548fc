//! `mhctl status --watch`: the same again, in place, whenever something changes and every second.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::facts::Facts;
use super::{look, text};
use crate::cli::Common;
use crate::ctl::Error;
use crate::ctl::counters::Meter;
use crate::ctl::monitor::{Monitor, Wakeup};
use crate::ctl::show::Screen;

const TICK: Duration = Duration::from_secs(1);
/// Nobody reads faster.
const BURST: Duration = Duration::from_millis(100);

/// Bytes received and sent, by index of the interface.
type Counted = HashMap<u32, (u64, u64)>;

/// Rates from the counters of two looks, at least a good part of a second apart: from shorter times
/// they would jump.
#[derive(Default)]
struct Rates {
    last: Option<(Instant, Counted)>,
    rates: HashMap<u32, (f64, f64)>,
}

impl Rates {
    fn add_to(&mut self, facts: &mut Facts, now: Instant) {
        let counts = facts.links.iter().filter_map(|l| Some((l.index?, (l.received_bytes?, l.sent_bytes?))));
        let counted: Counted = counts.collect();
        let elapsed = self.last.as_ref().map(|(then, _)| (now - *then).as_secs_f64());
        if elapsed.is_none_or(|elapsed| elapsed >= 0.9) {
            if let (Some((_, before)), Some(elapsed)) = (&self.last, elapsed) {
                self.rates.clear();
                for (index, now) in &counted {
                    if let Some(then) = before.get(index) {
                        let rates = (rate(now.0, then.0, elapsed), rate(now.1, then.1, elapsed));
                        self.rates.insert(*index, rates);
                    }
                }
            }
            self.last = Some((now, counted));
        }
        for link in &mut facts.links {
            let rate = link.index.map(|index| self.rates.get(&index).copied().unwrap_or_default());
            (link.received_bytes_per_second, link.sent_bytes_per_second) = rate.unzip();
        }
    }
}

/// Per second. A counter that goes back was reset: by a driver, or it wrapped at 32 bits.
#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 a byte more or less does not show")]
fn rate(now: u64, then: u64, elapsed: f64) -> f64 {
    now.saturating_sub(then) as f64 / elapsed
}

/// The terminal while we draw on it: another page, without a cursor. The old page comes back.
struct Page;

impl Page {
    fn open() -> io::Result<Self> {
        let mut out = io::stdout().lock();
        out.write_all(b"\x1b[?1049h\x1b[?25l")?;
        out.flush()?;
        Ok(Self)
    }

    /// Draws over what is there, line by line, so that nothing flickers.
    fn draw(text: &str, screen: Screen) -> io::Result<()> {
        let mut frame = "\x1b[H".to_owned();
        let most = screen.height.unwrap_or(usize::MAX);
        let lines: Vec<_> = text.lines().take(most).collect();
        frame.push_str(&lines.join("\x1b[K\r\n"));
        frame.push_str("\x1b[K\x1b[J");
        let mut out = io::stdout().lock();
        out.write_all(frame.as_bytes())?;
        out.flush()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        // The terminal may be gone: then it needs nothing.
        let _ = out.write_all(b"\x1b[?25h\x1b[?1049l").and_then(|()| out.flush());
    }
}

pub(super) fn run(json: bool, common: &Common) -> Result<ExitCode, Error> {
    let mut notices = Monitor::subscribe()?;
    let mut meter = Meter::open()?;
    let mut rates = Rates::default();
    // What cannot be read at the start is an error; later it is a state that passes.
    let mut facts = look(common, &mut meter);
    if facts.is_err() {
        return facts.map(|_| ExitCode::SUCCESS);
    }
    let page = if io::stdout().is_terminal() && !json { Some(Page::open()?) } else { None };
    let mut shown = String::new();
    loop {
        let screen = Screen::stdout();
        let frame = match &mut facts {
            Ok(facts) => {
                rates.add_to(facts, Instant::now());
                if json {
                    serde_json::to_string(facts).map_err(io::Error::from)? + "\n"
                } else {
                    text::text(facts, screen)
                }
            }
            Err(error) if json => serde_json::json!({ "error": error.to_string() }).to_string() + "\n",
            Err(error) => format!("{error}\n"),
        };
        if page.is_some() {
            Page::draw(&(frame.clone() + "\nCtrl-C ends\n"), screen)?;
        } else {
            let between = if json || shown.is_empty() { "" } else { "\n" };
            let mut out = io::stdout().lock();
            out.write_all([between, &frame].concat().as_bytes()).and_then(|()| out.flush())?;
        }
        shown = frame;
        if notices.wait(TICK, BURST)? == Wakeup::StopRequested {
            break;
        }
        facts = look(common, &mut meter);
    }
    if page.is_some() {
        drop(page);
        // The last look stays on the screen.
        io::stdout().lock().write_all(shown.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
