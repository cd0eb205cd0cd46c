//! Locks while members are killed, leases end and clients give up: never two holders.
//!
//! The history of a lock is that of a register: to take it is to swap a unique value into an empty
//! register, and to release it is to empty the register.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, GetOptions, LockOptions};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use synod_history::{Record, Seen, Verdict, check_within};
use synod_testkit::{Cluster, Lab, Refused, Server, Share, Topology, run_within, until};
use tokio::time::{Instant, sleep, timeout};

use super::{nemesis, seed};

const CLIENTS: u32 = 6;
const NAME: &str = "chaos/lock";
const SOON: Duration = Duration::from_secs(60);
/// Longer than any outage, so that a lease ends only when its client ends it.
const LONG_TTL_S: i64 = 600;
/// The shortest that the server grants.
const SHORT_TTL_S: i64 = 2;
/// How long a client waits for a member without a leader. The member tries for longer.
const GIVE_UP: Duration = Duration::from_secs(1);
const LOAD: Duration = Duration::from_secs(30);
/// How often the lock is held at least: kills go on until then.
const HELD: usize = 15;

#[test]
fn a_call_that_arrives_late_raft() -> Result<()> {
    a_call_that_arrives_late(Server::SYNOD)
}

#[test]
fn a_call_that_arrives_late_multi_paxos() -> Result<()> {
    a_call_that_arrives_late(Server::PAXOS)
}

/// A client gives up a call through a member that can't reach the leader, and gets the lock through
/// another one. What the first call still does must not take the lock away.
fn a_call_that_arrives_late(server: Server) -> Result<()> {
    run_within(Share::Whole, Duration::from_secs(240), async |lab| {
        let mut cluster = Cluster::start(lab, server, Topology::of(3).proxied()).await?;
        let deaf = cluster.follower().await?;
        let other = (0..3).find(|index| *index != deaf).context("a member")?;
        let mut client = cluster.client(other).await?;
        let lease = client.lease_grant(LONG_TTL_S, None).await?.id();
        cluster.isolate(deaf)?;
        let mut early = cluster.client(deaf).await?;
        let options = || Some(LockOptions::new().with_lease(lease));
        // The member needs no leader to take the call, and holds what it would propose.
        let given_up = timeout(GIVE_UP, early.lock(NAME, options())).await;
        ensure!(given_up.is_err(), "answered without a leader: {given_up:?}");
        let held = client.lock(NAME, options()).await?;
        cluster.heal();
        // Proposals of a member keep their order, so the first call's is applied before this.
        until("the member to write again", SOON, async || {
            Ok(early.put("chaos/late", "", None).await.ok())
        })
        .await?;
        let key = client.get(held.key(), None).await?;
        let kv = key.kvs().first().context("the lock was taken away")?;
        ensure!(kv.version() == 1, "the late call wrote: {kv:?}");
        Ok(())
    })
}

#[test]
fn one_holder_raft() -> Result<()> {
    one_holder(Server::SYNOD)
}

#[test]
fn one_holder_multi_paxos() -> Result<()> {
    one_holder(Server::PAXOS)
}

fn one_holder(server: Server) -> Result<()> {
    run_within(Share::Whole, Duration::from_secs(420), async |lab| {
        let seed = seed()?;
        let mut cluster = Cluster::start(lab, server, Topology::of(3)).await?;
        let history = Arc::new(Events::new());
        let load = storm(lab, &mut cluster, seed, &history);
        let report = Box::pin(tokio::task::LocalSet::new().run_until(load)).await?;
        cluster.ready().await?;
        let records = history.records();
        let held = history.held();
        crate::support::note(&format!("{report}, the lock was held {held} times"));
        let verdict = check_within(&records, SOON);
        ensure!(
            matches!(verdict, Verdict::Linearizable(_)),
            "{verdict:?}: {records:?}"
        );
        // Nobody has left anything in the queue, except leases that run out.
        let mut client = cluster.client(0).await?;
        until("the queue to be empty", SOON, async || {
            let keys = GetOptions::new().with_prefix().with_count_only();
            let left = client.get(NAME, Some(keys)).await?.count();
            ensure!(left == 0, "{left} keys");
            Ok(Some(()))
        })
        .await
    })
}

/// Kills members while the clients work.
async fn storm(
    lab: &Lab,
    cluster: &mut Cluster,
    seed: u64,
    history: &Arc<Events>,
) -> Result<String> {
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let locker = Locker {
            number,
            endpoints: cluster.endpoints(),
            history: Arc::clone(history),
            random: ChaCha8Rng::seed_from_u64(seed.wrapping_add(u64::from(number))),
        };
        clients.spawn_local(locker.run());
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut report = nemesis::kill(lab, cluster, &mut random, LOAD).await?;
    while history.held() < HELD {
        report += &nemesis::kill(lab, cluster, &mut random, LOAD / 3).await?;
    }
    history.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(report)
}

