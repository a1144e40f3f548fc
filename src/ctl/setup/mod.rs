//! `mhctl setup` and `mhctl unsetup`: links the hooks to where pppd looks for them, names the tables,
//! has systemd apply at boot; and takes back just that.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use thiserror::Error;

use super::Error as CtlError;
use crate::config::{self, Config, LinkKind};
use crate::pass::Common;

pub mod distribution;
pub mod manifest;
pub mod openvpn;
pub(super) mod wanted;

use distribution::Distribution;
use manifest::{Content, Manifest, Tree};
use wanted::Item;

/// There where the executables are a Debian package's, and with them hooks and units: `make install` has no such file.
const PACKAGED: &str = "/usr/share/doc/multihome/copyright";

/// Options of setup.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mhctl setup --dry-run  # what it would make
  mhctl setup            # make it; again when the configuration has changed
  mhctl unsetup          # take it back")]
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
    /// A file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// What is to be done with one path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Nothing: it is as it should be.
    There(Item),
    /// Make it, where there is nothing.
    Make(Item),
    /// Bring it up to date: it is ours, from before.
    Renew(Item),
    /// It was ours, and nothing wants it any more.
    Remove(Item),
    /// Somebody else's is there, and stays.
    Foreign(Item),
}

/// What to do so that `tree`, in which `manifest` was made, has `wanted`. `keep` says which of what
/// was made stays although nothing wants it.
fn steps(tree: &Tree, manifest: &Manifest, wanted: Vec<Item>, keep: impl Fn(&str) -> bool) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    for (path, content) in &manifest.made {
        if wanted.iter().any(|item| item.path == *path) || keep(path) || !tree.has(path) {
            continue;
        }
        let item = Item { path: path.clone(), content: content.clone() };
        let unchanged = tree.content(path)?.as_ref() == Some(content);
        steps.push(if unchanged { Step::Remove(item) } else { Step::Foreign(item) });
    }
    for item in wanted {
        let found = tree.content(&item.path)?;
        let ours = found.is_some() && found.as_ref() == manifest.made.get(&item.path);
        steps.push(match found {
            None if !tree.has(&item.path) => Step::Make(item),
            Some(found) if found == item.content => Step::There(item),
            Some(_) if ours => Step::Renew(item),
            Some(found) if item.is_served_by(&found) => Step::There(item),
            _ => Step::Foreign(item),
        });
    }
    Ok(steps)
}

/// Carries the steps out. What is going to be made is written down first: whenever this ends,
/// unsetup knows.
fn carry_out(tree: &Tree, manifest: &mut Manifest, steps: &[Step]) -> Result<(), Error> {
    let made: Vec<_> =
        steps.iter().filter_map(|s| if let Step::Make(i) | Step::Renew(i) = s { Some(i) } else { None }).collect();
    for path in made.iter().map(|item| item.path.as_str()).chain(made.first().map(|_| manifest::PATH)) {
        for dir in tree.missing_directories(path) {
            if !manifest.directories.contains(&dir) {
                manifest.directories.push(dir);
            }
        }
    }
    let make_directories =
        |path: &str| tree.missing_directories(path).iter().try_for_each(|dir| tree.make_directory(dir));
    if !made.is_empty() {
        make_directories(manifest::PATH)?;
        let new = made.iter().filter(|item| !manifest.made.contains_key(&item.path));
        let mut ahead = manifest.clone();
        ahead.made.extend(new.map(|item| (item.path.clone(), item.content.clone())));
        ahead.save(tree)?;
    }
    for step in steps {
        match step {
            Step::Make(item) | Step::Renew(item) => {
                make_directories(&item.path)?;
                tree.put(&item.path, &item.content)?;
                manifest.made.insert(item.path.clone(), item.content.clone());
            }
            Step::Remove(item) => {
                tree.remove(&item.path)?;
                manifest.made.remove(&item.path);
            }
            Step::There(_) | Step::Foreign(_) => {}
        }
    }
    // What somebody took away, or made his own, is no longer ours.
    manifest.made.retain(|path, _| tree.has(path));
    for step in steps {
        if let Step::Foreign(item) = step {
            manifest.made.remove(&item.path);
        }
    }
    if manifest.made.is_empty() {
        manifest.save(tree)?;
        // Children before parents.
        manifest.directories.reverse();
        manifest.directories.retain(|dir| !tree.remove_directory(dir));
        return Ok(());
    }
    manifest.save(tree)
}

impl Step {
    fn is_change(&self) -> bool {
        matches!(self, Self::Make(_) | Self::Renew(_) | Self::Remove(_))
    }

