//! `mhctl link up` and `mhctl link down`: the way in for callers without a hook of their own, such as
//! DHCP clients, static Ethernet and wg-quick.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::slice;

use ipnet::Ipv6Net;
use tracing::warn;

use super::{Error, complete};
use crate::cli::Common;
use crate::config::{self, Config, Link, MOST_PREFIXES};
use crate::event::resolvers::{resolver, resolvers};
use crate::event::{Addresses, Event, EventKind, Family};
use crate::hook;
use crate::hook::pass::{self, Pass};
use crate::kernel::{Kernel, Linux};
use crate::model::firewall::Firewall;
use crate::model::names::{HostAddr, IfName, InvalidValue, LinkName};
use crate::model::observed::{Interface, Scope};
use crate::reconcile::FlushScope;
use crate::reconcile::link_state::LinkStates;
use crate::state::records::{LinkRecords, Records, Store};

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
Options of one family leave the other as it is. Without any, both are as the
interface has them: its IPv4, and the IPv6 of a point-to-point interface.
--ipv6 is for a program that says a part at a time, such as a DHCPv6 client.

A DHCP client's hook:
  mhctl link up --interface=eth1 --local=\"$ip\" --gateway=\"$router\"
  mhctl link up --interface=eth1 --ipv6 --prefix=2001:db8:100::/56
wg0.conf of wg-quick:
  PostUp = mhctl link up office --interface=%i
  PreDown = mhctl link down office")]
