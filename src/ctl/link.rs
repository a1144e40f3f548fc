//! `mhctl link up` and `mhctl link down`: the way in for callers without a hook of their own, such as
//! DHCP clients, static Ethernet and wg-quick.

use std::io::{self, Write};
use std::process::ExitCode;

use tracing::warn;

use super::Error;
use crate::cli::Common;
use crate::config::{self, Config, Link};
use crate::event::{Addresses, Event, EventKind, Family};
use crate::hook;
use crate::kernel::{Kernel, Linux};
use crate::model::firewall::Firewall;
use crate::model::names::{HostAddr, IfName, LinkName};
use crate::model::observed::{Interface, Scope};
use crate::reconcile::link_state::LinkStates;
use crate::state::records::{LinkRecords, Store};

/// What happened to the link.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    change: LinkChange,
}

#[derive(Debug, clap::Subcommand)]
enum LinkChange {
    /// The link is up: record it, and bring the kernel to what is wanted
    Up(UpArgs),
    /// The link is down: the same
    Down(DownArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A DHCP client's hook:
  mhctl link up --interface=eth1 --local=\"$ip\" --gateway=\"$router\"
wg0.conf of wg-quick:
  PostUp = mhctl link up office --interface=%i
  PreDown = mhctl link down office")]
struct UpArgs {
    #[command(flatten)]
    which: Which,
    /// Our address [default: the interface's first]
    #[arg(long, value_name = "ADDRESS")]
    local: Option<HostAddr>,
    /// Router behind it [default: as configured, else none]
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<HostAddr>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mhctl link down cable
  mhctl link down --interface eth1  # from a script for all interfaces")]
struct DownArgs {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Link's name; without it --interface tells, and others' are passed over
    #[arg(value_name = "LINK", required_unless_present = "interface")]
    name: Option<String>,
    /// Interface it is on [default: the configuration's]
    #[arg(long, value_name = "IF")]
    interface: Option<IfName>,
}

impl Which {
    /// The link that is meant, `recorded` being the one that is up on the interface; `None`: it is no link's.
    fn link<'a>(&self, config: &'a Config, recorded: Option<&'a Link>) -> Result<Option<&'a Link>, Error> {
        let configured = || self.interface.as_ref().and_then(|interface| config.link_on(interface));
        match &self.name {
            Some(name) => find(name, config).map(Some),
            None => Ok(recorded.or_else(configured)),
        }
    }
}

pub(super) fn run(args: &Args, common: &Common) -> Result<ExitCode, Error> {
    let config = match config::load(&common.config) {
        // The script that called us for a DHCP client does not come again by itself.
        Err(source) if !common.dry_run => return without_configuration(&args.change, source, common),
        loaded => loaded?,
    };
    match &args.change {
        LinkChange::Up(args) => match args.which.link(&config, None)? {
            Some(link) => tell(&up(link, args)?, common),
            None => Ok(ExitCode::SUCCESS),
        },
        LinkChange::Down(args) => {
            let store = Store::new(&common.state_dir);
            let (records, _) = store.records();
            let said = args.which.interface.as_ref().and_then(|interface| records.on(interface, Family::V4));
            let recorded = said.and_then(|record| record.link(&config));
            let Some(link) = args.which.link(&config, recorded)? else { return Ok(ExitCode::SUCCESS) };
            let told = tell(&down(link, args, &records.by_link(&config)), common)?;
            if link.gateway.is_some() && !common.dry_run && is_live(link, &config, &store)? {
                return Err(Error::Static { link: link.name.clone(), interface: link.interface.clone() });
            }
            Ok(told)
        }
    }
}

/// What was said of an interface is recorded all the same.
fn without_configuration(change: &LinkChange, source: config::Error, common: &Common) -> Result<ExitCode, Error> {
    let (LinkChange::Up(UpArgs { which, .. }) | LinkChange::Down(DownArgs { which })) = change;
    let Some(interface) = &which.interface else { return Err(Error::NoInterface(source.into())) };
    let names = Vec::from_iter(which.name.clone());
    let kind = match change {
        LinkChange::Up(args) => {
            let local = local(args, interface, look(interface)?.as_ref())?;
            EventKind::Up(Addresses { local, gateway: args.gateway, ..Addresses::none(Family::V4) })
        }
        LinkChange::Down(_) => EventKind::Down(Family::V4),
    };
    tell(&Event { kind, interface: interface.clone(), names, session: None }, common)
}

/// Prints the names of all links.
pub(super) fn names(common: &Common) -> Result<ExitCode, Error> {
    let mut out = io::stdout().lock();
    for link in config::load(&common.config)?.links {
        writeln!(out, "{}", link.name)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(event: &Event, common: &Common) -> Result<ExitCode, Error> {
    // What DHCP and Ethernet take down stays as a device: there is nothing to wait for.
    hook::run("mhctl link", event, common, false)?;
    Ok(ExitCode::SUCCESS)
}

/// The link of that name.
pub(super) fn find<'a>(name: &str, config: &'a Config) -> Result<&'a Link, Error> {
    config.links.iter().find(|link| link.name.as_str() == name).ok_or_else(|| {
        let known = config.links.iter().map(|link| &link.name).map(LinkName::as_str);
        Error::NoLink { name: name.chars().take(64).collect(), known: known.collect::<Vec<_>>().join(", ") }
    })
}

fn up(link: &Link, args: &UpArgs) -> Result<Event, Error> {
    let name = args.which.interface.as_ref().unwrap_or(&link.interface);
    let found = look(name)?;
    if let Some(found) = &found {
        doubt(link, args, found);
    }
    let local = local(args, name, found.as_ref())?;
    Ok(event(
        link,
        name.clone(),
        EventKind::Up(Addresses { local, gateway: args.gateway, ..Addresses::none(Family::V4) }),
    ))
}

/// Our address, as it was given or as the interface has it; not the router's.
fn local(args: &UpArgs, interface: &IfName, found: Option<&Interface>) -> Result<Option<HostAddr>, Error> {
    let mut own = found.iter().flat_map(|found| &found.addresses).map(|address| address.local).chain(args.local);
    if let Some(gateway) = own.find(|own| Some(*own) == args.gateway) {
        return Err(Error::OwnGateway { gateway, interface: interface.clone() });
    }
    Ok(args.local.or(found.and_then(first_address)))
}

fn first_address(found: &Interface) -> Option<HostAddr> {
    found.addresses.first().map(|address| address.local)
}

/// The interface as it is.
fn look(name: &IfName) -> Result<Option<Interface>, Error> {
    let scope = Scope { interfaces: [name.clone()].into(), ..Scope::default() };
    Ok(Linux::open()?.observe(&scope)?.interfaces.remove(name))
}

/// Warns of what will hardly work.
fn doubt(link: &Link, args: &UpArgs, found: &Interface) {
    let name = &found.device.name;
    let uplink = link.is_uplink();
    let many = found.addresses.iter().any(|address| address.reaches.prefix_len() < 31);
    // Of an Ethernet the hook says it.
    if uplink && many && !found.arp && args.gateway.or(link.gateway).is_none() {
        warn!("{name} has more than one neighbour, and no gateway is given: add --gateway if {} has one", link.name);
    }
    if let Some(local) = args.local
        && found.addresses.iter().all(|address| address.local != local)
    {
        warn!("{local} is no address of {name}: packets from there cannot be answered");
    }
}

/// Whether the link carries traffic now.
fn is_live(link: &Link, config: &Config, store: &Store) -> Result<bool, Error> {
    let (records, _) = store.load(config);
    let scope = Scope { firewall: Firewall::None, ..Scope::new(config, &records) };
    let observed = Linux::open()?.observe(&scope)?;
    Ok(LinkStates::new(config, &records, &observed).of(link).live().is_some())
}

fn down(link: &Link, args: &DownArgs, records: &LinkRecords) -> Event {
    let recorded = records.get(&link.name).map_or(&link.interface, |record| &record.interface);
    let interface = args.which.interface.as_ref().unwrap_or(recorded).clone();
    event(link, interface, EventKind::Down(Family::V4))
}

/// Recognised by what the link is called by its callers.
fn event(link: &Link, interface: IfName, kind: EventKind) -> Event {
    Event { kind, interface, names: vec![link.ipparam.clone()], session: None }
}
