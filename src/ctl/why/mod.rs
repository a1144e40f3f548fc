//! `mhctl why`: which rule, table and link a new connection takes, why each earlier rule does not,
//! and what the kernel itself says.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use thiserror::Error;

use super::Error as CtlError;
use crate::cli::Common;
use crate::config::{self, Config};
use crate::ctl::lookup::read::Fib;
use crate::ctl::lookup::{self, Answer, End, Names, Packet, Tables, Walk, difference};
use crate::kernel::netlink::constants::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP};
use crate::kernel::{self, Kernel, Linux, sysctl};
use crate::model::names::{DeviceName, Family, HostAddr, IfName, LinkName, TableId};
use crate::model::observed::Scope;
use crate::model::routing::FoundRule;
use crate::reconcile::link_state::LinkStates;
use crate::state::records::Store;

mod json;
mod sets;
mod silence;
mod text;
mod without;

use sets::Membership;
use silence::Silence;
use without::Without;

/// A connection.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mhctl why 203.0.113.99 --proto udp --dport 1130  # from this host
  mhctl why 8.8.8.8 --from 192.168.2.30            # from a machine behind it
  mhctl why 2001:4860:4860::8888 --if-down isp1    # if isp1 were down
Sets of policies (to-set, from-set) are asked. Other firewall rules are not gone
through: say the mark that they give with --mark.")]
pub struct Args {
    /// Address that the connection goes to
    #[arg(value_parser = host)]
    dst: IpAddr,
    /// Its source; one that is not this host's is forwarded
    #[arg(long, value_name = "ADDRESS", value_parser = host)]
    from: Option<IpAddr>,
    /// Interface it comes in by, if its source does not tell
    #[arg(long, value_name = "IF", requires = "from")]
    iif: Option<IfName>,
    /// tcp, udp, icmp (of either family) or a number
    #[arg(long, default_value = "tcp", value_parser = proto)]
    proto: u8,
    /// Source port
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    sport: u16,
    /// Destination port
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    dport: u16,
    /// Firewall mark, such as 0x1
    #[arg(long, value_name = "M", default_value = "0", hide_default_value = true, value_parser = mark)]
    mark: u32,
    /// User whose socket it is; by default yours
    #[arg(long, value_name = "U", conflicts_with = "iif")]
    uid: Option<u32>,
    /// Differentiated services code point, 0 to 63
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(u8).range(0..64))]
    dscp: u8,
    /// Answer as if this link were down; may be given again
    #[arg(long, value_name = "LINK")]
    if_down: Vec<LinkName>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What cannot be answered.
#[derive(Debug, Error)]
pub enum Error {
    /// Nobody knows where the source is.
    #[error("{0} is no address of this host, and no route leads to it: say --iif, the interface that it comes in by")]
    NoSource(IpAddr),
    /// A user of another host.
    #[error("{0} is no address of this host: what it sends is forwarded, and has no user here; leave --uid out")]
    ForeignUser(IpAddr),
    /// The source is of the other family.
    #[error("{from} and {to} are not of one family: no packet has both")]
    TwoFamilies { from: IpAddr, to: IpAddr },
    #[error("interface {0} does not exist")]
    NoInterface(IfName),
}

fn host(text: &str) -> Result<IpAddr, String> {
    let addr = text.parse().map_err(|_| "write an IP address such as 192.0.2.1 or 2001:db8::1".to_owned())?;
    let is_host = match addr {
        IpAddr::V4(addr) => !addr.is_unspecified() && !addr.is_broadcast() && !addr.is_multicast(),
        IpAddr::V6(addr) => addr.is_loopback() || HostAddr::new(addr).is_ok(),
    };
    match addr {
        _ if !is_host => Err("write the address of a single host".to_owned()),
        IpAddr::V6(local) if local.is_unicast_link_local() => {
            Err("a link-local address is on its own link; no rule decides about it".to_owned())
        }
        _ => Ok(addr),
    }
}

fn proto(text: &str) -> Result<u8, String> {
    match text {
        "icmp" => Ok(IPPROTO_ICMP),
        "icmpv6" => Ok(IPPROTO_ICMPV6),
        "tcp" => Ok(IPPROTO_TCP),
        "udp" => Ok(IPPROTO_UDP),
        n => n.parse().ok().filter(|n| *n != 0).ok_or_else(|| "write tcp, udp, icmp or a number to 255".to_owned()),
    }
}

fn mark(text: &str) -> Result<u32, String> {
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16));
    parsed.map_err(|_| "write a number such as 0x1".to_owned())
}

