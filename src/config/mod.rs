//! The configuration file, parsed and validated. `parse` is pure; `load` reads the file.

mod check;
mod error;
mod field;
mod policy;
mod raw;
mod sets;
mod settings;
#[cfg(test)]
mod tests;
mod validate;

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ipnet::{IpNet, Ipv6Net};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

pub use check::{Check, Method, Target};
pub use error::{Error, Place};
pub use sets::Sets;
pub use settings::{NexthopMode, Settings};
pub(crate) use validate::{MOST_PREFIXES, is_customers};

pub use crate::model::firewall::Firewall;
use crate::model::names::{Family, HostAddr, IfName, LinkName, Mark, SetName, TableId, Tier, Weight};
use crate::model::numbering;
use crate::model::routing::{FwMark, PortRange, UidRange};

/// Default of `--config`.
pub const DEFAULT_PATH: &str = "/etc/multihome.toml";

/// Maximum size in bytes. All the rules that fit into the kernel need less.
const LONGEST: u64 = 1 << 20;

/// Reads and validates the file at `path`.
pub fn load(path: &Path) -> Result<Config, Error> {
    parse(&read(path)?, path)
}

/// The same for a hook, without `[check]`, in which a mistake stops no event.
pub(crate) fn load_for_hook(path: &Path) -> Result<Config, Error> {
    let text = read(path)?;
    raw::RawConfig::read(&text).and_then(|raw| validate::config(&raw)).map_err(|error| Error::new(error, &text, path))
}

/// The text of the file at `path`, which may be a pipe.
pub fn read(path: &Path) -> Result<String, Error> {
    let bytes = bytes(path).map_err(|e| {
        let shown = path.display();
        let message = match e.kind() {
            ErrorKind::NotFound => format!("no configuration at {shown}: `mhctl init --write` makes one to begin with"),
            _ => format!("cannot read {shown}: {e}"),
        };
        Error::unread(path, &message)
    })?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let message = "this is not UTF-8 text: save the file as UTF-8".to_owned();
        let error = error::SpannedError { key: None, span: at..at + 1, message };
        Error::new(error, &String::from_utf8_lossy(e.as_bytes()), path)
    })
}

/// Reads the file. With `O_NONBLOCK` a pipe without a writer is empty, where open(2) would block forever (fifo(7)). A
/// pipe with a writer is read to its end.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    // Most are read at once then, and not in steps from 32 bytes on.
    let mut bytes = Vec::with_capacity(4096);
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than 1 MiB, which no configuration is"));
    }
    Ok(bytes)
}

/// Validates `text`; errors name it `file`.
pub fn parse(text: &str, file: &Path) -> Result<Config, Error> {
    raw::RawConfig::read(text).and_then(with_check).map_err(|error| Error::new(error, text, file))
}

fn with_check(raw: raw::RawConfig<'_>) -> Result<Config, error::SpannedError> {
    let config = validate::config(&raw)?;
    if config.probe_mark.is_none()
        && config.checked().next().is_some()
        && let Some(table) = raw.check
    {
        let message = "there is no bit of the mark left for probes: each link has one, each pair of sets has one, and \
                       those of fwmark are taken; write narrower masks";
        return Err(error::SpannedError { key: Some("check"), span: table.span(), message: message.to_owned() });
    }
    Ok(Config { check: check::read(raw.check)?, ..config })
}

/// Where each link and each policy begins in a text that [`parse`] accepts, in the order of [`Config`].
pub fn places(text: &str) -> (Vec<Place>, Vec<Place>) {
    let Ok(raw) = raw::RawConfig::read(text) else { return Default::default() };
    let mut places = error::Places::new(text);
    let links = raw.uplink.iter().chain(&raw.tunnel).map(|raw| places.place(raw.span())).collect();
    (links, raw.policy.iter().map(|raw| places.place(raw.span())).collect())
}

/// The validated configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Uplinks before tunnels, each in the order of the file. The numbering follows this order.
    pub links: Vec<Link>,
    /// In the order of the file: the first match decides.
    pub policies: Vec<Policy>,
    /// `None`: no uplink is probed; or a hook has read the file, which does not look.
    pub check: Option<Check>,
    /// What probes of uplinks bear beside their link's mark, and nothing else does; `None`: no uplink is probed.
    pub probe_mark: Option<Mark>,
    pub settings: Settings,
}

impl Config {
    /// The mask of all links' marks. No other bit of a connection mark is read or written.
    pub fn marks(&self) -> u32 {
        self.links.iter().fold(0, |all, link| all | link.mark.get())
    }

