//! Flags in a YAML file, as etcd's `--config-file` has them: keys are flags, and the sections of
//! TLS have keys of their own.

use std::path::Path;

use yaml_rust2::{Yaml, YamlLoader};

use super::command_line::{CommandLine, Effect, Given, One};
use super::{ConfigError, Section};

/// The largest file that is read: a mistaken path should not fill the memory.
const MAX_FILE_BYTES: u64 = 1 << 20;

const UNKNOWN: &str = "it is no setting of this server";

impl CommandLine {
    /// Reads a file of flags. A key that is no flag has no effect, as in etcd, but is named by
    /// [`Given::apply`].
    ///
    /// # Errors
    /// [`ConfigError::File`] says what is wrong with the file.
    pub fn read_file(&self, path: &Path, sections: &[Section]) -> Result<Given, ConfigError> {
        let bad = |reason: String| ConfigError::File {
            path: path.to_owned(),
            reason,
        };
        let size = std::fs::metadata(path)
            .map_err(|error| bad(error.to_string()))?
            .len();
        if size > MAX_FILE_BYTES {
            return Err(bad(format!(
                "it has {size} bytes, and at most {MAX_FILE_BYTES} are read"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
        self.read_yaml(&text, sections).map_err(bad)
    }

    fn read_yaml(&self, text: &str, sections: &[Section]) -> Result<Given, String> {
        let documents = YamlLoader::load_from_str(text).map_err(|error| error.to_string())?;
        let mut given = Vec::new();
        match documents.as_slice() {
            [] | [Yaml::Null] => {}
            [Yaml::Hash(settings)] => {
                for (key, value) in settings {
                    let key = key
                        .as_str()
                        .ok_or_else(|| format!("{key:?} is not a key"))?;
                    match (sections.iter().find(|section| section.name == key), value) {
                        (None, value) => given.push(self.one(key.to_owned(), key, value)?),
                        (Some(_), Yaml::Null) => {}
                        (Some(section), Yaml::Hash(inner)) => {
                            for (name, value) in inner {
                                let name = name.as_str().unwrap_or_default();
                                let shown = format!("{key}.{name}");
                                let flag = section.flag(name).unwrap_or(&shown);
                                given.push(self.one(shown.clone(), flag, value)?);
                            }
                        }
                        (Some(_), _) => return Err(format!("{key} is not a list of settings")),
                    }
                }
            }
            [_] => return Err("it is not a list of settings, such as `name: n1`".to_owned()),
            _ => return Err("it has several documents".to_owned()),
        }
        Ok(Given(given))
    }

    /// One setting. `shown` is its name in the file.
    fn one(&self, shown: String, flag: &str, value: &Yaml) -> Result<One, String> {
        let Ok((effect, _)) = self.find(flag) else {
            return Ok(One {
                name: shown,
                effect: Effect::Ignored(UNKNOWN),
                value: String::new(),
            });
        };
        let value =
            scalar(value).ok_or_else(|| format!("the value of {shown} is not a setting"))?;
        Ok(One {
            name: flag.to_owned(),
            effect,
            value,
        })
    }
}

/// A value as a command line has it.
fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(value) => Some(value.to_string()),
        Yaml::Null => Some(String::new()),
        Yaml::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(scalar).collect();
            Some(items?.join(","))
        }
        Yaml::Hash(_) | Yaml::Alias(_) | Yaml::BadValue => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::command_line::Flag;
    use super::*;

    const LINE: CommandLine = CommandLine {
        flags: &[
            Flag::value("name", ""),
            Flag::value("size", ""),
            Flag::value("suites", ""),
            Flag::switch("fast", ""),
            Flag::value("peer-cert-file", ""),
        ],
        ignored: None,
    };
    const SECTIONS: &[Section] = &[Section {
        name: "peer-transport-security",
        flags: &[("cert-file", "peer-cert-file")],
    }];

    fn applied(text: &str) -> (Vec<(String, String)>, Vec<String>) {
        let given = LINE.read_yaml(text, SECTIONS).unwrap();
        let mut set = Vec::new();
        let ignored = given.apply(|flag, text| {
            set.push((flag.to_owned(), text.to_owned()));
            Ok(())
        });
        let ignored = ignored.unwrap().into_iter().map(|(name, _)| name);
        (set, ignored.collect())
    }

    #[test]
    fn keys_are_flags_and_other_keys_are_named() {
        let text = "# comment\nname: 'n1'\nsize: 10\nfast: true\nsuites: [A, B]\nsise: {a: b}\n\
                    peer-transport-security:\n  cert-file: /p.crt\n  colour: red\n";
        let (set, ignored) = applied(text);
        let set: Vec<_> = set
            .iter()
            .map(|(flag, text)| (flag.as_str(), text.as_str()))
            .collect();
        assert_eq!(
            set,
            [
                ("name", "n1"),
                ("size", "10"),
                ("fast", "true"),
                ("suites", "A,B"),
                ("peer-cert-file", "/p.crt"),
            ]
        );
        assert_eq!(ignored, ["sise", "peer-transport-security.colour"]);
        assert_eq!(applied(""), (Vec::new(), Vec::new()));
        assert_eq!(applied("peer-transport-security:\nname:\n").0.len(), 1);
    }

    #[test]
    fn what_is_no_file_of_settings_is_refused_with_a_reason() {
        for (text, reason) in [
            ("just words", "not a list of settings"),
            ("name: {a: b}", "value of name"),
            (
                "peer-transport-security: 7",
                "peer-transport-security is not",
            ),
            ("name: a\n---\nname: b", "several documents"),
            ("name: [", "line 2"),
        ] {
            let error = LINE.read_yaml(text, SECTIONS).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let missing = LINE
            .read_file(Path::new("/nowhere/at/all"), SECTIONS)
            .unwrap_err();
        assert!(missing.to_string().contains("/nowhere/at/all"), "{missing}");
    }
}
