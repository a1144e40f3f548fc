//! The command line of a hook. Its arguments are not trusted: a user of pppd can set `ipparam`, and L2TP and PPTP
//! servers put the client's address there. Therefore options end at the first other argument.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::{Command, Parser};

/// The arguments of a process: its name, options, and the other arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    argv: Vec<OsString>,
    /// Index behind the options.
    pub(crate) end: usize,
}

impl Call {
    /// The arguments of this process, for the command `Cli`.
    pub fn here<Cli: Parser>() -> Self {
        Self::new(Cli::command, std::env::args_os().collect())
    }

    /// The command is built only if there are options; pppd and OpenVPN pass none.
    pub(crate) fn new(command: fn() -> Command, argv: Vec<OsString>) -> Self {
        let mut end = 1;
        while let Some(option) = argv.get(end).filter(|arg| is_option(arg)) {
            end += 1;
            if takes_value(&command(), option) && argv.get(end).is_some_and(|value| !is_option(value)) {
                end += 1;
            }
        }
        Self { end: end.min(argv.len()), argv }
    }

    /// Whether `option` is given.
    pub fn has(&self, option: &str) -> bool {
        self.argv[..self.end].iter().any(|arg| arg == option)
    }

    /// Parses the arguments. The error is the exit status after an error or `--help` has been printed. Without a
    /// terminal an error is one line, and in the log, too, since pppd discards standard error.
    pub fn parse<Cli: Parser>(&self, program: &'static str) -> Result<Cli, u8> {
        self.try_parse().map_err(|error| super::answer(&error, program, super::Destination::Log))
    }

    pub(crate) fn try_parse<Cli: Parser>(&self) -> Result<Cli, clap::Error> {
        let (options, words) = self.argv.split_at(self.end);
        // clap removes one `--`, if it stands before all other arguments.
        let fence = (words.first().is_none_or(|word| word != "--")).then(|| OsString::from("--"));
        Cli::try_parse_from(options.iter().cloned().chain(fence).chain(words.iter().cloned()))
    }
}

/// Whether an argument is an option; `--` and `-` are not.
fn is_option(arg: &OsStr) -> bool {
    arg.as_bytes().starts_with(b"-") && arg != "-" && arg != "--"
}

/// Whether the value of an option is the next argument.
fn takes_value(command: &Command, option: &OsStr) -> bool {
    let Some(long) = option.to_str().and_then(|option| option.strip_prefix("--")) else { return false };
    command.get_arguments().any(|arg| arg.get_long() == Some(long) && arg.get_action().takes_values())
}
