//! Compares coordination with ZooKeeper: three pods and three members of consensus beside an
//! ensemble of three servers.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use synod_testkit::zookeeper::{self, ZooKeeper};
use synod_testkit::{Cluster, Lab, PodOptions, Pods, Server, Share, Topology, run_within};

use super::document;
use super::load::{self, Figures};
use super::usage;

/// The time limit of the whole comparison.
const DEADLINE: Duration = Duration::from_secs(3 * 3600);

/// Servers, pods and members.
const NODES: usize = 3;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How often each service has its turn; the median run of each workload is shown
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// How long each workload is measured, in seconds
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Only workloads whose name begins with this
    #[arg(long, default_value = "")]
    only: String,
    /// Print the figures without changing docs/benchmarks.md
    #[arg(long)]
    print: bool,
}

/// A workload.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    what: &'static str,
    sessions: u32,
    in_flight: u32,
    bytes: u32,
}

const fn row(name: &'static str, what: &'static str, sessions: u32, in_flight: u32) -> Row {
    Row {
        name,
        what,
        sessions,
        in_flight,
        bytes: 100,
    }
}

const ROWS: [Row; 15] = [
    row("create, 1 session", "create", 1, 1),
    row("create, 16 sessions", "create", 16, 1),
    row("create, 64 sessions, 16 in flight", "create", 64, 16),
    row("set, 1 session", "set", 1, 1),
    row("set, 1 session, 16 in flight", "set", 1, 16),
    row("set, 16 sessions", "set", 16, 1),
    row("set, 64 sessions", "set", 64, 1),
    row("set, 64 sessions, 16 in flight", "set", 64, 16),
    Row {
        bytes: 1024,
        ..row("set of 1 KiB, 64 sessions", "set", 64, 1)
    },
    row("get, 1 session", "get", 1, 1),
    row("get, 64 sessions", "get", 64, 1),
    row("get, 64 sessions, 16 in flight", "get", 64, 16),
    row("9 gets, 1 set, 64 sessions", "mixed", 64, 1),
    row("ephemeral sequential, 64 sessions", "sequential", 64, 1),
    row("watch events, 100 watchers, 16 writers", "watch", 16, 1),
];

/// A workload's figures on one service.
#[derive(Clone)]
struct Measured {
    figures: Figures,
    /// Processor time of all processes per operation, in microseconds.
    cpu_us: f64,
}

struct Turn {
    workloads: Vec<Measured>,
    /// The resident memory of all processes together after their start, in bytes.
    idle_memory: u64,
    /// The same at the peak of each.
    peak_memory: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    ZooKeeper,
    Synod,
    SynodOnEtcd,
}

impl Service {
    const ALL: [Self; 3] = [Self::ZooKeeper, Self::Synod, Self::SynodOnEtcd];

    fn name(self) -> &'static str {
        match self {
            Self::ZooKeeper => "ZooKeeper",
            Self::Synod => "Synod",
            Self::SynodOnEtcd => "Synod on etcd",
        }
    }
}

/// Measures and writes docs/benchmarks.md.
///
/// # Errors
/// A server or a load failed.
pub(super) fn run(options: &Options, generator: &Path, output: &Path) -> Result<()> {
    let rows: Vec<Row> = ROWS
        .into_iter()
        .filter(|row| row.name.starts_with(&options.only))
        .collect();
    let mut turns: Vec<Vec<Turn>> = Service::ALL.map(|_| Vec::new()).into();
    for _ in 0..options.rounds {
        for (service, turns) in Service::ALL.into_iter().zip(&mut turns) {
            turns.push(turn(options, &rows, generator, service)?);
        }
    }
    let text = table(options, &rows, &turns)?;
    if options.print {
        print(&text);
        return Ok(());
    }
    document::replace(output, "zookeeper", &text)
}

#[expect(clippy::print_stdout, reason = "printing is what was asked for")]
fn print(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "a measurement that takes long")]
fn progress(service: Service, row: Row, measured: &Measured) {
    eprintln!(
        "{}: {}: {:.0}/s, p50 {} us, p99 {} us, p99.9 {} us, {:.1} us CPU",
        service.name(),
        row.name,
        measured.figures.operations_per_second,
        measured.figures.p50_us,
        measured.figures.p99_us,
        measured.figures.p999_us,
        measured.cpu_us,
    );
}

/// One service from its start to its end.
fn turn(options: &Options, rows: &[Row], generator: &Path, service: Service) -> Result<Turn> {
    let mut turn = Turn {
        workloads: Vec::new(),
        idle_memory: 0,
        peak_memory: 0,
    };
    run_within(Share::Whole, DEADLINE, async |lab| {
        let (addresses, pids, _running) = start(lab, service).await?;
        turn.idle_memory = total(&pids, usage::memory_of)?;
        let fill = ["zookeeper".to_owned(), "fill".to_owned()];
        load::start(generator, &addresses, &fill)?.figures().await?;
        for &row in rows {
            let words = [
                "zookeeper".to_owned(),
                row.what.to_owned(),
                "--no-fill".to_owned(),
                format!("--in-flight={}", row.in_flight),
                format!("--clients={}", row.sessions),
                format!("--value-bytes={}", row.bytes),
                format!("--duration={}", options.seconds),
                format!("--warmup={}", usage::WARMUP_SECONDS),
            ];
            let before = usage::cpu_of(&pids)?;
            let figures = load::start(generator, &addresses, &words)?;
            let figures = figures.figures().await?;
            let used = usage::cpu_of(&pids)?.saturating_sub(before);
            let measured = Measured {
                cpu_us: usage::per_operation(used, &figures, options.seconds),
                figures,
            };
            progress(service, row, &measured);
            turn.workloads.push(measured);
        }
        turn.peak_memory = total(&pids, usage::peak_of)?;
        Ok(())
    })?;
    Ok(turn)
}

