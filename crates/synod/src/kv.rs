//! `synod kv`: keys and values.

use clap::{Args, Subcommand};
use etcd_client::{
    DeleteOptions, Event, EventType, GetOptions, KeyValue, PutOptions, SortOrder, SortTarget,
    WatchOptions,
};
use serde_json::{Value, json};

use crate::{
    connect::Target,
    failure::{self, Missing},
    output::{self, Format, json_bytes, printable},
    txn,
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Read a key, a prefix or a range
    Get(GetArguments),
    /// Write a key
    Put(PutArguments),
    /// Delete a key, a prefix or a range
    Del(DeleteArguments),
    /// Print changes as they happen
    Watch(WatchArguments),
    /// Compare, then change several keys at once
    Txn(txn::Arguments),
}

#[derive(Args)]
pub(crate) struct GetArguments {
    /// The key, or the start of the range
    key: String,
    /// The end of the range (exclusive)
    end: Option<String>,
    /// Every key that begins with KEY
    #[arg(long, conflicts_with = "end")]
    prefix: bool,
    /// Read at this revision
    #[arg(long, default_value_t = 0)]
    rev: i64,
    /// The maximum number of keys (0: all)
    #[arg(long, default_value_t = 0)]
    limit: i64,
    /// Keys without their values
    #[arg(long)]
    keys_only: bool,
    /// Only the number of keys
    #[arg(long, conflicts_with = "keys_only")]
    count_only: bool,
    /// Largest key first
    #[arg(long)]
    descending: bool,
    /// Answer from the endpoint's own state, which may lag behind
    #[arg(long)]
    serializable: bool,
}

#[derive(Args)]
pub(crate) struct PutArguments {
    key: String,
    value: String,
    /// Attach to this lease (hexadecimal)
    #[arg(long, value_parser = lease_id)]
    lease: Option<i64>,
    /// Print the previous value
    #[arg(long)]
    prev: bool,
}

#[derive(Args)]
pub(crate) struct DeleteArguments {
    key: String,
    /// The end of the range (exclusive)
    end: Option<String>,
    /// Every key that begins with KEY
    #[arg(long, conflicts_with = "end")]
    prefix: bool,
}

#[derive(Args)]
pub(crate) struct WatchArguments {
    key: String,
    /// The end of the range (exclusive)
    end: Option<String>,
    /// Every key that begins with KEY
    #[arg(long, conflicts_with = "end")]
    prefix: bool,
    /// Start with the changes of this revision
    #[arg(long, default_value_t = 0)]
    rev: i64,
    /// Print the previous value of each change
    #[arg(long)]
    prev: bool,
}

fn lease_id(text: &str) -> Result<i64, String> {
    i64::from_str_radix(text, 16).map_err(|_| format!("`{text}` is not a hexadecimal lease id"))
}

/// Runs one `kv` command.
///
/// # Errors
/// The request failed. [`failure::UnknownOutcome`] if a write may have been done anyway.
pub(crate) async fn run(command: Command, target: &Target, format: Format) -> anyhow::Result<()> {
    match command {
        Command::Get(arguments) => get(arguments, target, format).await,
        Command::Put(arguments) => put(arguments, target, format).await,
        Command::Del(arguments) => delete(arguments, target, format).await,
        Command::Watch(arguments) => watch(arguments, target, format).await,
        Command::Txn(arguments) => txn::run(arguments, target, format).await,
    }
}

async fn get(arguments: GetArguments, target: &Target, format: Format) -> anyhow::Result<()> {
    let mut options = GetOptions::new()
        .with_revision(arguments.rev)
        .with_limit(arguments.limit);
    if arguments.keys_only {
        options = options.with_keys_only();
    }
    if arguments.count_only {
        options = options.with_count_only();
    }
    if arguments.serializable {
        options = options.with_serializable();
    }
    if arguments.descending {
        options = options.with_sort(SortTarget::Key, SortOrder::Descend);
    }
    let single = !arguments.prefix && arguments.end.is_none();
    if arguments.prefix {
        options = options.with_prefix();
    } else if let Some(end) = arguments.end {
        options = options.with_range(end);
    }
    let response = target
        .kv_client()
        .await?
        .get(arguments.key.clone().into_bytes(), Some(options))
        .await?;
    if arguments.count_only {
        return output::result(format, &[("count", json!(response.count()))]);
    }
    if single && response.kvs().is_empty() {
        let key = printable(arguments.key.as_bytes());
        return Err(Missing(format!("the key {key} does not exist")).into());
    }
    print_kvs(response.kvs(), format)?;
    if response.more() && format == Format::Table {
        let shown = response.kvs().len();
        output::line(&format!(
            "{shown} of {} keys; raise --limit for more",
            response.count()
        ))?;
    }
    Ok(())
}

