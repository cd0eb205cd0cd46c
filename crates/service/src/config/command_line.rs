//! The flags of a program: which exist, what each does, and how a command line is split into flags
//! and values. The syntax is that of Go's flag package.

use super::ConfigError;
use super::near::near;

/// The prefix of the environment variables of Synod's own flags.
pub const PREFIX: &str = "SYNOD_";

/// A flag of the command line, which can also be set by an environment variable.
#[derive(Debug)]
pub struct Flag {
    /// Without its dashes: `data-dir`.
    pub name: &'static str,
    /// Whether it takes a value.
    pub kind: Kind,
    /// What it does.
    pub effect: Effect,
    /// Its description in `--help`; empty if the name says enough.
    pub help: &'static str,
    /// The prefixes of its environment variables; the first variable that is set wins. With
    /// `["SYNOD_"]` the flag `data-dir` is read from `SYNOD_DATA_DIR`.
    pub prefixes: &'static [&'static str],
}

/// Whether a flag takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `--flag value` or `--flag=value`.
    Value,
    /// `--flag` or `--flag=true|false`.
    Switch,
}

/// What a flag does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It sets something.
    Used,
    /// It is accepted for compatibility and does nothing; the reason is logged once.
    Ignored(&'static str),
    /// It is an error, with this reason, unless its value is empty or `false`.
    Refused(&'static str),
}

impl Flag {
    /// A flag of Synod's own with a value.
    #[must_use]
    pub const fn value(name: &'static str, help: &'static str) -> Self {
        Self::ours(name, Kind::Value, help)
    }

    /// A flag of Synod's own that is on or off.
    #[must_use]
    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        Self::ours(name, Kind::Switch, help)
    }

    const fn ours(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self {
            name,
            kind,
            effect: Effect::Used,
            help,
            prefixes: &[PREFIX],
        }
    }

    /// Its environment variables, in the order in which they are tried.
    fn variables(&self) -> impl Iterator<Item = String> {
        let name = self.name.to_ascii_uppercase().replace('-', "_");
        let prefixes = self.prefixes.iter();
        prefixes.map(move |prefix| format!("{prefix}{name}"))
    }
}

/// The flags of a program. `--version` and `--help` (or `-h`) have no environment variables.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine {
    /// All of them, in the order of `--help`.
    pub flags: &'static [Flag],
    /// Flags that are accepted without being listed, and have no effect.
    pub ignored: Option<Family>,
}

/// Flags with a common prefix.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The prefix, without the dashes.
    pub prefix: &'static str,
    /// Why they have no effect.
    pub why: &'static str,
}

/// The flags that were given on the command line or in the environment.
#[derive(Debug)]
pub struct Given(Vec<One>);

/// One given flag.
#[derive(Debug)]
struct One {
    name: String,
    effect: Effect,
    value: String,
}

