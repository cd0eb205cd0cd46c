//! The crate `raft` (raft-rs) with its in-memory storage.

use std::fmt;

use bytes::Bytes;
use raft::{
    Config, RawNode, StateRole,
    eraftpb::{Entry, Message, MessageType},
    storage::MemStorage,
};
use slog::{Discard, Logger, o};

use crate::{Applied, Group, NODES};

/// Three nodes of `raft`.
pub struct RaftRsGroup {
    nodes: Vec<RawNode<MemStorage>>,
    applied: [Applied; NODES],
    /// Messages in flight.
    messages: Vec<Message>,
}

impl fmt::Debug for RaftRsGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftRsGroup").finish_non_exhaustive()
    }
}

impl RaftRsGroup {
    /// Creates a group in which the first node leads.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "it does work, and the others take arguments"
    )]
    pub fn new() -> Self {
        let logger = Logger::root(Discard, o!());
        let nodes = (1..=3).map(|id| {
            let config = Config {
                id,
                // The same as our defaults.
                election_tick: 100,
                heartbeat_tick: 10,
                max_size_per_msg: 1 << 20,
                max_inflight_msgs: 256,
                max_committed_size_per_ready: 16 << 20,
                check_quorum: true,
                pre_vote: true,
                batch_append: true,
                ..Config::default()
            };
            let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
            RawNode::new(&config, storage, &logger).expect("a valid configuration")
        });
        let mut group = Self {
            nodes: nodes.collect(),
            applied: Default::default(),
            messages: Vec::new(),
        };
        group.nodes[0].campaign().expect("a voter");
        group.settle();
        assert_eq!(group.nodes[0].raft.state, StateRole::Leader);
        group
    }

    /// Follows its example `single_mem_node`.
    fn drain(node: &mut RawNode<MemStorage>, applied: &mut Applied, messages: &mut Vec<Message>) {
        let mut ready = node.ready();
        messages.append(&mut ready.take_messages());
        let storage = node.store().clone();
        let committed = ready.take_committed_entries();
        apply(applied, &committed);
        if !ready.entries().is_empty() {
            storage.wl().append(ready.entries()).expect("contiguous");
        }
        if let Some(state) = ready.hs() {
            storage.wl().set_hardstate(state.clone());
        }
        messages.append(&mut ready.take_persisted_messages());
        let mut light = node.advance(ready);
        if let Some(commit) = light.commit_index() {
            storage.wl().mut_hard_state().set_commit(commit);
        }
        messages.append(&mut light.take_messages());
        apply(applied, &light.take_committed_entries());
        node.advance_apply();
    }
}

fn apply(applied: &mut Applied, entries: &[Entry]) {
    // A new leader's own entry is empty.
    for entry in entries.iter().filter(|entry| !entry.data.is_empty()) {
        applied.apply(&entry.data);
    }
}

impl Group for RaftRsGroup {
    fn propose(&mut self, payloads: Vec<Bytes>) {
        let entries = payloads.into_iter().map(|data| Entry {
            data,
            ..Entry::default()
        });
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = 1;
        message.set_entries(entries.collect::<Vec<_>>().into());
        self.nodes[0].raft.step(message).expect("it leads");
    }

    fn settle(&mut self) {
        loop {
            for (node, applied) in self.nodes.iter_mut().zip(&mut self.applied) {
                while node.has_ready() {
                    Self::drain(node, applied, &mut self.messages);
                }
            }
            if self.messages.is_empty() {
                return;
            }
            for message in self.messages.drain(..) {
                let to = usize::try_from(message.to - 1).expect("an index");
                self.nodes[to].step(message).expect("well-formed");
            }
        }
    }

    fn applied(&self) -> &[Applied; NODES] {
        &self.applied
    }

    fn cut(&mut self) {
        for node in &mut self.nodes {
            let applied = node.raft.raft_log.applied;
            node.store().wl().compact(applied).expect("applied");
        }
    }
}
