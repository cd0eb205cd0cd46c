//! Results on standard output: a table for people, JSON lines for programs.

use std::io::{self, Write as _};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::{Map, Value};

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs: one JSON document per line
    Json,
}

/// Prints a line.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Prints one JSON document on a separate line.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(line(&serde_json::to_string(value)?)?)
}

/// Prints rows under headings, or each row as a JSON object with the headings as names.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn rows(format: Format, headings: &[&str], rows: Vec<Vec<Value>>) -> anyhow::Result<()> {
    match format {
        Format::Json => {
            for row in rows {
                let object: Map<String, Value> = headings
                    .iter()
                    .map(|name| (*name).to_owned())
                    .zip(row)
                    .collect();
                json(&object)?;
            }
            Ok(())
        }
        Format::Table => {
            let mut table = Table::new();
            table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_header(headings.iter().map(|name| name.replace('_', " ")));
            for row in rows {
                table.add_row(row.iter().map(plain));
            }
            Ok(line(&table.to_string())?)
        }
    }
}

/// Prints one result: named figures on one line, or a JSON object.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn result(format: Format, figures: &[(&str, Value)]) -> anyhow::Result<()> {
    if format == Format::Json {
        let object: Map<String, Value> = figures
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        return json(&object);
    }
    let words: Vec<String> = figures
        .iter()
        .map(|(name, value)| format!("{name} {}", plain(value)))
        .collect();
    Ok(line(&words.join(", "))?)
}

fn plain(value: &Value) -> String {
    if value.is_null() {
        return "-".to_owned();
    }
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Bytes for a terminal: text unchanged, anything else escaped.
pub(crate) fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text)
            if !text
                .chars()
                .any(|c| c.is_control() && c != '\n' && c != '\t') =>
        {
            text.to_owned()
        }
        _ => bytes.escape_ascii().to_string(),
    }
}

/// Bytes in JSON: a string if they are text, otherwise `{"hex": ...}`, so that nothing is lost.
pub(crate) fn json_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => {
            let hex = bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>();
            serde_json::json!({ "hex": hex })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_text_are_not_lost() {
        assert_eq!(json_bytes(b"a"), "a");
        assert_eq!(
            json_bytes(&[0xff, 0x00]),
            serde_json::json!({"hex": "ff00"})
        );
        assert_eq!(printable(&[b'a', 0x1b]), "a\\x1b");
    }
}
