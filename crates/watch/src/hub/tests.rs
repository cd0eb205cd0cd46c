use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::super::interest::{EventFlags, WatchRange};
use super::super::message::{JobResult, Work};
use super::super::queue::{Outgoing, Progress, Splitting};
use super::super::source::EventKind;
use super::super::testing::{Random, Store, visible};
use super::*;

/// What a client has received for one watcher.
struct Seen {
    interest: Interest,
    start: i64,
    created_at: Option<i64>,
    events: Vec<Bytes>,
    header: i64,
    ended: Option<Ended>,
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Canceled,
    Compacted(i64),
}

struct Client {
    id: StreamId,
    queue: Arc<StreamQueue>,
    /// In request order; the `created` responses come in the same order.
    requested: VecDeque<(Interest, i64)>,
    seen: BTreeMap<WatchId, Seen>,
    finished: Vec<Seen>,
    progress: Vec<i64>,
}

struct World {
    store: Arc<Store>,
    hub: Hub,
    clients: Vec<Client>,
    lagging: VecDeque<Feed>,
    job: Option<JobResult>,
    random: Random,
}

fn small_limits() -> WatchLimits {
    WatchLimits {
        queue_bytes: 600,
        response_bytes: 300,
        ring_batches: 12,
        piece_bytes: 200,
        ..WatchLimits::default()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let store = Store::new(1 + random.index(400));
        let history: Arc<dyn History> = Arc::clone(&store) as _;
        let mut hub = Hub::new(history, Arc::default(), small_limits());
        let clients = (0..3)
            .map(|id| {
                let queue = Arc::new(StreamQueue::new(small_limits()));
                hub.handle(Command::Open(StreamId(id), Arc::clone(&queue)));
                Client {
                    id: StreamId(id),
                    queue,
                    requested: VecDeque::new(),
                    seen: BTreeMap::new(),
                    finished: Vec::new(),
                    progress: Vec::new(),
                }
            })
            .collect();
        Self {
            store,
            hub,
            clients,
            lagging: VecDeque::new(),
            job: None,
            random,
        }
    }

    fn key(&mut self) -> &'static str {
        ["a", "b", "c", "d"][self.random.index(4)]
    }

    fn write(&mut self) {
        let count = 1 + self.random.below(3);
        let mut events = Vec::new();
        for _ in 0..count {
            let key = self.key();
            let kind = [EventKind::Put, EventKind::Delete][self.random.index(2)];
            events.push((key, kind));
        }
        if let Some(batch) = self.store.write(&events) {
            self.lagging.push_back(Feed::Batch(batch));
        }
    }

    fn delete_large(&mut self) {
        let start = self.key();
        if let Some(revision) = self.store.delete_large(start) {
            self.lagging.push_back(Feed::Jump(revision));
        }
    }

    fn feed(&mut self) {
        let count = self.random.index(4);
        let count = count.min(self.lagging.len());
        let items: Vec<Feed> = self.lagging.drain(..count).collect();
        self.hub.feed(items);
    }

    /// Loses events, as when the inbox overflows or a snapshot is installed: only the store's
    /// revision is known.
    fn lose(&mut self) {
        if let Some(last) = self.lagging.back() {
            let jump = Feed::Jump(last.revision());
            self.lagging.clear();
            self.lagging.push_back(jump);
        }
    }

    fn create(&mut self, client: usize) {
        let key = Bytes::from_static(self.key().as_bytes());
        let end = Bytes::from_static([&b""[..], b"\0", b"e"][self.random.index(3)]);
        let range = WatchRange::decode(key, end).unwrap();
        let flags = [
            EventFlags::default(),
            EventFlags::NO_PUT,
            EventFlags::NO_DELETE,
        ][self.random.index(3)];
        let current = self.store.revisions().current;
        let start = match self.random.below(3) {
            0 => 0,
            1 => 1 + self.random.signed(current),
            _ => current + self.random.signed(5),
        };
        let interest = Interest {
            range: range.clone(),
            flags,
        };
        self.clients[client].requested.push_back((interest, start));
        let create = Create {
            watch_id: 0,
            range: Ok(range),
            flags,
            start_revision: start,
            splitting: Splitting::Whole,
            progress: Progress::Silent,
        };
        self.hub
            .handle(Command::Create(StreamId(client as u64), create));
    }

    fn work(&mut self) {
        match self.hub.work() {
            Work::Run(job) => {
                assert!(self.job.is_none(), "only one job runs at a time");
                self.job = Some(job.run(&*self.store));
            }
            Work::Idle | Work::Stepped => {}
        }
    }

    fn complete(&mut self) -> bool {
        let Some(result) = self.job.take() else {
            return false;
        };
        self.hub.complete(result);
        true
    }

    fn take(&mut self, client: usize) -> bool {
        let client = &mut self.clients[client];
        let Poll::Ready(taken) = client.queue.take(&Context::from_waker(Waker::noop())) else {
            return false;
        };
        client.receive(taken.next.unwrap());
        if taken.drained {
            self.hub.drained(client.id);
        }
        true
    }

    fn step(&mut self) {
        let client = self.random.index(3);
        match self.random.below(40) {
            0..=7 => self.write(),
            8 => self.delete_large(),
            9..=16 => self.feed(),
            17 => self.lose(),
            18..=20 => self.create(client),
            21 => {
                if let Some(id) = self.clients[client].seen.keys().next().copied() {
                    self.hub
                        .handle(Command::Cancel(StreamId(client as u64), id));
                }
            }
            22 => self.hub.handle(Command::Progress(StreamId(client as u64))),
            23 => {
                let revisions = self.store.revisions();
                let to = revisions.compacted + 1 + self.random.signed(4);
                if to <= revisions.current {
                    self.store.compact(to);
                }
            }
            24..=29 => self.work(),
            30..=32 => {
                self.complete();
            }
            _ => {
                self.take(client);
            }
        }
    }

    fn settle(&mut self) {
        loop {
            let lagging: Vec<Feed> = self.lagging.drain(..).collect();
            self.hub.feed(lagging);
            let mut busy = self.complete();
            match self.hub.work() {
                Work::Run(job) => {
                    self.job = Some(job.run(&*self.store));
                    busy = true;
                }
                Work::Stepped => busy = true,
                Work::Idle => {}
            }
            for client in 0..3 {
                while self.take(client) {
                    busy = true;
                }
            }
            if !busy {
                return;
            }
        }
    }
}