impl CommandLine {
    /// Reads a command line, without the program's name. Flags that are missing there are looked up
    /// in `env`, where an empty variable counts as unset.
    ///
    /// # Errors
    /// An unknown flag, a flag without its value, or an argument that is not a flag.
    pub fn read(
        &self,
        args: &[String],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Given, ConfigError> {
        let mut given = self.split(args)?;
        let on_the_line = given.len();
        for flag in self.flags {
            let is_given = given[..on_the_line].iter().any(|g| g.name == flag.name);
            if is_given || matches!(flag.name, "version" | "help") {
                continue;
            }
            let set = |name: String| env(&name).filter(|value| !value.is_empty());
            given.extend(flag.variables().find_map(set).map(|value| One {
                name: flag.name.to_owned(),
                effect: flag.effect,
                value,
            }));
        }
        Ok(Given(given))
    }

    /// The chosen flags as `--help` shows them: each on a line, with its description below.
    pub fn list(&self, chosen: impl Fn(&Flag) -> bool) -> String {
        let mut text = String::new();
        for flag in self.flags.iter().filter(|flag| chosen(flag)) {
            text.push_str("  --");
            text.push_str(flag.name);
            if flag.kind == Kind::Value {
                text.push_str(" VALUE");
            }
            if !flag.help.is_empty() {
                text.push_str("\n        ");
                text.push_str(flag.help);
            }
            text.push('\n');
        }
        text
    }

    fn split(&self, args: &[String]) -> Result<Vec<One>, ConfigError> {
        let mut given = Vec::with_capacity(args.len());
        let mut rest = args.iter().peekable();
        while let Some(arg) = rest.next() {
            let text = arg
                .strip_prefix("--")
                .or_else(|| arg.strip_prefix('-'))
                .filter(|text| !text.is_empty())
                .ok_or_else(|| ConfigError::Stray { word: arg.clone() })?;
            let (name, inline) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text, None),
            };
            let name = if name == "h" { "help" } else { name };
            let (effect, kind) = self.find(name)?;
            let value = match (inline, kind) {
                (Some(value), _) => value,
                (None, Some(Kind::Switch)) => "true".to_owned(),
                (None, Some(Kind::Value)) => {
                    rest.next()
                        .cloned()
                        .ok_or_else(|| ConfigError::MissingValue {
                            flag: name.to_owned(),
                        })?
                }
                // It is unknown whether this flag takes a value. The next argument is its value,
                // unless it looks like a flag.
                (None, None) => rest
                    .next_if(|next| !next.starts_with('-'))
                    .cloned()
                    .unwrap_or_default(),
            };
            given.push(One {
                name: name.to_owned(),
                effect,
                value,
            });
        }
        Ok(given)
    }

    /// What the flag does and whether it takes a value; `None` if that is unknown.
    fn find(&self, name: &str) -> Result<(Effect, Option<Kind>), ConfigError> {
        if let Some(flag) = self.flags.iter().find(|flag| flag.name == name) {
            return Ok((flag.effect, Some(flag.kind)));
        }
        match self.ignored {
            Some(family) if name.starts_with(family.prefix) => {
                Ok((Effect::Ignored(family.why), None))
            }
            Some(_) | None => Err(ConfigError::UnknownFlag {
                flag: name.to_owned(),
                near: near(name, self.flags.iter().map(|flag| flag.name)),
            }),
        }
    }
}

