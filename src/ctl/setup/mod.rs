//! `mhctl setup` and `mhctl unsetup`: links the hooks to where pppd looks for them, names the tables,
//! has systemd apply at boot and networkd leave our routes alone; and takes back just that. Lines that are up
//! already are taken up.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use thiserror::Error;

use super::Error as CtlError;
use crate::cli::Common;
use crate::config::{self, Config};
use crate::ctl::tree::Tree;

pub mod distribution;
mod dnsmasq;
mod lines;
pub mod manifest;
mod networkd;
pub mod openvpn;
mod steps;
pub(super) mod wanted;

use distribution::Distribution;
use manifest::{Item, Manifest};
use steps::{Step, carry_out, steps};

/// There where the executables are a Debian package's, and with them hooks and units: `make install` has no such file.
const PACKAGED: &str = "/usr/share/doc/multihome/copyright";

/// Options of setup.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mhctl setup --dry-run  # what it would make
  mhctl setup            # make it; again when the configuration has changed
  mhctl unsetup          # take it back
  mhctl setup --dnsmasq  # lines for dnsmasq, which fill sets of policies
Links that are up already, and that nobody has told of, are taken up: those
whose next hop pppd's interface or a default route says. Not for another --root.")]
pub struct Args {
    /// How pppd finds its hooks here; if never given, it is found out
    #[arg(long, value_name = "NAME")]
    pub distribution: Option<Distribution>,
    /// File tree to work on
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Directory of the executables; where mhctl itself is if not given
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Only print lines for dnsmasq, which fill the sets of policies (to-set)
    #[arg(long, conflicts_with_all = ["distribution", "bin_dir"])]
    pub dnsmasq: bool,
}

