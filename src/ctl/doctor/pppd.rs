//! What is wrong about pppd's options and hooks.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Finding, Severity};
use crate::config::{Config, Link};
use crate::ctl::pppd::{DefaultRoute, is_example, value, words};
use crate::ctl::setup::distribution::{Distribution, Hook};
use crate::ctl::setup::wanted::{self, EVENTS};
use crate::ctl::tree::Tree;
use crate::model::sh::quoted;

/// The link that a peer is, by what tells its hooks so: as an event is recognised.
pub(super) fn link_of<'a>(words: &[&str], config: &'a Config) -> Option<&'a Link> {
    let unit = value(words, "unit").map(|n| format!("ppp{n}"));
    let names: Vec<_> = ["ipparam", "linkname"].iter().filter_map(|option| value(words, option)).collect();
    let interface = value(words, "ifname").or(unit.as_deref()).filter(|_| names.is_empty());
    config
        .links
        .iter()
        .find(|link| names.iter().any(|name| *name == link.ipparam) || interface == Some(link.interface.as_str()))
}

/// The command that makes `nodefaultroute` of `defaultroute` in a file, wherever it is a word of its own, quoted or not.
fn without_default(path: &str) -> String {
    // What stands before it: no comment, and strings as a whole.
    let sed = r#":a; s/^((([^#"']|"[^"]*"|'[^']*')*[[:space:]])?)(["']?)(replace)?defaultroute\4([[:space:]]|$)/\1\4nodefaultroute\4\6/; ta"#;
    format!("sed -Ei {} {}", quoted(sed), quoted(path))
}

/// `defaultroute` in options and peers.
pub(super) fn options(tree: &Tree, config: &Config) -> Vec<Finding> {
    const OPTIONS: &str = "/etc/ppp/options";
    let mut found = Vec::new();
    let general_text = tree.text(OPTIONS);
    let general = words(&general_text);
    let mut texts = Vec::new();
    for (name, text) in tree.files("/etc/ppp") {
        if name.starts_with("options.") {
            texts.push((format!("/etc/ppp/{name}"), text));
        }
    }
    for (name, text) in tree.files("/etc/ppp/peers") {
        if !is_example(&text) {
            texts.push((format!("/etc/ppp/peers/{name}"), text));
        }
    }
    // Links whose own peer says something else than the general options.
    let mut excepted = 0;
    for (path, text) in texts {
        let words = words(&text);
        let link = link_of(&words, config);
        let own = DefaultRoute::after(words.iter().copied());
        let all = DefaultRoute::after(general.iter().chain(&words).copied());
        let fix = without_default(&path);
        match (own, all, link) {
            (DefaultRoute::None, DefaultRoute::None, Some(_)) => excepted += 1,
            // It comes from the general options, and is told of there.
            (DefaultRoute::None, ..) | (_, DefaultRoute::None, _) => {}
            (_, DefaultRoute::Refused, _) => found.push(Finding::trouble(
                format!("{path} has `defaultroute` after `nodefaultroute`"),
                "pppd ends with \"defaultroute option is disabled\", and does not dial",
                fix,
            )),
            (_, _, Some(link)) => {
                let what = format!("{path} has `defaultroute`, and is the link {}", link.name);
                found.push(Finding::trouble(what, why(&words), fix));
            }
            (_, _, None) => {
                let what = format!("{path} has `defaultroute`; should it be a link:");
                found.push(Finding::note(what, why(&words), fix));
            }
        }
    }
    if DefaultRoute::after(general.iter().copied()) != DefaultRoute::None {
        let dialled = config.uplinks().filter(|link| link.gateway.is_none()).count();
        let what = format!("{OPTIONS} has `defaultroute`, for every peer that does not say `nodefaultroute`");
        let severity = if excepted < dialled { Severity::Trouble } else { Severity::Note };
        found.push(Finding { severity, ..Finding::trouble(what, why(&general), without_default(OPTIONS)) });
    }
    found
}

