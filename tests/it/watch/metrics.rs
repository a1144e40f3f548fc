//! What Prometheus reads: each metric follows its text format and its conventions, and is what docs/metrics.md says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;

use super::health::{Scene, two_lines};
use super::{Watcher, both_up};
use crate::support::ctl::*;
use crate::support::*;

/// Labels and value of each sample, by the name of the metric.
type Metrics = BTreeMap<String, Vec<(BTreeMap<String, String>, f64)>>;

/// A strict reader of the text format, version 0.0.4, that refuses what `promtool check metrics` would complain about.
fn read(text: &str) -> Metrics {
    let mut all = Metrics::new();
    let mut lines = text.strip_suffix('\n').unwrap_or_else(|| panic!("no end of line: {text}")).split('\n').peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").unwrap_or_else(|| panic!("{line}")).split_once(' ').unwrap();
        assert!(help.ends_with('.') && !help.contains('\\'), "{line}");
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
        is_conventional(name, kind);
        let mut samples = Vec::new();
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            let (labels, value) = labels(sample.strip_prefix(name).unwrap_or_else(|| panic!("{name}: {sample}")));
            let value: f64 = value.parse().unwrap_or_else(|e| panic!("{sample}: {e}"));
            assert!(value.is_finite() && (kind != "counter" || value >= 0.0), "{sample}");
            assert!(samples.iter().all(|(other, _)| *other != labels), "twice: {sample}");
            samples.push((labels, value));
        }
        assert!(!samples.is_empty(), "{name}");
        assert!(all.insert(name.to_owned(), samples).is_none(), "{name} comes twice");
    }
    all
}

fn is_conventional(name: &str, kind: &str) {
    assert!(name.starts_with("multihome_") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
    assert!(["gauge", "counter"].contains(&kind), "{name}: {kind}");
    assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
    for word in name.split('_') {
        let bad = ["ms", "milliseconds", "minutes", "percent", "kb", "mb", "bits", "gauge", "counter", "count", "sum"];
        assert!(!bad.contains(&word), "{name}");
    }
}

/// The labels before a value, and the value.
fn labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    let Some(mut rest) = text.strip_prefix('{') else { return (labels, text.strip_prefix(' ').unwrap()) };
    loop {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{text}"));
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{text}");
        let mut value = String::new();
        let mut chars = after.chars();
        loop {
            match chars.next().unwrap_or_else(|| panic!("{text}")) {
                '"' => break,
                '\\' => value.push(match chars.next() {
                    Some('n') => '\n',
                    Some(c @ ('"' | '\\')) => c,
                    other => panic!("{other:?}: {text}"),
                }),
                c => value.push(c),
            }
        }
        assert!(labels.insert(name.to_owned(), value).is_none(), "{text}");
        rest = chars.as_str();
        if let Some(value) = rest.strip_prefix("} ") {
            return (labels, value);
        }
        rest = rest.strip_prefix(',').unwrap_or_else(|| panic!("{text}"));
    }
}

/// The value of the sample that has all these labels; `None`: there is none.
fn value(metrics: &Metrics, name: &str, wanted: &[(&str, &str)]) -> Option<f64> {
    let has = |labels: &BTreeMap<String, String>| {
        wanted.iter().all(|(name, value)| labels.get(*name).is_some_and(|is| is == value))
    };
    let found: Vec<_> = metrics.get(&format!("multihome_{name}"))?.iter().filter(|(labels, _)| has(labels)).collect();
    assert!(found.len() < 2, "{name} {wanted:?}: {found:?}");
    found.first().map(|(_, value)| *value)
}

/// Names and labels of docs/metrics.md.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for row in include_str!("../../../docs/metrics.md").lines().filter(|line| line.starts_with("| `multihome_")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let mut labels = BTreeSet::new();
        for label in cells[3].split(", ").filter(|label| !label.is_empty()) {
            match label {
                "L" => labels.extend(["link", "family", "interface"].map(str::to_owned)),
                label => drop(labels.insert(label.trim_matches('`').to_owned())),
            }
        }
        let name = cells[1].trim_matches('`').to_owned();
        assert_eq!(cells[2] == "counter", name.ends_with("_total"), "{row}");
        all.insert(name, labels);
    }
    all
}

fn names(metrics: &Metrics) -> BTreeMap<String, BTreeSet<String>> {
    let labels = |samples: &Vec<(BTreeMap<String, String>, f64)>| samples[0].0.keys().cloned().collect();
    metrics.iter().map(|(name, samples)| (name.clone(), labels(samples))).collect()
}