/// Options of unsetup.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mhctl unsetup --dry-run  # what it would take away")]
pub struct UndoArgs {
    /// File tree to work on
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

/// Why there was no setup.
#[derive(Debug, Error)]
pub enum Error {
    /// It is not plain what pppd looks for here.
    #[error(
        "cannot tell how pppd finds its hooks here: say --distribution debian, fedora, suse, arch, gentoo, openwrt or plain"
    )]
    Distribution,
    /// A path that no text file can hold.
    #[error("{} is not a plain absolute path: move the executables, or say --bin-dir", .0.display())]
    BinDir(PathBuf),
    /// The manifest is not ours, or damaged.
    #[error("cannot read {}: {}; move it away, and take away by hand what an earlier setup made", .0.display(), .1)]
    Manifest(PathBuf, String),
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl Error {
    fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

pub(super) fn run(args: &Args, common: &Common) -> Result<ExitCode, CtlError> {
    if args.dnsmasq {
        let config = config::load(&config_path(&args.root, common))?;
        io::stdout().lock().write_all(dnsmasq::lines(&config).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let bin = bin_dir(args)?;
    let config = load_config(&args.root, common)?;
    let tree = Tree::new(&args.root);
    let mut manifest = Manifest::load(&tree)?;
    let said_before = manifest.distribution;
    manifest.distribution = args.distribution.or(said_before);
    let distribution = distribution(&manifest, &args.root).ok_or(Error::Distribution)?;

    let keep_names = config.is_none();
    let wanted = wanted(&tree, distribution, &bin, config.as_ref());
    let steps = steps(&tree, &manifest, wanted, |path| keep_names && wanted::is_names(path))?;
    let changes = steps.iter().any(Step::is_change);
    if (changes || manifest.distribution != said_before) && !common.dry_run {
        carry_out(&tree, &mut manifest, &steps)?;
    }

    let mut out = io::stdout().lock();
    let how = match (args.distribution, said_before) {
        (Some(_), _) => "",
        (None, Some(_)) => " (as was said before)",
        (None, None) => " (found out)",
    };
    writeln!(out, "pppd's hooks as on: {}{how}", distribution.name())?;
    for step in &steps {
        step.print(common.dry_run, &mut out)?;
    }
    if !changes {
        writeln!(out, "nothing to do")?;
    }
    advise(&tree, distribution, config.as_ref(), &bin, &mut out)?;
    let done = match &config {
        Some(config) if lines::is_this_system(&args.root) => lines::bring_up(config, common, &mut out),
        _ => Ok(ExitCode::SUCCESS),
    };
    if !common.dry_run {
        next(&tree, &steps, &mut out)?;
    }
    let clean = !steps.iter().any(|step| matches!(step, Step::Foreign(_)));
    if clean { done } else { done.map(|_| crate::cli::FAILED.into()) }
}

fn wanted(tree: &Tree, distribution: Distribution, bin: &str, config: Option<&Config>) -> Vec<Item> {
    let mut wanted = wanted::hooks(distribution, bin);
    if distribution.has_systemd(&tree.at("/")) {
        wanted.extend(wanted::units(tree, bin));
    }
    // What the administrator has deleted of a package's, or disabled, he has his reasons for.
    let packaged = bin == wanted::SBIN && tree.has(PACKAGED);
    wanted.retain(|item| !packaged || tree.has(&item.path));
    wanted.extend(networkd::drop_in(tree));
    wanted.extend(config.into_iter().flat_map(wanted::names));
    wanted
}

/// What is left to do by hand.
fn advise(
    tree: &Tree,
    distribution: Distribution,
    config: Option<&Config>,
    bin: &str,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut missing = Vec::new();
    for program in ["mh-ip-up", "mh-ip-down", "mh-vpn-up", "mh-watch", "mhctl"] {
        let path = format!("{bin}/{program}");
        if !tree.at(&path).exists() && !Path::new(&path).exists() {
            missing.push(program);
        }
    }
    if !missing.is_empty() {
        writeln!(out, "missing      in {bin}: {}\n{:13}install them there, or say --bin-dir", missing.join(" "), "")?;
    }
    if distribution == Distribution::Debian && tree.at("/etc/ppp/ip-up.local").exists() {
        writeln!(
            out,
            "\nDebian runs /etc/ppp/ip-up.local instead of ip-up.d while it is executable: move it into ip-up.d."
        )?;
    }
    match config {
        None => writeln!(
            out,
            "\nThere is no configuration yet: write one (mhctl init --write), then run this again\n\
             for the names of its tables."
        )?,
        Some(config) => openvpn::advise(tree, config, bin, out)?,
    }
    if !distribution.has_systemd(&tree.at("/")) {
        writeln!(
            out,
            "\nNo systemd here: have `{bin}/mhctl apply >/dev/null` run at boot before any line comes up, and from cron \
             each minute."
        )?;
    }
    Ok(())
}

/// Says which commands are left, so that what was made is heeded: in the last line.
fn next(tree: &Tree, steps: &[Step], out: &mut impl Write) -> io::Result<()> {
    let mut made = steps.iter().filter(|step| matches!(step, Step::Make(_) | Step::Renew(_)));
    let mut commands = Vec::new();
    if steps.iter().any(|step| step.is_change() && step.item().path.starts_with(wanted::UNITS)) {
        commands.push("systemctl daemon-reload && systemctl start multihome.timer");
    }
    if made.any(|step| step.item().path == networkd::PATH) && networkd::is_running(tree) {
        commands.push("systemctl restart systemd-networkd");
    }
    let has_units = steps.iter().any(|step| step.is_change() && step.item().path.ends_with(wanted::WATCH));
    if has_units && !tree.has(wanted::WATCH_ENABLED) {
        writeln!(
            out,
            "\nFor what other programs delete to be back at once, not within a minute: systemctl enable --now mh-watch"
        )?;
    }
    if commands.is_empty() { Ok(()) } else { writeln!(out, "\nThen: {}", commands.join(" && ")) }
}

pub(super) fn undo(args: &UndoArgs, common: &Common) -> Result<ExitCode, CtlError> {
    let tree = Tree::new(&args.root);
    let mut manifest = Manifest::load(&tree)?;
    let steps = steps(&tree, &manifest, Vec::new(), |_| false)?;
    let mut out = io::stdout().lock();
    if manifest.made.is_empty() {
        writeln!(out, "nothing to do: setup has made nothing here")?;
        return Ok(ExitCode::SUCCESS);
    }
    let reload = steps.iter().any(|step| step.is_change() && step.item().path.starts_with(wanted::UNITS));
    if !common.dry_run {
        carry_out(&tree, &mut manifest, &steps)?;
    }
    for step in &steps {
        match step {
            Step::Foreign(item) => {
                writeln!(
                    out,
                    "{:<12} {}\n{:13}it was changed after setup made it, and stays",
                    "foreign", item.path, ""
                )?;
            }
            step => step.print(common.dry_run, &mut out)?,
        }
    }
    if reload && !common.dry_run {
        let watch = if tree.has(wanted::WATCH_ENABLED) { "systemctl disable --now mh-watch; " } else { "" };
        writeln!(
            out,
            "\nThen: {watch}systemctl stop multihome.timer && systemctl daemon-reload\n\
             OpenVPN's configurations may still name mh-vpn-up."
        )?;
    }
    let clean = !steps.iter().any(|step| matches!(step, Step::Foreign(_)));
    Ok(if clean { ExitCode::SUCCESS } else { crate::cli::FAILED.into() })
}

/// How pppd finds its hooks: as was said, since a guess may be taken in by what setup itself has made, or else as the
/// tree looks.
pub(super) fn distribution(manifest: &Manifest, root: &Path) -> Option<Distribution> {
    manifest.distribution.or_else(|| Distribution::detect(root))
}

/// Directory of the executables as the system at the root sees it.
fn bin_dir(args: &Args) -> Result<String, Error> {
    let found = args.bin_dir.clone().or_else(|| own_dir(&args.root)).unwrap_or_default();
    match found.to_str() {
        Some(text) if is_plain(text) => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err(Error::BinDir(found)),
    }
}

/// Whether a path can go into a line of shell and of a unit file.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && path.chars().all(|c| c.is_ascii_alphanumeric() || "/._+-".contains(c))
}

/// Where mhctl itself is; under `root`, as seen from there.
fn own_dir(root: &Path) -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let dir = exe.parent()?;
    let inside = root.canonicalize().ok().and_then(|root| dir.strip_prefix(root).ok().map(Path::to_owned));
    Some(inside.map_or_else(|| dir.to_owned(), |rest| Path::new("/").join(rest)))
}

/// Where the configuration is: under the root, unless another was named.
pub(super) fn config_path(root: &Path, common: &Common) -> PathBuf {
    if common.config == Path::new(config::DEFAULT_PATH) {
        root.join(config::DEFAULT_PATH.trim_start_matches('/'))
    } else {
        common.config.clone()
    }
}

/// The configuration, which is under the root unless another was named; none if there is none.
pub(super) fn load_config(root: &Path, common: &Common) -> Result<Option<Config>, config::Error> {
    let default = common.config == Path::new(config::DEFAULT_PATH);
    let path = config_path(root, common);
    if default && !path.exists() { Ok(None) } else { config::load(&path).map(Some) }
}

/// Whether the configuration has a link that OpenVPN may bring up.
fn has_tunnels(config: &Config) -> bool {
    config.links.iter().any(|link| !link.is_uplink())
}
