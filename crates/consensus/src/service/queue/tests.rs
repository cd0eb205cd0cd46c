use std::pin::pin;

use futures::poll;
use synod_service::ScanPool;

use super::*;
use crate::server::tests::{start, start_three};

const SOON: Duration = Duration::from_secs(60);

impl Queues {
    pub(super) async fn lease(&self) -> i64 {
        let grant = pb::LeaseGrantRequest { ttl: 600, id: 0 };
        self.leases.grant(grant, &self.soon()).await.unwrap().id
    }

    /// Writes a key, and returns the revision.
    pub(super) async fn put(&self, key: &str) -> i64 {
        let put = pb::PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..Default::default()
        };
        let answer = self.kv.put(put, &self.soon()).await.unwrap();
        answer.get_ref().header.unwrap().revision
    }

    pub(super) async fn delete(&self, key: &'static str, range_end: &'static str) {
        let delete = pb::DeleteRangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            ..Default::default()
        };
        self.kv.delete(delete, &self.soon()).await.unwrap();
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        let view = self.shared.view.reader().view();
        view.get(key).unwrap().is_some()
    }

    fn revision(&self) -> i64 {
        self.shared.view.revision()
    }

    fn call(&self) -> Call {
        self.soon()
    }
}

pub(super) fn entry(name: &'static str, lease: i64) -> Entry {
    Entry {
        purpose: Purpose::Lock,
        name: name.into(),
        lease,
        value: Bytes::new(),
    }
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            clock::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = clock::timeout(SOON, waiting).await;
    assert!(waited.is_ok(), "waited in vain for {what}");
}

#[tokio::test]
async fn calls_over_the_bound_are_refused_and_write_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let queues = node.queues();
    // As docs/compatibility.md says.
    assert_eq!(queues.calls.available_permits(), 16_384);
    let (first, second) = (queues.lease().await, queues.lease().await);
    queues.put("n/holder").await;
    let others = u32::try_from(MAX_CALLS - 1).unwrap();
    let calls = Arc::clone(&queues.calls);
    let others = calls.try_acquire_many_owned(others).unwrap();

    let mut waiting = Box::pin(queues.enter(entry("n", first), queues.call(), None));
    assert!(poll!(&mut waiting).is_pending());
    let key = format!("n/{first:x}");
    eventually("the last call to enter", || queues.has(key.as_bytes())).await;
    let before = queues.revision();
    let refused = queues.enter(entry("n", second), queues.call(), None);
    let refused = clock::timeout(SOON, refused).await.unwrap();
    assert_eq!(refused.unwrap_err(), Error::TooManyRequests);
    assert_eq!(queues.revision(), before);

    // A call that is given up makes room once it has left the queue.
    drop(waiting);
    eventually("room for a call", || queues.calls.available_permits() > 0).await;
    assert!(!queues.has(key.as_bytes()));
    drop(others);
    node.shutdown().await;
}

#[tokio::test]
async fn a_call_that_was_given_up_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let queues = node.queues();
    let lease = queues.lease().await;
    let before = queues.revision();
    let (own, call) = (entry("n", lease), queues.call());
    let given_up = queues.take_place(&own, &call, || true);
    let untaken = given_up.await.unwrap_err();
    assert!(untaken.leave.is_none(), "{untaken:?}");
    // A lease of its own has to be ended.
    let without = entry("n", 0);
    let given_up = queues.take_place(&without, &call, || true);
    let place = given_up.await.unwrap_err().leave.unwrap();
    assert_eq!(queues.revision(), before);
    queues.leave(b"n", &place).await.unwrap();
    let gone = queues.leases.revoke(place.lease, &queues.call()).await;
    assert_eq!(gone.unwrap_err(), Error::LeaseNotFound);
    node.shutdown().await;
}

/// Begins long reads until no more may wait. They end when they are dropped.
async fn fill(scans: &ScanPool) -> impl Sized + use<> {
    let mut reads = Vec::new();
    loop {
        let scans = scans.clone();
        let (open, opened) = std::sync::mpsc::sync_channel::<()>(1);
        let mut read = Box::pin(async move {
            let wait = move || {
                let _dropped = opened.recv();
                Ok::<_, Error>(())
            };
            scans.run(wait).await
        });
        if let std::task::Poll::Ready(refused) = poll!(&mut read) {
            assert_eq!(refused, Err(Error::TooManyRequests));
            return reads;
        }
        reads.push((open, read));
    }
}

#[tokio::test]
async fn a_waiter_in_a_long_queue_waits_while_there_is_no_turn_for_its_read() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let queues = node.queues();
    let lease = queues.lease().await;
    // More than are read on the serving thread.
    for number in 0..130 {
        queues.put(&format!("n/k{number}")).await;
    }
    let reads = fill(&queues.shared.reads.scans).await;
    let mut entered = Box::pin(queues.enter(entry("n", lease), queues.call(), None));
    let waits = clock::timeout(Duration::from_millis(500), &mut entered);
    let early = waits.await;
    assert!(early.is_err(), "{early:?}");
    assert!(queues.has(format!("n/{lease:x}").as_bytes()));
    drop(reads);
    queues.delete("n/k", "n/l").await;
    let first = clock::timeout(SOON, entered).await.unwrap().unwrap();
    assert_eq!(first.lease, lease);
    node.shutdown().await;
}

/// Its lease may have ended meanwhile, and somebody else may hold the lock.
#[tokio::test]
async fn a_waiter_is_first_only_if_the_leader_confirms_it() {
    let dir = tempfile::tempdir().unwrap();
    let (node, others) = start_three(dir.path(), |_| {}).await;
    let queues = node.queues();
    let lease = queues.lease().await;
    let entry = entry("n", lease);
    let call = queues.call();
    queues.put("n/holder").await;
    let place = queues.take_place(&entry, &call, || false).await.unwrap();
    let mut turn = pin!(queues.turn(&entry, &call, &place));
    assert!(poll!(&mut turn).is_pending());
    // The release is applied here, and the others may go on without this member.
    queues.delete("n/holder", "").await;
    for other in others {
        other.shutdown().await;
    }
    let turn = turn.await;
    assert!(turn.is_err(), "{turn:?}");
    node.shutdown().await;
}

/// The transaction that entered the queue says so.
#[tokio::test]
async fn a_caller_without_others_is_first_at_once() {
    let dir = tempfile::tempdir().unwrap();
    // A follower would wait for the leader.
    let (node, others) = start_three(dir.path(), |_| {}).await;
    let queues = node.queues();
    let entry = entry("n", queues.lease().await);
    let call = queues.call();
    let place = queues.take_place(&entry, &call, || false).await.unwrap();
    let turn = pin!(queues.turn(&entry, &call, &place));
    let std::task::Poll::Ready(first) = poll!(turn) else {
        panic!("it asks the leader");
    };
    let first = first.unwrap();
    assert_eq!(
        (&first.key, first.created),
        (&place.key, place.header.revision)
    );
    for node in others.into_iter().chain([node]) {
        node.shutdown().await;
    }
}
