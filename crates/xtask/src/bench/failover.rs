//! For how long a client that writes through a follower gets no write acknowledged when something
//! ends or stops the leader.

use std::{fmt::Write as _, path::Path, time::Duration};

use anyhow::Result;
use clap::Args;
use synod_testkit::{Cluster, Lab, Server, Share, Topology, outage, peers, run_within};

use super::{
    document,
    servers::{Algorithms, column_name},
};

/// How long the whole measurement may take.
const DEADLINE: Duration = Duration::from_secs(3600);
/// Between two fates. A member of ours that was restarted helps nobody to lead for an election
/// timeout, which nothing shows from outside.
const REST: Duration = Duration::from_millis(1_500);

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How often each thing happens to each server
    #[arg(long, default_value_t = 20)]
    times: usize,
    #[command(flatten)]
    algorithms: Algorithms,
    /// Print the figures and leave docs/benchmarks.md as it is
    #[arg(long)]
    print: bool,
}

/// What happens to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kill,
    Terminate,
    Stop,
}

/// A line of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    fate: Fate,
    /// A flag that only our server has.
    flag: Option<&'static str>,
}

const ROWS: [Row; 4] = [
    Row {
        name: "killed (SIGKILL)",
        fate: Fate::Kill,
        flag: None,
    },
    Row {
        name: "killed, with `--linearizable-read=lease`",
        fate: Fate::Kill,
        flag: Some("--linearizable-read=lease"),
    },
    Row {
        name: "asked to end (SIGTERM)",
        fate: Fate::Terminate,
        flag: None,
    },
    Row {
        name: "stopped (SIGSTOP): silent, not gone",
        fate: Fate::Stop,
        flag: None,
    },
];

/// Measures and writes docs/benchmarks.md.
///
/// # Errors
/// A server failed.
pub(super) fn run(options: &Options, output: &Path) -> Result<()> {
    let versions = peers::install()?;
    let servers: Vec<Server> = std::iter::once(Server::Etcd)
        .chain(options.algorithms.servers())
        .collect();
    let mut text = format!(
        "Measured on {}, with the client and all three members on it, {} times each in one run; etcd {}. All had the \
         same timeouts: heartbeats every 100 ms, an election timeout of 1 s. Milliseconds: median / p90 / most.\n\n\
         | the leader is |",
        document::machine(),
        options.times,
        versions.version,
    );
    for server in &servers {
        write!(text, " {} |", column_name(*server))?;
    }
    text += "\n|---|";
    text += &"--:|".repeat(servers.len());
    text += "\n";
    for row in ROWS {
        write!(text, "| {} |", row.name)?;
        for server in &servers {
            if *server == Server::Etcd && row.flag.is_some() {
                text += " |";
                continue;
            }
            let mut outages = measure(options, *server, row)?;
            outages.sort();
            progress(*server, row, &outages);
            write!(text, " {} |", figures(&outages))?;
        }
        text += "\n";
    }
    if options.print {
        print(&text);
        return Ok(());
    }
    document::replace(output, "failover", &text)
}

#[expect(clippy::print_stdout, reason = "printing is what was asked for")]
fn print(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "a measurement that takes long")]
fn progress(server: Server, row: Row, outages: &[Duration]) {
    eprintln!(
        "{}, {}: {}",
        column_name(server),
        row.name,
        figures(outages)
    );
}

/// Of sorted ones.
fn figures(outages: &[Duration]) -> String {
    let at = |part: usize| {
        let place = (outages.len() * part).div_ceil(100).saturating_sub(1);
        outages.get(place).map_or(0, Duration::as_millis)
    };
    format!("{} / {} / {}", at(50), at(90), at(100))
}

/// One cluster, whose leader meets its fate again and again.
fn measure(options: &Options, server: Server, row: Row) -> Result<Vec<Duration>> {
    let mut outages = Vec::new();
    run_within(Share::Whole, DEADLINE, async |lab: &Lab| {
        let mut topology = Topology::of(3);
        if let Some(flag) = row.flag {
            topology = topology.flag(flag);
        }
        let mut cluster = Cluster::start(lab, server, topology).await?;
        for _ in 0..options.times {
            let leader = cluster.leader().await?;
            let client = cluster.client((leader + 1) % 3).await?;
            let happens = async {
                match row.fate {
                    Fate::Kill => cluster.kill(leader),
                    Fate::Terminate => cluster.stop(leader).await.map(drop),
                    Fate::Stop => cluster.node(leader).process()?.pause(),
                }
            };
            outages.push(outage(client, happens).await?);
            match row.fate {
                Fate::Kill | Fate::Terminate => cluster.launch(lab, leader)?,
                Fate::Stop => cluster.node(leader).process()?.resume()?,
            }
            cluster.ready().await?;
            tokio::time::sleep(REST).await;
        }
        Ok(())
    })?;
    Ok(outages)
}
