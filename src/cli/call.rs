//! The command line of a hook. What its caller says is a stranger's word: pppd's `ipparam` needs no privileges, and
//! L2TP and PPTP servers put their client's address there. So options end at the first word, whatever comes after it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::{Command, Parser};

/// The arguments of a process: its name, options, and the words of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    argv: Vec<OsString>,
    /// Where the options end.
    pub(crate) end: usize,
}

impl Call {
    /// The arguments of this process, which takes those of `Cli`.
    pub fn here<Cli: Parser>() -> Self {
        Self::new(Cli::command, std::env::args_os().collect())
    }

    /// The definition is made only where there are options, of which pppd and OpenVPN have none.
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

    /// Parses the arguments; an error or `--help` has been answered when this returns an exit status instead. Without
    /// a terminal an error is one line, in the log as well: under pppd standard error leads nowhere.
    pub fn parse<Cli: Parser>(&self, program: &'static str) -> Result<Cli, u8> {
        self.try_parse().map_err(|error| super::answer(&error, program, super::Destination::Log))
    }

    pub(crate) fn try_parse<Cli: Parser>(&self) -> Result<Cli, clap::Error> {
        let (options, words) = self.argv.split_at(self.end);
        // One `--` is clap's to take away, and only where it stands before all words.
        let fence = (words.first().is_none_or(|word| word != "--")).then(|| OsString::from("--"));
        Cli::try_parse_from(options.iter().cloned().chain(fence).chain(words.iter().cloned()))
    }
}

/// Whether an argument in front of the words is an option; `--` and `-` are not.
fn is_option(arg: &OsStr) -> bool {
    arg.as_bytes().starts_with(b"-") && arg != "-" && arg != "--"
}

/// Whether the value of an option is the next argument.
fn takes_value(command: &Command, option: &OsStr) -> bool {
    let Some(long) = option.to_str().and_then(|option| option.strip_prefix("--")) else { return false };
    command.get_arguments().any(|arg| arg.get_long() == Some(long) && arg.get_action().takes_values())
}
