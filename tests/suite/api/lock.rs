//! Locks: whose turn it is, what the keys look like, and who leaves the queue.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{
    Compare, CompareOp, Error, GetOptions, KeyValue, LockOptions, LockResponse, PutOptions, Txn,
    TxnOp,
};
use synod_runtime::task;
use synod_testkit::{Refused, refused, until};
use tokio::task::JoinHandle;

use super::Case;
use crate::differences;
use crate::support::proto::{bytes, number};
use crate::support::raw;

const SOON: Duration = Duration::from_secs(60);

/// A call that runs by itself; dropping it cancels the call.
pub(super) struct Running<T>(JoinHandle<Result<T, Error>>);

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T: Send + 'static> Running<T> {
    pub(super) fn start(call: impl Future<Output = Result<T, Error>> + Send + 'static) -> Self {
        Self(task::spawn("call", call))
    }

    /// Its answer, which must come soon.
    pub(super) async fn answer(mut self) -> Result<Result<T, Error>> {
        let answer = tokio::time::timeout(SOON, &mut self.0).await;
        Ok(answer.context("no answer in time")??)
    }

    pub(super) fn is_done(&self) -> bool {
        self.0.is_finished()
    }
}

pub(super) async fn lease(case: &Case) -> Result<i64> {
    Ok(case.client.clone().lease_grant(600, None).await?.id())
}

fn lock(case: &Case, name: &str, lease: i64) -> Running<LockResponse> {
    let (mut client, name) = (case.client.clone(), case.key(name));
    Running::start(async move {
        let options = LockOptions::new().with_lease(lease);
        client.lock(name, Some(options)).await
    })
}

/// The keys of a queue, the oldest first.
pub(super) async fn queue(case: &Case, name: &str) -> Result<Vec<KeyValue>> {
    let mut client = case.client.clone();
    let options = GetOptions::new().with_prefix();
    let got = client
        .get(case.key(&format!("{name}/")), Some(options))
        .await?;
    let mut kvs = got.kvs().to_vec();
    kvs.sort_by_key(KeyValue::create_revision);
    Ok(kvs)
}

/// Waits until the queue has so many keys.
pub(super) async fn queued(case: &Case, name: &str, count: usize) -> Result<()> {
    until("the queue to change", SOON, async || {
        Ok((queue(case, name).await?.len() == count).then_some(()))
    })
    .await
}

async fn unlock(case: &Case, key: &[u8]) -> Result<()> {
    case.client.clone().unlock(key).await?;
    Ok(())
}

fn place(case: &Case, name: &str, lease: i64) -> String {
    case.key(&format!("{name}/{lease:x}"))
}

fn expired() -> Refused {
    Refused::with("Unknown", "mutex: session is expired")
}

pub(crate) async fn keys_and_headers(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let own = lease(&case).await?;
    let held = lock(&case, "l", own).answer().await??;
    assert_eq!(held.key(), place(&case, "l", own).as_bytes());
    assert_eq!(held.header().context("a header")?.revision(), case.base + 1);
    let kvs = queue(&case, "l").await?;
    assert_eq!(
        super::shape(&kvs[0]),
        (case.base + 1, case.base + 1, 1, own, &b""[..])
    );
    let again = lock(&case, "l", own).answer().await??;
    assert_eq!(again.key(), held.key(), "a lease holds a lock once");
    let moved = differences::LOCK_AGAIN.expect(case.server, 0, 1);
    assert_eq!(
        again.header().context("a header")?.revision(),
        case.base + 1 + moved
    );
    assert_eq!(queue(&case, "l").await?[0].create_revision(), case.base + 1);
    let released = client.unlock(held.key()).await?;
    let revision = released.header().context("a header")?.revision();
    assert_eq!(revision, case.base + 2 + moved);
    assert!(queue(&case, "l").await?.is_empty());
    // A key that does not exist is unlocked too.
    let released = client.unlock(held.key()).await?;
    assert_eq!(released.header().context("a header")?.revision(), revision);
    client.lease_revoke(own).await?;
    Ok(())
}

pub(crate) async fn own_leases(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let held = lock(&case, "l", 0).answer().await??;
    let kvs = queue(&case, "l").await?;
    let granted = kvs[0].lease();
    assert_eq!(held.key(), place(&case, "l", granted).as_bytes());
    let left = client.lease_time_to_live(granted, None).await?;
    assert_eq!(left.granted_ttl(), 60);
    // Each call has its own: the second one waits.
    let second = lock(&case, "l", 0);
    queued(&case, "l", 2).await?;
    ensure!(!second.is_done(), "two holders");
    unlock(&case, held.key()).await?;
    let second = second.answer().await??;
    let kvs = queue(&case, "l").await?;
    assert_eq!(second.key(), kvs[0].key());
    for lease in [granted, kvs[0].lease()] {
        client.lease_revoke(lease).await?;
    }
    Ok(())
}

pub(crate) async fn refusals(case: Case) -> Result<()> {
    let not_found = Refused::with(
        differences::LOCK_CODES.expect(case.server, "Unknown", "NotFound"),
        "etcdserver: requested lease not found",
    );
    for lease in [4711, -1, i64::MIN, i64::MAX] {
        let refusal = refused(lock(&case, "l", lease).answer().await?)?;
        assert_eq!(refusal, not_found, "lease {lease}");
    }
    let refusal = refused(case.client.clone().unlock("").await)?;
    let invalid = differences::LOCK_CODES.expect(case.server, "Unknown", "InvalidArgument");
    assert_eq!(
        refusal,
        Refused::with(invalid, "etcdserver: key is not provided")
    );
    Ok(())
}