impl Given {
    /// Whether the flag was given.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.last(flag).is_some()
    }

    /// The value of a flag. If it was given several times the last one wins, as in Go.
    #[must_use]
    pub fn last(&self, flag: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|one| one.name == flag)?;
        Some(&found.value)
    }

    /// Calls `set` with name and value of each flag that has an effect, in the order given. Returns
    /// the flags without effect, and why they have none.
    ///
    /// # Errors
    /// The first flag that is [`Effect::Refused`] or that `set` refuses.
    pub fn apply(
        &self,
        mut set: impl FnMut(&str, &str) -> Result<(), ConfigError>,
    ) -> Result<Vec<(String, &'static str)>, ConfigError> {
        let mut without_effect = Vec::new();
        for one in &self.0 {
            match one.effect {
                Effect::Used => set(&one.name, &one.value)?,
                Effect::Ignored(why) => without_effect.push((one.name.clone(), why)),
                Effect::Refused(_) if matches!(one.value.as_str(), "" | "false") => {}
                Effect::Refused(why) => {
                    return Err(ConfigError::Refused {
                        flag: one.name.clone(),
                        why,
                    });
                }
            }
        }
        Ok(without_effect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command line of another program, with one flag of Synod's own.
    const BORROWED: CommandLine = CommandLine {
        flags: &[
            Flag {
                name: "tick-time",
                kind: Kind::Value,
                effect: Effect::Used,
                help: "",
                prefixes: &["ZOO_"],
            },
            Flag {
                name: "jmx",
                kind: Kind::Switch,
                effect: Effect::Ignored("there is no JVM"),
                help: "",
                prefixes: &["ZOO_"],
            },
            Flag {
                name: "sasl",
                kind: Kind::Switch,
                effect: Effect::Refused("not supported"),
                help: "",
                prefixes: &["ZOO_"],
            },
            Flag {
                name: "endpoint",
                kind: Kind::Value,
                effect: Effect::Used,
                help: "where the state is kept",
                prefixes: &[PREFIX, "ZOO_"],
            },
        ],
        ignored: Some(Family {
            prefix: "4lw-",
            why: "all words are served",
        }),
    };
    /// The command line of a Synod service.
    const OWN: CommandLine = CommandLine {
        flags: &[
            Flag::value("data-dir", "where the data is kept"),
            Flag::switch("read-only", "take no writes"),
            Flag::switch("help", ""),
        ],
        ignored: None,
    };

    fn read(line: CommandLine, args: &[&str], env: &[(&str, &str)]) -> Result<Given, ConfigError> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let env = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        line.read(&args, &env)
    }

    fn used(given: &Given) -> Vec<(String, String)> {
        let mut used = Vec::new();
        let mut take = |name: &str, value: &str| {
            used.push((name.to_owned(), value.to_owned()));
            Ok(())
        };
        given.apply(&mut take).unwrap();
        used
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn flags_win_over_variables_and_later_ones_over_earlier() {
        let env = [
            ("SYNOD_DATA_DIR", "/env"),
            ("SYNOD_READ_ONLY", "true"),
            ("SYNOD_HELP", "true"),
            ("ZOO_DATA_DIR", "/zoo"),
        ];
        let given = read(OWN, &["--data-dir=/a", "-data-dir", "/b"], &env).unwrap();
        assert_eq!(given.last("data-dir"), Some("/b"));
        assert_eq!(given.last("read-only"), Some("true"));
        assert!(!given.has("help"), "help has no variable");
        let all = [
            pair("data-dir", "/a"),
            pair("data-dir", "/b"),
            pair("read-only", "true"),
        ];
        assert_eq!(used(&given), all);
    }

    #[test]
    fn the_first_prefix_wins_unless_it_is_empty() {
        let env = [
            ("SYNOD_ENDPOINT", "ours"),
            ("ZOO_ENDPOINT", "theirs"),
            ("ZOO_TICK_TIME", "7"),
            ("SYNOD_TICK_TIME", "8"),
        ];
        let given = read(BORROWED, &[], &env).unwrap();
        let both = [pair("tick-time", "7"), pair("endpoint", "ours")];
        assert_eq!(used(&given), both);
        let env = [("SYNOD_ENDPOINT", ""), ("ZOO_ENDPOINT", "theirs")];
        let given = read(BORROWED, &[], &env).unwrap();
        assert_eq!(used(&given), [pair("endpoint", "theirs")]);
    }

    #[test]
    fn flags_without_effect_are_named_and_refused_ones_are_errors() {
        let line = ["--jmx", "--4lw-list", "ruok", "--4lw-all", "--sasl=false"];
        let given = read(BORROWED, &line, &[]).unwrap();
        let without = given.apply(|_, _| Ok(())).unwrap();
        let expected = [
            ("jmx".to_owned(), "there is no JVM"),
            ("4lw-list".to_owned(), "all words are served"),
            ("4lw-all".to_owned(), "all words are served"),
        ];
        assert_eq!(without, expected);
        let given = read(BORROWED, &["--sasl"], &[]).unwrap();
        let refused = given.apply(|_, _| Ok(())).unwrap_err();
        assert_eq!(refused.to_string(), "--sasl: not supported");
    }

    #[test]
    fn mistakes_are_named() {
        for (line, text) in [
            (
                &["--data-dri=/a"][..],
                "unknown flag --data-dri; did you mean --data-dir?",
            ),
            (&["--4lw-list"], "unknown flag --4lw-list; --help lists all"),
            (&["--data-dir"], "--data-dir needs a value"),
            (
                &["--read-only", "false"],
                "\"false\" is not a flag: flags start with --, and switches take their value as --flag=false",
            ),
        ] {
            assert_eq!(read(OWN, line, &[]).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn the_list_shows_names_values_and_meanings() {
        let all = OWN.list(|flag| flag.name != "help");
        let expected = "  --data-dir VALUE\n        where the data is kept\n  --read-only\n        take no writes\n";
        assert_eq!(all, expected);
    }
}
