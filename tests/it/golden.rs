//! Plans as commands. A file of `golden/` is a case, on a screen: what it shows; `base:`, a configuration of
//! `golden/base/`, and `config:`, what this case has beside it; `kernel:`, what the kernel holds (`fake/text.rs` has the
//! words); `links:`, the records; `plan:`, what has to come out. After `then:` comes the plan that is made when the one
//! before is carried out. `UPDATE_GOLDEN=1` writes the plans anew: read the difference.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use multihome::config;
use multihome::kernel::Kernel;
use multihome::model::names::{Family, LinkName};
use multihome::reconcile::{Failure, FlushScope, preview, reconcile};
use multihome::state::drain::{Drain, Level};
use multihome::state::records::{LinkRecord, LinkRecords};

use crate::fake::Fake;

struct Case {
    path: PathBuf,
    config: String,
    kernel: String,
    links: String,
    plan: String,
}

impl Case {
    fn read(path: &Path) -> Self {
        let text = read(path);
        let (text, plan) = split(path, &text, "plan");
        let (text, links) = split(path, text, "links");
        let (text, kernel) = split(path, text, "kernel");
        let (text, own) = text.split_once("\nconfig:\n").unwrap_or((text, ""));
        let base = text.lines().find_map(|line| line.strip_prefix("base: "));
        let base = base.map(|name| read(&path.with_file_name("base").join(name).with_extension("toml")));
        Self {
            path: path.to_owned(),
            config: base.unwrap_or_default() + "\n" + own,
            kernel: kernel.to_owned(),
            links: links.to_owned(),
            plan: plan.to_owned(),
        }
    }

    fn write_plan(&self, plan: &str) {
        let text = read(&self.path);
        let (before, _) = split(&self.path, &text, "plan");
        fs::write(&self.path, format!("{before}\nplan:\n{plan}")).unwrap();
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What stands before this section, and in it.
fn split<'a>(path: &Path, text: &'a str, section: &str) -> (&'a str, &'a str) {
    let parts = text.split_once(&format!("\n{section}:\n"));
    parts.unwrap_or_else(|| panic!("{} has no section {section}, or at the wrong place", path.display()))
}

/// With `drained` in a record: how far the link is out of use, in both families.
fn records(text: &str) -> LinkRecords {
    let tables: BTreeMap<String, toml::Table> = toml::from_str(text).unwrap();
    let mut records = LinkRecords::new();
    for (name, mut table) in tables {
        let name: LinkName = name.parse().unwrap();
        if let Some(word) = table.remove("drained") {
            let level = match word.as_str().unwrap() {
                "drained" => Some(Level::Drained),
                "cut" => Some(Level::Cut),
                word => panic!("{word}"),
            };
            records.drained.insert(name.clone(), Drain { pid: 1, until: u64::MAX, force: false, v4: level, v6: level });
        }
        records.insert(name, toml::to_string(&table).unwrap().parse::<LinkRecord>().unwrap());
    }
    records
}

/// The plans of a case; that they lead to rest, and `reconcile` there as well, is checked.
fn plans(case: &Case) -> String {
    let mut config = config::parse(&case.config, &case.path).unwrap();
    // Plans of routes; our chains are compared with what iptables makes of them, in firewall.rs. Sets need our table.
    if config.policies.iter().all(|policy| policy.sets.is_none()) {
        config.settings.firewall = config::Firewall::None;
    }
    let records = records(&case.links);
    let before = Fake::parse(&case.kernel);
    let protocol = config.settings.protocol;
    let name = case.path.display();
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
            writeln!(text, "{}", without_fingerprints(&change.command(protocol).to_string())).unwrap();
            defaults.push(Family::BOTH.map(|family| kernel.has_default(family)));
            kernel.apply(change, protocol).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        assert!(text.lines().count() < 200, "{name} does not come to rest:\n{text}");
    };
    for (at, family) in Family::BOTH.into_iter().enumerate() {
        let stays = before.has_default(family) && kernel.has_default(family);
        assert!(!stays || defaults.iter().all(|has| has[at]), "{name}: a gap of {family:?} in\n{text}");
    }
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let mut reconciled = before;
    let outcome = reconcile(&config, &records, &FlushScope::All, &mut reconciled).unwrap();
    assert_eq!(reconciled.to_string(), kernel.to_string(), "{name}");
    assert!(outcome.failures.iter().all(|f| matches!(f, Failure::Problem(_))), "{name}");
    assert_eq!(outcome.failures.iter().map(ToString::to_string).collect::<Vec<_>>(), problems, "{name}");
    for problem in problems {
        writeln!(text, "problem: {problem}").unwrap();
    }
    if text.is_empty() { "nothing\n".to_owned() } else { text }
}

/// A command without the hashes of our rules, which another compiler may make otherwise.
fn without_fingerprints(command: &str) -> String {
    const DIGITS: usize = 16;
    let mut parts = command.split("multihome:");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "multihome:..." + part.get(DIGITS..).unwrap_or_default())
}

#[test]
fn plans_are_as_written() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut count = 0;
    let mut wrong = String::new();
    let mut paths: Vec<_> = fs::read_dir(&cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    for path in paths {
        count += 1;
        let case = Case::read(&path);
        let plans = plans(&case);
        if update {
            case.write_plan(&plans);
        } else if plans != case.plan {
            write!(wrong, "{} is now\n{plans}\n", path.display()).unwrap();
        }
    }
    assert!(count >= 80, "only {count} cases in {}", cases.display());
    assert!(wrong.is_empty(), "{wrong}");
}