async fn put(arguments: PutArguments, target: &Target, format: Format) -> anyhow::Result<()> {
    let mut options = PutOptions::new();
    if let Some(lease) = arguments.lease {
        options = options.with_lease(lease);
    }
    if arguments.prev {
        options = options.with_prev_key();
    }
    let response = target
        .kv_client()
        .await?
        .put(arguments.key, arguments.value, Some(options))
        .await
        .map_err(failure::of_write)?;
    if let Some(previous) = response.prev_key() {
        print_kvs(std::slice::from_ref(previous), format)?;
    }
    output::result(
        format,
        &[("revision", json!(response.header().map(|h| h.revision())))],
    )
}

async fn delete(arguments: DeleteArguments, target: &Target, format: Format) -> anyhow::Result<()> {
    let mut options = DeleteOptions::new();
    if arguments.prefix {
        options = options.with_prefix();
    } else if let Some(end) = arguments.end {
        options = options.with_range(end);
    }
    let response = target
        .kv_client()
        .await?
        .delete(arguments.key, Some(options))
        .await
        .map_err(failure::of_write)?;
    let revision = response.header().map(|header| header.revision());
    output::result(
        format,
        &[
            ("deleted", json!(response.deleted())),
            ("revision", json!(revision)),
        ],
    )
}

async fn watch(arguments: WatchArguments, target: &Target, format: Format) -> anyhow::Result<()> {
    let mut options = WatchOptions::new().with_start_revision(arguments.rev);
    if arguments.prefix {
        options = options.with_prefix();
    } else if let Some(end) = arguments.end {
        options = options.with_range(end);
    }
    if arguments.prev {
        options = options.with_prev_key();
    }
    let mut client = target.streaming_client().await?;
    let mut stream = client.watch(arguments.key, Some(options)).await?;
    while let Some(response) = stream.message().await? {
        if response.canceled() {
            anyhow::bail!(
                "the watch was cancelled: {} (oldest revision available: {})",
                if response.cancel_reason().is_empty() {
                    "the start revision has been compacted"
                } else {
                    response.cancel_reason()
                },
                response.compact_revision()
            );
        }
        for event in response.events() {
            print_event(event, format)?;
        }
    }
    anyhow::bail!(
        "the server closed the watch; start again with --rev after the last revision seen"
    )
}

fn print_event(event: &Event, format: Format) -> anyhow::Result<()> {
    let kind = match event.event_type() {
        EventType::Put => "put",
        EventType::Delete => "delete",
    };
    let (Some(kv), previous) = (event.kv(), event.prev_kv()) else {
        return Ok(());
    };
    if format == Format::Json {
        return output::json(&json!({
            "type": kind, "kv": kv_json(kv), "prev_kv": previous.map(kv_json),
        }));
    }
    let mut line = format!("{:>8} {kind:<6} {}", kv.mod_revision(), printable(kv.key()));
    if event.event_type() == EventType::Put {
        line = format!("{line} = {}", printable(kv.value()));
    }
    if let Some(previous) = previous {
        line = format!("{line}   (was {})", printable(previous.value()));
    }
    Ok(output::line(&line)?)
}

pub(crate) fn kv_json(kv: &KeyValue) -> Value {
    json!({
        "key": json_bytes(kv.key()),
        "value": json_bytes(kv.value()),
        "create_revision": kv.create_revision(),
        "mod_revision": kv.mod_revision(),
        "version": kv.version(),
        "lease": (kv.lease() != 0).then(|| format!("{:x}", kv.lease())),
    })
}

/// Prints pairs as a table or as JSON lines.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn print_kvs(kvs: &[KeyValue], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return kvs.iter().try_for_each(|kv| output::json(&kv_json(kv)));
    }
    let rows = kvs
        .iter()
        .map(|kv| {
            vec![
                json!(printable(kv.key())),
                json!(printable(kv.value())),
                json!(kv.mod_revision()),
                json!(kv.version()),
                json!((kv.lease() != 0).then(|| format!("{:x}", kv.lease()))),
            ]
        })
        .collect();
    output::rows(
        format,
        &["key", "value", "mod_revision", "version", "lease"],
        rows,
    )
}