/// A lock without a name is a lock.
pub(crate) async fn empty_name(case: Case) -> Result<()> {
    let own = lease(&case).await?;
    let request = number(2, own);
    let answer = raw::call(&case.endpoint, "/v3lockpb.Lock/Lock", request).await?;
    let answer = answer.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
    let key = crate::support::proto::bytes_of(&answer, 2).remove(0);
    assert_eq!(key, format!("/{own:x}").as_bytes());
    raw::call(&case.endpoint, "/v3lockpb.Lock/Unlock", bytes(1, &key))
        .await?
        .map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
    Ok(())
}

/// The order is that of the keys' creation.
pub(crate) async fn fairness(case: Case) -> Result<()> {
    let mut leases = Vec::new();
    let mut calls = Vec::new();
    for place in 0..6 {
        leases.push(lease(&case).await?);
        calls.push(lock(&case, "l", leases[place]));
        queued(&case, "l", place + 1).await?;
    }
    for (turn, call) in calls.into_iter().enumerate() {
        let held = call.answer().await??;
        let queue = queue(&case, "l").await?;
        assert_eq!(queue.len(), 6 - turn);
        assert_eq!(
            (held.key(), queue[0].lease()),
            (queue[0].key(), leases[turn])
        );
        unlock(&case, held.key()).await?;
    }
    Ok(())
}

/// When a caller leaves the middle of the queue, nobody moves ahead of the holder.
pub(crate) async fn a_waiter_whose_lease_ends(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let (first, second, third) = (
        lease(&case).await?,
        lease(&case).await?,
        lease(&case).await?,
    );
    let held = lock(&case, "l", first).answer().await??;
    let waiter = lock(&case, "l", second);
    queued(&case, "l", 2).await?;
    let last = lock(&case, "l", third);
    queued(&case, "l", 3).await?;
    client.lease_revoke(second).await?;
    if differences::LOCK_LEASE_ENDS.expect(case.server, false, true) {
        assert_eq!(refused(waiter.answer().await?)?, expired());
        ensure!(!last.is_done(), "the lock is held");
        unlock(&case, held.key()).await?;
    } else {
        unlock(&case, held.key()).await?;
        assert_eq!(refused(waiter.answer().await?)?, expired());
    }
    assert_eq!(
        last.answer().await??.key(),
        place(&case, "l", third).as_bytes()
    );
    client.lease_revoke(third).await?;
    assert!(queue(&case, "l").await?.is_empty());
    Ok(())
}

/// A caller that is gone leaves the queue, and those behind it wait for the one before.
pub(crate) async fn a_waiter_that_gives_up(case: Case) -> Result<()> {
    let (first, second, third) = (
        lease(&case).await?,
        lease(&case).await?,
        lease(&case).await?,
    );
    let held = lock(&case, "l", first).answer().await??;
    let waiter = lock(&case, "l", second);
    queued(&case, "l", 2).await?;
    let last = lock(&case, "l", third);
    queued(&case, "l", 3).await?;
    drop(waiter);
    queued(&case, "l", 2).await?;
    ensure!(!last.is_done(), "the lock is held");
    unlock(&case, held.key()).await?;
    let held = last.answer().await??;
    unlock(&case, held.key()).await?;
    Ok(())
}

/// Clients with etcd's library exclude callers of the service, and the other way round.
pub(crate) async fn clients_with_the_library(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let (theirs, ours) = (lease(&case).await?, lease(&case).await?);
    let key = place(&case, "l", theirs);
    let enter = Txn::new()
        .when([Compare::create_revision(key.clone(), CompareOp::Equal, 0)])
        .and_then([TxnOp::put(
            key.clone(),
            "",
            Some(PutOptions::new().with_lease(theirs)),
        )]);
    client.txn(enter.clone()).await?;
    let call = lock(&case, "l", ours);
    queued(&case, "l", 2).await?;
    ensure!(!call.is_done(), "the library's client holds the lock");
    client.delete(key.clone(), None).await?;
    let held = call.answer().await??;
    client.txn(enter).await?;
    let order = queue(&case, "l").await?;
    assert_eq!(
        (order[0].key(), order[1].key()),
        (held.key(), key.as_bytes())
    );
    for lease in [theirs, ours] {
        client.lease_revoke(lease).await?;
    }
    Ok(())
}

/// Compactions in the middle of a wait don't matter.
pub(crate) async fn compaction(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let (first, second) = (lease(&case).await?, lease(&case).await?);
    let held = lock(&case, "l", first).answer().await??;
    let waiter = lock(&case, "l", second);
    queued(&case, "l", 2).await?;
    for _ in 0..3 {
        let put = client.put(case.key("other"), "", None).await?;
        let revision = put.header().context("a header")?.revision();
        client.compact(revision, None).await?;
    }
    unlock(&case, held.key()).await?;
    let answer = waiter.answer().await?;
    if case.server.is_etcd()
        && let Err(error) = &answer
    {
        // Its watch may begin only now, below the compacted revision.
        let text = error.to_string();
        ensure!(
            text.contains("required revision has been compacted"),
            "{text}"
        );
        return Ok(());
    }
    unlock(&case, answer?.key()).await?;
    Ok(())
}
