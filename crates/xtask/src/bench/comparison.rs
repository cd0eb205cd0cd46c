//! Compares stock etcd with ours, with each consensus algorithm.

use std::{fmt::Write as _, path::Path, time::Duration};

use anyhow::Result;
use clap::Args;
use synod_testkit::{Lab, Server, Share, Topology, peers, run_within};

use super::{
    document, load,
    load::Figures,
    scene::Scene,
    servers::{Algorithms, column_name},
    usage,
    workloads::{Row, Workloads},
};

/// The time limit of the whole comparison.
const DEADLINE: Duration = Duration::from_secs(3 * 3600);

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How often each server has its turn; the median run of each workload is shown
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each workload is measured, in seconds
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Cluster sizes
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3])]
    nodes: Vec<usize>,
    #[command(flatten)]
    algorithms: Algorithms,
    /// Only workloads whose name begins with this
    #[arg(long, default_value = "")]
    only: String,
    /// Print the figures without changing docs/benchmarks.md
    #[arg(long)]
    print: bool,
}

/// A server of the comparison, with its turns.
struct Column {
    server: Server,
    turns: Vec<Turn>,
}

/// A workload's figures on one server.
#[derive(Clone)]
struct Measured {
    figures: Figures,
    /// Processor time of all members per operation, in microseconds.
    cpu_us: f64,
}

/// The workloads of one turn, the memory of a member that just started, and the memory of the
/// member that used most.
struct Turn {
    workloads: Vec<Measured>,
    idle_memory: u64,
    peak_memory: u64,
}

/// Measures and writes docs/benchmarks.md.
///
/// # Errors
/// A server or a load failed.
pub(super) fn run(
    workloads: Workloads,
    options: &Options,
    generator: &Path,
    output: &Path,
) -> Result<()> {
    let versions = peers::install()?;
    let mut text = format!(
        "Measured on {}, with the load generator and all members on it. All servers sync each write to \
         disk, had the same flags, and took turns in one run, {} each. The tables show the turn with the median \
         throughput (of two, the better one), with the ratio to stock etcd's in brackets. {} Peer: etcd \
         {}. Raft and Multi-Paxos are Synod's engines. CPU is the processor time of all members per operation; memory is \
         the largest resident set of any member in all workloads.\n",
        document::machine(),
        options.rounds,
        workloads.note,
        versions.version,
    );
    for &nodes in &options.nodes {
        let mut columns: Vec<Column> = std::iter::once(Server::Etcd)
            .chain(options.algorithms.servers())
            .map(|server| Column {
                server,
                turns: Vec::new(),
            })
            .collect();
        for _ in 0..options.rounds {
            for column in &mut columns {
                let turn = turn(workloads, options, generator, column.server, nodes)?;
                column.turns.push(turn);
            }
        }
        table(&mut text, &chosen(workloads, options), nodes, &columns)?;
    }
    if options.print {
        print(&text);
        return Ok(());
    }
    document::replace(output, workloads.section, &text)
}

#[expect(clippy::print_stdout, reason = "the user asked for printed output")]
fn print(text: &str) {
    println!("{text}");
}

fn chosen(workloads: Workloads, options: &Options) -> Vec<Row> {
    let rows = workloads.rows.iter().copied();
    rows.filter(|row| row.name.starts_with(&options.only))
        .collect()
}

fn turn(
    workloads: Workloads,
    options: &Options,
    generator: &Path,
    server: Server,
    nodes: usize,
) -> Result<Turn> {
    let mut turn = None;
    let rows = chosen(workloads, options);
    run_within(Share::Whole, DEADLINE, async |lab: &Lab| {
        let topology = Topology::of(nodes).flag("--quota-backend-bytes=8589934592");
        let mut scene = Scene::start(lab, server, topology).await?;
        let idle_memory = usage::memory(&mut scene.cluster)?;
        let mut workloads = Vec::new();
        for row in rows {
            let measured = measure(options, generator, &mut scene, row).await?;
            progress(server, nodes, row.name, &measured);
            workloads.push(measured);
        }
        turn = Some(Turn {
            workloads,
            idle_memory,
            peak_memory: usage::peak_memory(&mut scene.cluster)?,
        });
        Ok(())
    })?;
    turn.ok_or_else(|| anyhow::anyhow!("the turn was not measured"))
}

