//! A data directory that does not fit a small memory: what a member needs, how fast it starts, and
//! whether anybody notices a compaction.

use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use etcd_client::CompactionOptions;
use synod_testkit::{Cluster, Lab, Server, Share, Topology, connect, run_within};

use super::{document, load, usage};

/// How long the whole measurement may take.
const DEADLINE: Duration = Duration::from_secs(2 * 3600);
/// The names of the keys begin with this.
const PREFIX: &str = "large/";

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Data to write, in GiB, in values of 1 KiB
    #[arg(long, default_value_t = 5)]
    gib: u32,
    /// How long a put/get stream runs before and while the history is compacted, in seconds
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Print the figures and leave docs/benchmarks.md as it is
    #[arg(long)]
    print: bool,
}

/// Measures and writes docs/benchmarks.md.
///
/// # Errors
/// A server or a load failed.
pub(super) fn run(options: &Options, generator: &Path, output: &Path) -> Result<()> {
    let mut text = String::new();
    run_within(Share::Whole, DEADLINE, async |lab: &Lab| {
        text = measure(options, generator, lab).await?;
        Ok(())
    })?;
    if options.print {
        print(&text);
        return Ok(());
    }
    document::replace(output, "large", &text)
}

#[expect(clippy::print_stdout, reason = "printing is what was asked for")]
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

async fn measure(options: &Options, generator: &Path, lab: &Lab) -> Result<String> {
    let keys = options.gib * (1 << 20);
    let seconds = options.seconds.to_string();
    let topology = Topology::of(1).flag("--quota-backend-bytes=68719476736");
    let mut cluster = Cluster::start(lab, Server::SYNOD, topology).await?;
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

    let mut text = format!("Measured on {}.\n\n", document::machine());
    let mib = |bytes: u64| bytes >> 20;
    text.push_str("| what | figure |\n|---|--:|\n");
    writeln!(text, "| data: keys x value | {keys} x 1 KiB |")?;
    writeln!(
        text,
        "| written at | {:.0} puts/s |",
        filled.operations_per_second
    )?;
    writeln!(
        text,
        "| data directory | {} MiB |",
        mib(folder_bytes(&cluster.nodes()[0].spec.data_dir)?)
    )?;
    writeln!(
        text,
        "| peak memory while it was written | {} MiB |",
        mib(after_fill)
    )?;
    writeln!(
        text,
        "| restart until the first write was acknowledged | {:.2} s |",
        restart.as_secs_f64()
    )?;
    writeln!(
        text,
        "| memory after the restart | {} MiB |",
        mib(after_restart)
    )?;
    writeln!(
        text,
        "| peak memory at the end | {} MiB |",
        mib(usage::peak_memory(&mut cluster)?)
    )?;
    for (name, figures) in [
        ("put, 8 clients, before", &put_before),
        ("get, 8 clients, before", &get_before),
        (
            "put, 8 clients, while the history is compacted",
            &put_during,
        ),
        (
            "get, 8 clients, while the history is compacted",
            &get_during,
        ),
    ] {
        writeln!(
            text,
            "| {name}: rate; p99; longest | {:.0}/s; {:.2} ms; {:.1} ms |",
            figures.operations_per_second,
            Duration::from_micros(figures.p99_us).as_secs_f64() * 1e3,
            Duration::from_micros(figures.max_us).as_secs_f64() * 1e3,
        )?;
    }
    Ok(text)
}

/// A stream of puts and one of gets at the same time, with a compaction to the newest revision in between.
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
