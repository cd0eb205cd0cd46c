//! Eight clients that put, get and compare-and-swap a few keys through random members.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use etcd_client::{Client, Compare, CompareOp, ConnectOptions, Txn, TxnOp, TxnOpResponse};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synod_testkit::{Action, Cluster, History, Observed, Outcome, Record, connect_with};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

/// The prefix of all the workload's keys.
pub(crate) const PREFIX: &str = "chaos/";

const CLIENTS: u32 = 8;
const KEYS: u32 = 5;
const CALL_WITHIN: Duration = Duration::from_secs(3);

/// New keys after this time, in nanoseconds, keep the linearizability check small.
const EPOCH_NS: i64 = 10_000_000_000;

/// The running clients.
pub(crate) struct Workload {
    history: Rc<History>,
    stop: Rc<Cell<bool>>,
    clients: LocalSet,
}

impl Workload {
    /// Starts the clients. They run while [`Workload::beside`] is awaited.
    pub(crate) fn start(cluster: &Cluster, seed: u64) -> Self {
        let history = Rc::new(History::default());
        let stop = Rc::new(Cell::new(false));
        let clients = LocalSet::new();
        for number in 0..CLIENTS {
            let random = ChaCha8Rng::seed_from_u64(seed ^ u64::from(number + 1));
            let run = run(
                cluster.endpoints(),
                number,
                random,
                Rc::clone(&history),
                Rc::clone(&stop),
            );
            clients.spawn_local(run);
        }
        Self {
            history,
            stop,
            clients,
        }
    }

    /// Runs the clients while `other` runs.
    pub(crate) async fn beside<T>(&self, other: impl Future<Output = T>) -> T {
        self.clients.run_until(other).await
    }

    /// Lets every client finish its call, and returns the records.
    pub(crate) async fn end(self) -> Vec<Record> {
        self.stop.set(true);
        self.clients.await;
        self.history.records()
    }
}

async fn run(
    endpoints: Vec<String>,
    number: u32,
    mut random: ChaCha8Rng,
    history: Rc<History>,
    stop: Rc<Cell<bool>>,
) {
    let mut members = Vec::new();
    for endpoint in endpoints {
        // Connecting is lazy: it only fails for an invalid address.
        let options = ConnectOptions::new();
        members.extend(connect_with(&[endpoint], options).await);
    }
    let mut written = u64::from(number) << 32;
    let mut known: Option<(String, Option<u64>)> = None;
    while !stop.get() {
        let called_ns = history.now_ns();
        let epoch = called_ns / EPOCH_NS;
        let key = format!("{PREFIX}{epoch}/{}", random.random_range(0..KEYS));
        written += 1;
        let action = match random.random_range(0..10) {
            0..4 => Action::Put(written),
            4..7 => Action::Get,
            _ => {
                let expect = known.as_ref().filter(|(known, _)| *known == key);
                Action::Cas {
                    expect: expect.and_then(|(_, value)| *value),
                    new: written,
                }
            }
        };
        let Some(member) = members.choose(&mut random) else {
            return;
        };
        let answer = timeout(CALL_WITHIN, call(&mut member.clone(), &key, action)).await;
        let outcome = match answer {
            Ok(Ok(observed)) => Outcome::Done(observed),
            // Regardless of the error, a broken connection may have delivered the request.
            Ok(Err(_)) | Err(_) => Outcome::Unknown,
        };
        if let Outcome::Done(observed) = outcome {
            let value = observed.read.map(|(value, _)| value);
            known = Some((
                key.clone(),
                if observed.wrote {
                    action.written()
                } else {
                    value
                },
            ));
        }
        let failed = outcome == Outcome::Unknown;
        let returned_ns = history.now_ns();
        history.add(Record {
            client: number,
            key,
            action,
            called_ns,
            returned_ns,
            outcome,
        });
        // Think time. It is longer after a failure, so that a dead member isn't flooded with
        // requests.
        let longest_us = if failed { 60_000 } else { 6_000 };
        sleep(Duration::from_micros(random.random_range(0..longest_us))).await;
    }
}

async fn call(client: &mut Client, key: &str, action: Action) -> Result<Observed> {
    match action {
        Action::Put(value) => {
            let answer = client.put(key, value.to_string(), None).await?;
            let revision = answer.header().context("a header")?.revision();
            Ok(Observed {
                wrote: true,
                read: None,
                revision,
            })
        }
        Action::Get => {
            let answer = client.get(key, None).await?;
            let revision = answer.header().context("a header")?.revision();
            Ok(Observed {
                wrote: false,
                read: value_of(answer.kvs())?,
                revision,
            })
        }
        Action::Cas { expect, new } => {
            let compare = match expect {
                Some(value) => Compare::value(key, CompareOp::Equal, value.to_string()),
                None => Compare::version(key, CompareOp::Equal, 0),
            };
            let txn = Txn::new()
                .when([compare])
                .and_then([TxnOp::put(key, new.to_string(), None)])
                .or_else([TxnOp::get(key, None)]);
            let answer = client.txn(txn).await?;
            let revision = answer.header().context("a header")?.revision();
            let read = match answer.op_responses().first().context("one operation ran")? {
                TxnOpResponse::Get(read) => value_of(read.kvs())?,
                TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
            };
            Ok(Observed {
                wrote: answer.succeeded(),
                read,
                revision,
            })
        }
    }
}

fn value_of(kvs: &[etcd_client::KeyValue]) -> Result<Option<(u64, i64)>> {
    kvs.first()
        .map(|kv| Ok((kv.value_str()?.parse()?, kv.mod_revision())))
        .transpose()
}

/// Writes once more at the end, so that the histories have a common last revision, and returns that
/// revision.
pub(crate) async fn last_write(cluster: &Cluster, records: &mut Vec<Record>) -> Result<i64> {
    let action = Action::Put(u64::MAX);
    let key = format!("{PREFIX}end");
    let member = (0..cluster.nodes().len())
        .find(|index| cluster.nodes()[*index].is_up())
        .context("a member is up")?;
    let observed = call(&mut cluster.client(member).await?, &key, action).await?;
    let time = records
        .iter()
        .map(|record| record.returned_ns)
        .max()
        .unwrap_or(0);
    records.push(Record {
        client: CLIENTS,
        key,
        action,
        called_ns: time + 1,
        returned_ns: time + 2,
        outcome: Outcome::Done(observed),
    });
    Ok(observed.revision)
}
