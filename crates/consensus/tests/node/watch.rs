//! Watches through the client.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{
    Client, CompactionOptions, EventType, GetOptions, Txn, TxnOp, WatchFilterType, WatchOptions,
    WatchResponse, WatchStream,
};
use synod_runtime::clock;
use tonic::Code;

use crate::support::{Cluster, SOON, status};

/// The next response. The test fails if none comes.
async fn next(stream: &mut WatchStream) -> WatchResponse {
    let message = clock::timeout(SOON, stream.message()).await;
    message
        .expect("a response in time")
        .unwrap()
        .expect("the stream goes on")
}

async fn watch(client: &mut Client, key: &str, options: WatchOptions) -> WatchStream {
    let mut stream = client.watch(key, Some(options)).await.unwrap();
    let created = next(&mut stream).await;
    assert!(created.created() && created.events().is_empty());
    stream
}

fn revision(response: &WatchResponse) -> i64 {
    response.header().unwrap().revision()
}

/// Key, value and revision of the events. Deletions have an empty value.
fn events(response: &WatchResponse) -> Vec<(String, String, i64)> {
    let event = |event: &etcd_client::Event| {
        let kv = event.kv().unwrap();
        let key = kv.key_str().unwrap().to_owned();
        let value = match event.event_type() {
            EventType::Put => kv.value_str().unwrap().to_owned(),
            EventType::Delete => {
                assert!(kv.value().is_empty() && kv.create_revision() == 0 && kv.version() == 0);
                "deleted".to_owned()
            }
        };
        (key, value, kv.mod_revision())
    };
    response.events().iter().map(event).collect()
}

fn event(key: &str, value: &str, revision: i64) -> (String, String, i64) {
    (key.to_owned(), value.to_owned(), revision)
}

#[tokio::test]
async fn every_change_of_the_watched_keys_arrives_in_order() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    let mut prefix = watch(&mut client, "a", WatchOptions::new().with_prefix()).await;
    let mut single = watch(&mut client, "a1", WatchOptions::new().with_prev_key()).await;
    let filters = vec![WatchFilterType::NoPut];
    let mut deletes = watch(
        &mut client,
        "a",
        WatchOptions::new().with_prefix().with_filters(filters),
    )
    .await;

    client.put("a1", "1", None).await.unwrap();
    client.put("b", "unseen", None).await.unwrap();
    let ops = [TxnOp::put("a2", "2", None), TxnOp::put("a1", "3", None)];
    client.txn(Txn::new().and_then(ops)).await.unwrap();
    client.delete("a1", None).await.unwrap();

    let all = [
        event("a1", "1", 2),
        event("a2", "2", 4),
        event("a1", "3", 4),
        event("a1", "deleted", 5),
    ];
    let mut seen = Vec::new();
    while seen.len() < all.len() {
        let response = next(&mut prefix).await;
        assert!(
            revision(&response)
                >= response
                    .events()
                    .last()
                    .unwrap()
                    .kv()
                    .unwrap()
                    .mod_revision()
        );
        seen.extend(events(&response));
    }
    assert_eq!(seen, all);

    let mut previous = Vec::new();
    while previous.len() < 3 {
        for event in next(&mut single).await.events() {
            previous.push(event.prev_kv().map(|kv| kv.value_str().unwrap().to_owned()));
        }
    }
    assert_eq!(previous, [None, Some("1".to_owned()), Some("3".to_owned())]);
    assert_eq!(
        events(&next(&mut deletes).await),
        [event("a1", "deleted", 5)]
    );
    cluster.stop().await;
}

