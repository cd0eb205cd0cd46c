//! The effect of each event: the shells of both sides and the network between them.

use std::time::Duration;

use synod_proto::replica::v1 as wire;
use synod_replica_core::{PieceError, Transfer};
use synod_types::NodeId;

use super::model::meta;
use super::receiver::{Broken, Pull};
use super::source::EXPIRE_MS;
use super::world::{Event, MAX_UNNOTICED_MS, SILENCE_MS, SOURCES, World};
use crate::config::TransportConfig;
use crate::convert::resume_to_wire;
use crate::snapshot::fetch::attempts;

/// Cases that the runs together must cover.
pub(super) const MET: &[&str] = &[
    "installed",
    "obsolete",
    "given up",
    "resumed",
    "full",
    "lost",
    "duplicated",
    "cut",
    "corrupted",
    "disk",
    "stale",
    "silence",
    "crash",
    "same position again",
];

fn node(receiver: usize) -> NodeId {
    NodeId::new(100 + u64::try_from(receiver).unwrap())
}

impl World {
    /// Offers the snapshot of a running source that is further than the receiver has to be.
    pub(super) fn offer(&mut self, receiver: usize) {
        self.plan(500, Event::Offer { receiver });
        // After each snapshot the receiver needs nothing for a while, then it lags again.
        let lags = self.faults > 0 && self.dice.percent(4);
        let node = &mut self.receivers[receiver];
        if node.needs == 0 && lags {
            node.needs = node.directory.index + 1;
        }
        if node.needs == 0 || node.pull.is_some() {
            return;
        }
        let from = usize::from(self.dice.percent(50)) % SOURCES;
        let source = &self.sources[from];
        let offered = source.applied;
        if !source.up || offered < self.receivers[receiver].needs {
            return;
        }
        let transport = TransportConfig::default();
        let transfer = Transfer::new(meta(offered).last, attempts(&source.config, &transport));
        self.receivers[receiver].pull = Some(Pull {
            from,
            offered,
            transfer,
            stream: 0,
            barren: 0,
            wait: 0,
        });
        self.pull(receiver, 0);
    }

    /// Requests a stream. `stream` is the previous one of the same pull.
    pub(super) fn pull(&mut self, receiver: usize, stream: u64) {
        self.streams += 1;
        let next = self.streams;
        let Some(pull) = &mut self.receivers[receiver].pull else {
            return;
        };
        if pull.stream != stream {
            return;
        }
        pull.stream = next;
        let at = pull.from;
        let request = wire::FetchSnapshotRequest {
            from: node(receiver).get(),
            ..resume_to_wire(pull.transfer.request())
        };
        self.wait(receiver);
        let copies = if self.fault() {
            self.count("lost");
            0
        } else if self.fault() {
            self.count("duplicated");
            2
        } else {
            1
        };
        for copy in 0..copies {
            // The receiver doesn't know of the second stream, so that stream has no reader.
            let stream = if copy == 0 { next } else { self.unheard() };
            let delay = self.delay();
            let request = request.clone();
            self.plan(
                delay,
                Event::Request {
                    at,
                    receiver,
                    stream,
                    request,
                },
            );
        }
    }

    fn unheard(&mut self) -> u64 {
        self.streams += 1;
        self.streams
    }

    fn wait(&mut self, receiver: usize) {
        if let Some(pull) = &mut self.receivers[receiver].pull {
            pull.wait += 1;
            let (stream, wait) = (pull.stream, pull.wait);
            self.plan(
                SILENCE_MS,
                Event::Silence {
                    receiver,
                    stream,
                    wait,
                },
            );
        }
    }

    fn listens(&self, receiver: usize, stream: u64) -> bool {
        let pull = self.receivers[receiver].pull.as_ref();
        pull.is_some_and(|pull| pull.stream == stream)
    }

    fn cut(&mut self, receiver: usize, stream: u64) {
        let delay = self.delay();
        self.plan(delay, Event::Cut { receiver, stream });
    }

