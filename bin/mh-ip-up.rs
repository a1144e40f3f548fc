//! pppd's ip-up and ipv6-up: records the link as up and brings the kernel to what is wanted.

fn main() -> std::process::ExitCode {
    multihome::hook::main::<multihome::hook::IpUp>()
}
