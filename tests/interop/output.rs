//! Makes the outputs of two clusters comparable: names replace ids, addresses and times.

use std::collections::HashMap;

/// The shortest word of hexadecimal digits that is an id; shorter numbers are revisions, sizes and
/// counts.
const SHORTEST_ID: usize = 13;

/// The names that one cluster's ids, addresses and paths have in comparable output.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Texts and their names.
    fixed: Vec<(String, &'static str)>,
    /// Ids by number, in the order in which they were first printed.
    ids: Vec<u64>,
}

impl Names {
    /// With names for addresses and paths.
    pub(crate) fn new(fixed: Vec<(String, &'static str)>) -> Self {
        Self {
            fixed,
            ..Self::default()
        }
    }

    /// A command's words with the values of `{ID1}`, `{DIR}` and so on.
    pub(crate) fn fill(&self, command: &str) -> String {
        let mut text = command.to_owned();
        for (value, name) in &self.fixed {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        for (number, id) in (1..).zip(&self.ids) {
            text = text.replace(&format!("{{ID{number}}}"), &format!("{id:x}"));
        }
        text
    }

    /// The output with names for what differs between clusters. If `numbers_differ`, `N` replaces
    /// other numbers, and the parts are sorted, as members are listed by their ids.
    pub(crate) fn name(&mut self, output: &str, numbers_differ: bool) -> String {
        let mut text = output.to_owned();
        for (value, name) in &self.fixed {
            text = text.replace(value, &format!("{{{name}}}"));
        }
        let mut named = String::new();
        let mut word = String::new();
        for letter in text.chars().chain(std::iter::once('\n')) {
            if letter.is_alphanumeric() || letter == '.' {
                word.push(letter);
            } else {
                let end = word.trim_end_matches('.');
                named.push_str(&self.word(end, numbers_differ));
                named.push_str(&word[end.len()..]);
                named.push(letter);
                word.clear();
            }
        }
        let lines: Vec<String> = named.lines().map(without_log_fields).collect();
        let text = lines.join("\n").trim_end().to_owned();
        if !numbers_differ {
            return text;
        }
        let mut parts: Vec<&str> = text
            .split(['\n', ',', '"', '[', ']', '─', '│'])
            .map(str::trim)
            .collect();
        parts.retain(|part| !part.is_empty());
        parts.sort_unstable();
        parts.join("\n")
    }

    fn word(&mut self, word: &str, numbers_differ: bool) -> String {
        let id = match word.parse() {
            // JSON has ids in decimal.
            Ok(id) => Some(id),
            Err(_) => u64::from_str_radix(word, 16).ok(),
        };
        if let Some(id) = id.filter(|_| word.len() >= SHORTEST_ID) {
            let known = self.ids.iter().position(|known| *known == id);
            let index = known.unwrap_or_else(|| {
                self.ids.push(id);
                self.ids.len() - 1
            });
            return format!("{{ID{}}}", index + 1);
        }
        let number = word.trim_end_matches(['n', 'm', 'µ', 's']);
        let is_number = number.parse::<f64>().is_ok();
        if is_number && number.len() < word.len() {
            return "{TIME}".to_owned();
        }
        let is_version = word.split('.').count() == 3;
        if numbers_differ && (is_number || is_version) {
            return "N".to_owned();
        }
        if numbers_differ && ["kB", "MB"].contains(&word) {
            return "B".to_owned();
        }
        word.to_owned()
    }
}

/// Replaces a log line, which has times and addresses, by its message.
fn without_log_fields(line: &str) -> String {
    let Ok(fields) = serde_json::from_str::<HashMap<String, serde_json::Value>>(line) else {
        // Widths of a table's columns follow their content.
        return line.split_whitespace().collect::<Vec<_>>().join(" ");
    };
    match (fields.get("level"), fields.get("msg"), fields.get("error")) {
        (Some(level), Some(message), error) => {
            let error = error
                .and_then(serde_json::Value::as_str)
                .unwrap_or_default();
            format!("{level}: {message}: {error}")
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_between_clusters_is_named() {
        let mut names = Names::new(vec![("http://127.0.0.1:20001".into(), "URL")]);
        let text = "lease 694d9f0b8c2a1e04 granted in 1.5ms by http://127.0.0.1:20001, revision 7\n\
                    7587895819134180868 was renewed";
        let want = "lease {ID1} granted in {TIME} by {URL}, revision 7\n{ID1} was renewed";
        assert_eq!(names.name(text, false), want);
        assert_eq!(names.name("revision 8", true), "revision N");
        assert_eq!(
            names.fill("revoke {ID1} at {URL}"),
            "revoke 694d9f0b8c2a1e04 at http://127.0.0.1:20001"
        );
    }

    #[test]
    fn other_differences_stay() {
        let mut names = Names::default();
        assert_ne!(
            names.name("revision 7", false),
            names.name("revision 8", false)
        );
        assert_ne!(names.name("OK", true), names.name("ok", true));
    }
}
