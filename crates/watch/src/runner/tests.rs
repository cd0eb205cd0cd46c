use bytes::Bytes;
use futures::StreamExt as _;

use super::super::interest::{EventFlags, WatchRange};
use super::super::message::Create;
use super::super::queue::{Notice, Progress, Splitting, WatchId};
use super::super::source::EventKind;
use super::super::testing::{Store, visible};
use super::*;
use crate::interest::Interest;

fn everything(start_revision: i64) -> Create {
    Create {
        watch_id: 0,
        range: WatchRange::decode(Bytes::new(), Bytes::from_static(b"\0")),
        flags: EventFlags::default(),
        start_revision,
        splitting: Splitting::Whole,
        progress: Progress::Silent,
    }
}

fn expected(store: &Store, first: i64) -> Vec<Bytes> {
    let create = everything(0);
    let interest = Interest {
        range: create.range.unwrap(),
        flags: create.flags,
    };
    let batches = store.all_from(first);
    batches
        .iter()
        .flat_map(|batch| visible(batch, &interest))
        .collect()
}

/// The revision at which the watcher was created.
async fn created(responses: &mut Responses) -> i64 {
    match responses.next().await.unwrap().unwrap() {
        Outgoing::Notice(Notice::Created { revision, .. }) => revision,
        other @ (Outgoing::Notice(_) | Outgoing::Events { .. }) => panic!("{other:?}"),
    }
}

/// The next `count` events.
async fn events(responses: &mut Responses, count: usize) -> Vec<Bytes> {
    let mut all = Vec::new();
    while all.len() < count {
        match responses.next().await.unwrap().unwrap() {
            Outgoing::Notice(notice) => panic!("{notice:?}"),
            Outgoing::Events { events, .. } => all.extend(events),
        }
    }
    assert_eq!(all.len(), count);
    all
}

/// Bounds so small that the feed overflows, queues fill and the ring is passed all the time.
fn tiny() -> WatchLimits {
    WatchLimits {
        queue_bytes: 1500,
        response_bytes: 400,
        ring_batches: 8,
        piece_bytes: 700,
        feed_batches: 6,
        commands: 2,
        ..WatchLimits::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_watchers_see_everything_under_the_smallest_bounds() {
    const WRITES: usize = 3000;
    let store = Store::new(700);
    let hub = WatchHub::start(Arc::clone(&store) as _, tiny()).unwrap();
    let handle = hub.handle();
    let (mut early, mut tasks) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let (requests, mut responses) = handle.open();
        requests
            .send(Command::Create(requests.id(), everything(2)))
            .await;
        // Created for sure before the first write.
        assert_eq!(created(&mut responses).await, 1);
        early.push((requests, responses));
    }
    let writer = {
        let (store, handle) = (Arc::clone(&store), handle.clone());
        task::spawn_thread("writer", move || {
            for _ in 0..WRITES {
                handle.publish(store.write(&[("key", EventKind::Put)]));
            }
        })
        .unwrap()
    };
    for (at, (requests, mut responses)) in early.into_iter().enumerate() {
        tasks.push(task::spawn("watcher", async move {
            if at % 2 == 0 {
                // Nobody reads for a while: the queue fills.
                synod_runtime::clock::sleep(std::time::Duration::from_millis(30)).await;
            }
            let seen = events(&mut responses, WRITES).await;
            drop(requests);
            seen
        }));
    }
    // One that comes in the middle and starts at the beginning.
    let (requests, mut responses) = handle.open();
    requests
        .send(Command::Create(requests.id(), everything(1)))
        .await;
    created(&mut responses).await;
    let late = events(&mut responses, WRITES).await;
    writer.join().unwrap();
    let expected = expected(&store, 1);
    assert_eq!(late, expected);
    for task in tasks {
        assert_eq!(task.await.unwrap(), expected);
    }
    drop(hub);
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_forgotten_and_stopping_ends_the_others() {
    let store = Store::new(1 << 20);
    let hub = WatchHub::start(Arc::clone(&store) as _, WatchLimits::default()).unwrap();
    let handle = hub.handle();
    // Before anybody watches, revisions pass unseen.
    handle.publish(store.write(&[("key", EventKind::Put)]));

    let (first, mut kept) = handle.open();
    first.send(Command::Create(first.id(), everything(0))).await;
    assert_eq!(created(&mut kept).await, 2);
    let (second, dropped) = handle.open();
    second
        .send(Command::Create(second.id(), everything(0)))
        .await;
    handle.publish(store.write(&[("key", EventKind::Put)]));
    assert_eq!(events(&mut kept, 1).await, expected(&store, 3));

    drop(dropped);
    second.closed().await;
    // Answered after the end of the other stream was taken note of.
    first.send(Command::Cancel(first.id(), WatchId(0))).await;
    let canceled = kept.next().await.unwrap().unwrap();
    assert!(matches!(
        canceled,
        Outgoing::Notice(Notice::Canceled { .. })
    ));
    let stats = handle.stats();
    while stats.streams() != 1 {
        task::spawn("yield", async {}).await.unwrap();
    }
    assert_eq!((stats.watchers(), stats.behind()), (0, 0));

    drop(hub);
    assert_eq!(kept.next().await, Some(Err(End::Stopped)));
    assert_eq!(kept.next().await, None);
    let (_requests, mut late) = handle.open();
    assert_eq!(late.next().await, Some(Err(End::Stopped)));
}

#[tokio::test]
async fn requests_wait_while_nobody_reads_the_answers() {
    let store = Store::new(1 << 20);
    let limits = WatchLimits {
        queue_responses: 4,
        commands: 2,
        ..WatchLimits::default()
    };
    let hub = WatchHub::start(Arc::clone(&store) as _, limits).unwrap();
    let (requests, mut responses) = hub.handle().open();
    let asking = task::spawn("asking", async move {
        for _ in 0..100 {
            requests
                .send(Command::Create(requests.id(), everything(0)))
                .await;
        }
        requests
    });
    let mut answers = 0;
    let mut most = 0;
    while answers < 100 {
        // However long the client takes, no more than the bound waits (and what was under way).
        most = most.max(responses.queue.len());
        responses.next().await.unwrap().unwrap();
        answers += 1;
    }
    // The bound, two commands that waited and two that the hub had taken.
    assert!(most <= 4 + 4, "{most}");
    drop(asking.await.unwrap());
    drop(hub);
}

#[test]
fn an_empty_feed_wakes_nobody() {
    let store = Store::new(1 << 20);
    let hub = WatchHub::start(Arc::clone(&store) as _, WatchLimits::default()).unwrap();
    let handle = hub.handle();
    handle.publish(None);
    handle.publish(store.write(&[("key", EventKind::Put)]));
    let waiting = handle.inbox.waiting.lock();
    assert!(waiting.feed.is_empty(), "nobody watches");
    assert_eq!(waiting.skipped_to, Some(store.revisions().current));
}