    /// The pairs of sets that policies have, each once, in the order of the policies.
    pub(crate) fn sets(&self) -> Vec<&Sets> {
        let mut all = Vec::new();
        for sets in self.policies.iter().filter_map(|policy| policy.sets.as_ref()) {
            if !all.contains(&sets) {
                all.push(sets);
            }
        }
        all
    }

    /// The names of sets that policies have, each once, in the order of the policies.
    pub(crate) fn set_names(&self) -> Vec<&SetName> {
        let mut all = Vec::new();
        for name in self.sets().into_iter().flat_map(|sets| [&sets.from, &sets.to]).flatten() {
            if !all.contains(&name) {
                all.push(name);
            }
        }
        all
    }

    /// The mask of the marks of sets.
    pub(crate) fn set_marks(&self) -> u32 {
        self.sets().into_iter().fold(0, |all, sets| all | sets.mark.get())
    }

    /// The mask of all marks of ours: those of links and those of sets.
    pub(crate) fn all_marks(&self) -> u32 {
        self.marks() | self.set_marks()
    }

    /// Whether packets must be marked for a kill switch to hold.
    pub(crate) fn has_kill_switch_by_sets(&self) -> bool {
        self.policies.iter().any(|policy| policy.sets.is_some() && policy.otherwise == Otherwise::Unreachable)
    }

    /// The link of that name.
    pub fn link(&self, name: &LinkName) -> Option<&Link> {
        self.links.iter().find(|link| link.name == *name)
    }

    /// The link that is configured on `interface`.
    pub(crate) fn link_on(&self, interface: &IfName) -> Option<&Link> {
        self.links.iter().find(|link| link.interface == *interface)
    }

    /// What probes by this link bear; `None`: no uplink is probed.
    pub(crate) fn probe_marks(&self, link: &Link) -> Option<u32> {
        Some(self.probe_mark?.get() | link.mark.get())
    }

    /// The uplinks whose health `mh-watch` judges.
    pub fn checked(&self) -> impl Iterator<Item = &Link> {
        self.uplinks().filter(|link| link.check)
    }

    /// Whether any link is used for IPv6 when it has any.
    pub(crate) fn uses_ipv6(&self) -> bool {
        self.links.iter().any(|link| link.ipv6)
    }

    /// The uplinks, which come first among the links.
    pub fn uplinks(&self) -> impl DoubleEndedIterator<Item = &Link> {
        self.links.iter().filter(|link| link.is_uplink())
    }

    /// How many uplinks there are.
    pub fn uplink_count(&self) -> u8 {
        self.uplinks().next_back().map_or(0, |last| last.position + 1)
    }

    /// Priority of the first policy rule.
    pub fn first_policy(&self) -> u32 {
        self.settings.numbers.first_policy(self.uplink_count())
    }

    /// Priorities of the rules of each policy.
    pub fn policy_priorities(&self) -> impl Iterator<Item = Range<u32>> {
        let mut next = self.first_policy();
        self.policies.iter().map(move |policy| {
            let priorities = numbering::policy_rules(next, policy.rule_count());
            next = priorities.end;
            priorities
        })
    }
}

/// A connection out of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a key of the file")]
pub struct Link {
    /// Also the name of its routing table.
    pub name: LinkName,
    /// Index in [`Config::links`], from which its numbers are derived.
    pub position: u8,
    pub kind: LinkKind,
    /// Identifies the link if the caller gives no name.
    pub interface: IfName,
    /// Identifies the link: pppd's ipparam or linkname.
    pub ipparam: String,
    pub table: TableId,
    pub mark: Mark,
    /// Outgoing packets get its address (nat MASQUERADE).
    pub masquerade: bool,
    /// Makes the link static.
    pub gateway: Option<HostAddr>,
    /// Makes the link static in IPv6.
    pub gateway6: Option<HostAddr>,
    /// IPv6 prefixes that its provider routes to this host, besides those that callers and the interface say.
    pub prefixes: Vec<Ipv6Net>,
    /// Whether it is used for IPv6 when it has any.
    pub ipv6: bool,
    /// Of an uplink: which IPv6 packets that leave by it get its address.
    pub nat6: Nat6,
    /// Whether `mh-watch` judges its health: it is an uplink, there is a `[check]`, and nothing says otherwise.
    pub check: bool,
    /// Of an uplink: connections leave it once a better tier is up, and it is probed sparingly.
    pub metered: bool,
}

impl Link {
    /// Its tier; `None`: it is a tunnel.
    pub fn tier(&self) -> Option<Tier> {
        match self.kind {
            LinkKind::Uplink { tier, .. } => Some(tier),
            LinkKind::Tunnel => None,
        }
    }

