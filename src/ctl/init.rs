//! `mhctl init`: looks at the system and writes a configuration to begin with.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use thiserror::Error;

use super::Error as CtlError;
use super::doctor::pppd;
use super::setup::manifest::Tree;
use super::setup::{self, openvpn};
use crate::config;
use crate::fib::{FibRoute, RouteKind};
use crate::kernel::fib::Fib;
use crate::pass::Common;
use crate::types::{HostAddr, IfName, LinkName};

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
    /// There is a file.
    #[error("{} is there already, and stays as it is; see what would be written with `mhctl init`", .0.display())]
    There(PathBuf),
    /// It could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Something that looks like a link.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    tunnel: bool,
    /// What it may be called, not yet fit for a name.
    name: String,
    interface: Option<IfName>,
    /// What pppd says of it.
    ipparam: Option<String>,
    gateway: Option<HostAddr>,
    /// Where it was found, and what to do about it: lines of comment.
    comments: Vec<String>,
}

pub(super) fn run(args: &Args, common: &Common) -> Result<ExitCode, CtlError> {
    let path = setup::config_path(&args.root, common);
    if args.write && path.symlink_metadata().is_ok() {
        return Err(Error::There(path).into());
    }
    let tree = Tree::new(&args.root);
    let mut found = peers(&tree);
    let defaults = Fib::open()?.routes(254, Ipv4Addr::UNSPECIFIED)?;
    let tunnels = tunnels(&args.root);
    // A default route by the interface of a peer or a tunnel is that one's.
    let is_known = |line: &Found| found.iter().chain(&tunnels).any(|known| known.interface == line.interface);
    let lines: Vec<_> = static_lines(&defaults).into_iter().filter(|line| !is_known(line)).collect();
    found.extend(lines);
    found.extend(tunnels);
    let text = render(found);
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
        "{} is written: read it, then mhctl check, mhctl setup, mhctl apply",
        path.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

/// pppd's peers.
fn peers(tree: &Tree) -> Vec<Found> {
    let Ok(entries) = fs::read_dir(tree.at("/etc/ppp/peers")) else { return Vec::new() };
    let mut names: Vec<_> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    let mut found = Vec::new();
    for name in names {
        let Ok(text) = fs::read_to_string(tree.at(&format!("/etc/ppp/peers/{name}"))) else { continue };
        let words = pppd::words(&text);
        // Editors and dpkg leave copies.
        if pppd::is_example(&text) || name.contains(['~', '.', '#']) || words.is_empty() {
            continue;
        }
        let ipparam = pppd::value(&words, "ipparam").or(pppd::value(&words, "linkname")).map(str::to_owned);
        let unit = pppd::value(&words, "unit").map(|n| format!("ppp{n}"));
        let interface = pppd::value(&words, "ifname").map(str::to_owned).or(unit);
        let mut comments = vec![format!("pppd's peer {name}.")];
        if ipparam.is_none() {
            comments.push(format!("Add to /etc/ppp/peers/{name}: ipparam {}", link_name(&name, &BTreeSet::new())));
        }
        if ["defaultroute", "replacedefaultroute"].iter().any(|w| words.contains(w)) {
            comments.push(format!("Write nodefaultroute in /etc/ppp/peers/{name}: see mhctl doctor"));
        }
        found.push(Found {
            tunnel: false,
            name,
            interface: interface.and_then(|i| i.parse().ok()),
            ipparam,
            gateway: None,
            comments,
        });
    }
    found
}

/// The lines of the default routes that there are, but for pppd's.
fn static_lines(defaults: &[FibRoute]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for route in defaults.iter().filter(|r| r.prefix.prefix_len() == 0 && r.kind == RouteKind::Unicast) {
        for leg in &route.legs {
            let Ok(interface) = leg.name.parse::<IfName>() else { continue };
            let gateway = match leg.gateway {
                Some(std::net::IpAddr::V4(addr)) => HostAddr::new(addr).ok(),
                _ => None,
            };
            if leg.name.starts_with("ppp") || found.iter().any(|f| f.interface.as_ref() == Some(&interface)) {
                continue;
            }
            let tunnel = ["tun", "tap", "wg"].iter().any(|kind| leg.name.starts_with(kind));
            let mut comments = vec![format!("The default route there is now, by {}.", leg.name)];
            if route.protocol == 16 {
                comments.push("It is from DHCP: keep its client from adding default routes, and leave the".to_owned());
                comments.push("gateway out if it changes; the client's hook calls mhctl link up then.".to_owned());
            }
            found.push(Found {
                tunnel,
                name: leg.name.clone(),
                interface: Some(interface),
                ipparam: None,
                gateway,
                comments,
            });
        }
    }
    found
}

/// OpenVPN's clients.
fn tunnels(root: &Path) -> Vec<Found> {
    let clients = openvpn::find(root).into_iter().filter(|conf| conf.value("remote").is_some());
    let found = clients.map(|conf| {
        let stem = Path::new(&conf.path).file_stem().and_then(|s| s.to_str()).unwrap_or("vpn").to_owned();
        let dev = conf.value("dev").filter(|dev| dev.ends_with(|c: char| c.is_ascii_digit()));
        let mut comments = vec![format!("{}: see mhctl setup for the lines to add.", conf.path)];
        if dev.is_none() {
            comments.push(format!("Write in {} which device: dev {{interface}}", conf.path));
        }
        Found {
            tunnel: true,
            name: stem,
            interface: dev.and_then(|dev| dev.parse().ok()),
            ipparam: None,
            gateway: None,
            comments,
        }
    });
    found.collect()
}

/// A name as links have it, not one of `taken`.
fn link_name(text: &str, taken: &BTreeSet<String>) -> String {
    let fit = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' };
    let mut base: String = text.to_ascii_lowercase().chars().map(fit).take(LinkName::MAX - 2).collect();
    if !base.starts_with(|c: char| c.is_ascii_lowercase()) {
        base = format!("l{base}").chars().take(LinkName::MAX - 2).collect();
    }
    let mut candidates = std::iter::once(base.clone()).chain((2..100).map(|n| format!("{base}{n}")));
    let free = |name: &String| !taken.contains(name) && name.parse::<LinkName>().is_ok();
    candidates.find(free).unwrap_or(base)
}

/// The configuration as text.
fn render(mut found: Vec<Found>) -> String {
    let mut text = "\
# Configuration of multihome: see multihome.toml(5). Written by `mhctl init` from what it found;
# read it, and change what is wrong. Then:
#   mhctl check    is it right?
#   mhctl setup    have pppd and the boot call it
#   mhctl apply    bring the kernel to it
"
    .to_owned();
    if !found.iter().any(|f| !f.tunnel) {
        let comments = vec!["No line was found; this is an example. Write your own.".to_owned()];
        let interface = "ppp0".parse().ok();
        found.push(Found { tunnel: false, name: "isp1".into(), interface, ipparam: None, gateway: None, comments });
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
        let own = f.interface.map(|i| i.to_string()).filter(|i| used.insert(i.clone()));
        let interface = own.unwrap_or_else(|| {
            let kind = if f.tunnel { "tun" } else { "ppp" };
            // A name that nobody else has: there are fewer links than numbers.
            let free = (0..100).map(|n| format!("{kind}{n}")).find(|i| interfaces.insert(i.clone()));
            free.unwrap_or_else(|| kind.to_owned())
        });
        // Writing to a String cannot fail.
        let _ = writeln!(text);
        for comment in &f.comments {
            let _ = writeln!(text, "# {}", comment.replace("{interface}", &interface).replace(char::is_control, "?"));
        }
        let _ = writeln!(text, "[[{}]]", if f.tunnel { "tunnel" } else { "uplink" });
        let _ = writeln!(text, "name      = \"{name}\"");
        let _ = writeln!(text, "interface = \"{interface}\"");
        let fit = |p: &String| p.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\') && p.len() <= 64;
        if let Some(ipparam) = f.ipparam.filter(|p| fit(p) && params.insert(p.clone())) {
            let _ = writeln!(text, "ipparam   = \"{ipparam}\"");
        }
        if let Some(gateway) = f.gateway {
            let _ = writeln!(text, "gateway   = \"{gateway}\"");
        }
        if !f.tunnel {
            let _ = writeln!(text, "# weight  = 1       # its share of new connections, 1 to 256");
            let _ = writeln!(text, "# tier    = 1       # a higher one is only used when all of a lower one are down");
            let _ = writeln!(text, "# masquerade = true # if a LAN is behind this server");
        }
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
    let _ = writeln!(text, "# via   = [\"{first}\"]");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tunnel: bool, name: &str, interface: Option<&str>, ipparam: Option<&str>) -> Found {
        Found {
            tunnel,
            name: name.to_owned(),
            interface: interface.map(|i| i.parse().unwrap()),
            ipparam: ipparam.map(str::to_owned),
            gateway: None,
            comments: Vec::new(),
        }
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
            config::parse(&text, Path::new("init")).unwrap_or_else(|e| panic!("{e}\n{text}"));
        }
    }
}
