//! How the pppd of a distribution finds its hooks. Pure, but for reading the tree.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A family of distributions that agree about /etc/ppp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Debian, Ubuntu: run-parts over ip-up.d, no dot in a name
    Debian,
    /// Fedora, RHEL: ip-up.local
    Fedora,
    /// openSUSE, SLE: ip-up.local
    Suse,
    /// Arch: ip-up.d/*.sh, run
    Arch,
    /// Gentoo: ip-up.d/*.sh, sourced
    Gentoo,
    /// OpenWrt: ip-up.d for IPv6 too, no systemd
    Openwrt,
    /// Any other: pppd's own /etc/ppp/ip-up
    Plain,
}

/// What a hook is where pppd's scripts look for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// A link to the executable.
    Link,
    /// A shell script of one line: it is sourced, and an executable cannot be.
    Script,
}

impl Distribution {
    /// Where the hooks of `event` (ip-up, ip-down, ipv6-up, ipv6-down) go; `None`: that event comes
    /// by another's.
    pub fn hook(self, event: &str) -> Option<(String, Hook)> {
        let (path, hook) = match self {
            Self::Fedora | Self::Suse => (format!("/etc/ppp/{event}.local"), Hook::Link),
            Self::Arch => (format!("/etc/ppp/{event}.d/0multihome.sh"), Hook::Link),
            Self::Gentoo => (format!("/etc/ppp/{event}.d/0multihome.sh"), Hook::Script),
            // netifd's ppp6-up runs ip-up.d as well.
            Self::Openwrt if event.starts_with("ipv6") => return None,
            // run-parts takes [A-Za-z0-9_-]+ only, and goes by the alphabet: before resolvconf's.
            Self::Debian | Self::Openwrt => (format!("/etc/ppp/{event}.d/0multihome"), Hook::Link),
            Self::Plain => (format!("/etc/ppp/{event}"), Hook::Link),
        };
        Some((path, hook))
    }

    /// Whether it starts things by systemd.
    pub fn has_systemd(self, root: &Path) -> bool {
        match self {
            Self::Debian | Self::Fedora | Self::Suse | Self::Arch => true,
            Self::Openwrt => false,
            Self::Gentoo | Self::Plain => {
                ["usr/lib/systemd/systemd", "lib/systemd/systemd"].iter().any(|path| root.join(path).exists())
            }
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Fedora => "fedora",
            Self::Suse => "suse",
            Self::Arch => "arch",
            Self::Gentoo => "gentoo",
            Self::Openwrt => "openwrt",
            Self::Plain => "plain",
        }
    }

    /// What the tree at `root` is: by os-release(5), else by what pppd's own script does.
    pub fn detect(root: &Path) -> Option<Self> {
        let releases = ["etc/os-release", "usr/lib/os-release"];
        let release = releases.iter().find_map(|path| fs::read_to_string(root.join(path)).ok());
        release.and_then(|text| by_release(&text)).or_else(|| match fs::read_to_string(root.join("etc/ppp/ip-up")) {
            Ok(script) => by_script(&script),
            Err(_) => root.join("etc/ppp/ip-up.d").is_dir().then_some(Self::Debian),
        })
    }
}

/// By `ID`, then by each of `ID_LIKE`.
fn by_release(text: &str) -> Option<Distribution> {
    let mut ids = [value(text, "ID")].into_iter().chain(value(text, "ID_LIKE").split_whitespace());
    ids.find_map(|id| match id {
        "debian" | "ubuntu" | "raspbian" => Some(Distribution::Debian),
        "fedora" | "rhel" | "centos" => Some(Distribution::Fedora),
        "suse" | "opensuse" | "sles" => Some(Distribution::Suse),
        "arch" => Some(Distribution::Arch),
        "gentoo" => Some(Distribution::Gentoo),
        "openwrt" => Some(Distribution::Openwrt),
        // Alpine's package has no scripts.
        "alpine" => Some(Distribution::Plain),
        _ => None,
    })
}

/// The last value of a key of os-release(5); empty if there is none.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let mut lines = text.lines().rev().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
    lines.next().map(|value| value.trim_matches(|c| c == '"' || c == '\'')).unwrap_or_default()
}

/// By the text of /etc/ppp/ip-up.
fn by_script(text: &str) -> Option<Distribution> {
    if text.contains("run-parts") {
        Some(Distribution::Debian)
    } else if text.contains("ip-up.d/*.sh") {
        // A script does whether it is run or sourced.
        Some(Distribution::Gentoo)
    } else if text.contains("ip-up.local") {
        Some(Distribution::Fedora)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_told_by_their_own_names_and_by_their_parents() {
        for (text, expected) in [
            ("NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n", Some(Distribution::Debian)),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Some(Distribution::Debian)),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Some(Distribution::Fedora)),
            ("ID='opensuse-leap'\nID_LIKE='suse opensuse'\n", Some(Distribution::Suse)),
            ("ID=manjaro\nID_LIKE=arch\n", Some(Distribution::Arch)),
            ("ID=openwrt\nID_LIKE=\"lede openwrt\"\n", Some(Distribution::Openwrt)),
            ("ID=alpine\n", Some(Distribution::Plain)),
            ("ID=nixos\n", None),
            ("", None),
        ] {
            assert_eq!(by_release(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_unknown_one_is_told_by_what_pppd_runs() {
        assert_eq!(by_script("run-parts /etc/ppp/ip-up.d --arg=\"$1\""), Some(Distribution::Debian));
        assert_eq!(by_script("for f in /etc/ppp/ip-up.d/*.sh; do . $f; done"), Some(Distribution::Gentoo));
        assert_eq!(by_script("[ -x /etc/ppp/ip-up.local ] && /etc/ppp/ip-up.local"), Some(Distribution::Fedora));
        assert_eq!(by_script("exit 0"), None);
    }
}
