//! The demo's server: veth pairs that stand for its lines, and the real hooks, run as pppd runs
//! them.

use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Error;
use super::stage::Stage;
use super::veth;
use crate::config::{self, Config};
use crate::ctl::lookup::observed_next_hops;
use crate::ctl::probe::Sampler;
use crate::kernel::{self, Kernel, Linux, sysctl};
use crate::model::change::Change;
use crate::model::names::{Family, IfName, TableId};
use crate::model::observed::{Observed, Scope};
use crate::model::routing::NextHop;
use crate::reconcile::preview;
use crate::state::records::Store;

/// A line of the server.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) device: &'static str,
    pub(super) local: Ipv4Addr,
    pub(super) remote: Ipv4Addr,
    pub(super) weight: u16,
    /// Its place among the lines.
    place: usize,
}

impl Line {
    /// The device appears, as pppd has it when it runs ip-up.
    pub(super) fn appear(&self) -> Result<(), Error> {
        let names = (self.device.parse(), format!("{}-far", self.device).parse());
        let (Ok(near), Ok(far)) = names else { return Err(Error::Vanished(self.device)) };
        veth::make(&near, &far)?;
        veth::add_address(index(self)?.ok_or(Error::Vanished(self.device))?, self.local, self.remote)
    }

    /// The far end.
    fn gateway(&self, family: Family) -> IpAddr {
        if family == Family::V4 { self.remote.into() } else { FAR.into() }
    }
}

/// The ends of each line in IPv6. Link-local addresses may be the same on each.
const NEAR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const FAR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

pub(super) const ISP1: Line = Line {
    name: "isp1",
    device: "ppp0",
    local: Ipv4Addr::new(198, 51, 100, 10),
    remote: Ipv4Addr::new(198, 51, 100, 1),
    weight: 8,
    place: 0,
};
pub(super) const ISP2: Line = Line {
    name: "isp2",
    device: "ppp1",
    local: Ipv4Addr::new(203, 0, 113, 10),
    remote: Ipv4Addr::new(203, 0, 113, 1),
    weight: 2,
    place: 1,
};

/// When each line is up: from the end of its mh-ip-up until its device goes. The numbers count
/// changes, so that an odd number that stays the same means: up all the time.
#[derive(Default)]
struct Uptime([AtomicU64; 2]);

impl Uptime {
    fn now(&self) -> [u64; 2] {
        [self.0[0].load(Ordering::SeqCst), self.0[1].load(Ordering::SeqCst)]
    }

    /// Whether some line was up from `before` to `after`.
    fn is_one_up(before: [u64; 2], after: [u64; 2]) -> bool {
        before.iter().zip(after).any(|(before, after)| *before == after && before % 2 == 1)
    }

    fn change(&self, line: &Line) {
        self.0[line.place].fetch_add(1, Ordering::SeqCst);
    }
}

/// A server in the network namespace of the thread.
pub(super) struct Server {
    config: PathBuf,
    state: PathBuf,
    up: PathBuf,
    down: PathBuf,
    /// Which lines are up.
    uptime: Arc<Uptime>,
}

/// A hook that was run: the command as pppd gives it, and the time from start to exit.
pub(super) struct Ran {
    pub(super) command: String,
    pub(super) took: Duration,
}

impl Server {
    /// A server with its configuration and state in `dir` of the stage; `nexthops` as in the configuration.
    pub(super) fn new(stage: &Stage, dir: &str, nexthops: &str) -> Result<Self, Error> {
        let dir = stage.dir().join(dir);
        fs::create_dir(&dir).map_err(Error::io("make a temporary directory"))?;
        let config = dir.join("multihome.toml");
        let mut text = format!("[settings]\nnexthops = \"{nexthops}\"\nfirewall = \"none\"\n");
        for line in [ISP1, ISP2] {
            let Line { name, device, weight, .. } = line;
            // Writing to a String cannot fail.
            let _ = write!(text, "[[uplink]]\nname = \"{name}\"\ninterface = \"{device}\"\nweight = {weight}\n");
        }
        fs::write(&config, text).map_err(Error::io("write the demo's configuration"))?;
        let uptime = Arc::new(Uptime::default());
        Ok(Self {
            config,
            state: dir.join("state"),
            up: stage.hook("mh-ip-up")?,
            down: stage.hook("mh-ip-down")?,
            uptime,
        })
    }

    /// Asks for a route all the time; one is owed while some line is up.
    pub(super) fn sampler(&self) -> Sampler {
        let uptime = Arc::clone(&self.uptime);
        Sampler::start_while(move || uptime.now(), Uptime::is_one_up)
    }

    /// Whether the lines can have IPv6: a kernel may be without, and containers turn it off.
    pub(super) fn may_have_ipv6(&self) -> Result<bool, Error> {
        let is_on = sysctl::ipv6(ISP1.device, "disable_ipv6")? == Some(0);
        Ok(is_on && self.observe()?.has_ipv6())
    }

    /// The device goes, as when pppd closes /dev/ppp; nothing else is done.
    pub(super) fn vanish(&self, line: &Line) -> Result<(), Error> {
        let index = index(line)?.ok_or(Error::Vanished(line.device))?;
        // Before: from now on the line can not be counted on.
        self.uptime.change(line);
        veth::delete(index)
    }

