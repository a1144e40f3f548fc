//! Plans as commands, a directory of `golden/` per case: `config.toml`, whose first line says what
//! the case shows; `links.toml`, the records; `kernel.txt`, what the kernel holds (`fake/text.rs` has
//! the words); `plan.txt`, what has to come out. After `then:` comes the plan that is made when
//! the one before is carried out. `UPDATE_GOLDEN=1` writes the plans anew: read the difference.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use multihome::config;
use multihome::kernel::Kernel;
use multihome::reconcile::{About, Failure, preview, reconcile};
use multihome::state::records::{Record, Records};

use crate::fake::Fake;

fn read(case: &Path, file: &str) -> String {
    let path = case.join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn records(text: &str) -> Records {
    let records: BTreeMap<String, toml::Value> = toml::from_str(text).unwrap();
    let record = |value| toml::to_string(&value).unwrap().parse::<Record>().unwrap();
    records.into_iter().map(|(name, value)| (name.parse().unwrap(), record(value))).collect()
}

/// The plans of a case; that they lead to rest, and `reconcile` there as well, is checked.
fn plans(case: &Path) -> String {
    let mut config = config::parse(&read(case, "config.toml"), &case.join("config.toml")).unwrap();
    // Plans of routes; our chains are compared with what iptables makes of them, in firewall.rs.
    config.settings.firewall = config::Firewall::None;
    let records = records(&read(case, "links.toml"));
    let before = Fake::parse(&read(case, "kernel.txt"));
    let protocol = config.settings.protocol;
    let mut kernel = before.clone();
    let mut text = String::new();
    let mut defaults = vec![];
    let problems = loop {
        let plan = preview(&config, &records, &mut kernel).unwrap();
        if plan.changes.is_empty() {
            break plan.problems;
        }
        if !text.is_empty() {
            text.push_str("then:\n");
        }
        for change in &plan.changes {
            writeln!(text, "{}", change.command(protocol)).unwrap();
            defaults.push(kernel.has_default());
            kernel.apply(change, protocol).unwrap_or_else(|e| panic!("{}: {e}", case.display()));
        }
        assert!(text.lines().count() < 200, "{} does not come to rest:\n{text}", case.display());
    };
    if before.has_default() && kernel.has_default() {
        assert!(!defaults.contains(&false), "{}: a gap in\n{text}", case.display());
    }
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let mut reconciled = before;
    let outcome = reconcile(&config, &records, &About::All, &mut reconciled).unwrap();
    assert_eq!(reconciled.to_string(), kernel.to_string(), "{}", case.display());
    assert!(outcome.failures.iter().all(|f| matches!(f, Failure::Problem(_))), "{}", case.display());
    assert_eq!(outcome.failures.iter().map(ToString::to_string).collect::<Vec<_>>(), problems, "{}", case.display());
    for problem in problems {
        writeln!(text, "problem: {problem}").unwrap();
    }
    if text.is_empty() { "nothing\n".to_owned() } else { text }
}

#[test]
fn plans_are_as_written() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut count = 0;
    let mut wrong = String::new();
    let mut all: Vec<_> = fs::read_dir(&cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    for case in all {
        count += 1;
        let plans = plans(&case);
        if update {
            fs::write(case.join("plan.txt"), plans).unwrap();
        } else if plans != read(&case, "plan.txt") {
            write!(wrong, "{} is now\n{plans}\n", case.display()).unwrap();
        }
    }
    assert!(count >= 30, "only {count} cases in {}", cases.display());
    assert!(wrong.is_empty(), "{wrong}");
}