#[tokio::test]
async fn revisions_back_to_the_compacted_one_can_be_watched() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    for n in 0..3000 {
        client
            .put(format!("k{}", n % 7), n.to_string(), None)
            .await
            .unwrap();
    }
    let start = |revision| {
        WatchOptions::new()
            .with_prefix()
            .with_start_revision(revision)
    };
    let mut stream = watch(&mut client, "k", start(2)).await;
    let mut seen = Vec::new();
    while seen.len() < 3000 {
        seen.extend(events(&next(&mut stream).await));
    }
    let expected = |n: i64| event(&format!("k{}", n % 7), &n.to_string(), n + 2);
    assert_eq!(seen, (0..3000).map(expected).collect::<Vec<_>>());

    let physical = CompactionOptions::new().with_physical();
    client.compact(2000, Some(physical)).await.unwrap();
    let mut before = watch(&mut client, "k", start(1999)).await;
    let canceled = next(&mut before).await;
    assert!(canceled.canceled() && !canceled.created());
    assert_eq!(
        (canceled.compact_revision(), revision(&canceled)),
        (2000, 0)
    );
    assert_eq!(canceled.cancel_reason(), "");

    let mut at = watch(&mut client, "k", start(2000)).await;
    let first = next(&mut at).await;
    assert_eq!(events(&first)[0], expected(1998));
    assert_eq!(
        revision(&first),
        3001,
        "the store's revision while catching up"
    );

    // An existing watcher is not affected and gets the next events.
    client.put("k", "new", None).await.unwrap();
    assert_eq!(events(&next(&mut stream).await), [event("k", "new", 3002)]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_hundred_watchers_on_one_stream_and_on_many_see_the_same() {
    const WRITES: i64 = 200;
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    let mut shared = watch(&mut client, "k", WatchOptions::new().with_prefix()).await;
    for _ in 1..50 {
        shared
            .watch("k", Some(WatchOptions::new().with_prefix()))
            .await
            .unwrap();
    }
    for _ in 1..50 {
        assert!(next(&mut shared).await.created());
    }
    let mut own = Vec::new();
    for _ in 0..50 {
        own.push(watch(&mut client, "k", WatchOptions::new().with_prefix()).await);
    }
    for n in 0..WRITES {
        client
            .put(format!("k{}", n % 3), n.to_string(), None)
            .await
            .unwrap();
    }
    let expected: Vec<i64> = (2..WRITES + 2).collect();
    let revisions = |response: &WatchResponse| -> Vec<i64> {
        let events = response.events().iter();
        events
            .map(|event| event.kv().unwrap().mod_revision())
            .collect()
    };
    for stream in &mut own {
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            seen.extend(revisions(&next(stream).await));
        }
        assert_eq!(seen, expected);
    }
    let mut by_id: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    while by_id.len() < 50 || by_id.values().any(|seen| seen.len() < expected.len()) {
        let response = next(&mut shared).await;
        by_id
            .entry(response.watch_id())
            .or_default()
            .extend(revisions(&response));
    }
    assert!(by_id.keys().copied().eq(0..50), "ids count from zero");
    assert!(by_id.values().all(|seen| *seen == expected));
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_gets_everything_later() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    let mut stream = watch(&mut client, "k", WatchOptions::new()).await;
    let mut quick = watch(&mut client, "k", WatchOptions::new()).await;
    let value = vec![b'x'; 32 << 10];
    // Far more than flow control windows and the queue hold.
    const WRITES: i64 = 1000;
    for _ in 0..WRITES {
        client.put("k", value.clone(), None).await.unwrap();
        while next(&mut quick).await.events().is_empty() {}
    }
    let mut expected = 2;
    while expected < WRITES + 2 {
        for event in next(&mut stream).await.events() {
            assert_eq!(event.kv().unwrap().mod_revision(), expected);
            expected += 1;
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn progress_is_reported_on_request_and_periodically() {
    let cluster = Cluster::start_with(1, |config| {
        config.watch_progress_interval = Duration::from_millis(100);
    })
    .await;
    let mut client = cluster.client(0).await;
    let mut stream = watch(&mut client, "k", WatchOptions::new()).await;
    client.put("other", "1", None).await.unwrap();
    stream.request_progress().await.unwrap();
    let progress = next(&mut stream).await;
    assert_eq!((progress.watch_id(), revision(&progress)), (-1, 2));

    let options = WatchOptions::new().with_progress_notify();
    let mut notified = watch(&mut client, "k", options).await;
    let progress = next(&mut notified).await;
    assert_eq!((progress.watch_id(), revision(&progress)), (0, 2));
    assert!(progress.events().is_empty() && !progress.created());
    cluster.stop().await;
}

#[tokio::test]
async fn refusals_and_cancellations_are_as_in_etcd() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    let mut stream = watch(&mut client, "k", WatchOptions::new().with_watch_id(7)).await;
    stream
        .watch("k", Some(WatchOptions::new().with_watch_id(7)))
        .await
        .unwrap();
    let refused = next(&mut stream).await;
    assert!(refused.created() && refused.canceled());
    assert_eq!(refused.watch_id(), -1);
    assert_eq!(
        refused.cancel_reason(),
        "mvcc: duplicate watch ID provided on the WatchStream"
    );
    stream
        .watch("k", Some(WatchOptions::new().with_range("a")))
        .await
        .unwrap();
    let refused = next(&mut stream).await;
    assert!(refused.created() && refused.canceled());
    assert_eq!(refused.cancel_reason(), "mvcc: watcher range is empty");

    stream.cancel(99).await.unwrap();
    stream.cancel(7).await.unwrap();
    let canceled = next(&mut stream).await;
    assert!(canceled.canceled() && !canceled.created());
    assert_eq!(
        (
            canceled.watch_id(),
            revision(&canceled),
            canceled.compact_revision()
        ),
        (7, 1, 0)
    );
    client.put("k", "1", None).await.unwrap();
    stream.watch("k", None).await.unwrap();
    let created = next(&mut stream).await;
    assert_eq!(
        (created.created(), created.watch_id(), revision(&created)),
        (true, 0, 2)
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_large_revision_is_split_only_for_watchers_that_allow_it() {
    let cluster = Cluster::start_with(1, |config| config.max_request_bytes = 1 << 20).await;
    let mut client = cluster.client(0).await;
    let split = WatchOptions::new()
        .with_prefix()
        .with_prev_key()
        .with_fragment();
    let mut split = watch(&mut client, "k", split).await;
    let whole = WatchOptions::new().with_prefix().with_prev_key();
    let mut whole = watch(&mut client, "k", whole).await;
    let fill = |byte: u8| {
        let put = move |n| TxnOp::put(format!("k{n}"), vec![byte; 16 << 10], None);
        Txn::new().and_then((0..60).map(put).collect::<Vec<_>>())
    };
    client.txn(fill(b'a')).await.unwrap();
    client.txn(fill(b'b')).await.unwrap();

    let (mut seen, mut responses) = (Vec::new(), 0);
    while seen.len() < 120 {
        let response = next(&mut split).await;
        let size: usize = response
            .events()
            .iter()
            .map(|e| e.kv().unwrap().value().len() + e.prev_kv().map_or(0, |kv| kv.value().len()))
            .sum();
        assert!(size < (1 << 20) + (512 << 10), "{size}");
        seen.extend(
            events(&response)
                .into_iter()
                .map(|(key, _, revision)| (key, revision)),
        );
        responses += 1;
    }
    let expected = |revision| (0..60).map(move |n| (format!("k{n}"), revision));
    assert!(seen.into_iter().eq(expected(2).chain(expected(3))));
    assert!(responses >= 3, "{responses}");
    let mut counts = Vec::new();
    while counts.iter().sum::<usize>() < 120 {
        counts.push(next(&mut whole).await.events().len());
    }
    assert!(counts.iter().all(|count| count % 60 == 0), "{counts:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn followers_serve_watches_and_end_those_that_require_a_leader_when_it_is_lost() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let mut writer = cluster.client(leader).await;
    let mut reader = cluster.client(follower).await;
    let mut stream = watch(&mut reader, "k", WatchOptions::new()).await;
    writer.put("k", "1", None).await.unwrap();
    assert_eq!(events(&next(&mut stream).await), [event("k", "1", 2)]);

    let options = etcd_client::ConnectOptions::new().with_require_leader(true);
    let urls = cluster.nodes[follower].client_urls();
    let mut insists = Client::connect(urls, Some(options)).await.unwrap();
    let mut ends = watch(&mut insists, "k", WatchOptions::new()).await;
    let kept = cluster.nodes.swap_remove(follower);
    for node in std::mem::take(&mut cluster.nodes) {
        node.shutdown().await;
    }
    let ended = clock::timeout(SOON, ends.message()).await.unwrap();
    assert_eq!(
        status(ended),
        (Code::Unavailable, "etcdserver: no leader".to_owned())
    );
    let (code, text) = status(insists.watch("k", None).await);
    assert_eq!((code, &*text), (Code::Unavailable, "etcdserver: no leader"));
    // A stream that does not require a leader goes on.
    stream.request_progress().await.unwrap();
    assert_eq!(revision(&next(&mut stream).await), 2);
    let got = reader
        .get("k", Some(GetOptions::new().with_serializable()))
        .await
        .unwrap();
    assert_eq!(got.kvs()[0].value(), b"1");

    // When the node stops its streams end with that error.
    let stopping = kept.shutdown();
    let ended = async { clock::timeout(SOON, stream.message()).await.unwrap() };
    let ((), ended) = futures::future::join(stopping, ended).await;
    assert_eq!(
        status(ended),
        (Code::Unavailable, "etcdserver: server stopped".to_owned())
    );
}
