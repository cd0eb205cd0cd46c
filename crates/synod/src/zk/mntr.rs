//! `synod zk mntr`.

use std::time::Duration;

use serde_json::{Map, Value, json};
use synod_jute::FourLetterWord;

use crate::output::{self, Format};
use crate::zookeeper::{Servers, ask_word};

/// Prints the metrics of each server. One that does not answer makes the command fail, after those
/// of the others are printed.
pub(super) async fn run(
    servers: &Servers,
    timeout: Duration,
    format: Format,
) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for address in servers.addresses() {
        match ask_word(address, FourLetterWord::Mntr, timeout).await {
            Ok(answer) => print(address, &answer, format)?,
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    anyhow::ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// A table, or one JSON document for each server.
fn print(address: &str, answer: &str, format: Format) -> anyhow::Result<()> {
    let metrics = answer.lines().filter_map(|line| line.split_once('\t'));
    let metrics = metrics.map(|(name, value)| (name, number(value)));
    match format {
        Format::Json => {
            let mut object = Map::from_iter([("server".to_owned(), json!(address))]);
            object.extend(metrics.map(|(name, value)| (name.to_owned(), value)));
            output::json(&object)
        }
        Format::Table => {
            let rows = metrics.map(|(name, value)| vec![json!(address), json!(name), value]);
            output::rows(format, &["server", "metric", "value"], rows.collect())
        }
    }
}

fn number(text: &str) -> Value {
    let whole = text.parse::<i64>().map(Value::from);
    let number = whole.or_else(|_| text.parse::<f64>().map(Value::from));
    number.unwrap_or_else(|_| json!(text))
}
