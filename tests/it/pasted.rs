//! What is printed to be pasted, with names in it that somebody else has chosen.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::*;
use tempfile::TempDir;

/// Names of access points, of files, and of whatever else has a name.
const HOSTILE: [&str; 9] =
    ["x$(>pwned)", "-h\"'", "`>pwned`", "a;>pwned", "it's", "%s\\n", "\u{1b}[2J", "a\nb>pwned", "two words"];

/// Mends of doctor over the tree.
fn mends(server: &Server, root: &Path) -> Vec<String> {
    let output = server.bare(CTL).args(["doctor", "--json", "--root"]).arg(root).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["findings"].as_array().unwrap().iter().map(|f| f["mend"].as_str().unwrap().to_owned()).collect()
}

/// The arguments with which `program` is called when the line is pasted, where nothing else is to be found.
fn pasted(line: &str, program: &str) -> Vec<String> {
    let dir = TempDir::new().unwrap();
    install_script("#!/bin/sh\nprintf '%s\\0' \"$@\"\n", dir.path().join(program));
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", line]).env_clear().env("PATH", dir.path()).current_dir(dir.path());
    let output = ok(&mut shell);
    assert!(output.stderr.is_empty() && !dir.path().join("pwned").exists(), "{line:?}: {output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    said.split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn doctors_mend_for_network_manager_names_the_connection_and_runs_nothing_else() {
    let server = Server::new(ARTICLE);
    let root = TempDir::new().unwrap();
    let profiles = root.path().join("etc/NetworkManager/system-connections");
    fs::create_dir_all(&profiles).unwrap();
    let uuid = "7b5a6d4e-8f1c-4b7a-9c55-0d6c1f0a3f11";
    for id in HOSTILE {
        // As NetworkManager writes an id that no line can hold.
        let kept = id.replace('\\', "\\\\").replace('\n', "\\n");
        let profile = |key: &str| {
            format!("[connection]\nid={kept}\n{key}interface-name=ppp0\n[ipv4]\nmethod=auto\nroute-metric=0\n")
        };
        for (key, which) in [(format!("uuid={uuid}\n"), ["uuid", uuid]), (String::new(), ["id", kept.as_str()])] {
            fs::write(profiles.join("cable.nmconnection"), profile(&key)).unwrap();
            let all = mends(&server, root.path());
            let mend = all.iter().find(|mend| mend.starts_with("nmcli ")).unwrap();
            assert!(!mend.chars().any(char::is_control), "{mend:?}");
            let expected = [&["connection", "modify"][..], &which, &["ipv4.never-default", "yes"]].concat();
            assert_eq!(pasted(mend, "nmcli"), expected, "{mend:?}");
        }
    }
}

#[test]
fn doctors_mend_for_pppds_options_names_the_file_and_runs_nothing_else() {
    let server = Server::new(ARTICLE);
    let root = TempDir::new().unwrap();
    let peers = root.path().join("etc/ppp/peers");
    fs::create_dir_all(&peers).unwrap();
    for name in HOSTILE {
        fs::write(peers.join(name), "ipparam isp1\ndefaultroute\n").unwrap();
        let all = mends(&server, root.path());
        let mend = all.iter().find(|mend| mend.starts_with("sed ")).unwrap();
        let args = pasted(mend, "sed");
        assert_eq!(args.last().unwrap(), &format!("/etc/ppp/peers/{name}"), "{mend:?}");
        assert!(args.len() <= 5, "{args:?}");
        fs::remove_file(peers.join(name)).unwrap();
    }
}

#[test]
fn a_flush_that_is_only_shown_names_the_records_wherever_they_are() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let odd = server.state().with_file_name("a b$(>pwned)'");
    fs::rename(server.state(), &odd).unwrap();
    let mut flush = Command::new(CTL);
    flush.arg("--config").arg(server.config()).arg("--state-dir").arg(&odd).args(["flush", "--dry-run"]);
    let shown = String::from_utf8(ok(&mut flush).stdout).unwrap();
    let line = shown.lines().find(|line| line.starts_with("rm ")).unwrap();
    assert_eq!(pasted(line, "rm"), ["-f", odd.join("ppp0.ipv4").to_str().unwrap()]);
}
