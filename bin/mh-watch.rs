//! Notices what happens to the links, repairs at once what others delete, and tells of it.

fn main() -> std::process::ExitCode {
    multihome::watch::main()
}
