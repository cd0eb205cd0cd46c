//! What a service's `config.rs` is made of: the command line and its environment, the values of
//! flags, and the errors that name what is wrong.
//!
//! A service lists its flags as [`Flag`]s in a [`CommandLine`], and sets its own typed
//! configuration from what was [`Given`]. Flags win over variables.

mod command_line;
mod file;
mod near;
mod tls;
pub mod value;

use std::fmt;
use std::path::PathBuf;

pub use tls::{Side, TlsCommon, TlsFlags};

pub use command_line::{CommandLine, Effect, Family, Flag, Given, Kind, PREFIX};

/// What the command line asks for.
#[derive(Debug)]
pub enum Launch<C> {
    /// To run with this configuration.
    Run(Box<C>),
    /// To print this and exit.
    Print(String),
}

/// What the log looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormat {
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// JSON lines rather than text; `None` decides by whether the output is a terminal.
    pub json: Option<bool>,
}

impl Default for LogFormat {
    /// `info`; text on a terminal, JSON otherwise.
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            json: None,
        }
    }
}

/// A command line or an environment that can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such flag.
    #[error("unknown flag --{flag}{}", Suggestion(near))]
    UnknownFlag {
        /// As it was given.
        flag: String,
        /// Flags with similar names.
        near: Vec<&'static str>,
    },
    /// A word that is no flag.
    #[error(
        "{word:?} is not a flag: flags start with --, and switches take their value as --flag=false"
    )]
    Stray {
        /// The word.
        word: String,
    },
    /// A flag at the end of the line.
    #[error("--{flag} needs a value")]
    MissingValue {
        /// Which one.
        flag: String,
    },
    /// A value that does not fit.
    #[error("--{flag} {value:?}: expected {expected}")]
    InvalidValue {
        /// Which one.
        flag: String,
        /// What was given.
        value: String,
        /// What would have been right.
        expected: String,
    },
    /// A flag that asks for something that is not there.
    #[error("--{flag}: {why}")]
    Refused {
        /// Which one.
        flag: String,
        /// Why.
        why: &'static str,
    },
    /// A file of flags that can't be used.
    #[error("cannot use the configuration file {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Flags that contradict each other.
    #[error("{0}")]
    Contradiction(String),
}

/// A section of a configuration file, whose keys stand for flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// The section's key.
    pub name: &'static str,
    /// Its keys, and the flags that they stand for.
    pub flags: &'static [(&'static str, &'static str)],
}

impl Section {
    fn flag(&self, key: &str) -> Option<&'static str> {
        let found = self.flags.iter().find(|(name, _)| *name == key);
        found.map(|(_, flag)| *flag)
    }
}

impl ConfigError {
    /// A value that does not fit, and what would have been right.
    #[must_use]
    pub fn invalid(flag: &str, value: &str, expected: &str) -> Self {
        Self::InvalidValue {
            flag: flag.to_owned(),
            value: value.to_owned(),
            expected: expected.to_owned(),
        }
    }
}

struct Suggestion<'a>(&'a [&'static str]);

impl fmt::Display for Suggestion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("; --help lists all");
        }
        write!(f, "; did you mean --{}?", self.0.join(", --"))
    }
}
