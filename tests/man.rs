//! Man pages and completions: they are made from the definitions, groff takes them without a word,
//! and multihome.toml(5) names every key that there is.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use multihome::cli;

const BY_HAND: &str = "man/multihome.toml.5";

fn groff(page: &Path) -> (String, String) {
    let output =
        Command::new("groff").args(["-man", "-Tutf8", "-ww", "-rLL=80n", "-P-cbou"]).arg(page).output().unwrap();
    assert!(output.status.success(), "{}", page.display());
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn pages(command: &clap::Command, name: &str, into: &mut Vec<String>) {
    into.push(format!("{name}.8"));
    for sub in command.get_subcommands().filter(|s| s.get_name() != "help" && !s.is_hide_set()) {
        pages(sub, &format!("{name}-{}", sub.get_name()), into);
    }
}

#[test]
fn every_command_has_a_page_that_groff_takes() {
    let dir = tempfile::TempDir::new().unwrap();
    let made = Command::new(env!("CARGO")).args(["run", "--quiet", "--example", "man", "--"]).arg(dir.path()).status();
    assert!(made.unwrap().success());
    let mut expected = vec!["multihome.toml.5".to_owned()];
    for program in cli::all() {
        let name = program.get_name().to_owned();
        expected.extend([format!("{name}.bash"), format!("_{name}"), format!("{name}.fish")]);
        pages(&program, &name, &mut expected);
    }
    let mut found: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    for name in found.iter().filter(|n| n.ends_with(".8") || n.ends_with(".5")) {
        let (text, warnings) = groff(&dir.path().join(name));
        assert_eq!(warnings, "", "{name}");
        assert!(text.contains("NAME") && text.lines().count() > 10, "{name}: {text}");
    }
}

#[test]
fn the_page_of_the_configuration_names_every_key() {
    let (page, _) = groff(Path::new(BY_HAND));
    let every_key = include_str!("../src/config/tests/every-key.toml");
    let keys = every_key.lines().filter_map(|line| line.split_once(" = ").map(|(key, _)| key));
    let heads: Vec<_> = page.lines().map(str::trim).collect();
    let mut seen = 0;
    for key in keys {
        seen += 1;
        let named = |line: &&str| line.split([' ', ',']).any(|word| word == key);
        assert!(heads.iter().any(named), "{key}");
    }
    assert!(seen > 30);
}

/// A console has 80 columns, and clap does not wrap.
#[test]
fn every_help_fits_a_console() {
    fn look(command: &mut clap::Command, path: &str) {
        for line in command.render_long_help().to_string().lines() {
            assert!(line.chars().count() <= 80, "{path}: {line}");
        }
        for sub in command.get_subcommands_mut() {
            let path = format!("{path} {}", sub.get_name());
            look(sub, &path);
        }
    }
    for mut command in multihome::cli::all() {
        command.build();
        let name = command.get_name().to_owned();
        look(&mut command, &name);
    }
}