/// What the clients saw of the lock.
struct Events {
    began: Instant,
    records: Mutex<Vec<Record>>,
    last_value: AtomicU64,
    stop: AtomicBool,
}

impl Events {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            records: Mutex::default(),
            last_value: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    fn now(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }

    fn add(&self, client: u32, called: i64, returned: Option<i64>, seen: Seen) {
        let record = Record {
            client,
            called,
            returned,
            seen,
        };
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.push(record);
    }

    /// How often the lock was held so far.
    fn held(&self) -> usize {
        let records = self.records();
        let taken = records
            .iter()
            .filter(|record| matches!(record.seen, Seen::Swapped { .. }));
        taken.count()
    }

    fn records(&self) -> Vec<Record> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.clone()
    }
}

/// How a client ends a term with the lock.
#[derive(Clone, Copy, Debug)]
enum End {
    Unlock,
    Revoke,
    /// Lets the lease run out.
    Forget,
}

/// A client that takes the lock again and again.
struct Locker {
    number: u32,
    endpoints: Vec<String>,
    history: Arc<Events>,
    random: ChaCha8Rng,
}

impl Locker {
    async fn run(mut self) -> Result<()> {
        while !self.history.stop.load(Ordering::Relaxed) {
            let endpoint =
                self.endpoints[self.random.random_range(0..self.endpoints.len())].clone();
            let Ok(client) = Client::connect([endpoint], None).await else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            let end = match self.random.random_range(0..10) {
                0..7 => End::Unlock,
                7..9 => End::Revoke,
                _ => End::Forget,
            };
            self.term(client, end).await?;
        }
        Ok(())
    }

    /// One attempt to take the lock, with a lease of its own.
    async fn term(&mut self, mut client: Client, end: End) -> Result<()> {
        let ttl = match end {
            End::Forget => SHORT_TTL_S,
            End::Unlock | End::Revoke => LONG_TTL_S,
        };
        let granted = timeout(Duration::from_secs(5), client.lease_grant(ttl, None)).await;
        let Ok(Ok(granted)) = granted else {
            sleep(Duration::from_millis(20)).await;
            return Ok(());
        };
        let lease = granted.id();
        let patience = Duration::from_millis(self.random.random_range(50..3_000));
        let options = LockOptions::new().with_lease(lease);
        let called = self.history.now();
        let held = timeout(patience, client.lock(NAME, Some(options))).await;
        let returned = self.history.now();
        let Ok(Ok(held)) = held else {
            // The lock may have been taken. It is certainly released before the next term.
            return self.revoke(lease).await;
        };
        let new = self.history.last_value.fetch_add(1, Ordering::Relaxed) + 1;
        let taken = Seen::Swapped { expect: None, new };
        self.history.add(self.number, called, Some(returned), taken);
        sleep(Duration::from_millis(self.random.random_range(0..10))).await;
        // A short lease may end at any time.
        let released = match end {
            End::Forget => called,
            End::Unlock | End::Revoke => self.history.now(),
        };
        let returned = match end {
            End::Unlock => {
                let done = timeout(Duration::from_secs(5), client.unlock(held.key())).await;
                if !matches!(done, Ok(Ok(_))) {
                    self.revoke(lease).await?;
                }
                Some(self.history.now())
            }
            End::Revoke => {
                self.revoke(lease).await?;
                Some(self.history.now())
            }
            End::Forget => None,
        };
        // A release whose time is not known may come at any time from now on.
        let number = match returned {
            Some(_) => self.number,
            None => self.number + CLIENTS * u32::try_from(new).context("few terms")?,
        };
        self.history
            .add(number, released, returned, Seen::Wrote(None));
        match end {
            End::Unlock => self.revoke(lease).await,
            End::Revoke | End::Forget => Ok(()),
        }
    }

    /// Ends the lease for certain.
    async fn revoke(&self, lease: i64) -> Result<()> {
        let gone = Refused::with("NotFound", "etcdserver: requested lease not found");
        until("a lease to be revoked", SOON, async || {
            let mut client = Client::connect(&self.endpoints, None).await?;
            match timeout(Duration::from_secs(5), client.lease_revoke(lease)).await? {
                Ok(_) => Ok(Some(())),
                Err(error) if Refused::of(&error).as_ref() == Some(&gone) => Ok(Some(())),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }
}
