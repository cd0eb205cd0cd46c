//! A run: events in virtual time, faults from the seed, and the invariants across nodes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use synod_proto::replica::v1 as wire;
use synod_runtime::clock;

use super::model::Dice;
use super::receiver::Receiver;
use super::source::{EXPIRE_MS, Source};
use crate::config::Snapshots;

pub(super) const SOURCES: usize = 2;
pub(super) const RECEIVERS: usize = 3;
/// Faults occur until this time.
const STORM_MS: u64 = 300_000;
/// How long a receiver waits for a source, as in the shell.
pub(super) const SILENCE_MS: u64 = 30_000;
/// The longest delay of a message.
const MAX_DELAY_MS: u64 = 40_000;
/// The time within which a source notices that a receiver has disconnected.
pub(super) const MAX_UNNOTICED_MS: u64 = 10_000;
/// Idle views are closed after this time.
const IDLE_MS: u64 = 20_000;
/// After the faults stop, all transfers complete within this many events of all nodes together.
const MAX_CALM_EVENTS: u64 = 500;
/// After the faults stop, all transfers complete within this time: a silent source, its attempts,
/// and one more transfer.
const MAX_CALM_MS: u64 = 120_000;

#[derive(Debug)]
pub(super) enum Event {
    /// The core offers a snapshot to a receiver that needs one.
    Offer {
        receiver: usize,
    },
    Pull {
        receiver: usize,
        stream: u64,
    },
    Request {
        at: usize,
        receiver: usize,
        stream: u64,
        request: wire::FetchSnapshotRequest,
    },
    Opened {
        at: usize,
        life: u64,
        receiver: usize,
        stream: u64,
        gone: bool,
    },
    Send {
        at: usize,
        life: u64,
        receiver: usize,
        stream: u64,
    },
    Chunk {
        receiver: usize,
        stream: u64,
        chunk: wire::SnapshotChunk,
    },
    /// The request was refused, or the stream ended.
    Cut {
        receiver: usize,
        stream: u64,
    },
    Silence {
        receiver: usize,
        stream: u64,
        wait: u64,
    },
    Gone {
        at: usize,
        life: u64,
        stream: u64,
    },
    Expire {
        at: usize,
    },
    Apply {
        at: usize,
    },
    Crash {
        at: usize,
    },
    Start {
        at: usize,
    },
    Stop {
        receiver: usize,
    },
}