/// What is bad about a default route of pppd's.
fn why(words: &[&str]) -> &'static str {
    if words.contains(&"replacedefaultroute") {
        "pppd then takes the default route away and puts an old one back when it ends"
    } else {
        "pppd then adds a default route of its own and, when it ends, takes multihome's with it"
    }
}

/// Whether pppd runs our executables.
pub(super) fn hooks(tree: &Tree, distribution: Distribution, mhctl: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    if !tree.at("/etc/ppp").is_dir() {
        return found;
    }
    let setup = &format!("{mhctl} setup");
    for (event, program) in EVENTS {
        // Of IPv6 a line's addresses are recorded; its routes do not depend on it.
        let v6 = event.starts_with("ipv6");
        if distribution == Distribution::Debian {
            let severity = if v6 { Severity::Note } else { Severity::Trouble };
            found.extend(shadow(tree, event, program).map(|finding| Finding { severity, ..finding }));
        }
        let Some((path, hook)) = distribution.hook(event) else { continue };
        let dir = format!("/etc/ppp/{event}.d");
        let mut candidates = vec![path.clone()];
        // Where the hook is a file by itself, pppd's script knows of no directory.
        let has_dir = path.starts_with(&dir);
        let others = if has_dir { entries(tree, &dir) } else { Vec::new() };
        candidates.extend(others.into_iter().map(|name| format!("{dir}/{name}")).filter(|other| *other != path));
        let ours: Vec<_> = candidates.iter().filter(|path| runs(tree, path, program)).collect();
        let run = ours.iter().filter(|path| !is_passed_over(path, distribution));
        let faults: Vec<_> = run.map(|path| fault(tree, path, program, hook, mhctl)).collect();
        let no_way =
            if has_dir { format!("nothing in {dir} leads to it") } else { format!("{path} does not lead to it") };
        if ours.is_empty() && v6 {
            let what = format!("pppd does not run {program} for IPv6: {no_way}");
            found.push(Finding::note(what, "a line's IPv6 addresses are not recorded", setup));
        } else if ours.is_empty() {
            let what = format!("pppd does not run {program}: {no_way}");
            found.push(Finding::trouble(what, "a line that comes up or goes is not noticed", setup));
        } else if let (true, Some(bad)) = (faults.is_empty(), ours.first()) {
            let what = format!("{bad} has a name that is passed over");
            let why = "run-parts and the like run only names of a certain form, without a word";
            found.push(Finding::trouble(what, why, format!("mv {} {path}", quoted(bad))));
        } else if faults.iter().all(Option::is_some) {
            // The same executable is behind two events.
            found.extend(faults.into_iter().flatten().next().filter(|finding| !found.contains(finding)));
        }
    }
    found
}

/// Whether pppd's script passes over a file of this name.
fn is_passed_over(path: &str, distribution: Distribution) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    match distribution {
        // run-parts(8): upper and lower case letters, digits, '_' and '-'.
        Distribution::Debian => name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-'),
        Distribution::Arch | Distribution::Gentoo => !super::ends(name, "sh"),
        _ => false,
    }
}

/// Names in a directory, links to nowhere included.
fn entries(tree: &Tree, dir: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(tree.at(dir)) else { return Vec::new() };
    let mut names: Vec<_> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Whether what is at `path` is a link to `program`, or a script that names it.
fn runs(tree: &Tree, path: &str, program: &str) -> bool {
    let at = tree.at(path);
    match fs::read_link(&at) {
        Ok(target) => target.file_name().is_some_and(|name| name == program),
        Err(_) => fs::read_to_string(&at).is_ok_and(|text| wanted::runs(&text, program)),
    }
}

/// An executable ip-up.local, which Debian's script runs instead of ip-up.d.
fn shadow(tree: &Tree, event: &str, program: &str) -> Option<Finding> {
    let path = format!("/etc/ppp/{event}.local");
    let executable = fs::metadata(tree.at(&path)).is_ok_and(|meta| meta.mode() & 0o111 != 0);
    (executable && !runs(tree, &path, program)).then(|| {
        let what = format!("{path} is executable");
        let why = format!("Debian's pppd then runs it instead of all that is in {event}.d");
        Finding::trouble(what, why, format!("mv {path} /etc/ppp/{event}.d/1local"))
    })
}

/// The executable as a script calls it, where that is by its whole path.
fn called<'a>(script: &'a str, program: &str) -> Option<&'a str> {
    let lines = script.lines().filter(|line| wanted::runs(line, program));
    let mut words = lines.flat_map(|line| line.split(|c: char| c.is_whitespace() || "\"';&|".contains(c)));
    words.find(|word| word.starts_with('/') && Path::new(word).file_name().is_some_and(|name| name == program))
}