    /// Whether it is up while its interface is, in some family.
    pub fn is_static(&self) -> bool {
        self.gateway.or(self.gateway6).is_some()
    }

    /// The configured gateway of a family.
    pub fn gateway_of(&self, family: Family) -> Option<HostAddr> {
        match family {
            Family::V4 => self.gateway,
            Family::V6 => self.gateway6,
        }
    }

    /// Whether it is an uplink, and no tunnel.
    pub fn is_uplink(&self) -> bool {
        matches!(self.kind, LinkKind::Uplink { .. })
    }
}

/// Which IPv6 packets that leave by an uplink get its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nat6 {
    /// Those whose source is in none of its prefixes.
    #[default]
    Foreign,
    All,
    None,
}

/// What a link is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// Part of the default route.
    Uplink {
        /// Within its tier.
        weight: Weight,
        /// Uplinks of the lowest tier that is up carry traffic.
        tier: Tier,
    },
    /// Reached through its own table only.
    Tunnel,
}

/// A selector, and the links that its traffic prefers, in order. A packet matches if it matches one value of each
/// non-empty list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Free text for messages.
    pub name: String,
    /// Either family, or both.
    pub from: Vec<IpNet>,
    pub to: Vec<IpNet>,
    pub sets: Option<Sets>,
    /// Incoming interfaces of forwarded traffic.
    pub iif: Vec<IfName>,
    pub proto: Option<u8>,
    pub sport: Vec<PortRange>,
    pub dport: Vec<PortRange>,
    /// Owners of the socket.
    pub uid: Vec<UidRange>,
    /// Differentiated services code point, 0 to 63.
    pub dscp: Option<u8>,
    /// A mark of the administrator, without the bits of the links' marks, and compared without those of sets.
    pub fwmark: Option<FwMark>,
    /// Names of links in `Config::links`, in order of preference; at least one.
    pub via: Vec<LinkName>,
    /// Where the traffic goes when none of `via` is up.
    pub otherwise: Otherwise,
}

impl Policy {
    /// The mark that its packets have: the administrator's and that of its sets.
    pub(crate) fn mark(&self) -> Option<FwMark> {
        let sets = self.sets.as_ref().map(|sets| FwMark { value: sets.mark.get(), mask: sets.mark.get() });
        match (self.fwmark, sets) {
            (Some(own), Some(sets)) => Some(FwMark { value: own.value | sets.value, mask: own.mask | sets.mask }),
            (own, sets) => own.or(sets),
        }
    }

    /// Whether it selects by anything but sets.
    pub(crate) fn has_other_selectors(&self) -> bool {
        let lists =
            [self.from.len(), self.to.len(), self.iif.len(), self.sport.len(), self.dport.len(), self.uid.len()];
        let is_one = self.proto.is_some() || self.dscp.is_some() || self.fwmark.is_some();
        is_one || lists.iter().any(|len| *len > 0)
    }

    /// Number of its priorities: for each combination of the lists' values, one for each link, and one more for
    /// `unreachable`. Both families have the same.
    pub fn rule_count(&self) -> usize {
        let lengths = [self.iif.len(), self.sport.len(), self.dport.len(), self.uid.len()];
        let others = lengths.iter().fold(1, |n: usize, len| n.saturating_mul(*len.max(&1)));
        let addresses =
            Family::BOTH.map(|family| choices(&self.from, family).saturating_mul(choices(&self.to, family)));
        let combinations = others.saturating_mul(addresses[0].max(addresses[1]));
        combinations.saturating_mul(self.via.len() + usize::from(self.otherwise == Otherwise::Unreachable))
    }

    /// Its IP protocol in a family: `icmp` is that of the family.
    pub(crate) fn proto_in(&self, family: Family) -> Option<u8> {
        self.proto.map(|proto| if proto == Family::V4.icmp() { family.icmp() } else { proto })
    }

    /// The families that it can be about: those of its addresses.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        let is_about =
            |list: &[IpNet], family| list.is_empty() || list.iter().any(|net| Family::of(net.addr()) == family);
        Family::BOTH.into_iter().filter(move |family| is_about(&self.from, *family) && is_about(&self.to, *family))
    }
}

/// How many selectors a list of addresses makes in a family.
fn choices(list: &[IpNet], family: Family) -> usize {
    if list.is_empty() { 1 } else { list.iter().filter(|net| Family::of(net.addr()) == family).count() }
}

/// What happens to a policy's traffic when none of its links is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Otherwise {
    /// The packet goes on as if there were no policy.
    #[default]
    Default,
    /// The packet is refused (a kill switch).
    Unreachable,
}