impl Client {
    fn receive(&mut self, next: Outgoing) {
        match next {
            Outgoing::Notice(Notice::Created { watch_id, revision }) => {
                let (interest, start) = self.requested.pop_front().unwrap();
                let seen = Seen {
                    interest,
                    start,
                    created_at: Some(revision),
                    events: Vec::new(),
                    header: revision,
                    ended: None,
                };
                assert!(self.seen.insert(watch_id, seen).is_none());
            }
            Outgoing::Notice(Notice::Canceled { watch_id, .. }) => {
                self.finish(watch_id, Ended::Canceled);
            }
            Outgoing::Notice(Notice::Compacted {
                watch_id,
                compact_revision,
            }) => self.finish(watch_id, Ended::Compacted(compact_revision)),
            Outgoing::Notice(Notice::Progress { watch_id, revision }) => {
                assert_eq!(watch_id, WatchId::NONE);
                self.progress.push(revision);
                for seen in self.seen.values_mut() {
                    // No later response may have an earlier revision.
                    seen.header = seen.header.max(revision);
                    assert!(seen.start <= revision);
                    seen.events.push(marker(revision));
                }
            }
            Outgoing::Notice(other) => panic!("{other:?}"),
            Outgoing::Events {
                watch_id,
                revision,
                events,
                fragment,
            } => {
                assert!(!fragment && !events.is_empty());
                let seen = self.seen.get_mut(&watch_id).expect("created before events");
                seen.header = seen.header.max(revision);
                seen.events.extend(events);
            }
        }
    }

    fn finish(&mut self, watch_id: WatchId, ended: Ended) {
        let mut seen = self.seen.remove(&watch_id).unwrap();
        seen.ended = Some(ended);
        self.finished.push(seen);
    }
}

