//! `synod dev`: runs every service in this process, for a laptop. Currently those are consensus and
//! coordination.

use std::{
    fs,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use futures::{FutureExt as _, future};
use synod_consensus::{Algorithm, Config, Ended, InitialCluster, Node};
use synod_coordination::{Config as PodConfig, Pod};
use synod_runtime::{
    env, memory, shutdown,
    telemetry::{self, LogFormat, TelemetryConfig},
};

use crate::output;

/// The distance between the members' ports, as is usual for etcd on one machine.
const PORT_STEP: u16 = 10_000;
/// The timeout for all members to serve.
const READY_WITHIN: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(crate) struct Options {
    /// How many members of consensus, and pods of coordination: 1, or 3 to see fail-over
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=5))]
    nodes: u16,
    /// The consensus algorithm: raft or multi-paxos; by default that of the data, raft for new data
    #[arg(long = "engine", env = "SYNOD_ENGINE", value_name = "ENGINE")]
    algorithm: Option<Algorithm>,
    /// Where the data is kept
    #[arg(long, env = "SYNOD_DEV_DATA_DIR", default_value = "synod-dev")]
    data_dir: PathBuf,
    /// Keep the data in a temporary directory, which is deleted when the process ends
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    /// The first member's client port; each further member's is 10000 higher
    #[arg(long, default_value_t = 2379)]
    client_port: u16,
    /// The first member's peer port; each further member's is 10000 higher
    #[arg(long, default_value_t = 2380)]
    peer_port: u16,
    /// The port of the first pod of coordination for ZooKeeper's clients; each further pod's is
    /// 10000 higher
    #[arg(long, default_value_t = 2181)]
    zookeeper_port: u16,
    /// The port of the first pod of coordination for gRPC; each further pod's is 10000 higher
    #[arg(long, default_value_t = 2190)]
    coordination_port: u16,
    /// What is logged: error, warn, info, debug, trace, or a filter by module
    #[arg(long, env = "SYNOD_LOG", default_value = "warn")]
    log: String,
}

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// A port is in use, the data directory can't be used, or a member failed.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    // If the kernel refuses, the process only uses more memory.
    let _refused = memory::disable_huge_pages();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(options))
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let _telemetry = telemetry::init(&TelemetryConfig {
        format: if std::io::stderr().is_terminal() {
            LogFormat::Text
        } else {
            LogFormat::Json
        },
        filter: options.log.clone(),
        otlp_endpoint: env::var("OTEL_EXPORTER_OTLP_ENDPOINT")?,
        service_name: "synod-dev".to_owned(),
        ..TelemetryConfig::default()
    })?;
    let temporary = options.ephemeral.then(tempfile::tempdir).transpose()?;
    let folder = match &temporary {
        Some(temporary) => temporary.path(),
        None => own_folder(&options.data_dir, options.nodes)?,
    };
    let starts = configs(&options, folder)?.into_iter().map(Node::start);
    let nodes = future::try_join_all(starts).await?;
    let mut pods = Vec::new();
    let stopped = tokio::select! {
        biased; // a stop request must not wait for the start
        signal = shutdown::signal() => { signal?; None }
        started = coordinate(&options, &nodes, &mut pods) => {
            started?;
            announce(&nodes, &pods, folder, temporary.is_some())?;
            until_stopped(&nodes).await?
        }
    };
    future::join_all(pods.into_iter().map(Pod::shutdown)).await;
    future::join_all(nodes.into_iter().map(Node::shutdown)).await;
    match stopped {
        None => Ok(()),
        Some(fault) => anyhow::bail!("a member stopped because of an error: {fault}"),
    }
}

/// Waits for the members, and starts the pods of coordination.
async fn coordinate(options: &Options, nodes: &[Node], pods: &mut Vec<Pod>) -> anyhow::Result<()> {
    let ready = nodes.iter().map(|node| node.ready(READY_WITHIN));
    let ready = future::try_join_all(ready).await;
    ready.context("the members did not become ready; see the log above")?;
    for config in pod_configs(options, nodes)? {
        pods.push(Pod::start(config).await?);
    }
    let ready = pods.iter().map(|pod| pod.ready(READY_WITHIN));
    let ready = future::try_join_all(ready).await;
    ready.context("coordination did not become ready; see the log above")?;
    Ok(())
}

/// Waits for a signal (`None`) or for a member that fails, and returns the reason.
async fn until_stopped(nodes: &[Node]) -> anyhow::Result<Option<String>> {
    let ended = nodes.iter().map(|node| node.ended().boxed_local());
    tokio::select! {
        biased; // report a failed member without waiting for a signal
        (ended, index, _) = future::select_all(ended) => Ok(Some(match ended {
            Ended::Removed => format!("n{} was removed from the cluster", index + 1),
            Ended::Failed(fault) => fault.to_string(),
        })),
        signal = shutdown::signal() => { signal?; Ok(None) }
    }
}