#[test]
fn mhctl_tells_what_is_without_mh_watch() {
    let server = both_up();
    let metrics = read(&said(&server, "metrics"));
    let of = |metrics: &Metrics, name: &str, link: &str| value(metrics, name, &[("link", link), ("family", "ipv4")]);
    assert_eq!((of(&metrics, "link_up", "isp1"), of(&metrics, "link_up", "vpn")), (Some(1.0), Some(0.0)));
    assert_eq!(of(&metrics, "link_share_ratio", "isp1"), Some(0.8));
    assert_eq!(of(&metrics, "link_share_ratio", "isp2"), Some(0.2));
    assert_eq!(of(&metrics, "link_share_ratio", "vpn"), None);
    assert_eq!(value(&metrics, "link_state", &[("link", "vpn"), ("state", "down")]), Some(1.0));
    assert_eq!((of(&metrics, "link_drained", "isp1"), of(&metrics, "link_cut", "isp1")), (Some(0.0), Some(0.0)));
    let received = value(&metrics, "link_receive_bytes_total", &[("link", "isp1"), ("interface", "ppp0")]).unwrap();
    assert!(received > 0.0, "{received}");
    assert_eq!((value(&metrics, "in_sync", &[]), value(&metrics, "mh_watch_running", &[])), (Some(1.0), Some(0.0)));
    assert!(!metrics.contains_key("multihome_link_health") && !metrics.contains_key("multihome_repairs_total"));
    server.lose(ISP2);
    ip("rule del priority 101");
    let metrics = read(&said(&server, "metrics"));
    assert_eq!((value(&metrics, "in_sync", &[]), value(&metrics, "pending_changes", &[])), (Some(0.0), Some(1.0)));
    assert_eq!((of(&metrics, "link_share_ratio", "isp1"), of(&metrics, "link_share_ratio", "isp2")), (Some(1.0), None));
}

#[test]
fn whatever_an_interface_is_called_the_text_can_be_read() {
    let name = r#"a"}=\x"#;
    let server = Server::new(&format!("[[uplink]]\nname = 'odd'\ninterface = '{name}'\ngateway = '192.0.2.1'\n"));
    let metrics = read(&said(&server, "metrics"));
    assert_eq!(value(&metrics, "link_up", &[("link", "odd"), ("interface", name)]), Some(0.0));
}

#[test]
fn mh_watch_keeps_a_file_that_is_always_whole_and_knows_what_has_happened() {
    let scene = Scene::new(&two_lines());
    let path = scene.server.config().with_file_name("multihome.prom");
    let watcher = Watcher::start_with(&scene.server, |command| {
        command.arg("--metrics").arg(&path);
    });
    watcher.told_that("STATUS=links up");
    scene.is_known();
    until("it is there", || path.exists());
    let metrics = || read(&fs::read_to_string(&path).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(value(&metrics(), "events_total", &[("kind", "drained")]), Some(0.0));
    let isp2 = [("link", "isp2"), ("family", "ipv4")];
    scene.carries(2, false);
    watcher.event("drained");
    until("the event is in it", || value(&metrics(), "events_total", &[("kind", "drained")]) == Some(1.0));
    let now = metrics();
    assert_eq!(value(&now, "link_drained", &isp2), Some(1.0));
    assert_eq!(value(&now, "link_health", &[("link", "isp2"), ("health", "dead")]), Some(1.0));
    assert_eq!(value(&now, "link_health", &[("link", "isp1"), ("health", "good")]), Some(1.0));
    assert_eq!((value(&now, "detections_total", &isp2), value(&now, "mh_watch_running", &[])), (Some(1.0), Some(1.0)));
    assert!(value(&now, "link_rtt_seconds", &isp2).is_some_and(|rtt| rtt > 0.0 && rtt < 60.0));
    assert!(value(&now, "link_probe_loss_ratio", &isp2).is_some_and(|loss| loss > 0.0 && loss <= 1.0));
    let last = value(&now, "last_event_timestamp_seconds", &[]).unwrap();
    assert!((SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() - last).abs() < 60.0);
    assert_eq!(names(&now), documented());
    ip("rule del priority 141");
    until("the repair is in it", || value(&metrics(), "repairs_total", &[]) == Some(1.0));
    // The same by mhctl, but for what only mh-watch can have counted.
    let mut asked = names(&read(&said(&scene.server, "metrics")));
    let own = ["repairs_total", "events_total", "last_event_timestamp_seconds", "detections_total"];
    for name in own.map(|name| format!("multihome_{name}")) {
        assert!(!asked.contains_key(&name));
        asked.insert(name.clone(), documented()[&name].clone());
    }
    assert_eq!(asked, documented());
    // With nothing else to tell it is written again all the same.
    let written = || fs::metadata(&path).unwrap().modified().unwrap();
    let before = written();
    until("it is written again", || written() > before);
    watcher.send(Signal::SIGHUP);
    watcher.stop();
    assert!(!path.exists(), "nobody takes it for what is");
}

#[test]
fn a_file_that_cannot_be_written_is_told_of_and_stops_nothing() {
    let server = both_up();
    let dir = server.config().with_file_name("metrics");
    let watcher = Watcher::start_with(&server, |command| {
        command.arg("--metrics").arg(dir.join("multihome.prom"));
    });
    until("it is told", || watcher.said().contains("cannot write metrics to "));
    let before = held();
    ip("rule del priority 101");
    watcher.event("repair");
    until("repaired", || held() == before);
    fs::create_dir(&dir).unwrap();
    ip("rule del priority 102");
    until("it is written", || dir.join("multihome.prom").exists());
    let said = watcher.stop();
    assert!(said.contains("metrics can be written again"), "{said}");
    assert_eq!(said.matches("cannot write metrics to ").count(), 1, "{said}");
}