fn marker(revision: i64) -> Bytes {
    Bytes::from(format!("progress {revision}"))
}

impl Seen {
    /// Compares with the store: every event from the start on arrives once and in order, and a
    /// progress notification comes after all events that it covers.
    fn check(&self, store: &Store, context: &str) {
        let first = match self.start {
            0 => self.created_at.unwrap() + 1,
            start => start,
        };
        let expected: Vec<(i64, Bytes, Bytes)> = store
            .all_from(first)
            .into_iter()
            .flat_map(|batch| {
                let events = visible(&batch, &self.interest);
                let without = Interest {
                    flags: self.interest.flags.without(EventFlags::PREV_KV),
                    ..self.interest.clone()
                };
                let without = visible(&batch, &without);
                let revision = source::revision(&batch);
                let both = events.into_iter().zip(without);
                both.map(move |(event, without)| (revision, event, without))
            })
            .collect();
        let compacted = store.revisions().compacted;
        let mut at = 0;
        for event in &self.events {
            if let Some(vouched) = event.strip_prefix(b"progress ") {
                let vouched: i64 = std::str::from_utf8(vouched).unwrap().parse().unwrap();
                let next = expected
                    .get(at)
                    .map_or(i64::MAX, |(revision, ..)| *revision);
                assert!(
                    next > vouched,
                    "{context}: progress overtook revision {next}"
                );
                continue;
            }
            // An event at the compacted revision may come without its previous record.
            let fits = expected.get(at).is_some_and(|(revision, whole, without)| {
                event == whole || (*revision <= compacted && event == without)
            });
            assert!(fits, "{context} at {at}: {event:?}");
            at += 1;
        }
        match &self.ended {
            None => assert_eq!(at, expected.len(), "{context}: events are missing"),
            Some(Ended::Canceled) => {}
            // Only compacted events may be missing.
            Some(Ended::Compacted(compacted)) => {
                let next = expected.get(at).map_or(first, |(revision, ..)| *revision);
                assert!(
                    next < *compacted || first < *compacted,
                    "{context}: too early"
                );
            }
        }
    }
}

#[test]
fn random_interleavings_lose_and_duplicate_nothing() {
    let (mut events, mut compacted, mut progress) = (0, 0, 0);
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step();
        }
        world.settle();
        for client in &world.clients {
            assert!(client.requested.is_empty(), "every request was answered");
            for seen in client.seen.values().chain(&client.finished) {
                seen.check(&world.store, &format!("seed {seed} {:?}", client.id));
                events += seen.events.len();
                compacted += usize::from(matches!(seen.ended, Some(Ended::Compacted(_))));
            }
            progress += client.progress.len();
        }
        assert_eq!(
            world.hub.stats.behind(),
            0,
            "all watchers are synced in the end"
        );
    }
    // Checks that the interleavings cover the intended cases.
    assert!(
        events > 10_000 && compacted > 50 && progress > 50,
        "{events} {compacted} {progress}"
    );
}