    pub(super) fn request(
        &mut self,
        at: usize,
        receiver: usize,
        stream: u64,
        request: &wire::FetchSnapshotRequest,
    ) {
        let now = self.now();
        let source = &mut self.sources[at];
        if !source.up {
            return self.cut(receiver, stream);
        }
        let life = source.life;
        match source.asked(request, stream, now) {
            Ok(true) => {
                self.count("resumed");
                self.plan(
                    1,
                    Event::Send {
                        at,
                        life,
                        receiver,
                        stream,
                    },
                );
            }
            Ok(false) => {
                let delay = self.delay();
                // The call is cancelled while the view is being opened.
                let gone = self.fault();
                self.plan(
                    delay,
                    Event::Opened {
                        at,
                        life,
                        receiver,
                        stream,
                        gone,
                    },
                );
            }
            Err(_) => {
                self.count("full");
                self.cut(receiver, stream);
            }
        }
    }

    pub(super) fn opened(
        &mut self,
        at: usize,
        life: u64,
        receiver: usize,
        stream: u64,
        gone: bool,
    ) {
        let now = self.now();
        let source = &mut self.sources[at];
        if source.life != life {
            return self.cut(receiver, stream);
        }
        let index = source.applied;
        let again = source.had.iter().any(|(had, _)| *had == index);
        let waits = (!gone).then_some(stream);
        let admitted = source.view_opened(waits, node(receiver), &mut self.dice, now);
        if again {
            self.count("same position again");
        }
        match admitted {
            Ok(()) => self.plan(
                1,
                Event::Send {
                    at,
                    life,
                    receiver,
                    stream,
                },
            ),
            Err(_) => {
                self.count("full");
                self.cut(receiver, stream);
            }
        }
    }

    pub(super) fn send(&mut self, at: usize, life: u64, receiver: usize, stream: u64) {
        let now = self.now();
        if self.sources[at].life != life {
            return self.cut(receiver, stream);
        }
        if !self.listens(receiver, stream) || self.fault() {
            self.count("cut");
            // The source notices later; the receiver notices soon, or by the silence.
            let delay = self.dice.between(1, MAX_UNNOTICED_MS);
            self.plan(delay, Event::Gone { at, life, stream });
            if !self.dice.percent(20) {
                self.cut(receiver, stream);
            }
            return;
        }
        let Some(mut chunk) = self.sources[at].chunk(stream, now) else {
            return;
        };
        if !chunk.data.is_empty() && self.fault() {
            self.count("corrupted");
            let mut data = chunk.data.to_vec();
            data[0] ^= 1;
            chunk.data = data.into();
        }
        let delay = self.delay();
        self.plan(
            delay,
            Event::Chunk {
                receiver,
                stream,
                chunk,
            },
        );
        // In order, as in HTTP/2: the next chunk comes after this one.
        let next = delay + self.delay();
        self.plan(
            next,
            Event::Send {
                at,
                life,
                receiver,
                stream,
            },
        );
    }

    pub(super) fn chunk(&mut self, receiver: usize, stream: u64, chunk: wire::SnapshotChunk) {
        if !self.listens(receiver, stream) {
            return;
        }
        let fails = self.fault();
        let before = self.receivers[receiver].directory.live.clone();
        let taken = self.receivers[receiver].take(chunk, fails);
        let directory = &self.receivers[receiver].directory;
        assert_eq!(directory.live, before, "a chunk changed the live data");
        assert!(directory.sinks() <= 1);
        match taken {
            Ok(true) => self.install(receiver),
            Ok(false) => self.wait(receiver),
            Err(broken) => {
                let gap = matches!(broken, Broken::Piece(PieceError::Gap));
                assert!(!gap, "a transfer continues without its sink");
                let stale = matches!(broken, Broken::Piece(PieceError::Stale { .. }));
                if stale {
                    self.count("stale");
                }
                if matches!(broken, Broken::Disk) {
                    self.count("disk");
                }
                self.broke(receiver, stream);
            }
        }
    }