async fn measure(
    options: &Options,
    generator: &Path,
    scene: &mut Scene,
    row: Row,
) -> Result<Measured> {
    let (endpoints, access) = scene.open(row.access).await?;
    let mut words: Vec<String> = row.words.iter().map(|word| (*word).to_owned()).collect();
    // Each workload has its own key space, so that it doesn't read keys of another one.
    words.extend(["--prefix".to_owned(), format!("bench/{}/", words.join("-"))]);
    words.extend(["--duration".to_owned(), options.seconds.to_string()]);
    if matches!(words.first().map(String::as_str), Some("get" | "range")) {
        // Filled first, so that filling is not counted as processor time.
        let mut fill = vec!["fill".to_owned()];
        fill.extend(
            words
                .iter()
                .skip_while(|word| *word != "--prefix")
                .take(2)
                .cloned(),
        );
        fill.extend(access.iter().cloned());
        load::start(generator, &endpoints, &fill)?.figures().await?;
        words.push("--no-fill".to_owned());
    }
    words.extend(["--warmup".to_owned(), usage::WARMUP_SECONDS.to_string()]);
    words.extend(access);
    let before = usage::cpu(&mut scene.cluster)?;
    let figures = load::start(generator, &endpoints, &words)?
        .figures()
        .await?;
    let used = usage::cpu(&mut scene.cluster)?.saturating_sub(before);
    Ok(Measured {
        cpu_us: usage::per_operation(used, &figures, options.seconds),
        figures,
    })
}

#[expect(clippy::print_stderr, reason = "progress of a long measurement")]
fn progress(server: Server, nodes: usize, name: &str, measured: &Measured) {
    let Figures {
        operations_per_second,
        p50_us,
        p99_us,
        max_us,
        ..
    } = measured.figures;
    eprintln!(
        "{server:?} x{nodes}: {name}: {operations_per_second:.0}/s, p50 {p50_us} us, p99 {p99_us} us, \
         max {max_us} us, {:.1} us CPU",
        measured.cpu_us
    );
}

/// The turn with the median throughput of workload `index`.
fn middle(turns: &[Turn], index: usize) -> Option<&Measured> {
    let mut runs: Vec<&Measured> = turns
        .iter()
        .filter_map(|turn| turn.workloads.get(index))
        .collect();
    runs.sort_by(|a, b| {
        a.figures
            .operations_per_second
            .total_cmp(&b.figures.operations_per_second)
    });
    runs.get(runs.len() / 2).copied()
}

fn table(text: &mut String, rows: &[Row], nodes: usize, columns: &[Column]) -> Result<()> {
    let plural = if nodes == 1 { "" } else { "s" };
    writeln!(text, "\n### {nodes} member{plural}\n")?;
    text.push_str("| workload |");
    for unit in ["/s", "p50 / p99 ms", "CPU us"] {
        for column in columns {
            write!(text, " {} {unit} |", column_name(column.server))?;
        }
    }
    text.push_str("\n|---|");
    text.push_str(&"--:|".repeat(3 * columns.len()));
    text.push('\n');
    for (index, row) in rows.iter().enumerate() {
        let runs: Option<Vec<&Measured>> = columns
            .iter()
            .map(|column| middle(&column.turns, index))
            .collect();
        let Some(runs) = runs else { continue };
        write!(text, "| {} |", row.name)?;
        let rate = |run: &Measured| run.figures.operations_per_second;
        beside(text, &runs, 0, rate)?;
        for run in &runs {
            write!(text, " {} |", latency(&run.figures))?;
        }
        beside(text, &runs, 1, |run| run.cpu_us)?;
        text.push('\n');
    }
    let memory: Vec<String> = columns
        .iter()
        .map(|column| {
            let most = |of: fn(&Turn) -> u64| column.turns.iter().map(of).max().unwrap_or(0) >> 20;
            let (idle, peak) = (most(|turn| turn.idle_memory), most(|turn| turn.peak_memory));
            format!("{} {idle} and {peak} MiB", column_name(column.server))
        })
        .collect();
    writeln!(
        text,
        "\nMemory of a member after its start and at its peak: {}.",
        memory.join(", ")
    )?;
    Ok(())
}

/// A figure of all servers. The later ones show their ratio to the first.
fn beside(
    text: &mut String,
    runs: &[&Measured],
    digits: usize,
    figure: impl Fn(&Measured) -> f64,
) -> Result<()> {
    for (place, run) in runs.iter().enumerate() {
        let value = figure(run);
        match runs.first().filter(|_| place > 0) {
            None => write!(text, " {value:.digits$} |")?,
            Some(first) => write!(text, " {value:.digits$} ({:.2}) |", value / figure(first))?,
        }
    }
    Ok(())
}

fn latency(figures: &Figures) -> String {
    let ms = |us: u64| Duration::from_micros(us).as_secs_f64() * 1e3;
    format!("{:.2} / {:.2}", ms(figures.p50_us), ms(figures.p99_us))
}