pub(super) struct World {
    seed: u64,
    pub(super) dice: Dice,
    base: Instant,
    pub(super) now_ms: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    /// Planned events by number, in planning order.
    planned: BTreeMap<u64, Event>,
    number: u64,
    pub(super) streams: u64,
    pub(super) sources: Vec<Source>,
    pub(super) receivers: Vec<Receiver>,
    /// The probability of a fault, in percent; zero when faults have stopped.
    pub(super) faults: u64,
    /// How often each case occurred.
    pub(super) counts: BTreeMap<&'static str, u64>,
    pub(super) trace: Vec<String>,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let from = self.trace.len().saturating_sub(40);
            println!("seed {}:\n{}", self.seed, self.trace[from..].join("\n"));
        }
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let config = Snapshots {
            chunk_bytes: 16,
            max_open: 2,
            idle_timeout: Duration::from_millis(IDLE_MS),
            max_attempts: 4,
        };
        let faults = dice.between(1, 12);
        let sources = (0..SOURCES).map(|_| Source::new(10, config.clone()));
        let mut world = Self {
            seed,
            sources: sources.collect(),
            receivers: (0..RECEIVERS).map(|_| Receiver::default()).collect(),
            dice,
            base: clock::now(),
            now_ms: 0,
            events: BinaryHeap::new(),
            planned: BTreeMap::new(),
            number: 0,
            streams: 0,
            faults,
            counts: BTreeMap::new(),
            trace: Vec::new(),
        };
        for at in 0..SOURCES {
            world.plan(EXPIRE_MS, Event::Expire { at });
            world.plan(10, Event::Apply { at });
        }
        for receiver in 0..RECEIVERS {
            world.receivers[receiver].needs = 1;
            world.plan(1, Event::Offer { receiver });
        }
        world
    }

    /// Runs a period with faults, then one without, until nothing is left to do.
    pub(super) fn run(mut self) -> Self {
        while self.now_ms < STORM_MS {
            self.step();
        }
        self.faults = 0;
        for receiver in 0..RECEIVERS {
            self.receivers[receiver].needs = self.receivers[receiver].directory.index + 1;
        }
        let mut events = 0;
        while self.receivers.iter().any(|receiver| receiver.needs > 0) {
            events += u64::from(self.step());
            let took = self.now_ms - STORM_MS;
            let bounded = events < MAX_CALM_EVENTS && took < MAX_CALM_MS;
            assert!(
                bounded,
                "transfers are not done after {took} ms, {events} events"
            );
        }
        // Streams to receivers that have disconnected end, then views become idle.
        let idle_ms = 2 * MAX_DELAY_MS + MAX_UNNOTICED_MS + IDLE_MS + 2 * EXPIRE_MS;
        let end = self.now_ms + idle_ms;
        while self.now_ms < end {
            self.step();
        }
        for source in &self.sources {
            assert_eq!(source.alive(), 0, "views are left");
            assert_eq!(source.oldest(), None);
            assert!(source.untold.is_empty(), "the core waits for a follower");
        }
        for receiver in &self.receivers {
            assert_eq!(receiver.directory.sinks(), 0, "a sink is left");
        }
        self
    }

    pub(super) fn plan(&mut self, after_ms: u64, event: Event) {
        self.number += 1;
        self.events
            .push(Reverse((self.now_ms + after_ms, self.number)));
        self.planned.insert(self.number, event);
    }

    pub(super) fn now(&self) -> Instant {
        self.base + Duration::from_millis(self.now_ms)
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(super) fn fault(&mut self) -> bool {
        self.dice.percent(self.faults)
    }

    /// The delay of a message: usually short, sometimes long.
    pub(super) fn delay(&mut self) -> u64 {
        if self.fault() {
            self.dice.between(100, MAX_DELAY_MS)
        } else {
            self.dice.between(1, 20)
        }
    }

    /// Executes the next event. Returns whether it was part of a transfer.
    fn step(&mut self) -> bool {
        let Reverse((at_ms, number)) = self.events.pop().unwrap();
        self.now_ms = at_ms;
        let event = self.planned.remove(&number).unwrap();
        self.trace.push(format!("{at_ms} {event:?}"));
        let idle = matches!(
            event,
            Event::Offer { .. }
                | Event::Apply { .. }
                | Event::Expire { .. }
                | Event::Silence { .. }
        );
        self.happens(event);
        !idle
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Offer { receiver } => self.offer(receiver),
            Event::Pull { receiver, stream } => self.pull(receiver, stream),
            Event::Request {
                at,
                receiver,
                stream,
                request,
            } => {
                self.request(at, receiver, stream, &request);
            }
            Event::Opened {
                at,
                life,
                receiver,
                stream,
                gone,
            } => {
                self.opened(at, life, receiver, stream, gone);
            }
            Event::Send {
                at,
                life,
                receiver,
                stream,
            } => self.send(at, life, receiver, stream),
            Event::Chunk {
                receiver,
                stream,
                chunk,
            } => self.chunk(receiver, stream, chunk),
            Event::Cut { receiver, stream } => self.broke(receiver, stream),
            Event::Silence {
                receiver,
                stream,
                wait,
            } => self.silence(receiver, stream, wait),
            Event::Gone { at, life, stream } => self.gone(at, life, stream),
            Event::Expire { at } => self.expire(at),
            Event::Apply { at } => self.apply(at),
            Event::Crash { at } => self.crash(at),
            Event::Start { at } => self.sources[at].up = true,
            Event::Stop { receiver } => self.receivers[receiver].pull = None,
        }
    }
}