fn total(pids: &[u32], of: fn(u32) -> Result<u64>) -> Result<u64> {
    pids.iter().map(|&pid| of(pid)).sum()
}

/// What must live as long as a service.
enum Running {
    ZooKeeper(#[expect(dead_code, reason = "ends with it")] ZooKeeper),
    Synod(
        #[expect(dead_code, reason = "ends with it")] Pods,
        #[expect(dead_code, reason = "ends with it")] Cluster,
    ),
}

/// Returns the addresses for clients, and the ids of the processes.
async fn start(lab: &Lab, service: Service) -> Result<(Vec<String>, Vec<u32>, Running)> {
    let mut pids = Vec::new();
    let endpoint = match service {
        Service::ZooKeeper => {
            let options = zookeeper::Options {
                servers: NODES,
                is_for_production: true,
                ..zookeeper::Options::default()
            };
            let mut running = ZooKeeper::start(lab, options).await?;
            for index in 0..NODES {
                pids.push(running.process(index)?.pid());
            }
            let addresses = running.addresses();
            return Ok((addresses, pids, Running::ZooKeeper(running)));
        }
        Service::Synod => Server::SYNOD,
        Service::SynodOnEtcd => Server::Etcd,
    };
    let mut cluster = Cluster::start(lab, endpoint, Topology::of(NODES)).await?;
    let options = PodOptions {
        pods: NODES,
        // All clients have one address.
        flags: vec!["--max-connections-per-address=0".to_owned()],
        ..PodOptions::default()
    };
    let mut pods = Pods::start(lab, &cluster.endpoints(), options).await?;
    for index in 0..NODES {
        pids.push(cluster.node(index).process()?.pid());
        pids.push(pods.process(index)?.pid());
    }
    let addresses = pods.addresses();
    Ok((addresses, pids, Running::Synod(pods, cluster)))
}

fn table(options: &Options, rows: &[Row], turns: &[Vec<Turn>]) -> Result<String> {
    let mut text = format!(
        "Measured on {}, with the load generator and all processes on it: ZooKeeper {} with three servers and a heap of \
         1 GiB each; Synod with three pods of coordination and three members of consensus (Raft); the same pods over three members of \
         stock etcd. All sync each write to disk, and took turns in one run, {} each. The tables show the turn with the median throughput (of \
         two, the better one), with the ratio to ZooKeeper's in brackets. Nodes have 100 bytes. CPU is the processor time of all \
         processes per operation.\n\n",
        document::machine(),
        zookeeper::VERSION,
        options.rounds,
    );
    text += "| workload |";
    for service in Service::ALL {
        write!(text, " {} /s |", service.name())?;
    }
    for service in Service::ALL {
        write!(text, " {} p50 / p99 / p99.9 ms |", service.name())?;
    }
    for service in Service::ALL {
        write!(text, " {} CPU us |", service.name())?;
    }
    text += "\n|---|";
    text += &"--:|".repeat(3 * Service::ALL.len());
    text += "\n";
    for (index, row) in rows.iter().enumerate() {
        let shown: Vec<Measured> = turns.iter().map(|turns| median(turns, index)).collect();
        let Some(peer) = shown.first() else { continue };
        write!(text, "| {} |", row.name)?;
        for measured in &shown {
            let rate = measured.figures.operations_per_second;
            let ratio = rate / peer.figures.operations_per_second;
            write!(text, " {rate:.0} ({ratio:.2}) |")?;
        }
        for measured in &shown {
            let figures = &measured.figures;
            let [p50, p99, p999] =
                [figures.p50_us, figures.p99_us, figures.p999_us].map(milliseconds);
            write!(text, " {p50} / {p99} / {p999} |")?;
        }
        for measured in &shown {
            let ratio = measured.cpu_us / peer.cpu_us;
            write!(text, " {:.1} ({ratio:.2}) |", measured.cpu_us)?;
        }
        text += "\n";
    }
    text += "\nMemory of all processes together after their start and at their peaks:";
    for (service, turns) in Service::ALL.into_iter().zip(turns) {
        let most = |of: fn(&Turn) -> u64| turns.iter().map(of).max().unwrap_or(0) >> 20;
        let (idle, peak) = (most(|turn| turn.idle_memory), most(|turn| turn.peak_memory));
        write!(text, " {} {idle} and {peak} MiB;", service.name())?;
    }
    text.pop();
    text += ".\n";
    Ok(text)
}

fn milliseconds(us: u64) -> String {
    format!("{}.{:02}", us / 1_000, us % 1_000 / 10)
}

/// The turn with the median throughput of a workload; of two, the better one.
fn median(turns: &[Turn], workload: usize) -> Measured {
    let mut all: Vec<Measured> = turns
        .iter()
        .map(|turn| turn.workloads[workload].clone())
        .collect();
    all.sort_by(|a, b| {
        let rate = |measured: &Measured| measured.figures.operations_per_second;
        rate(a).total_cmp(&rate(b))
    });
    all.swap_remove(all.len() / 2)
}
