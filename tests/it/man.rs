//! Man pages and completions: they are made from the definitions, groff takes them without a word,
//! and multihome.toml(5) names every key that there is.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::install_script;

// Not by cargo: it would build as root, in a directory that may be somebody else's.
#[path = "../../examples/man/main.rs"]
#[allow(dead_code)]
mod example;

const BY_HAND: &str = "man/multihome.toml.5";
/// Pages of others that ours name.
const OTHERS: [&str; 6] = ["ip-nexthop(8)", "ip-route(8)", "ip-rule(8)", "nft(8)", "openvpn(8)", "pppd(8)"];

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

/// Makes pages and completions.
fn made() -> tempfile::TempDir {
    let dir = tempfile::TempDir::new().unwrap();
    example::write_all(dir.path()).unwrap();
    dir
}

/// The pages that a page names, as name(section).
fn named(page: &str) -> Vec<String> {
    let text = page.replace("\\-", "-").replace(" (", "(").replace("\\f", " \\f");
    let outside = |c: char| !c.is_ascii_alphanumeric() && !"()._-".contains(c);
    let words = text.split(outside).map(|word| word.trim_end_matches(['.', ',']));
    let is_page = |word: &&str| {
        let section = word.strip_suffix(')').and_then(|word| word.split_once('('));
        section.is_some_and(|(name, section)| !name.is_empty() && section.len() == 1 && "12345678".contains(section))
    };
    words.filter(is_page).map(str::to_owned).collect()
}

