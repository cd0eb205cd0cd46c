//! Tests that views are shared by position, counted exactly, and closed when they are not read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use synod_consensus_core::{Membership, SnapshotMeta};
use synod_types::{Ballot, LogPosition};
use tonic::Code;

use super::*;
use crate::state_machine::SnapshotChunk;

/// A state with endless chunks, so that a stream ends only when its reader disconnects.
struct Endless(SnapshotMeta);

impl SnapshotSource for Endless {
    fn meta(&self) -> &SnapshotMeta {
        &self.0
    }

    fn read(&self, resume_after: &Bytes, _max_bytes: usize) -> Result<SnapshotChunk, ApplyError> {
        let mut resume = resume_after.to_vec();
        resume.push(0);
        Ok(SnapshotChunk {
            data: Bytes::from_static(b"chunk"),
            resume: Some(resume.into()),
        })
    }
}

struct Bench {
    server: Arc<SnapshotServer>,
    /// The index of the last applied entry.
    applied: Arc<AtomicU64>,
    /// The nodes reported to the core, and whether they have everything.
    told: Arc<Mutex<Vec<(NodeId, bool)>>>,
}

impl Bench {
    fn new() -> Self {
        let applied = Arc::new(AtomicU64::new(1));
        let told = Arc::new(Mutex::new(Vec::new()));
        let (at, tell) = (Arc::clone(&applied), Arc::clone(&told));
        let hooks = Hooks {
            open: Box::new(move || {
                let (reply, opened) = oneshot::channel();
                let meta = SnapshotMeta {
                    last: LogPosition {
                        ballot: Ballot::term(1),
                        index: Index::new(at.load(Ordering::Relaxed)),
                    },
                    membership: Membership::default(),
                };
                let _gone = reply.send(Ok(Arc::new(Endless(meta)) as Arc<dyn SnapshotSource>));
                opened
            }),
            sent: Box::new(move |node, complete| tell.lock().push((node, complete))),
        };
        let initial = InitialMembers::of(Membership::default());
        let registry = synod_runtime::metrics::Registry::default();
        let metrics = Metrics::register(&registry, NodeId::new(1)).unwrap();
        let server = SnapshotServer::new(Snapshots::default(), hooks, initial, metrics);
        Self {
            server,
            applied,
            told,
        }
    }

    async fn pull(
        &self,
        from: u64,
    ) -> Result<impl Stream<Item = Result<wire::SnapshotChunk, Status>> + use<>, Status> {
        let request = wire::FetchSnapshotRequest {
            from,
            ..Default::default()
        };
        self.server.serve(request).await
    }

    fn streams(&self) -> Vec<usize> {
        self.server.views.lock().streams()
    }

    async fn until_idle(&self) {
        let idle = async {
            while self.streams().iter().any(|streams| *streams > 0) {
                tokio::task::yield_now().await;
            }
        };
        let waited = clock::timeout(Duration::from_secs(60), idle).await;
        assert!(waited.is_ok(), "streams: {:?}", self.streams());
    }

    fn expire_all(&self) {
        let idle_timeout = self.server.config.idle_timeout;
        self.server
            .expire(clock::now() + idle_timeout + Duration::from_secs(1));
    }
}

#[tokio::test]
async fn pulls_at_one_position_share_a_view_that_expires_after_them() {
    let bench = Bench::new();
    for _ in 0..3 {
        // A retry before the first chunk, concurrent with the earlier pull.
        let first = bench.pull(2).await.unwrap();
        let second = bench.pull(2).await.unwrap();
        assert_eq!(bench.streams(), [2]);
        bench.expire_all();
        assert_eq!(bench.streams(), [2], "a view that is read expired");
        drop((first, second));
        bench.until_idle().await;
        bench.expire_all();
        assert!(bench.streams().is_empty());
        assert_eq!(bench.server.oldest(), None);
    }
    assert_eq!(*bench.told.lock(), [(NodeId::new(2), false); 3]);
}

#[tokio::test]
async fn any_number_of_followers_is_served_at_one_position() {
    let bench = Bench::new();
    let mut streams = Vec::new();
    for node in 2..12 {
        let mut stream = Box::pin(bench.pull(node).await.unwrap());
        assert_eq!(stream.next().await.unwrap().unwrap().data, "chunk");
        streams.push(stream);
    }
    assert_eq!(bench.streams(), [10]);
}

#[tokio::test]
async fn a_further_view_is_refused_until_one_is_idle() {
    let bench = Bench::new();
    let mut streams = Vec::new();
    for index in (1..).take(bench.server.config.max_open) {
        bench.applied.store(index, Ordering::Relaxed);
        streams.push(bench.pull(2).await.unwrap());
    }
    bench.applied.store(100, Ordering::Relaxed);
    let refused = bench.pull(3).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(streams);
    bench.until_idle().await;
    assert!(bench.pull(3).await.is_ok());
}

#[tokio::test]
async fn a_follower_whose_view_was_closed_is_offered_a_snapshot_again() {
    let bench = Bench::new();
    let max_open = bench.server.config.max_open;
    // Nodes 2, 3, ... have one view each. Node 2 has started again with the newest view.
    for (index, node) in (1..).zip(2..).take(max_open) {
        bench.applied.store(index, Ordering::Relaxed);
        drop(bench.pull(node).await.unwrap());
        bench.until_idle().await;
    }
    drop(bench.pull(2).await.unwrap());
    bench.until_idle().await;
    for index in [100, 101] {
        bench.applied.store(index, Ordering::Relaxed);
        drop(bench.pull(50).await.unwrap());
        bench.until_idle().await;
    }
    assert_eq!(bench.streams().len(), max_open);
    assert_eq!(*bench.told.lock(), [(NodeId::new(3), false)]);
}

#[tokio::test]
async fn a_broken_stream_continues_in_the_same_view() {
    let bench = Bench::new();
    let mut stream = Box::pin(bench.pull(2).await.unwrap());
    let first = stream.next().await.unwrap().unwrap();
    drop(stream);
    bench.until_idle().await;
    bench.applied.store(50, Ordering::Relaxed);
    let request = wire::FetchSnapshotRequest {
        from: 2,
        position: first.meta.unwrap().last,
        resume: first.resume,
        ..Default::default()
    };
    let mut stream = Box::pin(bench.server.serve(request).await.unwrap());
    let next = stream.next().await.unwrap().unwrap();
    assert_eq!(next.resume.len(), 2, "it started from the beginning");
    assert_eq!(bench.streams().len(), 1);
}
