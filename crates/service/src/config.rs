//! Building blocks of a service's `config.rs`: command line and environment, parsers for the values
//! of flags, and errors that name the mistake.
//!
//! A service lists its [`Flag`]s in a [`CommandLine`] and fills its typed configuration from the
//! [`Given`] ones. Flags override environment variables.

mod command_line;
mod near;
pub mod value;

use std::fmt;

pub use command_line::{CommandLine, Effect, Family, Flag, Given, Kind, PREFIX};

/// What the command line asks for.
#[derive(Debug)]
pub enum Launch<C> {
    /// Run with this configuration.
    Run(Box<C>),
    /// Print this and exit.
    Print(String),
}

/// Level and format of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormat {
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// JSON lines instead of text. `None`: text on a terminal, JSON otherwise.
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

/// A mistake in the command line or the environment.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such flag.
    #[error("unknown flag --{flag}{}", Suggestion(near))]
    UnknownFlag {
        /// Its name as given.
        flag: String,
        /// Flags with similar names.
        near: Vec<&'static str>,
    },
    /// An argument that is not a flag.
    #[error(
        "{word:?} is not a flag: flags start with --, and switches take their value as --flag=false"
    )]
    Stray {
        /// The argument.
        word: String,
    },
    /// The last flag lacks its value.
    #[error("--{flag} needs a value")]
    MissingValue {
        /// Its name.
        flag: String,
    },
    /// An invalid value.
    #[error("--{flag} {value:?}: expected {expected}")]
    InvalidValue {
        /// The flag's name.
        flag: String,
        /// The value as given.
        value: String,
        /// What is valid.
        expected: String,
    },
    /// The flag asks for something that is not supported.
    #[error("--{flag}: {why}")]
    Refused {
        /// Its name.
        flag: String,
        /// Why.
        why: &'static str,
    },
    /// Flags that contradict each other.
    #[error("{0}")]
    Contradiction(String),
}

impl ConfigError {
    /// An invalid value, and what is valid.
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