struct UpArgs {
    #[command(flatten)]
    which: Which,
    /// Our IPv4 address [default: the interface's first]
    #[arg(long, value_name = "ADDRESS", value_parser = ipv4)]
    local: Option<HostAddr>,
    /// Router behind it [default: as configured, else none]
    #[arg(long, value_name = "ADDRESS", value_parser = ipv4)]
    gateway: Option<HostAddr>,
    /// Our IPv6 address [default: the interface's first global one]
    #[arg(long, value_name = "ADDRESS", value_parser = ipv6)]
    local6: Option<HostAddr>,
    /// IPv6 router [default: as configured, else as advertised]
    #[arg(long, value_name = "ADDRESS", value_parser = ipv6)]
    gateway6: Option<HostAddr>,
    /// IPv6 prefix that is routed to us, any number of them
    #[arg(long = "prefix", value_name = "PREFIX", value_parser = prefix)]
    prefixes: Vec<Ipv6Net>,
    /// Resolver of the provider, any number of them, of either family
    // What a DHCP server says may be anything: what is none costs the link nothing but a warning.
    #[arg(long = "dns", value_name = "ADDRESS")]
    resolvers: Vec<String>,
    /// It has IPv6: what was said of that stays, but for what is said now
    #[arg(long)]
    ipv6: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mhctl link down cable
  mhctl link down --interface eth1  # from a script for all interfaces
  mhctl link down --interface eth1 --ipv6  # its IPv4 stays
  mhctl link down --interface eth1 --prefixes  # a delegation has ended")]
struct DownArgs {
    #[command(flatten)]
    which: Which,
    /// Only its IPv4
    #[arg(long)]
    ipv4: bool,
    /// Only its IPv6
    #[arg(long)]
    ipv6: bool,
    /// Only what was said of IPv6 prefixes: it stays up
    #[arg(long, conflicts_with_all = ["ipv4", "ipv6"])]
    prefixes: bool,
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
        if let Some(name) = &self.name {
            return find(name, config).map(Some);
        }
        Ok(recorded.or(self.interface.as_ref().and_then(|interface| config.link_on(interface))))
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
            Some(link) => up(link, args, &config, common),
            None => Ok(ExitCode::SUCCESS),
        },
        LinkChange::Down(args) => {
            let store = Store::new(&common.state_dir);
            let (records, _) = store.records();
            let said =
                args.which.interface.as_ref().and_then(|interface| {
                    records.on(interface, Family::V4).or_else(|| records.on(interface, Family::V6))
                });
            let recorded = said.and_then(|record| record.link(&config));
            let Some(link) = args.which.link(&config, recorded)? else { return Ok(ExitCode::SUCCESS) };
            if args.prefixes {
                let interface = args.which.interface.as_ref().unwrap_or(&link.interface);
                return tell(&without_prefixes(interface, slice::from_ref(&link.ipparam), &records), common);
            }
            for events in down(link, args, &records.by_link(&config)) {
                tell(&events, common)?;
            }
            for family in args.families() {
                if link.gateway_of(*family).is_some() && !common.dry_run && is_live(link, *family, &config, &store)? {
                    return Err(Error::Static { link: link.name.clone(), interface: link.interface.clone() });
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What was said of an interface is recorded all the same.
fn without_configuration(change: &LinkChange, source: config::Error, common: &Common) -> Result<ExitCode, Error> {
    let (LinkChange::Up(UpArgs { which, .. }) | LinkChange::Down(DownArgs { which, .. })) = change;
    let Some(interface) = &which.interface else { return Err(Error::NoInterface(source.into())) };
    let names = Vec::from_iter(which.name.clone());
    let kinds: Vec<_> = match change {
        LinkChange::Down(DownArgs { prefixes: true, .. }) => {
            let (records, _) = Store::new(&common.state_dir).records();
            return tell(&without_prefixes(interface, &names, &records), common);
        }
        LinkChange::Up(args) => {
            let told = args.told(interface, look(interface)?.as_ref(), common)?;
            told.into_iter().map(EventKind::Up).collect()
        }
        LinkChange::Down(args) => args.families().iter().copied().map(EventKind::Down).collect(),
    };
    tell(&events(kinds, interface, &names), common)
}

/// Prints the names of all links.
pub(super) fn names(common: &Common) -> Result<ExitCode, Error> {
    let mut out = io::stdout().lock();
    for link in config::load(&common.config)?.links {
        writeln!(out, "{}", link.name)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(events: &[Event], common: &Common) -> Result<ExitCode, Error> {
    // What DHCP and Ethernet take down stays as a device: there is nothing to wait for.
    hook::run("mhctl link", events, common, false)?;
    Ok(ExitCode::SUCCESS)
}

/// The link of that name.
pub(super) fn find<'a>(name: &str, config: &'a Config) -> Result<&'a Link, Error> {
    config.links.iter().find(|link| link.name.as_str() == name).ok_or_else(|| {
        let known = config.links.iter().map(|link| &link.name).map(LinkName::as_str);
        Error::NoLink { name: name.chars().take(64).collect(), known: known.collect::<Vec<_>>().join(", ") }
    })
}

fn up(link: &Link, args: &UpArgs, config: &Config, common: &Common) -> Result<ExitCode, Error> {
    let name = args.which.interface.as_ref().unwrap_or(&link.interface);
    let found = look(name)?;
    let told = args.told(name, found.as_ref(), common)?;
    if let Some(found) = &found {
        doubt(link, args, &told, found);
    }
    let recorded = args.recorded(name, found.as_ref(), common);
    if recorded.is_some() && told.first() == recorded.as_ref() && !common.dry_run {
        return refresh(link, config, common);
    }
    tell(&events(told.into_iter().map(EventKind::Up).collect(), name, slice::from_ref(&link.ipparam)), common)
}

/// A pass for a link of which nothing new is said: its router may be another. A router advertises itself every few
/// seconds, so the log is told only of what has changed.
fn refresh(link: &Link, config: &Config, common: &Common) -> Result<ExitCode, Error> {
    let pass = Pass { config, store: Store::new(&common.state_dir), who: "mhctl link".to_owned() };
    let outcome = pass.run_for(&FlushScope::Link(link.name.clone()), &[], &mut Linux::open()?)?;
    if !outcome.made.is_empty() {
        pass.report(&pass::headline(&outcome, config.settings.protocol), &outcome);
    }
    complete(outcome.failures)
}

impl UpArgs {
    /// What is told of the interface, by family.
    fn told(&self, interface: &IfName, found: Option<&Interface>, common: &Common) -> Result<Vec<Addresses>, Error> {
        self.check(interface, found)?;
        let is_said = self.local.or(self.gateway).is_some();
        let is_said6 = self.ipv6 || self.local6.or(self.gateway6).is_some() || !self.prefixes.is_empty();
        let has = found.is_some_and(|found| !found.addresses.is_empty());
        let has6 = found.is_some_and(leads_ipv6);
        let mut told = Vec::new();
        if is_said || !is_said6 && (has || !has6) {
            let local = self.local.or(found.and_then(first_address));
            let resolvers = resolvers(self.resolvers.clone(), Family::V4);
            told.push(Addresses { local, gateway: self.gateway, resolvers, ..Addresses::none(Family::V4) });
        }
        if is_said6 || !is_said && has6 {
            let before = self.recorded(interface, found, common).unwrap_or(Addresses::none(Family::V6));
            let prefixes = if self.prefixes.is_empty() { before.prefixes } else { self.prefixes.clone() };
            let (local, gateway) = (self.local6.or(before.local), self.gateway6.or(before.gateway));
            let said = resolvers(self.resolvers.clone(), Family::V6);
            let resolvers = if said.is_empty() { before.resolvers } else { said };
            told.push(Addresses { family: Family::V6, local, gateway, prefixes, resolvers });
        }
        Ok(told)
    }

    /// What was said of the interface's IPv6 and stays, if anything is to stay.
    fn recorded(&self, interface: &IfName, found: Option<&Interface>, common: &Common) -> Option<Addresses> {
        let index = found.filter(|_| self.ipv6)?.device.index;
        let (records, _) = Store::new(&common.state_dir).records();
        let record = records.on(interface, Family::V6).filter(|record| record.index == index)?;
        Some(record.addresses.clone())
    }

    /// A router is not ourselves, and prefixes are no flood: each becomes a rule.
    fn check(&self, interface: &IfName, found: Option<&Interface>) -> Result<(), Error> {
        for word in self.resolvers.iter().filter(|word| resolver(word).is_none()) {
            warn!("{}", InvalidValue::new("resolver", word, "no host beyond a line can have it; it is passed over"));
        }
        let found = found.into_iter().flat_map(|found| found.addresses.iter().chain(&found.addresses6));
        let mut own = found.map(|address| address.local).chain(self.local).chain(self.local6);
        if let Some(gateway) = own.find(|own| [self.gateway, self.gateway6].contains(&Some(*own))) {
            return Err(Error::OwnGateway { gateway, interface: interface.clone() });
        }
        if self.prefixes.len() > MOST_PREFIXES { Err(Error::Prefixes(self.prefixes.len())) } else { Ok(()) }
    }
}

impl DownArgs {
    /// The families that are down.
    fn families(&self) -> &'static [Family] {
        match (self.ipv4, self.ipv6) {
            (true, false) => &[Family::V4],
            (false, true) => &[Family::V6],
            _ => &Family::BOTH,
        }
    }
}

/// An IPv4 address of a host.
fn ipv4(text: &str) -> Result<HostAddr, InvalidValue> {
    of_family(text, Family::V4, "write an IPv4 address such as 192.0.2.1; IPv6 has --local6 and --gateway6")
}

/// An IPv6 address of a host.
fn ipv6(text: &str) -> Result<HostAddr, InvalidValue> {
    of_family(text, Family::V6, "write an IPv6 address such as fe80::1; IPv4 has --local and --gateway")
}

fn of_family(text: &str, family: Family, expected: &'static str) -> Result<HostAddr, InvalidValue> {
    let address: HostAddr = text.parse()?;
    if address.family() == family { Ok(address) } else { Err(InvalidValue::new("address", text, expected)) }
}

/// A prefix that a provider may have delegated, without the bits behind it.
fn prefix(text: &str) -> Result<Ipv6Net, InvalidValue> {
    let expected = match text.parse::<Ipv6Net>() {
        Ok(net) if config::is_customers(net.trunc()) => return Ok(net.trunc()),
        Ok(_) => "no provider routes it to one customer",
        Err(_) => "write an IPv6 prefix such as 2001:db8:1::/56",
    };
    Err(InvalidValue::new("prefix", text, expected))
}

/// Whether IPv6 packets can leave by the interface without a router that somebody would have to tell of.
fn leads_ipv6(found: &Interface) -> bool {
    !found.arp && found.addresses6.iter().any(|address| !address.local.is_link_local())
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
fn doubt(link: &Link, args: &UpArgs, told: &[Addresses], found: &Interface) {
    let name = &found.device.name;
    let is_ipv4 = told.iter().any(|addresses| addresses.family == Family::V4);
    let many = found.addresses.iter().any(|address| address.reaches.prefix_len() < 31);
    // Of an Ethernet the hook says it.
    if is_ipv4 && link.is_uplink() && many && !found.arp && args.gateway.or(link.gateway).is_none() {
        warn!("{name} has more than one neighbour, and no gateway is given: add --gateway if {} has one", link.name);
    }
    let addresses: Vec<_> = found.addresses.iter().chain(&found.addresses6).map(|address| address.local).collect();
    for local in [args.local, args.local6].into_iter().flatten().filter(|local| !addresses.contains(local)) {
        warn!("{local} is no address of {name}: packets from there cannot be answered");
    }
}

/// Whether the link carries traffic of the family now.
fn is_live(link: &Link, family: Family, config: &Config, store: &Store) -> Result<bool, Error> {
    let (records, _) = store.load(config);
    let scope = Scope { firewall: Firewall::None, ..Scope::new(config, &records) };
    let observed = Linux::open()?.observe(&scope)?;
    Ok(LinkStates::new(config, &records, &observed).state(link, family).live().is_some())
}

/// The events by interface: a link may have a connection of its own for each family.
fn down(link: &Link, args: &DownArgs, records: &LinkRecords) -> Vec<Vec<Event>> {
    let mut by_interface: BTreeMap<&IfName, Vec<EventKind>> = BTreeMap::new();
    for family in args.families() {
        let record = records.record(&link.name, *family).or(records.get(&link.name));
        let recorded = record.map_or(&link.interface, |record| &record.interface);
        let interface = args.which.interface.as_ref().unwrap_or(recorded);
        by_interface.entry(interface).or_default().push(EventKind::Down(*family));
    }
    let names = slice::from_ref(&link.ipparam);
    by_interface.into_iter().map(|(interface, kinds)| events(kinds, interface, names)).collect()
}

/// What the record of an interface's IPv6 says, without the prefixes; none if it says none.
fn without_prefixes(interface: &IfName, names: &[String], records: &Records) -> Vec<Event> {
    let record = records.on(interface, Family::V6).filter(|record| !record.addresses.prefixes.is_empty());
    let Some(record) = record else { return Vec::new() };
    let addresses = Addresses { prefixes: Vec::new(), ..record.addresses.clone() };
    events(vec![EventKind::Up(addresses)], interface, names)
}

/// Events of an interface; `names`: what the link is called by its callers, so that it is recognised.
fn events(kinds: Vec<EventKind>, interface: &IfName, names: &[String]) -> Vec<Event> {
    let mut events = Vec::new();
    for kind in kinds {
        events.push(Event { kind, interface: interface.clone(), names: names.to_vec(), session: None });
    }
    events
}
