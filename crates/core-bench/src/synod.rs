//! Our cores.

use std::{collections::VecDeque, fmt};

use bytes::Bytes;
use synod_consensus_core::{
    Algorithm, Consensus, CoreConfig, Entry, EntryKind, Input, Membership, Message, Proposal,
    Ready, Restored, Role, SnapshotMeta, Write,
};
use synod_types::{Index, LogPosition, NodeId, RequestId, Tick};

use crate::{Applied, Group, NODES};

/// Three nodes with one of our cores.
pub struct SynodGroup {
    nodes: [Node; NODES],
    applied: [Applied; NODES],
    /// Messages in flight.
    messages: Vec<Message>,
    now: Tick,
    /// The id of the next proposal.
    id: u64,
}

struct Node {
    core: Box<dyn Consensus>,
    /// The simulated on-disk log.
    log: VecDeque<Entry>,
}

impl fmt::Debug for SynodGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SynodGroup").finish_non_exhaustive()
    }
}

impl SynodGroup {
    /// Creates a group in which the first node leads.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        let start = |config, restored| {
            let core = algorithm.start(config, restored, Tick::ZERO);
            core.expect("a valid configuration")
        };
        let ids = [1, 2, 3].map(NodeId::new);
        let meta = SnapshotMeta {
            last: LogPosition::ZERO,
            membership: Membership::of(ids),
        };
        let nodes = ids.map(|id| Node {
            core: start(
                CoreConfig::new(id, id.get()),
                Restored {
                    start: meta.clone(),
                    applied: meta.clone(),
                    ..Restored::default()
                },
            ),
            log: VecDeque::new(),
        });
        let mut group = Self {
            nodes,
            applied: Default::default(),
            messages: Vec::new(),
            now: Tick::new(1000),
            id: 0,
        };
        group.step_first(Input::Tick);
        group.settle();
        let role = group.nodes[0].core.status().role;
        assert_eq!(role, Role::Leader, "the first node campaigned alone");
        group
    }

    fn step_first(&mut self, input: Input) {
        let taken = self.nodes[0].core.step(self.now, input);
        taken.expect("the leader takes it");
    }
}

impl Group for SynodGroup {
    fn propose(&mut self, payloads: Vec<Bytes>) {
        let proposals = payloads.into_iter().map(|data| {
            self.id += 1;
            let node = NodeId::new(1);
            let id = RequestId { node, seq: self.id };
            Proposal { id, data }
        });
        let proposals: Vec<Proposal> = proposals.collect();
        self.step_first(Input::ProposeMany(proposals));
    }

    fn settle(&mut self) {
        loop {
            for (node, applied) in self.nodes.iter_mut().zip(&mut self.applied) {
                while let Some(ready) = node.core.ready() {
                    node.act(self.now, ready, applied, &mut self.messages);
                }
            }
            if self.messages.is_empty() {
                return;
            }
            for message in self.messages.drain(..) {
                let to = usize::try_from(message.to.get() - 1).expect("an index");
                let taken = self.nodes[to].core.step(self.now, Input::Message(message));
                taken.expect("well-formed");
            }
        }
    }

    fn applied(&self) -> &[Applied; NODES] {
        &self.applied
    }

    fn cut(&mut self) {
        for node in &mut self.nodes {
            let commit = node.core.commit();
            let taken = node.core.step(self.now, Input::Compact(commit));
            taken.expect("compaction is always taken");
            while node.log.front().is_some_and(|entry| entry.index <= commit) {
                node.log.pop_front();
            }
        }
    }
}

impl Node {
    /// Carries out everything at once, in the order given in the core's documentation.
    fn act(&mut self, now: Tick, ready: Ready, applied: &mut Applied, out: &mut Vec<Message>) {
        out.extend(ready.messages);
        if !ready.writes.is_empty() {
            for write in ready.writes {
                self.write(write);
            }
            self.step(now, Input::Persisted(ready.seq));
        }
        out.extend(ready.messages_after_persist);
        for entry in &ready.committed {
            if entry.kind == EntryKind::Normal {
                applied.apply(&entry.data);
            }
        }
        if let Some(last) = ready.committed.last() {
            self.step(now, Input::Applied(last.index));
        }
    }

    fn write(&mut self, write: Write) {
        match write {
            Write::Put(entry) => {
                let last = self.log.back();
                let fits = last.is_none_or(|last| entry.index == last.index.next());
                assert!(fits, "the network keeps the order, and the leader stays");
                self.log.push_back(entry);
            }
            Write::TruncateFrom(from) => {
                let kept = self.log.partition_point(|entry| entry.index < from);
                self.log.truncate(kept);
            }
            Write::Reset(_) | Write::Advance(_) => unreachable!("no node needs a snapshot"),
            Write::HardState(state) => assert!(state.commit < Index::MAX),
        }
    }

    fn step(&mut self, now: Tick, input: Input) {
        self.core
            .step(now, input)
            .expect("reports are always taken");
    }
}