    fn install(&mut self, receiver: usize) {
        // It may have caught up through the log meanwhile.
        if self.fault() {
            let directory = &mut self.receivers[receiver].directory;
            directory.index += 1_000;
        }
        let pull = self.receivers[receiver].pull.take().unwrap();
        let (meta, sink) = pull.transfer.finish().unwrap();
        let index = meta.last.index.get();
        let before = self.receivers[receiver].directory.live.clone();
        let node = &mut self.receivers[receiver];
        let installed = node.directory.install(&sink);
        node.needs = 0;
        drop(sink);
        let directory = &self.receivers[receiver].directory;
        if installed {
            let had = &self.sources[pull.from].had;
            let whole = had
                .iter()
                .any(|(at, bytes)| *at == index && *bytes == directory.live);
            assert!(
                whole,
                "what is installed at {index} was never a view of the source"
            );
            assert!(index >= pull.offered, "{index} is older than the offer");
            self.count("installed");
        } else {
            assert_eq!(directory.live, before);
            // As after a jump of the position: the sources are behind for a while.
            self.receivers[receiver].directory.index = index;
            self.count("obsolete");
        }
    }

    pub(super) fn broke(&mut self, receiver: usize, stream: u64) {
        if !self.listens(receiver, stream) {
            return;
        }
        // Later events of this stream are ignored.
        let next = self.unheard();
        let before = self.receivers[receiver].directory.live.clone();
        let node = &mut self.receivers[receiver];
        let Some(pull) = &mut node.pull else { return };
        pull.stream = next;
        pull.barren += 1;
        let max_attempts = self.sources[pull.from].config.max_attempts;
        let given_up = pull.barren >= max_attempts;
        match pull.transfer.broke() {
            Some(pause) => {
                assert!(
                    !given_up,
                    "a transfer continues after {max_attempts} attempts"
                );
                let pause = u64::try_from(pause.max(Duration::from_millis(2)).as_millis()).unwrap();
                let jittered = self.dice.between(pause / 2, pause);
                self.plan(
                    jittered,
                    Event::Pull {
                        receiver,
                        stream: next,
                    },
                );
            }
            None => {
                assert!(given_up, "a transfer that makes progress is given up");
                node.pull = None;
                assert_eq!(
                    node.directory.sinks(),
                    0,
                    "a transfer that was given up left a sink"
                );
                assert_eq!(node.directory.live, before);
                self.count("given up");
            }
        }
    }

    pub(super) fn silence(&mut self, receiver: usize, stream: u64, wait: u64) {
        let pull = self.receivers[receiver].pull.as_ref();
        if pull.is_some_and(|pull| pull.stream == stream && pull.wait == wait) {
            self.count("silence");
            self.broke(receiver, stream);
        }
    }

    pub(super) fn gone(&mut self, at: usize, life: u64, stream: u64) {
        let now = self.now();
        if self.sources[at].life == life {
            self.sources[at].close(stream, now);
        }
    }

    pub(super) fn expire(&mut self, at: usize) {
        let now = self.now();
        self.sources[at].expire(now);
        self.plan(EXPIRE_MS, Event::Expire { at });
        if self.faults > 0 && self.dice.percent(self.faults / 4) {
            self.plan(1, Event::Crash { at });
        }
    }

    /// Usually advances positions. An idle cluster stays at one position for a while.
    pub(super) fn apply(&mut self, at: usize) {
        let pause = if self.dice.percent(10) { 15_000 } else { 200 };
        self.sources[at].applied += self.dice.between(0, 2);
        let after = self.dice.between(1, pause);
        self.plan(after, Event::Apply { at });
        if self.faults > 0 && self.dice.percent(self.faults / 8) {
            let receiver = usize::from(self.dice.percent(50));
            self.plan(1, Event::Stop { receiver });
        }
    }

    pub(super) fn crash(&mut self, at: usize) {
        self.count("crash");
        let source = &mut self.sources[at];
        let lost = self.dice.between(0, 12);
        source.restart(source.applied.saturating_sub(lost).max(1));
        source.up = false;
        let down = self.dice.between(1, 5_000);
        self.plan(down, Event::Start { at });
    }
}
