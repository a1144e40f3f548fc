//! A Debian for doctor to look at.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;

use tempfile::TempDir;

use super::{CTL, ISP1, ISP2, Server, ip, ok};

/// A Debian with both lines up and setup done.
pub struct Host {
    pub server: Server,
    pub root: TempDir,
}

impl Host {
    pub fn new(config: &str) -> Self {
        let host = Self { server: Server::new(config), root: TempDir::new().unwrap() };
        host.write("etc/os-release", "ID=debian\n");
        host.write("etc/ppp/options", "lock\n# defaultroute\nnodefaultroute\n");
        for program in ["mh-ip-up", "mh-ip-down", "mh-vpn-up", "mh-watch", "mhctl"] {
            host.write(&format!("usr/sbin/{program}"), "");
            host.executable(&format!("usr/sbin/{program}"));
        }
        let root = host.root.path().to_owned();
        ok(host.server.bare(CTL).args(["setup", "--bin-dir", "/usr/sbin", "--root"]).arg(root));
        for line in [ISP1, ISP2] {
            line.create();
            fs::write(format!("/proc/sys/net/ipv4/conf/{}/rp_filter", line.device), "0").unwrap();
        }
        host.server.up(ISP1);
        host.server.up(ISP2);
        // The article's policy is about this address; here it is our own.
        ip("addr add 192.168.2.30/32 dev lo");
        host
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    pub fn executable(&self, path: &str) {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn doctor(&self, more: &[&str]) -> Output {
        self.server.bare(CTL).args(["doctor", "--root"]).arg(self.root.path()).args(more).output().unwrap()
    }

    /// What it finds: weight and text.
    pub fn findings(&self) -> Vec<(String, String)> {
        let output = self.doctor(&["--json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
        let all = report["findings"].as_array().unwrap().iter();
        let all: Vec<_> = all.map(|f| (text(&f["weight"]), text(&f["what"]))).collect();
        let troubles = all.iter().filter(|(weight, _)| weight == "trouble").count();
        assert_eq!(report["troubles"], troubles);
        assert_eq!(output.status.code(), Some(i32::from(troubles > 0)));
        all
    }

    /// That the command of the first finding is right as it stands.
    pub fn mends(&self) {
        let report: serde_json::Value = serde_json::from_slice(&self.doctor(&["--json"]).stdout).unwrap();
        ok(std::process::Command::new("sh").args(["-c", report["findings"][0]["mend"].as_str().unwrap()]));
        assert_eq!(self.findings(), []);
    }

    /// That the change leads to just this one finding.
    pub fn finds(&self, weight: &str, part: &str) {
        let all = self.findings();
        let right = all.len() == 1 && all[0].0 == weight && all[0].1.contains(part);
        assert!(right, "{weight} {part:?}: {all:?}");
    }
}