    /// One line, and where something has to be done by hand another.
    fn print(&self, dry_run: bool, out: &mut impl Write) -> io::Result<()> {
        let (word, item) = match self {
            Self::There(item) => ("there", item),
            Self::Make(item) => (if dry_run { "would make" } else { "made" }, item),
            Self::Renew(item) => (if dry_run { "would renew" } else { "renewed" }, item),
            Self::Remove(item) => (if dry_run { "would remove" } else { "removed" }, item),
            Self::Foreign(item) => ("not ours", item),
        };
        write!(out, "{word:<12} {}", item.path)?;
        match (self, &item.content) {
            (Self::Foreign(_), Content::Link(target)) if !target.starts_with("/etc/") => {
                writeln!(out, "\n{:13}it stays; add this line to it: {target} \"$@\"", "")
            }
            (Self::Foreign(_), Content::Script(text)) => {
                let line = text.lines().last().unwrap_or_default();
                writeln!(out, "\n{:13}it stays; add this line to it: {line}", "")
            }
            (Self::Foreign(_), _) => writeln!(out, "\n{:13}it stays; move it away and run this again", ""),
            (Self::Make(_) | Self::Renew(_), Content::Link(target)) if !target.starts_with("/etc/") => {
                writeln!(out, " -> {target}")
            }
            _ => writeln!(out),
        }
    }
}

pub(super) fn run(args: &Args, common: &Common) -> Result<ExitCode, CtlError> {
    let bin = bin_dir(args)?;
    let config = load_config(&args.root, common)?;
    let tree = Tree::new(&args.root);
    let mut manifest = Manifest::load(&tree)?;
    let said_before = manifest.distribution;
    manifest.distribution = args.distribution.or(said_before);
    let distribution = distribution(&manifest, &args.root).ok_or(Error::Distribution)?;

    let mut wanted = wanted::hooks(distribution, &bin);
    wanted.extend(config.iter().flat_map(wanted::names));
    let systemd = distribution.has_systemd(&args.root);
    if systemd {
        wanted.extend(wanted::units(&tree, &bin));
    }
    // What the administrator has deleted of a package's, or disabled, he has his reasons for.
    let packaged = bin == wanted::SBIN && tree.has(PACKAGED);
    wanted.retain(|item| !packaged || wanted::is_names(&item.path) || tree.has(&item.path));
    let keep_names = config.is_none();
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
    let is_missing = |program: &&str| {
        let path = format!("{bin}/{program}");
        !tree.at(&path).exists() && !Path::new(&path).exists()
    };
    let missing: Vec<_> = ["mh-ip-up", "mh-ip-down", "mh-vpn-up", "mhctl"].into_iter().filter(is_missing).collect();
    if !missing.is_empty() {
        writeln!(out, "missing      in {bin}: {}\n{:13}install them there, or say --bin-dir", missing.join(" "), "")?;
    }
    advise(&tree, distribution, config.as_ref(), &bin, systemd && changes && !common.dry_run, &mut out)?;
    let clean = !steps.iter().any(|step| matches!(step, Step::Foreign(_)));
    Ok(if clean { ExitCode::SUCCESS } else { crate::cli::FAILED.into() })
}

/// What is left to do by hand.
fn advise(
    tree: &Tree,
    distribution: Distribution,
    config: Option<&Config>,
    bin: &str,
    reload: bool,
    out: &mut impl Write,
) -> io::Result<()> {
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
        writeln!(out, "\nNo systemd here: have `{bin}/mhctl apply` run at boot, and from cron each minute.")?;
    }
    if reload {
        writeln!(out, "\nThen: systemctl daemon-reload && systemctl start multihome.service multihome.timer")?;
    }
    Ok(())
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
    let reload = steps.iter().any(|step| matches!(step, Step::Remove(item) if item.path.starts_with("/etc/systemd/")));
    if !common.dry_run {
        carry_out(&tree, &mut manifest, &steps)?;
    }
    for step in &steps {
        match step {
            Step::Foreign(item) => {
                writeln!(
                    out,
                    "{:<12} {}\n{:13}it was changed after setup made it, and stays",
                    "not ours", item.path, ""
                )?;
            }
            step => step.print(common.dry_run, &mut out)?,
        }
    }
    if reload && !common.dry_run {
        writeln!(
            out,
            "\nThen: systemctl stop multihome.timer && systemctl daemon-reload\n\
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
    // It goes into a line of shell and of a unit file.
    let plain = |s: &&str| s.starts_with('/') && s.chars().all(|c| c.is_ascii_alphanumeric() || "/._+-".contains(c));
    let text = found.to_str().filter(plain).map(|s| s.trim_end_matches('/').to_owned());
    text.ok_or(Error::BinDir(found))
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
    config.links.iter().any(|link| link.kind == LinkKind::Tunnel)
}
