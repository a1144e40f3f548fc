//! `make bench`: mh-watch's decision beside those of other programs, on simulated lines. Prints tables, writes them to the
//! section of `docs/figures.md` between two marks, and draws `docs/health.svg`.

#![allow(clippy::cast_precision_loss, clippy::unwrap_used, clippy::expect_used)]

mod plot;
#[path = "../../tests/it/health/simulation/mod.rs"]
mod simulation;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;

use simulation::{
    Alarms, Counts, DAY, Dpinger, Foolsm, Kind, Line, MhWatch, Mwan3track, Vyos, Watcher, detections, false_alarms,
};

const BEGIN: &str = "<!-- Until the next mark written by `make bench`, examples/health. -->";
const END: &str = "<!-- Until here. -->";
const MONTH: f64 = 30.0 * DAY;
const DEATHS: u64 = 1000;

type New = fn() -> Box<dyn Watcher>;

const WATCHERS: [New; 5] = [
    || Box::new(MhWatch::new()),
    || Box::<Mwan3track>::default(),
    || Box::<Dpinger>::default(),
    || Box::<Foolsm>::default(),
    || Box::<Vyos>::default(),
];

const IDLE: Kind = Kind::PLAIN;
const BUSY: Kind = Kind { traffic: 50.0, ..IDLE };

fn deaths() -> Vec<(&'static str, Kind)> {
    vec![
        ("30 ms, idle", IDLE),
        ("30 ms, 2 % loss, idle", Kind { loss: 0.02, ..IDLE }),
        ("30 ms, 2 % loss, 50 packets/s", Kind { loss: 0.02, ..BUSY }),
        ("190 ms, 2 % loss, idle", Kind { rtt: 0.19, jitter: 0.02, loss: 0.02, ..IDLE }),
        ("190 ms, 2 % loss, 50 packets/s", Kind { rtt: 0.19, jitter: 0.02, loss: 0.02, ..BUSY }),
        ("600 ms (satellite), 2 % loss, idle", Kind { rtt: 0.6, jitter: 0.08, loss: 0.02, ..IDLE }),
        ("2 s, 2 % loss, idle", Kind { rtt: 2.0, jitter: 0.2, loss: 0.02, ..IDLE }),
        ("2 s, 2 % loss, 50 packets/s", Kind { rtt: 2.0, jitter: 0.2, loss: 0.02, ..BUSY }),
        ("30 ms, 2 % loss, 50 packets/s that the provider answers", NEAR),
        ("2 s, 2 % loss, 50 packets/s that the provider answers", Kind { rtt: 2.0, jitter: 0.2, ..NEAR }),
        ("30 ms, 2 % loss, 50 packets/s of strangers", Kind { counts: Counts::Anything, ..NEAR }),
    ]
}

/// The provider's resolver answers, and nothing beyond it.
const NEAR: Kind = Kind { has_provider: true, loss: 0.02, ..BUSY };

/// The loss of those that are drawn stands first.
const LOSSES: [f64; 6] = [0.005, 0.02, 0.05, 0.1, 0.2, 0.3];

fn lives() -> Vec<(String, Kind)> {
    let lossy = LOSSES.map(|loss| (format!("{} % loss", loss * 100.0), Kind { loss, ..IDLE }));
    let mut all = lossy.to_vec();
    let named = [
        ("2 % loss, 50 packets/s", Kind { loss: 0.02, ..BUSY }),
        ("2 % loss, 50 packets/s, no counters", Kind { loss: 0.02, counts: Counts::Nothing, ..BUSY }),
        ("30 % loss, 50 packets/s", Kind { loss: 0.3, ..BUSY }),
        ("bursts: each minute 0.3 s with 80 % loss", Kind { bursts: Some((60.0, 0.3, 0.8)), loss: 0.01, ..IDLE }),
        ("bufferbloat to 2 s, ten minutes an hour, 50 packets/s", Kind { is_bloated: true, loss: 0.01, ..BUSY }),
        ("the same, no counters", Kind { is_bloated: true, loss: 0.01, counts: Counts::Nothing, ..BUSY }),
        ("blackouts: 24 a day, 0.5 s on average", Kind { blackouts: (24.0, 0.5), ..IDLE }),
        ("the same, 50 packets/s", Kind { blackouts: (24.0, 0.5), ..BUSY }),
        ("blackouts: 4 a day, 2 s on average", Kind { blackouts: (4.0, 2.0), ..IDLE }),
        (
            "blackouts: 100 a day, 2 s on average, 9.99 s at most",
            Kind { blackouts: (100.0, 2.0), longest_blackout: 9.99, ..IDLE },
        ),
        ("blackouts beyond the provider: 24 a day, 5 s on average", Kind { blackouts: (24.0, 5.0), ..NEAR }),
        ("satellite: 600 ms, 2 % loss", Kind { rtt: 0.6, jitter: 0.08, loss: 0.02, ..IDLE }),
        ("targets that answer once in 2 s", Kind { rate_limit: 2.0, loss: 0.02, ..IDLE }),
        ("the same, 50 packets/s", Kind { rate_limit: 2.0, loss: 0.02, ..BUSY }),
        ("the first target dead", Kind { dead_targets: 1, loss: 0.02, ..IDLE }),
    ];
    all.extend(named.map(|(name, kind)| (name.to_owned(), kind)));
    all
}

/// Median, 99th of a hundred, worst.
struct Soon([f64; 3]);

