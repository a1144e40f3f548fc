//! pppd's ip-down and ipv6-down: records the link as down, brings the kernel to what is wanted at
//! once, waits until the device is gone and looks once more.

fn main() -> std::process::ExitCode {
    multihome::hook::main::<multihome::hook::IpDown>()
}
