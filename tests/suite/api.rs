//! Tests of the etcd v3 API in detail, through the `etcd-client` crate and with hand-made messages.
//!
//! Every case runs on a fresh node. All cases also run one after the other on three nodes, through
//! a follower, for each engine. So a case counts revisions from its start and uses only its own
//! prefix.

mod borders;
mod cluster;
mod election;
mod flags;
mod http;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod range;
mod txn;
mod txn_errors;
mod watch;
mod watch_control;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, KeyValue};
use synod_testkit::{Cluster, Server, Share, Topology};

/// The environment of a case.
#[derive(Clone)]
pub(crate) struct Case {
    client: Client,
    endpoint: String,
    /// The prefix of all the case's keys.
    prefix: String,
    /// The store's revision at the start.
    base: i64,
    server: Server,
}

impl Case {
    async fn new(cluster: &Cluster, index: usize, name: &str) -> Result<Self> {
        let mut client = cluster.client(index).await?;
        let header = client
            .get("none", None)
            .await?
            .take_header()
            .context("a header")?;
        Ok(Self {
            client,
            endpoint: cluster.endpoint(index),
            prefix: format!("{name}/"),
            base: header.revision(),
            server: cluster.server(),
        })
    }

    /// A key with the case's prefix.
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Puts `names` in order, each with its own name as the value.
    async fn fill(&self, names: &[&str]) -> Result<()> {
        let mut client = self.client.clone();
        for name in names {
            client.put(self.key(name), *name, None).await?;
        }
        Ok(())
    }
}

/// A key's create revision, mod revision, version, lease and value.
fn shape(kv: &KeyValue) -> (i64, i64, i64, i64, &[u8]) {
    (
        kv.create_revision(),
        kv.mod_revision(),
        kv.version(),
        kv.lease(),
        kv.value(),
    )
}

/// The keys, without the prefix.
fn names<'a>(kvs: &'a [KeyValue], case: &Case) -> Result<Vec<&'a str>> {
    kvs.iter()
        .map(|kv| {
            kv.key_str()?
                .strip_prefix(case.prefix.as_str())
                .context("a key of this case")
        })
        .collect()
}

/// Declares the cases. Each becomes two tests on one node, and a step of the tests on three nodes.
macro_rules! cases {
    ($($area:ident: $($name:ident),+;)+) => {
        const CASES: &[(&str, Run)] = &[$($(
            (concat!(stringify!($area), "-", stringify!($name)), |case| Box::pin($area::$name(case))),
        )+)+];

        mod one_node {
            $(mod $area {
                $(mod $name {
                    #[test]
                    fn etcd() -> anyhow::Result<()> {
                        let case = |case| -> crate::api::Running {
                            Box::pin(crate::api::$area::$name(case))
                        };
                        crate::api::on_one_node(synod_testkit::Server::Etcd, case)
                    }

                    #[test]
                    fn raft() -> anyhow::Result<()> {
                        let case = |case| -> crate::api::Running {
                            Box::pin(crate::api::$area::$name(case))
                        };
                        crate::api::on_one_node(synod_testkit::Server::SYNOD, case)
                    }
                })+
            })+
        }
    };
}

cases! {
    kv: puts_and_versions, put_refusals, ignored_fields, deletes, large_requests;
    range: revisions, limits_and_counts, sorting, revision_filters, range_ends, keys_only,
        compaction, serializable_reads, streams, streams_of_the_past, streams_by_target;
    txn: branches, compares, missing_keys_compare_as_zero, range_compares, nested,
        revisions_inside, reads_see_earlier_puts, compares_come_first, headers_inside;
    txn_errors: duplicate_keys, too_many_operations, empty_operation, failures_change_nothing,
        bad_revisions;
    lease: grants, time_to_live, attachment, revocation, keep_alive_of_missing, expiry, keep_alive;
    watch: live_events, history, previous_values, filters, ranges, one_response_a_revision,
        fragments, leases_end_in_one_revision, previous_values_below_compaction;
    watch_control: ids, duplicate_id, empty_range, cancel, compacted_start, progress,
        future_start, many_on_one_stream, negative_start;
    lock: keys_and_headers, own_leases, refusals, empty_name, fairness, a_waiter_whose_lease_ends,
        a_waiter_that_gives_up, clients_with_the_library, compaction;
    election: terms, campaigns_again, refusals, own_leases, observers, a_candidate_whose_lease_ends,
        a_candidate_that_gives_up;
    maintenance: status, hashes, hashes_across_compaction, alarms, snapshot, defragment, grpc_health,
        reflection;
    cluster: members, refusals, learners;
    http: pages;
    borders: of_every_request;
}

type Running = Pin<Box<dyn Future<Output = Result<()>>>>;
type Run = fn(Case) -> Running;

fn on_one_node(server: Server, case: Run) -> Result<()> {
    synod_testkit::run(Share::Small, async |lab| {
        let cluster = Cluster::start(lab, server, Topology::of(1)).await?;
        case(Case::new(&cluster, 0, "one").await?).await
    })
}

/// Runs all cases on one cluster, through a follower if there is one.
fn on_one_cluster(server: Server, nodes: usize) -> Result<()> {
    synod_testkit::run_within(Share::Whole, Duration::from_secs(400), async |lab| {
        let cluster = Cluster::start(lab, server, Topology::of(nodes)).await?;
        tokio::task::LocalSet::new()
            .run_until(all_cases(&cluster))
            .await
    })
}

async fn all_cases(cluster: &Cluster) -> Result<()> {
    let mut failures = Vec::new();
    for (name, case) in CASES {
        let through = match cluster.nodes().len() {
            1 => 0,
            _ => cluster.follower().await?,
        };
        let case = case(Case::new(cluster, through, name).await?);
        // A separate task, so that one failed assertion does not prevent later cases.
        let ended = tokio::task::spawn_local(case).await;
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failures.push(format!("{name}: {error:#}")),
            Err(panic) => failures.push(format!("{name}: {panic} (see above)")),
        }
    }
    ensure!(
        failures.is_empty(),
        "{} cases failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    Ok(())
}

#[test]
fn three_nodes_etcd() -> Result<()> {
    on_one_cluster(Server::Etcd, 3)
}

#[test]
fn three_nodes_raft() -> Result<()> {
    on_one_cluster(Server::SYNOD, 3)
}

#[test]
fn three_nodes_multi_paxos() -> Result<()> {
    on_one_cluster(Server::PAXOS, 3)
}

/// With Raft every case has its own node. The cases test the API, which is the same with both
/// engines.
#[test]
fn one_node_multi_paxos() -> Result<()> {
    on_one_cluster(Server::PAXOS, 1)
}
