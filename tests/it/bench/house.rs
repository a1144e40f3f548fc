//! Servers with two lines in namespaces of their own, kept by multihome, by the article's scripts or
//! by Shorewall.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::internet::Namespace;
use crate::support::six::{SIX1, SIX2, Six};
use crate::support::{ISP1, ISP2, Line, ip, ok};

/// Who keeps the routes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    Objects,
    Multipath,
    Script,
    Shorewall,
}

impl Keeper {
    /// Shorewall where it is installed.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Objects, Self::Multipath, Self::Script];
        all.extend(Path::new("/usr/share/shorewall").exists().then_some(Self::Shorewall));
        all
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Objects => "multihome",
            Self::Multipath => "multihome, `nexthops = \"multipath\"`",
            Self::Script => "the article's script",
            Self::Shorewall => "Shorewall",
        }
    }

    /// Of what is compared: what runs when a line comes, and when it goes.
    pub fn hooks(self) -> [&'static str; 2] {
        match self {
            Self::Objects => ["`mh-ip-up`, second line", "`mh-ip-down`, device gone"],
            Self::Multipath => ["`mh-ip-up`, second line, multipath", "`mh-ip-down`, device gone, multipath"],
            Self::Script => ["the script's ip-up, second line", "the script's ip-down, device gone"],
            Self::Shorewall => ["Shorewall's `enable`, second line", "Shorewall's `disable`, device gone"],
        }
    }
}

/// How to call the hooks of one server.
#[derive(Clone)]
pub struct Hooks {
    pub keeper: Keeper,
    /// Configuration, state and lock.
    pub dir: PathBuf,
}

/// Where the release executables are: `make bench` says it.
pub fn program(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("MULTIHOME_BENCH").expect("run this by `make bench`")).join(name)
}

/// The article's scripts.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench").join(name)
}

impl Hooks {
    /// `config` is of no concern to the script.
    pub fn new(keeper: Keeper, dir: &Path, config: &str) -> Self {
        fs::create_dir_all(dir).unwrap();
        let mode = if keeper == Keeper::Multipath { "\n[settings]\nnexthops = \"multipath\"\n" } else { "" };
        fs::write(dir.join("multihome.toml"), format!("{config}{mode}")).unwrap();
        Self { keeper, dir: dir.to_owned() }
    }

    /// What is set up once in the calling thread's namespace.
    pub fn prepare(&self) {
        match self.keeper {
            Keeper::Objects | Keeper::Multipath => {}
            Keeper::Script => drop(ok(&mut Command::new(script("setup")))),
            Keeper::Shorewall => {
                ok(Command::new(script("shorewall")).arg(&self.dir));
                ok(Command::new(self.dir.join("firewall")).arg("start"));
            }
        }
    }

    /// One of our executables, with nothing in its environment.
    pub fn ours(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        command.arg("--config").arg(self.dir.join("multihome.toml")).arg("--state-dir").arg(self.dir.join("state"));
        command.env_clear().current_dir("/");
        command
    }

    fn hook(&self, ours: &str, scripts: &str, line: Line) -> Command {
        let mut command = match self.keeper {
            Keeper::Script => {
                let mut command = Command::new(script(scripts));
                command.env_clear().env("LOCK", self.dir.join("lock")).current_dir("/");
                command
            }
            // What `shorewall enable` runs in the end, without the search for it.
            Keeper::Shorewall => {
                let mut command = Command::new(self.dir.join("firewall"));
                command.args([if ours == "mh-ip-up" { "enable" } else { "disable" }, line.link]);
                return command;
            }
            Keeper::Objects | Keeper::Multipath => self.ours(ours),
        };
        command.env("PPPD_PID", line.pid.to_string());
        command.args([line.device, "/dev/pts/7", "115200", line.local, line.remote, line.link]);
        command
    }

    /// Shorewall loses the other line when a device goes while it works: the next measurement begins anew.
    pub fn mend(&self) {
        if self.keeper == Keeper::Shorewall {
            ok(Command::new(self.dir.join("firewall")).arg("restart"));
        }
    }

    pub fn up(&self, line: Line) -> Command {
        self.hook("mh-ip-up", "ip-up", line)
    }

    pub fn down(&self, line: Line) -> Command {
        self.hook("mh-ip-down", "ip-down", line)
    }

    /// As pppd's ipv6-up, of multihome alone.
    pub fn up6(&self, six: Six) -> Command {
        self.up(Line { local: six.local, remote: six.remote, ..six.line })
    }
}

/// A server whose lines lead nowhere: what a hook costs does not depend on that.
pub struct House {
    pub namespace: Namespace,
    pub hooks: Hooks,
}

impl House {
    /// Both lines up.
    pub fn new(keeper: Keeper, dir: &Path, config: &str) -> Self {
        let house = Self { namespace: Namespace::new(), hooks: Hooks::new(keeper, dir, config) };
        house.namespace.run(|| {
            house.hooks.prepare();
            for line in [ISP1, ISP2] {
                line.create();
                ok(&mut house.hooks.up(line));
            }
        });
        house
    }

    /// Both lines up in both families.
    pub fn dual(dir: &Path, config: &str) -> Self {
        let house = Self::new(Keeper::Objects, dir, config);
        house.namespace.run(|| [SIX1, SIX2].map(|six| house.up6(six)));
        house
    }

    /// A line that is up in IPv4 comes up in IPv6.
    fn up6(&self, six: Six) {
        six.create();
        ok(&mut self.hooks.up6(six));
    }

    /// The line was up in both families and its device is gone.
    pub fn going6(&self, six: Six) {
        self.there(six.line);
        self.up6(six);
        self.going(six.line);
    }

    /// The line is up in IPv4, and IPv6 is about to come.
    pub fn lost6(&self, six: Six) {
        self.lost(six.line);
        ok(&mut self.hooks.up(six.line));
        six.create();
    }

    /// The line is down and its device is there anew: the moment before ip-up.
    pub fn lost(&self, line: Line) {
        if is_there(line) {
            self.going(line);
            ok(&mut self.hooks.down(line));
        }
        line.create();
    }

    /// The line is up.
    pub fn there(&self, line: Line) {
        if !is_there(line) {
            line.create();
            ok(&mut self.hooks.up(line));
        }
    }

    /// The line was up and its device is gone: the moment before an ip-down that is late.
    pub fn going(&self, line: Line) {
        self.there(line);
        line.hang_up();
        line.unregister();
    }
}

/// Whether the line's device is there, in the calling thread's namespace.
fn is_there(line: Line) -> bool {
    Path::new(&format!("/proc/sys/net/ipv4/conf/{}", line.device)).exists()
}

/// Runs `ip -batch` in the calling thread's namespace.
pub fn batch(dir: &Path, lines: &str) {
    let file = dir.join("batch");
    fs::write(&file, lines).unwrap();
    ip(&format!("-batch {}", file.display()));
    fs::remove_file(file).unwrap();
}
