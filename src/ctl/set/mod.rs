//! `mhctl set`: what is in the named sets of policies, and what is put into them.

use std::io::{self, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;
use tracing::info;

use super::Error as CtlError;
use crate::cli::Common;
use crate::config::{self, Config};
use crate::kernel::{self, nftables};
use crate::model::firewall::nft::Transaction;
use crate::model::firewall::set::{AddressSet, Element};
use crate::model::names::{Family, SetName};
use crate::reconcile::firewall::sets;

mod edit;
mod list;

use edit::{Edit, Overlap};

/// What to do.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show what is in the sets
    List(ListArgs),
    /// Add addresses and networks to a set, of either family
    Add(AddArgs),
    /// Delete addresses and networks from a set
    Del(DelArgs),
    /// Empty a set
    Flush(FlushArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mhctl set list streaming")]
struct ListArgs {
    /// Name of a set; without it all
    name: Option<SetName>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is there already stays; with --timeout its time begins anew.
Examples:
  mhctl set add streaming 203.0.113.80 2001:db8::/32
  mhctl set add streaming 203.0.113.80 --timeout 1h
  mhctl set add streaming 203.0.113.80 --dry-run  # the command of nft(8)")]
struct AddArgs {
    /// Name of a set of the configuration
    name: SetName,
    /// What to add
    #[arg(required = true, value_name = "ADDRESS|NETWORK", value_parser = network)]
    networks: Vec<IpNet>,
    /// How long they stay, such as 90s, 1h or 2days [default: for good]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    timeout: Option<Duration>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mhctl set del streaming 203.0.113.80")]
struct DelArgs {
    /// Name of a set of the configuration
    name: SetName,
    /// What to delete, as `mhctl set list` shows it
    #[arg(required = true, value_name = "ADDRESS|NETWORK", value_parser = network)]
    networks: Vec<IpNet>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A resolver fills it again when it asks anew: what it remembers does not count.
Example: mhctl set flush streaming && systemctl restart dnsmasq")]
struct FlushArgs {
    /// Name of a set of the configuration
    name: SetName,
}

/// Why a set was not shown or changed.
#[derive(Debug, Error)]
pub enum Error {
    #[error("no policy has a set {name}: {}", if known.is_empty() {
        format!("write to-set = \"{name}\" in a [[policy]], then `mhctl apply`")
    } else {
        format!("write one of {known}")
    })]
    Unknown { name: SetName, known: String },
    #[error("there is no set {0} in the kernel: `mhctl apply` makes it; this needs nftables")]
    Missing(String),
    #[error("{0}")]
    Overlap(#[from] Overlap),
}

fn network(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let net = net.map_err(|_| "write an address or a network, such as 192.0.2.1 or 2001:db8::/32".to_owned())?;
    if net.prefix_len() == 0 {
        return Err("this is every address".to_owned());
    }
    if net.trunc() != net {
        return Err(format!("it has bits behind its prefix: write {} or {}", net.trunc(), net.addr()));
    }
    Ok(net)
}

fn timeout(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_hours(365 * 24);
    let given = humantime::parse_duration(text).ok();
    given
        .filter(|time| time.subsec_nanos() == 0 && !time.is_zero() && *time <= LONGEST)
        .ok_or_else(|| "write a time in whole seconds such as 90s, 1h or 2days, at most a year".to_owned())
}

impl Args {
    /// Whether it changes a set.
    pub(super) fn is_change(&self) -> bool {
        !matches!(self.action, Action::List(_))
    }
}

pub(super) fn run(args: &Args, common: &Common) -> Result<ExitCode, CtlError> {
    let config = config::load(&common.config)?;
    match &args.action {
        Action::List(args) => list::run(args.name.as_ref(), args.json, &config)?,
        Action::Add(AddArgs { name, networks, timeout }) => {
            let elements: Vec<_> = networks.iter().map(|net| Element::new(*net, *timeout)).collect();
            change(&config, name, common, |set, found| Edit::adding(name, set, &elements, found))?;
        }
        Action::Del(DelArgs { name, networks }) => {
            let elements: Vec<_> = networks.iter().map(|net| Element::new(*net, None)).collect();
            change(&config, name, common, |set, found| Edit::deleting(name, set, &elements, found))?;
        }
        Action::Flush(FlushArgs { name }) => flush(&config, name, common)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The sets of that name, one for each family.
fn sets_of(config: &Config, name: &SetName) -> Result<[AddressSet; 2], Error> {
    let (v4, v6) = (sets::find(config, name, Family::V4), sets::find(config, name, Family::V6));
    v4.zip(v6).map(<[AddressSet; 2]>::from).ok_or_else(|| {
        let known = config.set_names().into_iter().map(SetName::as_str).collect::<Vec<_>>().join(", ");
        Error::Unknown { name: name.clone(), known }
    })
}

/// Changes the sets of that name by what `edit` says of each, given what is in it.
fn change(
    config: &Config,
    name: &SetName,
    common: &Common,
    edit: impl Fn(&AddressSet, &[Element]) -> Result<Edit, Overlap>,
) -> Result<(), CtlError> {
    let mut whole = Edit::default();
    for set in sets_of(config, name)? {
        let found = match nftables::set::elements(&set) {
            // Who may not look may see the command.
            Err(error) if error.is_permission() && common.dry_run => Vec::new(),
            found => found?.ok_or_else(|| Error::Missing(set.name.clone()))?,
        };
        whole.extend(edit(&set, &found).map_err(Error::Overlap)?);
    }
    for note in &whole.notes {
        info!("{note}");
    }
    make(whole, common)
}

/// Empties the sets of that name, without a look at what is in them.
fn flush(config: &Config, name: &SetName, common: &Common) -> Result<(), CtlError> {
    let mut whole = Edit::default();
    for set in sets_of(config, name)? {
        let is_there = match nftables::set::exists(&set) {
            // Who may not look may see the command.
            Err(error) if error.is_permission() && common.dry_run => true,
            found => found?,
        };
        if !is_there {
            return Err(Error::Missing(set.name.clone()).into());
        }
        whole.extend(Edit::flushing(&set));
    }
    make(whole, common)
}

/// Makes the changes, or prints them.
fn make(whole: Edit, common: &Common) -> Result<(), CtlError> {
    if whole.commands.is_empty() {
        return Ok(());
    }
    let transaction = Transaction(whole.commands);
    if common.dry_run {
        writeln!(io::stdout(), "{transaction}")?;
        return Ok(());
    }
    Ok(nftables::commit(&transaction, &mut None).map_err(named)?)
}

/// The error of a change, whose command may name thousands of addresses.
fn named(error: kernel::Error) -> kernel::Error {
    const LONGEST: usize = 200;
    match error {
        kernel::Error::Change { command, source } if command.len() > LONGEST => {
            kernel::Error::Change { command: command.chars().take(LONGEST).chain("...".chars()).collect(), source }
        }
        error => error,
    }
}
