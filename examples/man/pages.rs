//! Man pages of section 8: what `clap_mangen` makes of a definition, and the sections that it does not know.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Command;
use clap_mangen::Man;

/// A page for a command, and for each of its own: mhctl.8, mhctl-why.8, mhctl-link-up.8 ...
pub fn write(command: Command, name: &str, dir: &Path) -> Result<()> {
    // `help` has no page.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    page(command.clone().display_name(name.to_owned()), name, dir)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write(sub.clone(), &format!("{name}-{}", sub.get_name()), dir)?;
    }
    Ok(())
}

fn page(command: Command, name: &str, dir: &Path) -> Result<()> {
    let examples = command.get_after_help().map(ToString::to_string);
    let is_parent = command.get_subcommands().next().is_some();
    let man = Man::new(command.version(env!("CARGO_PKG_VERSION"))).title(name.to_uppercase()).section("8");
    let man = man.source(concat!("multihome ", env!("CARGO_PKG_VERSION"))).manual("multihome");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if is_parent {
        man.render_subcommands_section(&mut page)?;
    }
    let mut page = String::from_utf8(page)?;
    page += &items("EXIT STATUS", "B", &exit_statuses(name));
    page += &items("FILES", "I", &files(name));
    if let Some(examples) = examples {
        // As it stands in --help: its lines and columns are meant.
        page = page + ".SH EXAMPLES\n.nf\n" + &roff(&examples) + "\n.fi\n";
    }
    page = page + ".SH SEE ALSO\n" + &see_also(name).join(",\n") + "\n";
    let path = dir.join(format!("{name}.8"));
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// A section of terms, each with what it means.
fn items(heading: &str, font: &str, items: &[(&str, &str)]) -> String {
    let mut section = format!(".SH {heading}\n");
    for (term, meaning) in items {
        // Writing to a String cannot fail.
        let _ = writeln!(section, ".TP\n.{font} {}\n{}", roff(term), roff(meaning));
    }
    section
}

fn exit_statuses(name: &str) -> [(&'static str, &'static str); 3] {
    let done = match name {
        "mh-vpn-up" => {
            "All was done; or it was not, the log says why, and --strict is not given: OpenVPN would end itself."
        }
        "mh-watch" => "It was told to end, by SIGTERM or SIGINT.",
        "mhctl-check" => "The configuration has no error.",
        "mhctl-doctor" => "Nothing was found but notes.",
        "mhctl-drill" => "There was a route all the time, and the link is in use again.",
        "mhctl-plan" => "Nothing stands against what the configuration wants.",
        "mhctl-why" => "The connection has a way, and the kernel says the same.",
        _ => "All was done.",
    };
    let failed = match name {
        "mh-vpn-up" => "With --strict: it was not done, or not all of it. Standard error and the log say why.",
        "mh-watch" => "There is no configuration that can be used, or the kernel tells of no changes.",
        "mhctl-check" => "It has one.",
        "mhctl-demo" => "It did not show what it promises, or could not be run.",
        "mhctl-doctor" => "There is trouble, or it could not be looked for.",
        "mhctl-drill" => "There was none for a moment, the link is not in use again, or there was no drill.",
        "mhctl-plan" => "Something does, and standard error says what; or there was no plan.",
        "mhctl-setup" | "mhctl-unsetup" => "Something that is not ours is in the way and stays; or it failed.",
        "mhctl-why" => "It has none, the kernel says something else, or there is no answer.",
        _ => "It was not done, or not all of it. Standard error says why.",
    };
    let usage = match name {
        "mh-vpn-up" => "With --strict: the arguments make no sense; nothing was touched.",
        _ => "The arguments make no sense; nothing was touched.",
    };
    [("0", done), ("1", failed), ("2", usage)]
}

fn files(name: &str) -> Vec<(&'static str, &'static str)> {
    let mut files = match name {
        "mhctl-demo" => {
            return vec![("mh-ip-up, mh-ip-down", "What it shows: those in the directory of mhctl itself.")];
        }
        "mh-ip-up" => vec![("/etc/ppp/ip-up.d/0multihome", "A symbolic link, by which pppd calls it on Debian.")],
        "mh-ip-down" => vec![("/etc/ppp/ip-down.d/0multihome", "A symbolic link, by which pppd calls it on Debian.")],
        "mhctl-setup" | "mhctl-unsetup" => vec![
            ("/var/lib/multihome/setup.toml", "What setup has made."),
            (
                "/etc/systemd/networkd.conf.d/multihome.conf",
                "Keeps systemd-networkd from deleting what is not its own.",
            ),
        ],
        _ => Vec::new(),
    };
    files.insert(0, ("/etc/multihome.toml", "The configuration, unless --config names another."));
    if !["mhctl-check", "mhctl-init", "mhctl-setup", "mhctl-unsetup"].contains(&name) {
        let what = "Which links are up, as their callers have said, and locks. It is made anew at each boot; --state-dir names another.";
        files.push(("/run/multihome", what));
    }
    files
}

/// Pages that exist: ours, and those of the programs that we have to do with.
fn see_also(name: &str) -> Vec<String> {
    let pages = match name {
        "mh-ip-up" => "mh-ip-down(8) mhctl(8) mhctl-setup(8) pppd(8)",
        "mh-ip-down" => "mh-ip-up(8) mhctl(8) mhctl-setup(8) pppd(8)",
        "mh-vpn-up" => "mhctl(8) mhctl-setup(8) openvpn(8)",
        "mh-watch" => "mhctl(8) mhctl-setup(8) mh-ip-up(8)",
        "mhctl" => "mh-watch(8) mh-ip-up(8) mh-ip-down(8) mh-vpn-up(8) ip-route(8) ip-rule(8) ip-nexthop(8)",
        "mhctl-link-up" => "mhctl(8) mhctl-link(8) mhctl-link-down(8)",
        "mhctl-link-down" => "mhctl(8) mhctl-link(8) mhctl-link-up(8)",
        "mhctl-setup" => "mhctl(8) mhctl-unsetup(8) mh-ip-up(8) pppd(8)",
        "mhctl-unsetup" => "mhctl(8) mhctl-setup(8)",
        _ => "mhctl(8) ip-route(8) ip-rule(8)",
    };
    let all = ["multihome.toml(5)"].into_iter().chain(pages.split(' '));
    all.map(|page| format!(".BR {}", page.replace('(', " ("))).collect()
}

/// Text as roff takes it: `\\`, `-`, and a dot or an apostrophe in front of a line mean something.
fn roff(text: &str) -> String {
    let line = |line: &str| {
        let escaped = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
        if escaped.starts_with('.') { format!("\\&{escaped}") } else { escaped }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