/// Everything that was found out.
struct Report<'a> {
    packet: &'a Packet,
    /// The sets that were asked about it.
    memberships: Vec<Membership>,
    walk: Walk<'a>,
    /// The kernel's own answer, or why it was not asked.
    kernel: Result<Answer, &'a str>,
    /// What keeps it from being the walk's.
    difference: Option<String>,
    /// Gateways of the walk's route that do not answer.
    silence: Silence,
    /// The walk once more, with the source that the kernel has chosen: in IPv4 connect(2) looks up twice, in IPv6 a
    /// connection is looked up anew when any route has changed.
    bound: Option<(IpAddr, Walk<'a>)>,
    /// `--if-down`.
    without: &'a [LinkName],
    /// Of those, links that are not up anyway.
    down_already: Vec<LinkName>,
    naming: Naming<'a>,
}

impl Report<'_> {
    /// Whether a gateway that does not answer is why the kernel's answer is another.
    fn is_explained(&self) -> bool {
        match (&self.walk.end, &self.kernel) {
            (End::Route(route), Ok(answer)) => self.difference.is_some() && self.silence.explains(route, answer),
            _ => false,
        }
    }
}

/// What things are called here.
struct Naming<'a> {
    config: Option<&'a Config>,
    tables: Names,
    /// Links by the name of the interface that they are on.
    links: BTreeMap<DeviceName, LinkName>,
}

impl Naming<'_> {
    /// What a rule of ours is there for.
    fn purpose(&self, found: &FoundRule) -> Option<String> {
        let config = self.config?;
        if found.protocol != config.settings.protocol {
            return None;
        }
        let mut policies = config.policies.iter().zip(config.policy_priorities());
        let (policy, _) = policies.find(|(_, priorities)| priorities.contains(&found.rule.priority))?;
        Some(format!("policy \"{}\"", policy.name))
    }

    /// The link that has what an IPv6 rule of ours selects by its source.
    fn source(&self, found: &FoundRule) -> Option<String> {
        let config = self.config?;
        let from = found.rule.selector.from.filter(|_| found.rule.family == Family::V6)?;
        let is_ours = found.protocol == config.settings.protocol;
        let numbers = config.settings.numbers;
        let mut uplinks = config.uplinks().filter(|_| is_ours);
        let link = uplinks.find(|link| numbers.source_rule(link.position) == found.rule.priority)?;
        Some(format!("its source: {} has what comes from {from}", link.name))
    }
}

pub(super) fn run(args: &Args, common: &Common) -> Result<ExitCode, CtlError> {
    let config = configuration(args, common)?;
    let mut fib = Fib::open()?;
    let mut packet = packet(args, &mut fib)?;
    let mut memberships = Vec::new();
    if let Some(config) = &config {
        memberships = sets::mark(&mut packet, config, &mut fib)?;
    }
    let family = packet.family();
    let mut rules = fib.rules(family)?;
    let known = config.as_ref().map(|config| Known::new(args, common, config)).transpose()?;
    let Known { links, without, down_already } = known.unwrap_or_default();
    without.rules(family, &mut rules);
    let naming = Naming { config: config.as_ref(), tables: tables(config.as_ref()), links };

    let mut read = Tables::new();
    fib.fill(&rules, &mut read, &packet, |routes| without.routes(family, routes))?;
    let kernel = match args.if_down[..] {
        [] => fib.ask(&packet)?.ok_or("it answers for tcp, udp and icmp only"),
        _ => Err("this is not as it is now"),
    };
    let source = if let Ok(Answer::Way { source, local: false, .. }) = &kernel { *source } else { None };
    let bound = source.filter(|_| packet.from.is_none()).map(|from| Packet { from: Some(from), ..packet.clone() });
    if let Some(bound) = &bound {
        fib.fill(&rules, &mut read, bound, |routes| without.routes(family, routes))?;
    }
    // fill() has read each table that the walk comes to.
    let Ok(walk) = lookup::walk(&rules, &read, &packet) else { return Ok(crate::cli::FAILED.into()) };
    let differs = kernel.as_ref().ok().and_then(|answer| difference(&walk.end, answer, &rules));
    let difference = differs.map_or_else(|| unforwarded(&packet, &walk), |text| Ok(Some(text)))?;
    let bound = bound.and_then(|bound| Some((bound.from?, lookup::walk(&rules, &read, &bound).ok()?)));
    let silence = match &walk.end {
        End::Route(route) if !route.delivers(&packet) => Silence::of(route, &mut fib)?,
        _ => Silence::default(),
    };
    let report = Report {
        packet: &packet,
        memberships,
        walk,
        kernel,
        difference,
        silence,
        bound,
        without: &args.if_down,
        down_already,
        naming,
    };
    let mut out = io::stdout().lock();
    if args.json {
        super::show::json(&json::report(&report))?;
    } else {
        text::print(&report, &mut out)?;
    }
    let agreed = report.difference.is_none() || report.is_explained();
    let told = !report.memberships.iter().any(Membership::is_hidden);
    let fine = agreed && told && !matches!(report.walk.end, End::Unknown(_));
    Ok(if fine { ExitCode::SUCCESS } else { crate::cli::FAILED.into() })
}

