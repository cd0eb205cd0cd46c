//! `synod kv txn`: conditions and operations as text, for example `--if 'version(lock) = 0' --then
//! 'put lock me' --else 'get lock'`.

use anyhow::{Context as _, bail};
use clap::Args;
use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse};
use serde_json::json;

use crate::{
    connect::Target,
    failure, kv,
    output::{self, Format},
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// A condition: version|create|mod|lease(KEY) =|!=|<|> NUMBER, or value(KEY) =|!=|<|> TEXT
    #[arg(long = "if", value_name = "CONDITION", value_parser = condition)]
    conditions: Vec<Condition>,
    /// What to do if every condition holds: `put KEY VALUE`, `get KEY`, `del KEY`
    #[arg(long = "then", value_name = "OPERATION", value_parser = operation)]
    then: Vec<Operation>,
    /// What to do otherwise
    #[arg(long = "else", value_name = "OPERATION", value_parser = operation)]
    otherwise: Vec<Operation>,
}

#[derive(Clone, Debug)]
struct Condition(Compare);

#[derive(Clone, Debug)]
struct Operation(TxnOp);

fn condition(text: &str) -> Result<Condition, String> {
    parse_condition(text)
        .map(Condition)
        .map_err(|error| error.to_string())
}

fn operation(text: &str) -> Result<Operation, String> {
    parse_operation(text)
        .map(Operation)
        .map_err(|error| error.to_string())
}

fn parse_condition(text: &str) -> anyhow::Result<Compare> {
    let (target, rest) = text
        .split_once('(')
        .context("a condition looks like version(KEY) = 0")?;
    let close = [") =", ") !=", ") <", ") >", ")=", ")!=", ")<", ")>"]
        .iter()
        .filter_map(|pattern| rest.find(pattern))
        .min()
        .context("write one of = != < > after the key")?;
    let (key, rest) = (&rest[..close], rest[close + 1..].trim_start());
    let (op, value) = if let Some(value) = rest.strip_prefix("!=") {
        (CompareOp::NotEqual, value)
    } else if let Some(value) = rest.strip_prefix('=') {
        (CompareOp::Equal, value)
    } else if let Some(value) = rest.strip_prefix('<') {
        (CompareOp::Less, value)
    } else if let Some(value) = rest.strip_prefix('>') {
        (CompareOp::Greater, value)
    } else {
        bail!("write one of = != < > after the key")
    };
    let value = value.trim();
    let number = || {
        value
            .parse::<i64>()
            .with_context(|| format!("`{value}` is not a number"))
    };
    Ok(match target.trim() {
        "version" => Compare::version(key, op, number()?),
        "create" => Compare::create_revision(key, op, number()?),
        "mod" => Compare::mod_revision(key, op, number()?),
        "lease" => Compare::lease(key, op, i64::from_str_radix(value, 16)?),
        "value" => Compare::value(key, op, value),
        other => bail!("`{other}` can't be compared; use version, create, mod, lease or value"),
    })
}

fn parse_operation(text: &str) -> anyhow::Result<TxnOp> {
    let (verb, rest) = text
        .trim()
        .split_once(' ')
        .context("an operation looks like put KEY VALUE")?;
    match verb {
        "put" => {
            let (key, value) = rest
                .split_once(' ')
                .context("put needs a key and a value")?;
            Ok(TxnOp::put(key, value, None))
        }
        "get" => Ok(TxnOp::get(rest, None)),
        "del" => Ok(TxnOp::delete(rest, None)),
        other => bail!("`{other}` is not an operation; use put, get or del"),
    }
}

/// Runs the transaction. Prints which branch was taken and its results.
///
/// # Errors
/// The request failed. [`failure::UnknownOutcome`] if it may have been done anyway.
pub(crate) async fn run(
    arguments: Arguments,
    target: &Target,
    format: Format,
) -> anyhow::Result<()> {
    let txn = Txn::new()
        .when(
            arguments
                .conditions
                .into_iter()
                .map(|c| c.0)
                .collect::<Vec<_>>(),
        )
        .and_then(arguments.then.into_iter().map(|o| o.0).collect::<Vec<_>>())
        .or_else(
            arguments
                .otherwise
                .into_iter()
                .map(|o| o.0)
                .collect::<Vec<_>>(),
        );
    let response = target
        .kv_client()
        .await?
        .txn(txn)
        .await
        .map_err(failure::of_write)?;
    let revision = response.header().map(|header| header.revision());
    output::result(
        format,
        &[
            ("succeeded", json!(response.succeeded())),
            ("revision", json!(revision)),
        ],
    )?;
    for result in response.op_responses() {
        match result {
            TxnOpResponse::Get(get) => kv::print_kvs(get.kvs(), format)?,
            TxnOpResponse::Delete(delete) => {
                output::result(format, &[("deleted", json!(delete.deleted()))])?;
            }
            TxnOpResponse::Put(_) | TxnOpResponse::Txn(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_and_operations_are_parsed() {
        for good in [
            "version(a) = 0",
            "mod(a(b)) > 3",
            "value(x)!=some text",
            "lease(k) = ff",
        ] {
            parse_condition(good).unwrap();
        }
        for bad in [
            "version a = 0",
            "version(a) ~ 0",
            "age(a) = 1",
            "version(a) = x",
        ] {
            assert!(parse_condition(bad).is_err(), "{bad}");
        }
        for good in ["put a b c", "get a", "del a"] {
            parse_operation(good).unwrap();
        }
        for bad in ["put a", "get", "move a b"] {
            assert!(parse_operation(bad).is_err(), "{bad}");
        }
    }
}
