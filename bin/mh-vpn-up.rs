//! OpenVPN's up, down and route-pre-down: records the tunnel as up or down and brings the kernel to
//! what is wanted.

fn main() -> std::process::ExitCode {
    multihome::hook::main::<multihome::hook::VpnUp>()
}
