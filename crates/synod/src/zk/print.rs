//! Stats for people and programs.

use serde_json::{Map, Value, json};
use synod_jute::Stat;

use crate::output::{self, Format};

/// The fields of a Stat. Numbers of transactions and sessions are hexadecimal, as ZooKeeper's
/// tools print them: JSON's numbers are not exact enough.
pub(super) fn stat_fields(stat: &Stat) -> Vec<(&'static str, Value)> {
    let hex = |number: i64| json!(format!("{number:#x}"));
    vec![
        ("czxid", hex(stat.czxid)),
        ("ctime_ms", json!(stat.ctime)),
        ("mzxid", hex(stat.mzxid)),
        ("mtime_ms", json!(stat.mtime)),
        ("pzxid", hex(stat.pzxid)),
        ("version", json!(stat.version)),
        ("cversion", json!(stat.cversion)),
        ("aversion", json!(stat.aversion)),
        ("ephemeral_owner", hex(stat.ephemeral_owner)),
        ("data_length", json!(stat.data_length)),
        ("children", json!(stat.num_children)),
    ]
}

/// A JSON object of a node: its path, more fields, and its Stat.
pub(super) fn node(path: &str, more: &[(&str, Value)], stat: &Stat) -> Value {
    let path = ("path", json!(path));
    let fields = std::iter::once(&path).chain(more).cloned();
    let object: Map<String, Value> = fields
        .chain(stat_fields(stat))
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Value::Object(object)
}

/// Prints what became of a node: its path and version, or all of its Stat as JSON.
///
/// # Errors
/// Standard output is closed.
pub(super) fn changed(path: &str, stat: &Stat, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::json(&node(path, &[], stat)),
        Format::Table => {
            let versions = [
                ("version", json!(stat.version)),
                ("aversion", json!(stat.aversion)),
            ];
            output::result(format, &versions)
        }
    }
}