#[test]
fn every_command_has_a_page_that_groff_takes() {
    let dir = made();
    let mut expected = vec!["multihome.toml.5".to_owned()];
    for program in multihome::ctl::all() {
        let name = program.get_name().to_owned();
        expected.extend([format!("{name}.bash"), format!("_{name}"), format!("{name}.fish")]);
        pages(&program, &name, &mut expected);
    }
    let mut found: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    for name in ["mhctl.bash", "_mhctl", "mhctl.fish", "mhctl-drill.8"] {
        let text = fs::read_to_string(dir.path().join(name)).unwrap().replace("\\-", "-");
        // Of fish the dashes go without saying.
        let has = |option: &str| text.contains(&format!("--{option}")) || text.contains(&format!(" -l {option}"));
        assert!(has("force"), "{name}");
    }
    let pages: Vec<_> = found.iter().filter(|n| n.ends_with(".8") || n.ends_with(".5")).collect();
    let ours: Vec<_> = pages.iter().map(|n| n.replace(".8", "(8)").replace(".5", "(5)")).collect();
    let mut seen = 0;
    for name in pages {
        let (text, warnings) = groff(&dir.path().join(name));
        assert_eq!(warnings, "", "{name}");
        assert!(text.lines().count() > 10, "{name}: {text}");
        let of_commands = ["SYNOPSIS", "EXIT STATUS"].map(|section| (section, name.ends_with(".8")));
        for (section, wanted) in [("NAME", true), ("FILES", true), ("SEE ALSO", true)].into_iter().chain(of_commands) {
            assert!(!wanted || text.lines().any(|line| line == section), "{name}: {section}");
        }
        for page in named(&fs::read_to_string(dir.path().join(name)).unwrap()) {
            assert!(ours.contains(&page) || OTHERS.contains(&page.as_str()), "{name}: {page}");
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}

/// What bash offers at the end of a command line, which begins with mhctl.
fn offered(completions: &Path, mhctl: &Path, line: &str) -> Vec<String> {
    let script = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                  _mhctl \"$1\" \"${!#}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", script, "bash"]).arg(completions.join("mhctl.bash")).arg(mhctl).args(line.split(' '));
    let output = bash.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{line:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn tab_offers_the_names_of_the_links() {
    let dir = made();
    let mhctl = dir.path().join("mhctl");
    let config = dir.path().join("multihome.toml");
    let script = format!("#!/bin/sh\nexec {} --config {} \"$@\"\n", env!("CARGO_BIN_EXE_mhctl"), config.display());
    install_script(&script, &mhctl);
    fs::write(&config, include_str!("../../src/config/tests/article.toml")).unwrap();
    for line in ["drill ", "link up ", "link down ", "why 8.8.8.8 --if-down "] {
        let offered = offered(dir.path(), &mhctl, line);
        for name in ["isp1", "isp2", "vpn"] {
            assert!(offered.contains(&name.to_owned()), "{line:?}: {offered:?}");
        }
    }
    assert_eq!(offered(dir.path(), &mhctl, "drill i"), ["isp1", "isp2"]);
    assert_eq!(offered(dir.path(), &mhctl, "link up isp1 --interface=ppp0 v"), ["vpn"]);
    assert!(offered(dir.path(), &mhctl, "drill --f").contains(&"--force".to_owned()));
    assert!(!offered(dir.path(), &mhctl, "").contains(&"link-names".to_owned()));
    // No names are no noise either.
    fs::write(&config, "nonsense").unwrap();
    assert_eq!(offered(dir.path(), &mhctl, "drill i"), [""]);
    for name in ["_mhctl", "mhctl.fish"] {
        let text = fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(text.matches("(mhctl link-names 2>/dev/null)").count(), 4, "{name}");
    }
}

#[test]
fn the_page_of_the_configuration_names_every_key() {
    let (page, _) = groff(Path::new(BY_HAND));
    let every_key = include_str!("../../src/config/tests/every-key.toml");
    let keys = every_key.lines().filter_map(|line| line.split_once(" = ").map(|(key, _)| key)).chain(["uid"]);
    let heads: Vec<_> = page.lines().map(str::trim).collect();
    let mut seen = 0;
    for key in keys {
        seen += 1;
        let named = |line: &&str| line.split([' ', ',']).any(|word| word == key);
        assert!(heads.iter().any(named), "{key}");
    }
    assert!(seen > 30);
}

/// Every line of the examples that is a command, pasted into a shell, is one that its program takes.
#[test]
fn every_example_can_be_pasted() {
    let dir = tempfile::TempDir::new().unwrap();
    let all = multihome::ctl::all();
    // What follows with `&&` is not run, since this says 1.
    let tells = "#!/bin/sh\nprintf '%s\\n' \"${0##*/}\" \"$@\"\nexit 1\n";
    let programs = all.iter().map(|program| (program.get_name(), tells));
    for (name, script) in programs.chain([("less", "#!/bin/sh\nexec /bin/cat\n")]) {
        install_script(script, dir.path().join(name));
    }
    let mut helps = Vec::new();
    for program in &all {
        afters(program, &mut helps);
    }
    let mut seen = 0;
    for line in helps.iter().flat_map(|help| help.lines()) {
        let command = line.split_once("Example: ").map_or(line, |(_, command)| command).trim();
        if !all.iter().any(|program| command.split(' ').next() == Some(program.get_name())) {
            continue;
        }
        seen += 1;
        let mut sh = Command::new("/bin/sh");
        sh.args(["-ec", command]).env_clear().env("PATH", dir.path()).env("ip", "192.0.2.2").env("router", "192.0.2.1");
        let said = String::from_utf8(sh.output().unwrap().stdout).unwrap();
        let mut program = all.iter().find(|program| said.lines().next() == Some(program.get_name())).unwrap().clone();
        if let Err(error) = program.try_get_matches_from_mut(said.lines()) {
            panic!("{line}: {error}");
        }
    }
    assert!(seen > 25, "{seen}");
}

fn afters(command: &clap::Command, into: &mut Vec<String>) {
    into.extend(command.get_after_help().map(ToString::to_string));
    command.get_subcommands().for_each(|sub| afters(sub, into));
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
    for mut command in multihome::ctl::all() {
        command.build();
        let name = command.get_name().to_owned();
        look(&mut command, &name);
    }
}
