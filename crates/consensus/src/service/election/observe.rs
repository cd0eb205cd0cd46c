//! The stream of an election's leaders and of what they proclaim.
//!
//! It follows the leader's key with a watch, so it misses no proclamation. When the leader changes,
//! it reads the keys again. So a leader that led only between two reads is not reported.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use prost::Message as _;
use synod_proto::etcd::etcdserverpb::ResponseHeader;
use synod_proto::etcd::mvccpb::{Event, KeyValue, event::EventType};
use synod_proto::etcd::v3electionpb::LeaderResponse;
use synod_watch::{
    Command, Create, EventFlags, Notice, Outgoing, Progress, Responses, Splitting, WatchHandle,
    WatchRange,
};

use super::super::queue::{Queues, prefix_end, prefix_of};
use super::super::watch::ended;
use super::{decode, oldest};
use crate::call::Call;
use crate::error::Error;

/// Follows one election.
pub(super) struct Observer {
    queues: Queues,
    hub: WatchHandle,
    name: Bytes,
    call: Call,
    phase: Phase,
    /// Bounded by the size of a watch response.
    ready: VecDeque<LeaderResponse>,
}

/// What an observer does next.
enum Phase {
    /// Read who leads. Only the first read is linearizable: later ones see at least the event that
    /// caused them.
    Look { serializable: bool },
    /// Nobody leads: wait for a key.
    Vacant(Watching),
    /// Wait for changes of the leader's key.
    Led(Watching),
}

impl Phase {
    const AGAIN: Self = Self::Look { serializable: true };
}

impl Observer {
    pub(super) fn new(queues: Queues, hub: WatchHandle, name: Bytes, call: Call) -> Self {
        Self {
            queues,
            hub,
            name,
            call,
            phase: Phase::Look {
                serializable: false,
            },
            ready: VecDeque::new(),
        }
    }

    /// All answers. Only an error ends them.
    pub(super) fn answers(self) -> impl Stream<Item = Result<LeaderResponse, Error>> + Send {
        stream::try_unfold(self, Self::next)
    }

    async fn next(mut self) -> Result<Option<(LeaderResponse, Self)>, Error> {
        loop {
            if let Some(answer) = self.ready.pop_front() {
                return Ok(Some((answer, self)));
            }
            let next = match &mut self.phase {
                Phase::Look { serializable } => {
                    let serializable = *serializable;
                    Some(self.look(serializable).await?)
                }
                Phase::Vacant(watching) => match watching.next().await? {
                    Some(seen) => self.lead(seen).await?,
                    None => Some(Phase::AGAIN),
                },
                Phase::Led(watching) => match watching.next().await? {
                    Some(seen) => self.report(seen),
                    None => Some(Phase::AGAIN),
                },
            };
            if let Some(next) = next {
                self.phase = next;
            }
        }
    }

    async fn look(&mut self, serializable: bool) -> Result<Phase, Error> {
        let call = self.queues.renewed(&self.call);
        let kv = self.queues.kv();
        let range = oldest(kv, &self.name, serializable, &call).await?;
        let range = range.into_inner();
        let header = range.header.unwrap_or_default();
        let from = header.revision + 1;
        let Some(leader) = range.kvs.first() else {
            let end = prefix_end(&self.name);
            let watching = Watching::start(&self.hub, prefix_of(&self.name), end, from).await;
            return Ok(Phase::Vacant(watching));
        };
        Ok(self.follow(header, decode(leader)?).await)
    }

    /// Reports a leader, and watches its key from the header's revision on.
    async fn follow(&mut self, header: ResponseHeader, leader: KeyValue) -> Phase {
        let (key, from) = (leader.key.clone(), header.revision + 1);
        self.ready.push_back(answer(header, leader));
        Phase::Led(Watching::start(&self.hub, key, Bytes::new(), from).await)
    }

    /// Without a leader, the first key that is written is the new leader's.
    async fn lead(&mut self, seen: Seen) -> Result<Option<Phase>, Error> {
        let put = |event: &Event| event.r#type() == EventType::Put;
        let Some(leader) = seen.events.into_iter().find(put).and_then(|put| put.kv) else {
            return Ok(None);
        };
        // The permission may have been revoked while nobody led.
        self.queues.check_read(&self.name, &self.call).await?;
        let header = self.queues.shared().header(leader.mod_revision);
        Ok(Some(self.follow(header, leader).await))
    }

    /// Reports what the leader proclaimed. After its key is deleted, another candidate may lead.
    fn report(&mut self, seen: Seen) -> Option<Phase> {
        let header = self.queues.shared().header(seen.revision);
        for event in seen.events {
            if event.r#type() == EventType::Delete {
                return Some(Phase::AGAIN);
            }
            let leader = event.kv.unwrap_or_default();
            self.ready.push_back(answer(header, leader));
        }
        None
    }
}

fn answer(header: ResponseHeader, leader: KeyValue) -> LeaderResponse {
    LeaderResponse {
        header: Some(header),
        kv: Some(leader),
    }
}

/// A watch of the member's own.
struct Watching(Responses);

/// The events of one response of a watch.
struct Seen {
    revision: i64,
    events: Vec<Event>,
}

impl Watching {
    async fn start(hub: &WatchHandle, key: Bytes, end: Bytes, from: i64) -> Self {
        let (requests, responses) = hub.open();
        let create = Create {
            watch_id: 0,
            range: WatchRange::decode(key, end),
            flags: EventFlags::default(),
            start_revision: from,
            splitting: Splitting::Whole,
            progress: Progress::Silent,
        };
        requests.send(Command::Create(requests.id(), create)).await;
        Self(responses)
    }

    /// The next events; `None` if they are compacted.
    async fn next(&mut self) -> Result<Option<Seen>, Error> {
        loop {
            match self.0.next().await {
                Some(Ok(Outgoing::Events {
                    revision, events, ..
                })) => {
                    let events: Result<_, prost::DecodeError> =
                        events.into_iter().map(Event::decode).collect();
                    let events = events.map_err(|error| Error::Internal(error.to_string()))?;
                    return Ok(Some(Seen { revision, events }));
                }
                Some(Ok(Outgoing::Notice(Notice::Compacted { .. }))) => return Ok(None),
                Some(Ok(Outgoing::Notice(_))) => {}
                Some(Err(end)) => return Err(ended(end)),
                None => return Err(Error::NotRunning),
            }
        }
    }
}
