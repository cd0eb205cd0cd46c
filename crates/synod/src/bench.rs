//! `synod bench`: closed-loop load for any etcd v3 endpoint, and for ZooKeeper's protocol.
//!
//! Every client has one request in flight. Latency is measured from the call to its answer and
//! recorded in a histogram; the warm-up is not counted. The load generator uses plain tonic,
//! without a full client's balancing layers, so that it takes as few resources as possible from the
//! servers on a small machine.

mod json;
mod lease;
mod load;
mod lock;
mod report;
mod requests;
mod watch;
mod zookeeper;

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::{cli, connect::Target, output::Format};

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    workload: Workload,
    #[command(flatten)]
    shape: Shape,
}

/// The options that all workloads share.
#[derive(Args, Clone, Debug)]
pub(crate) struct Shape {
    /// Requests in flight
    #[arg(long, global = true, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) clients: u16,
    /// Connections that the clients share, spread over the endpoints (0: one for every 8 clients,
    /// at least one per endpoint)
    #[arg(long, global = true, default_value_t = 0)]
    pub(crate) connections: u16,
    /// How long to measure, in seconds
    #[arg(long, global = true, default_value = "5", value_parser = cli::seconds)]
    pub(crate) duration: Duration,
    /// How long to run before measuring, in seconds
    #[arg(long, global = true, default_value = "1", value_parser = cli::seconds)]
    pub(crate) warmup: Duration,
    /// Bytes in a value
    #[arg(long, global = true, default_value_t = 128)]
    pub(crate) value_bytes: usize,
    /// Different keys
    #[arg(long, global = true, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keys: u32,
    /// Prefix of the keys; they are not deleted
    #[arg(long, global = true, default_value = "synod-bench/")]
    pub(crate) prefix: String,
}

#[derive(Subcommand, Clone, Copy)]
pub(crate) enum Workload {
    /// Write every key once
    Fill,
    /// Write random keys
    Put,
    /// Read random keys, which are written first
    Get {
        /// Skip writing the keys, which exist already
        #[arg(long)]
        no_fill: bool,
        /// Let each member answer from its own state
        #[arg(long)]
        serializable: bool,
    },
    /// Compare a key's mod revision and write it, as Kubernetes does
    Txn,
    /// Read some keys starting with a random one, under a prefix whose keys are written first
    Range {
        /// Skip writing the keys, which exist already
        #[arg(long)]
        no_fill: bool,
        /// Keys per answer
        #[arg(long, default_value_t = 100)]
        limit: i64,
    },
    /// Watch a prefix from many watchers while clients write
    Watch {
        /// Watchers
        #[arg(long, default_value_t = 100)]
        watchers: u16,
        /// Request the previous pair of each event
        #[arg(long)]
        prev_kv: bool,
    },
    /// Grant a lease, keep it alive once, revoke it
    Lease,
    /// Grant leases, then keep them alive in turn
    KeepAlive {
        /// Leases
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
        leases: u32,
    },
    /// Write random keys in JSON over HTTP/1.1, one connection for each client
    JsonPut,
    /// Take a lock and release it
    Lock {
        /// Use one lock for all clients, instead of one for each
        #[arg(long)]
        same: bool,
    },
    /// Use ZooKeeper's protocol, on any server that has it
    #[command(name = "zookeeper")]
    ZooKeeper(zookeeper::Options),
}

/// Runs the workload and prints its report.
///
/// # Errors
/// The endpoints can't be reached, or every request failed.
pub(crate) async fn run(options: Options, target: &Target, format: Format) -> anyhow::Result<()> {
    let Options { workload, shape } = options;
    let channels = if matches!(workload, Workload::ZooKeeper(_)) {
        Vec::new()
    } else {
        load::connect(target, &shape).await?
    };
    let report = match workload {
        Workload::Fill => requests::fill(&shape, channels).await?,
        Workload::Put => requests::put(&shape, channels).await,
        Workload::Get {
            no_fill,
            serializable,
        } => {
            if !no_fill {
                requests::fill(&shape, channels.clone()).await?;
            }
            requests::get(&shape, channels, serializable).await
        }
        Workload::Txn => requests::txn(&shape, channels).await,
        Workload::Range { no_fill, limit } => {
            if !no_fill {
                requests::fill(&shape, channels.clone()).await?;
            }
            requests::range(&shape, channels, limit).await
        }
        Workload::Watch { watchers, prev_kv } => {
            watch::run(&shape, channels, watchers, prev_kv).await?
        }
        Workload::Lease => lease::run(&shape, channels).await?,
        Workload::KeepAlive { leases } => lease::keep_alive(&shape, channels, leases).await?,
        Workload::JsonPut => json::put(&shape, target).await?,
        Workload::Lock { same } => {
            let names = match same {
                true => lock::Names::Same,
                false => lock::Names::Own,
            };
            lock::run(&shape, channels, names).await?
        }
        Workload::ZooKeeper(options) => zookeeper::run(&shape, options, target).await?,
    };
    report.print(format)
}
