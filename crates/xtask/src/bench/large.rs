//! Measures a data directory that is larger than a small machine's memory: memory use, start time,
//! and the effect of a compaction on clients.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use etcd_client::CompactionOptions;
use synod_testkit::{Cluster, Lab, Server, Share, Topology, connect, run_within};

use super::{
    document, load,
    servers::{Algorithms, column_name},
    usage,
};

/// The time limit of the whole measurement.
const DEADLINE: Duration = Duration::from_secs(2 * 3600);
/// The prefix of all keys.
const PREFIX: &str = "large/";

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Data to write, in GiB, in values of 1 KiB
    #[arg(long, default_value_t = 5)]
    gib: u32,
    /// How long a put/get stream runs before and during the compaction of the history, in seconds
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    #[command(flatten)]
    algorithms: Algorithms,
    /// Print the figures without changing docs/benchmarks.md
    #[arg(long)]
    print: bool,
}

/// Measures and writes docs/benchmarks.md.
///
/// # Errors
/// A server or a load failed.
pub(super) fn run(options: &Options, generator: &Path, output: &Path) -> Result<()> {
    let mut columns = Vec::new();
    // A separate lab for each, so that one's data is removed before the next one starts.
    for server in options.algorithms.servers() {
        run_within(Share::Whole, DEADLINE, async |lab: &Lab| {
            columns.push((server, measure(options, generator, lab, server).await?));
            Ok(())
        })?;
    }
    let text = table(&columns);
    if options.print {
        print(&text);
        return Ok(());
    }
    document::replace(output, "large", &text)
}

#[expect(clippy::print_stdout, reason = "the user asked for printed output")]
fn print(text: &str) {
    println!("{text}");
}

fn words(words: &[&str], keys: u32) -> Vec<String> {
    let keys = keys.to_string();
    let common = ["--prefix", PREFIX, "--value-bytes", "1024", "--keys", &keys];
    words
        .iter()
        .chain(&common)
        .map(|word| (*word).to_owned())
        .collect()
}

/// A measurement and its figure.
type Row = (String, String);

/// One column per server; all have the same rows.
fn table(columns: &[(Server, Vec<Row>)]) -> String {
    let mut lines = vec![String::from("| what |"), String::from("|---|")];
    for (place, (server, rows)) in columns.iter().enumerate() {
        lines[0] += &format!(" {} |", column_name(*server));
        lines[1] += "--:|";
        for (number, (what, figure)) in rows.iter().enumerate() {
            if place == 0 {
                lines.push(format!("| {what} |"));
            }
            lines[number + 2] += &format!(" {figure} |");
        }
    }
    format!(
        "Measured on {}; one member, one engine after the other.\n\n{}\n",
        document::machine(),
        lines.join("\n")
    )
}

async fn measure(
    options: &Options,
    generator: &Path,
    lab: &Lab,
    server: Server,
) -> Result<Vec<Row>> {
    let keys = options.gib * (1 << 20);
    let seconds = options.seconds.to_string();
    let topology = Topology::of(1).flag("--quota-backend-bytes=68719476736");
    let mut cluster = Cluster::start(lab, server, topology).await?;
    let endpoints = cluster.endpoints();
    let filled = load::start(
        generator,
        &endpoints,
        &words(&["fill", "--clients", "256"], keys),
    )?
    .figures()
    .await?;
    let after_fill = usage::peak_memory(&mut cluster)?;

    cluster.stop(0).await?;
    let started = now();
    cluster.launch(lab, 0)?;
    cluster.node_ready(0).await?;
    let restart = started.elapsed();
    let after_restart = usage::memory(&mut cluster)?;

    let run = |kind: &str| words(&[kind, "--clients", "8", "--duration", &seconds], keys);
    let get = || {
        words(
            &["get", "--no-fill", "--clients", "8", "--duration", &seconds],
            keys,
        )
    };
    let (put_before, get_before) = pair(generator, &endpoints, &run("put"), &get(), None).await?;
    let (put_during, get_during) =
        pair(generator, &endpoints, &run("put"), &get(), Some(&endpoints)).await?;

    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let mut rows: Vec<Row> = vec![
        ("data: keys x value".into(), format!("{keys} x 1 KiB")),
        (
            "written at".into(),
            format!("{:.0} puts/s", filled.operations_per_second),
        ),
        (
            "data directory".into(),
            mib(folder_bytes(&cluster.nodes()[0].spec.data_dir)?),
        ),
        ("peak memory while it was written".into(), mib(after_fill)),
        (
            "restart until the first write was acknowledged".into(),
            format!("{:.2} s", restart.as_secs_f64()),
        ),
        ("memory after the restart".into(), mib(after_restart)),
        (
            "peak memory at the end".into(),
            mib(usage::peak_memory(&mut cluster)?),
        ),
    ];
    let during = "while the history is compacted";
    for (kind, when, figures) in [
        ("put", "before", &put_before),
        ("get", "before", &get_before),
        ("put", during, &put_during),
        ("get", during, &get_during),
    ] {
        rows.push((
            format!("{kind}, 8 clients, {when}: rate; p99; longest"),
            format!(
                "{:.0}/s; {:.2} ms; {:.1} ms",
                figures.operations_per_second,
                Duration::from_micros(figures.p99_us).as_secs_f64() * 1e3,
                Duration::from_micros(figures.max_us).as_secs_f64() * 1e3,
            ),
        ));
    }
    Ok(rows)
}

/// Runs a stream of puts and a stream of gets at the same time, with a compaction to the newest
/// revision in between.
async fn pair(
    generator: &Path,
    endpoints: &[String],
    put: &[String],
    get: &[String],
    compact: Option<&[String]>,
) -> Result<(load::Figures, load::Figures)> {
    let put = load::start(generator, endpoints, put)?;
    let get = load::start(generator, endpoints, get)?;
    if let Some(endpoints) = compact {
        let mut client = connect(endpoints).await?;
        let revision = client.get(PREFIX, None).await?;
        let revision = revision
            .header()
            .context("a response without a header")?
            .revision();
        client
            .compact(revision, Some(CompactionOptions::new()))
            .await?;
    }
    Ok((put.figures().await?, get.figures().await?))
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch around a process")]
fn now() -> Instant {
    Instant::now()
}

fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() {
            folder_bytes(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(total)
}
