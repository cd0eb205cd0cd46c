//! The crate `omnipaxos` with its in-memory storage.

use std::fmt;

use bytes::Bytes;
use omnipaxos::{
    ClusterConfig, OmniPaxos, ServerConfig,
    messages::Message,
    storage::{Entry, NoSnapshot},
    util::LogEntry,
};
use omnipaxos_storage::memory_storage::MemoryStorage;

use crate::{Applied, Group, NODES};

/// Three nodes of `omnipaxos`.
pub struct OmniPaxosGroup {
    nodes: Vec<OmniPaxos<Command, MemoryStorage<Command>>>,
    applied: [Applied; NODES],
    /// The next log position for each node's state machine.
    next: [usize; NODES],
    /// Messages in flight.
    messages: Vec<Message<Command>>,
    batch: usize,
}

/// An entry. It shares its bytes, like entries of the other cores, so that copying it costs the
/// same.
#[derive(Clone, Debug)]
struct Command(Bytes);

impl Entry for Command {
    type Snapshot = NoSnapshot;
}

impl fmt::Debug for OmniPaxosGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OmniPaxosGroup").finish_non_exhaustive()
    }
}

impl OmniPaxosGroup {
    /// Creates a group in which the first node leads and accepts up to `batch` entries together.
    #[must_use]
    pub fn new(batch: u64) -> Self {
        let batch = usize::try_from(batch).expect("a small number");
        let nodes = (1..=3).map(|pid| {
            let cluster = ClusterConfig {
                configuration_id: 1,
                nodes: vec![1, 2, 3],
                flexible_quorum: None,
            };
            let server = ServerConfig {
                pid,
                batch_size: batch,
                ..ServerConfig::default()
            };
            let storage = MemoryStorage::default();
            cluster
                .build_for_server(server, storage)
                .expect("a valid configuration")
        });
        let mut group = Self {
            nodes: nodes.collect(),
            applied: Default::default(),
            next: [0; NODES],
            messages: Vec::new(),
            batch,
        };
        group.nodes[0].try_become_leader();
        group.settle();
        assert_eq!(group.nodes[0].get_current_leader(), Some((1, true)));
        group
    }

    fn apply_decided(&mut self) {
        for (at, node) in self.nodes.iter().enumerate() {
            let next = &mut self.next[at];
            if node.get_decided_idx() <= *next {
                continue;
            }
            let decided = node.read_decided_suffix(*next).expect("still in the log");
            *next += decided.len();
            for entry in decided {
                let LogEntry::Decided(Command(data)) = entry else {
                    unreachable!("nothing was cut or changed")
                };
                self.applied[at].apply(&data);
            }
        }
    }
}

impl Group for OmniPaxosGroup {
    fn propose(&mut self, payloads: Vec<Bytes>) {
        assert!(
            payloads.len().is_multiple_of(self.batch),
            "part of a batch would wait for a tick"
        );
        for data in payloads {
            self.nodes[0].append(Command(data)).expect("it leads");
        }
    }

    fn settle(&mut self) {
        loop {
            for node in &mut self.nodes {
                node.take_outgoing_messages(&mut self.messages);
            }
            self.apply_decided();
            if self.messages.is_empty() {
                return;
            }
            for message in self.messages.drain(..) {
                let to = usize::try_from(message.get_receiver() - 1).expect("an index");
                self.nodes[to].handle_incoming(message);
            }
        }
    }

    fn applied(&self) -> &[Applied; NODES] {
        &self.applied
    }

    fn cut(&mut self) {
        let decided = self.nodes[0].get_decided_idx();
        self.nodes[0].trim(Some(decided)).expect("all have decided");
        self.settle();
    }
}