/// The configuration; `None`: there is none, and what there is can be explained without names.
fn configuration(args: &Args, common: &Common) -> Result<Option<Config>, config::Error> {
    let is_default = common.config == Path::new(config::DEFAULT_PATH);
    match config::load(&common.config) {
        Err(_) if is_default && args.if_down.is_empty() && !common.config.exists() => Ok(None),
        loaded => loaded.map(Some),
    }
}

/// What follows from the configuration and the links that are up.
#[derive(Default)]
struct Known {
    /// Links by the name of the interface that they are on.
    links: BTreeMap<DeviceName, LinkName>,
    without: Without,
    /// Links of `--if-down` that are not up anyway.
    down_already: Vec<LinkName>,
}

impl Known {
    fn new(args: &Args, common: &Common, config: &Config) -> Result<Self, CtlError> {
        let (records, _) = Store::new(&common.state_dir).load(config);
        let observed = Linux::open()?.observe(&Scope::new(config, &records))?;
        let states = LinkStates::new(config, &records, &observed);
        let live = states.live();
        let mut known = Self::default();
        known.links.extend(config.links.iter().map(|l| (l.interface.device(), l.name.clone())));
        known.links.extend(live.iter().map(|l| (l.next_hop.device.name.device(), l.link.name.clone())));
        for link in &args.if_down {
            super::link::find(link.as_str(), config)?;
            if !live.iter().any(|l| l.link.name == *link) {
                known.down_already.push(link.clone());
            }
        }
        if !args.if_down.is_empty() {
            known.without = Without::new(config, &records, &observed, &states, &args.if_down);
        }
        Ok(known)
    }
}

/// The packet that is asked about.
fn packet(args: &Args, fib: &mut Fib) -> Result<Packet, CtlError> {
    if let Some(from) = args.from.filter(|from| Family::of(*from) != Family::of(args.dst)) {
        return Err(Error::TwoFamilies { from, to: args.dst }.into());
    }
    let foreign = match args.from {
        Some(from) if args.iif.is_some() || !fib.is_own(from)? => Some(from),
        _ => None,
    };
    if let (Some(from), Some(_)) = (foreign, args.uid) {
        return Err(Error::ForeignUser(from).into());
    }
    let iif = match (&args.iif, foreign) {
        (Some(name), _) => Some((fib.index(name)?.ok_or_else(|| Error::NoInterface(name.clone()))?, name.device())),
        (None, Some(from)) => Some(towards(from, fib)?.ok_or(Error::NoSource(from))?),
        (None, None) => None,
    };
    Ok(Packet {
        to: args.dst,
        from: args.from,
        proto: if args.proto == IPPROTO_ICMP { Family::of(args.dst).icmp() } else { args.proto },
        sport: args.sport,
        dport: args.dport,
        mark: args.mark,
        uid: if iif.is_some() { 0 } else { args.uid.unwrap_or_else(own_uid) },
        iif,
        dscp: args.dscp,
    })
}

/// Whoever asks; std has no `geteuid()`.
fn own_uid() -> u32 {
    fs::metadata("/proc/self").map_or(0, |meta| meta.uid())
}

/// The device by which an address is reached.
fn towards(to: IpAddr, fib: &mut Fib) -> Result<Option<(u32, DeviceName)>, kernel::Error> {
    let packet = Packet { to, from: None, iif: None, proto: IPPROTO_TCP, sport: 0, dport: 0, mark: 0, uid: 0, dscp: 0 };
    Ok(match fib.ask(&packet)? {
        Some(Answer::Way { device, name, local: false, .. }) => Some((device, name)),
        _ => None,
    })
}

/// Why the kernel drops a packet that its rules and routes lead on: asked about an IPv6 packet, it does not say.
fn unforwarded(packet: &Packet, walk: &Walk<'_>) -> Result<Option<String>, kernel::Error> {
    let leads_on = matches!(&walk.end, End::Route(route) if !route.delivers(packet));
    let is_forwarded = packet.iif.is_some() && packet.family() == Family::V6;
    let is_dropped = leads_on && is_forwarded && !sysctl::forwards6()?;
    Ok(is_dropped.then(|| "it forwards no IPv6: sysctl -w net.ipv6.conf.all.forwarding=1".to_owned()))
}

/// Names of tables: the kernel's, and those of the links.
fn tables(config: Option<&Config>) -> Names {
    let kernels = [(TableId::DEFAULT, "default"), (TableId::MAIN, "main"), (TableId::LOCAL, "local")];
    let mut names = Names::from(kernels.map(|(table, name)| (table, name.to_owned())));
    names.extend(config.into_iter().flat_map(|c| &c.links).map(|l| (l.table, l.name.to_string())));
    names
}
