//! Which names, numbers and addresses are taken, and which are refused.

use super::*;

#[test]
fn link_names_are_table_names_and_file_names() {
    for good in ["isp1", "a", "vpn-office_2", "abcdefghijklmno"] {
        assert_eq!(good.parse::<LinkName>().unwrap().as_str(), good);
    }
    for bad in ["", "Isp", "1isp", "-x", "a/b", "..", "a b", "abcdefghijklmnop", "main", "local", "default", "é"] {
        assert!(bad.parse::<LinkName>().is_err(), "{bad:?}");
    }
}

#[test]
fn set_names_are_names_for_nft() {
    for good in ["streaming", "a", "v-o_2", "abcdefghijklmnopqrstuvwxyz0123"] {
        assert_eq!(good.parse::<SetName>().unwrap().as_str(), good);
    }
    let too_long = "abcdefghijklmnopqrstuvwxyz01234";
    for bad in ["", "Tv", "1a", "-x", "a b", "a;b", "a{", "a#b", "a/b", "a\nb", "ip", "icmpv", too_long, "é"] {
        assert!(bad.parse::<SetName>().is_err(), "{bad:?}");
    }
}

#[test]
fn interface_names_follow_the_kernel() {
    for good in ["ppp0", "eth0.100", "wg-home", "a@b"] {
        assert_eq!(good.parse::<IfName>().unwrap().as_str(), good);
    }
    for bad in ["", ".", "..", "a/b", "eth0:1", "a b", "abcdefghijklmnop", "pp\u{0}p", "x\n"] {
        assert!(bad.parse::<IfName>().is_err(), "{bad:?}");
    }
}

#[test]
fn numbers_keep_to_their_ranges() {
    for bad in [0, 253, 254, 255] {
        assert!(TableId::new(bad).is_err());
    }
    assert_eq!(TableId::new(1000).unwrap().get(), 1000);
    for bad in [0, 3, 0x6, u32::MAX] {
        assert!(Mark::new(bad).is_err());
    }
    assert_eq!(Mark::new(0x8000_0000).unwrap().to_string(), "0x80000000");
    assert!(Weight::new(0).is_err() && Weight::new(257).is_err() && Weight::new(256).is_ok());
    assert!(Tier::new(0).is_err() && Tier::new(33).is_err() && Tier::new(32).is_ok());
}

#[test]
fn addresses_that_no_host_on_a_line_has_are_refused() {
    for bad in [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "1.2.3",
        "::",
        "::1",
        "ff02::1",
        "::ffff:192.0.2.1",
        "",
    ] {
        assert!(bad.parse::<HostAddr>().is_err(), "{bad:?}");
    }
    for good in ["198.51.100.1", "fe80::1", "2001:db8::1"] {
        assert_eq!(good.parse::<HostAddr>().unwrap().to_string(), good);
    }
}

#[test]
fn an_error_does_not_carry_a_flood() {
    let error = "x".repeat(100_000).parse::<IfName>().unwrap_err().to_string();
    assert!(error.len() < 300, "{}", error.len());
}

#[test]
fn a_devices_name_is_shown_without_what_a_terminal_obeys() {
    for (name, shown) in [
        ("eth0.100@x", "eth0.100@x"),
        ("a\u{1b}[31mb", "a\\u{1b}[31mb"),
        ("a\u{9b}31m", "a\\u{9b}31m"),
        ("\u{202e}x\u{7f}", "\\u{202e}x\\u{7f}"),
        ("caf\u{e9}", "caf\u{e9}"),
    ] {
        assert_eq!(DeviceName::new(name).to_string(), shown);
    }
}
