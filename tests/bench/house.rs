//! Servers with two lines in namespaces of their own, kept by multihome or by the article's scripts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::internet::Namespace;
use super::support::{ISP1, ISP2, Line, ip, ok};

/// Who keeps the routes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    Objects,
    Multipath,
    Script,
}

impl Keeper {
    pub const ALL: [Self; 3] = [Self::Objects, Self::Multipath, Self::Script];

    pub fn name(self) -> &'static str {
        match self {
            Self::Objects => "multihome",
            Self::Multipath => "multihome, `nexthops = \"multipath\"`",
            Self::Script => "the article's script",
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
        if self.keeper == Keeper::Script {
            ok(&mut Command::new(script("setup")));
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
            _ => self.ours(ours),
        };
        command.env("PPPD_PID", line.pid.to_string());
        command.args([line.device, "/dev/pts/7", "115200", line.local, line.remote, line.link]);
        command
    }

    pub fn up(&self, line: Line) -> Command {
        self.hook("mh-ip-up", "ip-up", line)
    }

    pub fn down(&self, line: Line) -> Command {
        self.hook("mh-ip-down", "ip-down", line)
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

    /// Gone, as at the end of a pppd: device and all. In the calling thread's namespace.
    pub fn gone(line: Line) {
        line.hang_up();
        line.unregister();
    }
}

/// Runs `ip -batch` in the calling thread's namespace.
pub fn batch(dir: &Path, lines: &str) {
    let file = dir.join("batch");
    fs::write(&file, lines).unwrap();
    ip(&format!("-batch {}", file.display()));
    fs::remove_file(file).unwrap();
}
