//! `mhctl init`: looks at the system and writes a configuration to begin with.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use thiserror::Error;

use self::look::Found;
use super::Error as CtlError;
use super::setup;
use super::tree::Tree;
use crate::cli::Common;
use crate::config;
use crate::model::names::LinkName;

mod dhclient;
mod look;

/// Options of init.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mhctl init          # see it
  mhctl init --write  # write it to /etc/multihome.toml, if that is not there")]
pub struct Args {
    /// Write it to the configuration's file, unless there is one
    #[arg(long)]
    write: bool,
    /// File tree to look at; routes are always ours
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// Why nothing was written.
#[derive(Debug, Error)]
pub enum Error {
    #[error("{} is there already, and stays as it is; see what would be written with `mhctl init`", .0.display())]
    There(PathBuf),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

pub(super) fn run(args: &Args, common: &Common) -> Result<ExitCode, CtlError> {
    let path = setup::config_path(&args.root, common);
    if args.write && path.symlink_metadata().is_ok() {
        return Err(Error::There(path).into());
    }
    let text = render(look::look(&Tree::new(&args.root))?);
    // What is offered has to be right.
    config::parse(&text, &path)?;
    if !args.write || common.dry_run {
        write!(io::stdout().lock(), "{text}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let written = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
    let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::There(path.clone()),
        _ => Error::Write { path: path.clone(), source },
    })?;
    writeln!(
        io::stdout().lock(),
        "{} is written: read it, then {mhctl} check, {mhctl} setup",
        path.display(),
        mhctl = common.mhctl()
    )?;
    Ok(ExitCode::SUCCESS)
}

/// A name as links have it, not one of `taken`.
fn link_name(text: &str, taken: &BTreeSet<String>) -> String {
    let text = text.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "-");
    let mut base: String = text.chars().take(LinkName::MAX - 2).collect();
    if !base.starts_with(|c: char| c.is_ascii_lowercase()) {
        base = format!("l{base}").chars().take(LinkName::MAX - 2).collect();
    }
    let mut candidates = std::iter::once(base.clone()).chain((2..100).map(|n| format!("{base}{n}")));
    candidates.find(|name| !taken.contains(name) && name.parse::<LinkName>().is_ok()).unwrap_or(base)
}

/// The configuration as text.
fn render(mut found: Vec<Found>) -> String {
    let mut text = "\
# Configuration of multihome: see multihome.toml(5). Written by `mhctl init` from what it found;
# read it, and change what is wrong. Then:
#   mhctl check    is it right?
#   mhctl setup    have pppd and the boot call it, and use the lines that are up
"
    .to_owned();
    if !found.iter().any(|f| !f.tunnel) {
        let comments = vec!["No line was found; this is an example. Write your own.".to_owned()];
        found.push(Found { interface: "ppp0".parse().ok(), comments, ..Found::uplink("isp1") });
    }
    // Uplinks first, as in the numbers that they get; a mark has bits for 32.
    found.sort_by_key(|f| f.tunnel);
    found.truncate(32);
    let mut names = BTreeSet::new();
    let mut links = Vec::new();
    for f in found {
        let name = link_name(&f.name, &names);
        names.insert(name.clone());
        links.push((name, f));
    }
    // A name is an ipparam as well.
    let mut params = names.clone();
    let mut interfaces: BTreeSet<String> =
        links.iter().filter_map(|(_, f)| f.interface.as_ref().map(ToString::to_string)).collect();
    let mut used = BTreeSet::new();
    for (name, f) in links {
        let own = f.interface.as_ref().map(ToString::to_string).filter(|i| used.insert(i.clone()));
        let interface = own.unwrap_or_else(|| {
            let kind = if f.tunnel { "tun" } else { "ppp" };
            // A name that nobody else has: there are fewer links than numbers.
            let free = (0..100).map(|n| format!("{kind}{n}")).find(|i| interfaces.insert(i.clone()));
            free.unwrap_or_else(|| kind.to_owned())
        });
        let ipparam = f.ipparam.as_ref().filter(|param| is_ipparam(param) && params.insert((*param).clone()));
        text += &link(&f, &name, &interface, ipparam);
    }
    text += "
# Which traffic prefers which links, in order; then the default route. Any of: from, to, iif,
# proto, sport, dport, uid, dscp, fwmark.
# [[policy]]
# name  = \"mail\"
# proto = \"tcp\"
# dport = [25, 465, 587]
";
    let first = names.first().map_or("isp1", String::as_str);
    text + &format!("# via   = [\"{first}\"]\n")
}

/// Whether it can stand between quotes as it is.
fn is_ipparam(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\') && text.len() <= 64
}

/// One link as text.
fn link(found: &Found, name: &str, interface: &str, ipparam: Option<&String>) -> String {
    let mut lines = vec![String::new()];
    for comment in &found.comments {
        let comment = comment.replace("{interface}", interface).replace("{link}", name);
        // A file's name may be any.
        lines.push(format!("# {}", comment.replace(char::is_control, "?")));
    }
    lines.push(format!("[[{}]]", if found.tunnel { "tunnel" } else { "uplink" }));
    lines.push(format!("name      = \"{name}\""));
    lines.push(format!("interface = \"{interface}\""));
    lines.extend(ipparam.map(|ipparam| format!("ipparam   = \"{ipparam}\"")));
    lines.extend(found.gateway.map(|gateway| format!("gateway   = \"{gateway}\"")));
    lines.extend(found.gateway6.map(|gateway| format!("gateway6  = \"{gateway}\"")));
    if !found.tunnel {
        lines.push("# weight  = 1       # its share of new connections, 1 to 256".to_owned());
        lines.push(match found.tier {
            Some(tier) => format!("tier      = {tier}       # it carries only while all of the tiers below are down"),
            None => "# tier    = 1       # a higher one is only used when all of a lower one are down".to_owned(),
        });
        lines.push("# masquerade = true # if a LAN is behind this server".to_owned());
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tunnel: bool, name: &str, interface: Option<&str>, ipparam: Option<&str>) -> Found {
        let interface = interface.map(|i| i.parse().unwrap());
        Found { tunnel, interface, ipparam: ipparam.map(str::to_owned), ..Found::uplink(name) }
    }

    #[test]
    fn whatever_is_found_the_result_is_a_configuration() {
        for all in [
            vec![],
            vec![found(true, "Büro VPN.1", Some("tun0"), None)],
            vec![found(false, "main", Some("ppp0"), Some("isp2")), found(false, "isp2", Some("ppp0"), Some("isp2"))],
            vec![found(false, "1und1", None, Some("a \"quoted\" one")), found(false, "1UND1", None, None)],
            (0..50).map(|n| found(n % 2 == 0, "averyveryverylongname", None, None)).collect(),
        ] {
            let text = render(all);
            config::parse(&text, "init".as_ref()).unwrap_or_else(|e| panic!("{e}\n{text}"));
        }
    }
}