#[test]
fn the_same_seed_gives_the_same_responses() {
    let run = || {
        let mut world = World::new(7);
        for _ in 0..500 {
            world.step();
        }
        world.settle();
        let seen = world
            .clients
            .iter()
            .flat_map(|c| c.seen.values().chain(&c.finished));
        seen.map(|s| s.events.clone()).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

fn put(key: &'static str) -> [(&'static str, EventKind); 1] {
    [(key, EventKind::Put)]
}

fn request(key: &'static str, start_revision: i64) -> Create {
    Create {
        watch_id: 0,
        range: WatchRange::decode(Bytes::from_static(key.as_bytes()), Bytes::new()),
        flags: EventFlags::default(),
        start_revision,
        splitting: Splitting::Whole,
        progress: Progress::Silent,
    }
}

/// A hub with one stream. All other work is settled after each step.
struct Single {
    store: Arc<Store>,
    hub: Hub,
    queue: Arc<StreamQueue>,
}

const STREAM: StreamId = StreamId(1);

impl Single {
    fn new() -> Self {
        Self::with(WatchLimits::default())
    }

    fn with(limits: WatchLimits) -> Self {
        let store = Store::new(limits.piece_bytes);
        let queue = Arc::new(StreamQueue::new(limits.clone()));
        let mut hub = Hub::new(Arc::clone(&store) as _, Arc::default(), limits);
        hub.handle(Command::Open(STREAM, Arc::clone(&queue)));
        Self { store, hub, queue }
    }

    /// With the keys `a` to `c`, and history that is read one event at a time.
    fn in_small_pieces() -> Self {
        let mut single = Self::with(WatchLimits {
            piece_bytes: 1,
            ..WatchLimits::default()
        });
        for key in ["a", "b", "c"] {
            single.put(key);
        }
        single
    }

    /// Deletes all keys in a large revision. The hub has checked its first piece, which has `a`.
    fn begin_large(&mut self) -> i64 {
        let revision = self.store.delete_large("a").unwrap();
        self.hub.feed([Feed::Jump(revision)]);
        // The first job finds the start of the revision, the second reads the piece.
        for _ in 0..2 {
            let Work::Run(job) = self.hub.work() else {
                panic!("nothing to read");
            };
            let result = job.run(&*self.store);
            self.hub.complete(result);
        }
        revision
    }

    fn create(&mut self, create: Create) {
        self.hub.handle(Command::Create(STREAM, create));
    }

    fn put(&mut self, key: &'static str) {
        let batch = self.store.write(&put(key)).unwrap();
        self.hub.feed([Feed::Batch(batch)]);
    }

    /// All events of the key `a` in `from..=revision`, as one response.
    fn events(&self, id: i64, revision: i64, from: i64) -> Outgoing {
        let interest = Interest {
            range: request("a", 0).range.unwrap(),
            flags: EventFlags::default(),
        };
        let batches = self.store.all_from(from);
        let batches = batches
            .iter()
            .filter(|batch| source::revision(batch) <= revision);
        Outgoing::Events {
            watch_id: WatchId(id),
            revision,
            events: batches
                .flat_map(|batch| visible(batch, &interest))
                .collect(),
            fragment: false,
        }
    }

    fn responses(&mut self) -> Vec<Outgoing> {
        loop {
            match self.hub.work() {
                Work::Run(job) => {
                    let result = job.run(&*self.store);
                    self.hub.complete(result);
                }
                Work::Stepped => {}
                Work::Idle => break,
            }
        }
        let mut all = Vec::new();
        while let Poll::Ready(taken) = self.queue.take(&Context::from_waker(Waker::noop())) {
            all.push(taken.next.unwrap());
        }
        all
    }
}

fn created(id: i64, revision: i64) -> Outgoing {
    Outgoing::Notice(Notice::Created {
        watch_id: WatchId(id),
        revision,
    })
}

fn progress(id: i64, revision: i64) -> Outgoing {
    Outgoing::Notice(Notice::Progress {
        watch_id: WatchId(id),
        revision,
    })
}

#[test]
fn assigned_ids_count_from_zero_and_skip_chosen_ones() {
    let mut single = Single::new();
    let chosen = |watch_id| Create {
        watch_id,
        ..request("a", 0)
    };
    for create in [chosen(1), chosen(0), chosen(0), chosen(1), chosen(2)] {
        single.create(create);
    }
    let refused = |reason: &str| {
        Outgoing::Notice(Notice::Refused {
            reason: reason.to_owned(),
            revision: 1,
        })
    };
    let duplicate = refused("mvcc: duplicate watch ID provided on the WatchStream");
    let responses = single.responses();
    assert_eq!(
        responses,
        [
            created(1, 1),
            created(0, 1),
            created(2, 1),
            duplicate.clone(),
            duplicate
        ]
    );
    single.create(Create {
        range: WatchRange::decode(Bytes::from_static(b"b"), Bytes::from_static(b"a")),
        ..request("b", 0)
    });
    let responses = single.responses();
    assert_eq!(responses, [refused("mvcc: watcher range is empty")]);
}

#[test]
fn a_start_before_the_compacted_revision_is_created_and_then_cancelled() {
    let mut single = Single::new();
    for _ in 0..9 {
        single.put("a");
    }
    single.store.compact(5);
    single.create(request("a", 4));
    single.create(request("a", 5));
    let responses = single.responses();
    assert_eq!(
        responses,
        [
            created(0, 10),
            Outgoing::Notice(Notice::Compacted {
                watch_id: WatchId(0),
                compact_revision: 5
            }),
            created(1, 10),
            single.events(1, 10, 5),
        ]
    );
    // The cancelled watcher's id is free again, but is not reused automatically.
    single.create(request("a", 0));
    let responses = single.responses();
    assert_eq!(responses, [created(2, 10)]);
}

#[test]
fn a_negative_start_is_refused_in_one_message() {
    let mut single = Single::new();
    single.put("a");
    single.create(request("a", -1));
    single.create(Create {
        range: WatchRange::decode(Bytes::from_static(b"b"), Bytes::from_static(b"a")),
        ..request("b", i64::MIN)
    });
    let refused = Outgoing::Notice(Notice::Refused {
        reason: "etcdserver: mvcc: required revision has been compacted".to_owned(),
        revision: 2,
    });
    assert_eq!(single.responses(), [refused.clone(), refused]);
}

/// The events stay in memory during this test: a watcher must get the same result without that.
#[test]
fn catching_up_from_memory_gives_the_same_events_as_history() {
    for ring_batches in [100, 1] {
        let mut single = Single::with(WatchLimits {
            ring_batches,
            ..WatchLimits::default()
        });
        single.create(request("other", 0));
        for _ in 0..4 {
            single.put("a");
        }
        single.store.compact(3);
        single.responses();
        single.create(Create {
            flags: EventFlags::PREV_KV,
            ..request("a", 3)
        });
        let mut expected = Vec::new();
        for batch in single.store.all_from(3) {
            let revision = source::revision(&batch);
            let flags = match revision {
                3 => EventFlags::default(),
                _ => EventFlags::PREV_KV,
            };
            expected.push(source::encoded(&batch, 0, flags));
        }
        let events = Outgoing::Events {
            watch_id: WatchId(1),
            revision: 5,
            events: expected,
            fragment: false,
        };
        assert_eq!(
            single.responses(),
            [created(1, 5), events],
            "{ring_batches}"
        );
    }
}

/// The watcher was slow and its next events were compacted. It is refused although they are still
/// in memory.
#[test]
fn a_slow_watcher_behind_the_compacted_revision_is_cancelled() {
    let mut single = Single::with(WatchLimits {
        queue_bytes: 1,
        ..WatchLimits::default()
    });
    single.create(request("a", 0));
    assert_eq!(single.responses(), [created(0, 1)]);
    for _ in 0..4 {
        single.put("a");
    }
    single.store.compact(4);
    let first = single.events(0, 2, 2);
    assert_eq!(single.responses(), [first]);
    single.hub.drained(STREAM);
    let gone = Outgoing::Notice(Notice::Compacted {
        watch_id: WatchId(0),
        compact_revision: 4,
    });
    assert_eq!(single.responses(), [gone]);
}

#[test]
fn a_watcher_with_a_future_start_waits_for_that_revision() {
    let mut single = Single::new();
    single.create(request("a", 4));
    single.hub.handle(Command::Progress(STREAM));
    single.put("a");
    single.put("a");
    let responses = single.responses();
    assert_eq!(responses, [created(0, 1)], "no progress before its start");
    single.put("a");
    single.hub.handle(Command::Progress(STREAM));
    let responses = single.responses();
    assert_eq!(responses, [single.events(0, 4, 4), progress(-1, 4)]);
}

#[test]
fn progress_waits_for_the_feed_and_comes_after_the_events() {
    let mut single = Single::new();
    single.hub.handle(Command::Progress(STREAM));
    let responses = single.responses();
    assert_eq!(responses, [], "no answer without a watcher");
    single.create(request("a", 0));
    let batch = single.store.write(&put("a")).unwrap();
    single.hub.handle(Command::Progress(STREAM));
    let responses = single.responses();
    assert_eq!(responses, [created(0, 1)]);
    single.hub.feed([Feed::Batch(batch)]);
    let responses = single.responses();
    assert_eq!(responses, [single.events(0, 2, 2), progress(-1, 2)]);
}

#[test]
fn so_many_progress_requests_wait_for_the_feed_and_no_more() {
    let mut single = Single::with(WatchLimits {
        questions: 2,
        ..WatchLimits::default()
    });
    single.create(request("a", 0));
    // Each is for another revision.
    let batches = [(); 3].map(|()| {
        let batch = single.store.write(&put("b")).unwrap();
        single.hub.handle(Command::Progress(STREAM));
        Feed::Batch(batch)
    });
    single.hub.feed(batches);
    let responses = single.responses();
    assert_eq!(responses, [created(0, 1), progress(-1, 4), progress(-1, 4)]);
}

#[test]
fn periodic_progress_is_skipped_after_events() {
    let mut single = Single::new();
    single.create(Create {
        progress: Progress::Periodic,
        ..request("a", 0)
    });
    single.create(request("a", 0));
    single.put("b");
    single.hub.handle(Command::Tick(STREAM));
    let responses = single.responses();
    assert_eq!(responses, [created(0, 1), created(1, 1), progress(0, 2)]);
    single.put("a");
    single.hub.handle(Command::Tick(STREAM));
    let responses = single.responses();
    assert_eq!(responses, [single.events(0, 3, 3), single.events(1, 3, 3)]);
    single.hub.handle(Command::Tick(STREAM));
    let responses = single.responses();
    assert_eq!(responses, [progress(0, 3)]);
}

#[test]
fn cancelling_stops_events_and_an_unknown_id_gets_no_answer() {
    let mut single = Single::new();
    single.create(request("a", 0));
    single.put("a");
    single.hub.handle(Command::Cancel(STREAM, WatchId(9)));
    single.hub.handle(Command::Cancel(STREAM, WatchId(0)));
    single.put("a");
    let responses = single.responses();
    assert_eq!(
        responses,
        [
            created(0, 1),
            single.events(0, 2, 2),
            Outgoing::Notice(Notice::Canceled {
                watch_id: WatchId(0),
                revision: 2
            })
        ]
    );
    assert!(!single.hub.has_watchers());
}

#[test]
fn revisions_without_watchers_are_skipped() {
    let mut single = Single::new();
    for _ in 0..5 {
        single.store.write(&put("a"));
    }
    single.hub.skip_to(6);
    single.create(request("a", 3));
    single.put("a");
    let responses = single.responses();
    assert_eq!(responses, [created(0, 6), single.events(0, 7, 3)]);
}

#[test]
fn a_snapshot_past_compacted_history_cancels_watchers_that_missed_it() {
    let mut single = Single::new();
    single.create(request("a", 0));
    single.put("a");
    assert_eq!(single.responses().len(), 2);
    for _ in 0..8 {
        single.store.write(&put("a"));
    }
    single.store.compact(8);
    single.hub.feed([Feed::Jump(10)]);
    let responses = single.responses();
    assert_eq!(
        responses,
        [Outgoing::Notice(Notice::Compacted {
            watch_id: WatchId(0),
            compact_revision: 8
        })]
    );
}

#[test]
fn a_watcher_that_joins_during_a_large_revision_gets_all_of_it() {
    let mut single = Single::in_small_pieces();
    single.create(request("c", 0));
    assert_eq!(single.responses(), [created(0, 4)]);
    let revision = single.begin_large();
    single.create(request("a", revision));
    let responses = single.responses();
    let of_a = single.events(1, revision, revision);
    assert!(responses.contains(&of_a), "{responses:?}");
    assert_eq!(responses.len(), 3, "{responses:?}");
}

#[test]
fn a_compaction_during_a_large_revision_cancels_only_affected_watchers() {
    let mut single = Single::in_small_pieces();
    single.create(request("z", 0));
    assert_eq!(single.responses(), [created(0, 4)]);
    let revision = single.begin_large();
    single.put("a");
    single.store.compact(revision + 1);
    assert_eq!(single.responses(), []);
}