    /// Runs mh-ip-up.
    pub(super) fn ip_up(&self, line: &Line) -> Result<Ran, Error> {
        let ran = self.hook(&self.up, line, [line.local.into(), line.remote.into()])?;
        self.uptime.change(line);
        Ok(ran)
    }

    /// Runs mh-ip-up as pppd runs `ipv6-up`.
    pub(super) fn ipv6_up(&self, line: &Line) -> Result<Ran, Error> {
        self.hook(&self.up, line, [NEAR.into(), FAR.into()])
    }

    /// Runs mh-ip-down.
    pub(super) fn ip_down(&self, line: &Line) -> Result<Ran, Error> {
        self.hook(&self.down, line, [line.local.into(), line.remote.into()])
    }

    /// pppd's six arguments, an environment of pppd's variables only, no standard input. Standard
    /// error is the exception: what a hook complains of should be seen.
    fn hook(&self, program: &Path, line: &Line, [local, remote]: [IpAddr; 2]) -> Result<Ran, Error> {
        let Line { name, device, place, .. } = line;
        let is_v4 = local.is_ipv4();
        let name_of = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (local, remote, tty) = (local.to_string(), remote.to_string(), format!("/dev/pts/{place}"));
        let arguments = [device, tty.as_str(), "115200", &local, &remote, name];
        let mut command = Command::new(program);
        command.arg("--config").arg(&self.config).arg("--state-dir").arg(&self.state).args(arguments);
        let [near, far] = if is_v4 { ["IPLOCAL", "IPREMOTE"] } else { ["LLLOCAL", "LLREMOTE"] };
        command.env_clear().env("IFNAME", device).env(near, &local).env(far, &remote);
        command.env("DEVICE", &tty).env("SPEED", "115200").env("PPPD_PID", (1001 + place).to_string());
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let start = Instant::now();
        let output = command.output().map_err(Error::io("run a hook"))?;
        let ran = Ran { command: format!("{name_of} {}", arguments.join(" ")), took: start.elapsed() };
        if output.status.success() {
            return Ok(ran);
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::Hook { command: ran.command, status: output.status, said })
    }

    /// Takes the spares away, as if there were no such thing.
    pub(super) fn drop_spares(&self) -> Result<(), Error> {
        let settings = self.config()?.settings;
        let mut kernel = Linux::open()?;
        for route in self.observe()?.routes {
            if route.table == TableId::MAIN && settings.numbers.is_spare(route.metric) {
                kernel.apply(&Change::DeleteRoute(route), settings.protocol)?;
            }
        }
        Ok(())
    }

    fn config(&self) -> Result<Config, Error> {
        Ok(config::load(&self.config)?)
    }

    /// What the kernel holds.
    pub(super) fn observe(&self) -> Result<Observed, Error> {
        let config = self.config()?;
        let (records, _) = Store::new(&self.state).load(&config);
        Ok(Linux::open()?.observe(&Scope::new(&config, &records))?)
    }

    /// Whether the kernel holds what the configuration wants, and nothing of ours beyond.
    pub(super) fn is_right(&self) -> Result<bool, Error> {
        let config = self.config()?;
        let (records, errors) = Store::new(&self.state).load(&config);
        let plan = preview(&config, &records, &mut Linux::open()?)?;
        Ok(errors.is_empty() && plan.changes.is_empty() && plan.problems.is_empty())
    }

    /// Whether the default route leads by just these lines, in the order of their devices' names, by
    /// their weights.
    pub(super) fn leads_by(&self, lines: &[&Line]) -> Result<bool, Error> {
        self.leads(Family::V4, lines)
    }

    /// The same in IPv6.
    pub(super) fn leads6_by(&self, lines: &[&Line]) -> Result<bool, Error> {
        self.leads(Family::V6, lines)
    }

    fn leads(&self, family: Family, lines: &[&Line]) -> Result<bool, Error> {
        let observed = self.observe()?;
        let mut ways = ways(&observed, family);
        ways.sort_by(|(a, _), (b, _)| a.device.name.cmp(&b.device.name));
        // A weight among one says nothing.
        let alone = ways.len() == 1;
        Ok(ways.len() == lines.len()
            && ways.iter().zip(lines).all(|((next_hop, weight), line)| {
                next_hop.device.name.as_str() == line.device
                    && next_hop.gateway.is_some_and(|g| g.get() == line.gateway(family))
                    && (alone || *weight == line.weight)
            }))
    }
}

/// Where main's default route of the lowest metric leads, with weights.
fn ways(observed: &Observed, family: Family) -> Vec<(&NextHop, u16)> {
    let routes = observed.routes.iter().filter(|route| route.family == family && route.table == TableId::MAIN);
    let lowest = routes.clone().map(|route| route.metric).min();
    let lowest = routes.filter(|route| Some(route.metric) == lowest);
    lowest.flat_map(|route| observed_next_hops(&route.target, observed)).collect()
}

/// Index of a line's device.
pub(super) fn index(line: &Line) -> Result<Option<u32>, Error> {
    // The demo's own names are valid.
    line.device.parse::<IfName>().ok().map_or(Ok(None), |name| Ok(kernel::index(&name)?))
}