impl Soon {
    fn of(kind: Kind, new: New) -> Option<Self> {
        let all = detections(kind, DEATHS, 120.0, new);
        let at = |part: usize| all.get((all.len() * part / 100).min(all.len().saturating_sub(1))).copied();
        Some(Self([at(50)?, at(99)?, at(100)?]))
    }
}

fn seconds(soon: Option<&Soon>) -> String {
    let Some(Soon(all)) = soon else { return "always out".to_owned() };
    all.map(|seconds| if seconds < 10.0 { format!("{seconds:.1}") } else { format!("{seconds:.0}") }).join(" / ")
}

/// Of a month.
fn alarms(kind: Kind, new: New) -> Alarms {
    false_alarms(Line::new(kind, 1, MONTH, f64::INFINITY), MONTH, &mut *new())
}

fn share(alarms: Alarms) -> String {
    let percent = alarms.share * 100.0;
    if percent < 0.1 { String::new() } else { format!(" ({percent:.1} %)") }
}

/// One thread a line: all of a month in some minutes.
fn table<Kinds, Name: AsRef<str>, Cell: Send>(kinds: &Kinds, cell: fn(Kind, New) -> Cell) -> Vec<Vec<Cell>>
where
    for<'a> &'a Kinds: IntoIterator<Item = &'a (Name, Kind)>,
{
    thread::scope(|scope| {
        let rows: Vec<_> = kinds
            .into_iter()
            .map(|(_, kind)| {
                let kind = *kind;
                scope.spawn(move || WATCHERS.map(|new| cell(kind, new)).into_iter().collect())
            })
            .collect();
        rows.into_iter().map(|row| row.join().unwrap()).collect()
    })
}

fn row(text: &mut String, name: &str, cells: impl IntoIterator<Item = String>) {
    let cells: Vec<_> = cells.into_iter().collect();
    let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
}

/// What mh-watch promises: left within 3 s below 200 ms and within 5 s at 2 s, within 31 s where the provider still
/// answers, no false alarm in a month at 2 % loss, and nothing cut by a blackout below ten seconds.
fn hold_goals(
    deaths: &[(&str, Kind)],
    soon: &[Vec<Option<Soon>>],
    lives: &[(String, Kind)],
    false_alarms: &[Vec<Alarms>],
) {
    for ((name, kind), cells) in deaths.iter().zip(soon) {
        let worst = cells[0].as_ref().expect("mh-watch uses a line that lives").0[2];
        let most = match kind {
            Kind { has_provider: true, .. } => 31.0,
            Kind { rtt, .. } if *rtt < 0.2 => 3.0,
            _ => 5.0,
        };
        assert!(worst < most, "{name}: {worst} s");
    }
    for ((name, kind), cells) in lives.iter().zip(false_alarms) {
        let is_random_loss = kind.loss <= 0.02 && kind.bursts.is_none() && kind.blackouts.0 == 0.0;
        assert!(cells[0].out == 0 || !is_random_loss, "{name}: {:?}", cells[0]);
        let may_cut = kind.longest_blackout > 10.0 && !kind.has_provider;
        assert!(cells[0].cut == 0 || may_cut, "{name}: {:?}", cells[0]);
    }
}

fn main() {
    let names = WATCHERS.map(|new| new().name().to_owned());
    let (deaths, lives) = (deaths(), lives());
    let soon = table(&deaths, Soon::of);
    let false_alarms = table(&lives, alarms);

    let mut text = format!(
        "Seconds from the death of a line until it is left, of {DEATHS} deaths: median / 99th of a hundred / worst.\n\n"
    );
    row(&mut text, "round-trip time, loss, traffic", names.clone());
    row(&mut text, "---", names.iter().map(|_| "---".to_owned()));
    for ((name, _), cells) in deaths.iter().zip(&soon) {
        row(&mut text, name, cells.iter().map(|cell| seconds(cell.as_ref())));
    }
    text.push_str(
        "\nHow often a line that lives is left within a month, and for which part of the month; of mh-watch: \
         drained / cut.\n\n",
    );
    row(&mut text, "30 ms and idle, unless it says otherwise", names.clone());
    row(&mut text, "---", names.iter().map(|_| "---".to_owned()));
    for ((name, _), cells) in lives.iter().zip(&false_alarms) {
        let ours = format!("{} / {}{}", cells[0].out, cells[0].cut, share(cells[0]));
        let theirs = cells[1..].iter().map(|cell| format!("{}{}", cell.out, share(*cell)));
        row(&mut text, name, [ours].into_iter().chain(theirs));
    }
    println!("{text}");
    hold_goals(&deaths, &soon, &lives, &false_alarms);

    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let losses =
        LOSSES.iter().zip(&false_alarms).map(|(loss, cells)| (*loss, cells.iter().map(|cell| cell.out).collect()));
    let losses: Vec<_> = losses.collect();
    let bars: Vec<_> = soon[1].iter().map(|cell| cell.as_ref().map_or([0.0; 3], |soon| soon.0)).collect();
    fs::write(docs.join("health.svg"), plot::draw(&names, &bars, &losses)).unwrap();
    let figures = docs.join("figures.md");
    let old = fs::read_to_string(&figures).unwrap();
    let (before, rest) = old.split_once(BEGIN).expect("docs/figures.md has the first mark");
    let (_, after) = rest.split_once(END).expect("docs/figures.md has the second mark");
    fs::write(&figures, format!("{before}{BEGIN}\n\n{text}\n{END}{after}")).unwrap();
}