/// Creates the data directory. Refuses one that was created for a different number of members.
fn own_folder(folder: &Path, nodes: u16) -> anyhow::Result<&Path> {
    fs::create_dir_all(folder).with_context(|| {
        format!(
            "cannot create {}; name a directory with --data-dir",
            folder.display()
        )
    })?;
    let present = (1..=u16::MAX)
        .take_while(|number| folder.join(name(*number)).exists())
        .count();
    ensure!(
        present == 0 || present == usize::from(nodes),
        "{} holds a cluster of {present}: start it with --nodes {present}, or name another directory with \
         --data-dir",
        folder.display()
    );
    Ok(folder)
}

fn name(number: u16) -> String {
    format!("n{number}")
}

/// The port of a member or pod, counted from 1.
fn port(first: u16, number: u16, options: &Options) -> anyhow::Result<u16> {
    let port = (number - 1)
        .checked_mul(PORT_STEP)
        .and_then(|step| first.checked_add(step));
    port.with_context(|| {
        format!(
            "port {first} leaves no room for {} members; choose a lower one",
            options.nodes
        )
    })
}

fn pod_configs(options: &Options, nodes: &[Node]) -> anyhow::Result<Vec<PodConfig>> {
    let urls = nodes.iter().flat_map(Node::client_urls);
    let endpoints: Vec<String> = urls.cloned().collect();
    (1..=options.nodes)
        .map(|number| {
            let zookeeper = port(options.zookeeper_port, number, options)?;
            let grpc = port(options.coordination_port, number, options)?;
            Ok(PodConfig {
                name: format!("pod-{number}"),
                endpoints: endpoints.clone(),
                listen_zookeeper: vec![format!("127.0.0.1:{zookeeper}")],
                listen_urls: vec![format!("http://127.0.0.1:{grpc}")],
                listen_metrics_urls: Vec::new(),
                ..PodConfig::default()
            })
        })
        .collect()
}

fn configs(options: &Options, folder: &Path) -> anyhow::Result<Vec<Config>> {
    let url = |first: u16, number: u16| {
        let port = port(first, number, options)?;
        anyhow::Ok(format!("http://127.0.0.1:{port}"))
    };
    let mut initial_cluster = InitialCluster::new();
    for number in 1..=options.nodes {
        initial_cluster.insert(name(number), vec![url(options.peer_port, number)?]);
    }
    (1..=options.nodes)
        .map(|number| {
            let (client, peer) = (
                url(options.client_port, number)?,
                url(options.peer_port, number)?,
            );
            let mut config = Config::new(&name(number));
            config.data_dir = folder.join(name(number));
            config.algorithm = options.algorithm;
            config.listen_client_urls = vec![client.clone()];
            config.advertise_client_urls = vec![client];
            config.listen_peer_urls = vec![peer.clone()];
            config.initial_advertise_peer_urls = vec![peer];
            config.initial_cluster = initial_cluster.clone();
            config.initial_cluster_token = "synod-dev".to_owned();
            Ok(config)
        })
        .collect()
}

/// Prints the ready line: every endpoint, and commands to try.
fn announce(nodes: &[Node], pods: &[Pod], folder: &Path, ephemeral: bool) -> anyhow::Result<()> {
    let address = |url: &String| url.trim_start_matches("http://").to_owned();
    let clients: Vec<String> = nodes
        .iter()
        .flat_map(|node| node.client_urls().iter().map(address))
        .collect();
    let peers: Vec<String> = nodes
        .iter()
        .flat_map(|node| node.peer_urls().iter().map(address).collect::<Vec<_>>())
        .collect();
    let zookeeper: Vec<String> = pods
        .iter()
        .flat_map(|pod| pod.zookeeper_addresses().iter().cloned())
        .collect();
    let grpc: Vec<String> = pods
        .iter()
        .flat_map(|pod| pod.urls().iter().map(address))
        .collect();
    let coordination = grpc.first().map_or("", String::as_str);
    let kept = if ephemeral {
        "until this process ends"
    } else {
        "durable"
    };
    let first = clients.first().map_or("", String::as_str);
    output::line(&format!(
        "ready: {} member{} of consensus ({}); etcd v3 API on {}; peers on {}; data in {} ({kept})\n\
         ready: coordination; ZooKeeper's protocol on {}; gRPC on {}\n\
         health and metrics: http://{first}/readyz http://{first}/metrics http://{coordination}/metrics\n\
         try: etcdctl --endpoints={} put greeting hello\n\
         try: zkCli.sh -server {} create /greeting hello\n\
         stop: Ctrl-C",
        nodes.len(),
        if nodes.len() == 1 { "" } else { "s" },
        nodes.first().map_or(Algorithm::Raft, Node::algorithm),
        clients.join(" "),
        peers.join(" "),
        folder.display(),
        zookeeper.join(" "),
        grpc.join(" "),
        clients.join(","),
        zookeeper.join(","),
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_another_number_of_members_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        own_folder(folder.path(), 3).unwrap();
        fs::create_dir(folder.path().join("n1")).unwrap();
        own_folder(folder.path(), 1).unwrap();
        let refused = own_folder(folder.path(), 3).unwrap_err().to_string();
        assert!(refused.contains("--nodes 1"), "{refused}");
    }
}