/// What keeps the hook at `path` from being run: it cannot be, or pppd 2.5.3 refuses it.
fn fault(tree: &Tree, path: &str, program: &str, hook: Hook, mhctl: &str) -> Option<Finding> {
    const PASSES: &str = "pppd's script passes over it";
    let at = tree.at(path);
    let target = if let Ok(link) = fs::read_link(&at) {
        link.to_str()?.to_owned()
    } else {
        // What is sourced need not be executable.
        if hook == Hook::Link && fs::metadata(&at).is_ok_and(|meta| meta.mode() & 0o111 == 0) {
            return Some(Finding::trouble(
                format!("{path} is not executable"),
                PASSES,
                format!("chmod 755 {}", quoted(path)),
            ));
        }
        called(&fs::read_to_string(&at).unwrap_or_default(), program).unwrap_or(path).to_owned()
    };
    // Within a scratch tree a path such as /usr/sbin leads out of it; what is meant is inside.
    let inside = tree.at(&target);
    let real = if inside.exists() { inside } else { PathBuf::from(&target) };
    let Ok(meta) = fs::metadata(&real) else {
        let what = format!("{path} leads to {target}, which does not exist");
        return Some(Finding::trouble(what, PASSES, format!("make install, or {mhctl} setup --bin-dir DIR")));
    };
    if meta.mode() & 0o111 == 0 && (hook == Hook::Link || target != path) {
        let what = format!("{target} is not executable");
        return Some(Finding::trouble(what, PASSES, format!("chmod 755 {}", quoted(&target))));
    }
    // Only what is in the tree: above a scratch one there may be /tmp.
    let top = tree.at("/");
    let mut within = real.ancestors().take_while(|dir| *dir != top);
    let bad = within.find(|path| fs::metadata(path).is_ok_and(|m| m.uid() != 0 || m.mode() & 0o022 != 0))?;
    let what = format!("{target} can be changed by others than root, at {}", bad.display());
    let why = "pppd 2.5.3 and later does not run such a hook";
    let fix = format!("install it in a directory that only root can write to, then {mhctl} setup");
    Some(Finding::trouble(what, why, fix))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_command_changes_words_and_no_strings() {
        for (before, after) in [
            ("defaultroute\n", "nodefaultroute\n"),
            (
                "lock replacedefaultroute defaultroute # defaultroute\n",
                "lock nodefaultroute nodefaultroute # defaultroute\n",
            ),
            ("'defaultroute'\n\"defaultroute\"\n", "'nodefaultroute'\n\"nodefaultroute\"\n"),
            ("connect 'chat -v defaultroute x' defaultroute\n", "connect 'chat -v defaultroute x' nodefaultroute\n"),
            ("connect \"defaultroute x\"\nnodefaultroute\n", "connect \"defaultroute x\"\nnodefaultroute\n"),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), before).unwrap();
            let command = without_default(file.path().to_str().unwrap());
            assert!(Command::new("/bin/sh").args(["-c", &command]).status().unwrap().success());
            assert_eq!(fs::read_to_string(file.path()).unwrap(), after, "{command}");
        }
    }
}
