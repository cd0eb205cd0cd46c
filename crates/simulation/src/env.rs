//! State shared by all nodes: time, decisions, network, invariants, clients and trace.

use std::collections::BTreeMap;

use synod_consensus_core::{Membership, Message};
use synod_types::NodeId;

use crate::choices::{Choices, Stream};
use crate::clients::Clients;
use crate::command::{Key, OpId};
use crate::event::{Answer, Event};
use crate::invariants::Invariants;
use crate::network::{MAX_NODES, Network};
use crate::plan::Plan;
use crate::report::Counts;
use crate::time::{Queue, Time};
use crate::trace::Trace;
use crate::words;

pub(crate) struct Env {
    pub(crate) now: Time,
    pub(crate) queue: Queue<Event>,
    pub(crate) choices: Choices,
    pub(crate) checks: Invariants,
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    pub(crate) plan: Plan,
    pub(crate) net: Network,
    pub(crate) clients: Clients,
    /// The slot of each node.
    pub(crate) slots: BTreeMap<NodeId, usize>,
    /// The membership of the last committed configuration.
    pub(crate) committed_members: Membership,
    /// When a random membership change was last requested.
    pub(crate) change_asked_at: Time,
    pub(crate) disk_factors: [u64; MAX_NODES],
    /// Whether faults have stopped.
    pub(crate) calm: bool,
}

impl Env {
    /// Schedules an event in `delay` microseconds.
    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    /// A node sends a message.
    pub(crate) fn send(&mut self, from: usize, message: Message) {
        let Some(to) = self.slots.get(&message.to).copied() else {
            return;
        };
        if self.net.is_cut(from, to) {
            self.counts.messages_lost += 1;
            words::lost(self, &message);
            // Sometimes the sender notices the loss.
            if self.choices.often(Stream::Network, 20) {
                let node = message.to;
                self.after(3_000, Event::Unreachable { slot: from, node });
            }
            return;
        }
        let arrivals = self.net.arrivals(&mut self.choices);
        if arrivals[0].is_none() {
            self.counts.messages_lost += 1;
            words::lost(self, &message);
        }
        self.counts.messages += 1;
        let late = self.net.lateness(&mut self.choices, from, to);
        let [first, second] = arrivals.map(|delay| Some(delay? + late));
        if let Some(delay) = second {
            let message = Box::new(message.clone());
            self.after(delay, Event::Deliver { slot: to, message });
        }
        if let Some(delay) = first {
            let message = Box::new(message);
            self.after(delay, Event::Deliver { slot: to, message });
        }
    }

    /// A node answers a client. The answer may be lost.
    pub(crate) fn answer(&mut self, op: OpId, answer: Answer) {
        if self.choices.often(Stream::Client, self.plan.lost_answers) {
            return;
        }
        let delay = self.choices.between(Stream::Client, 100, 1_000);
        self.after(delay, Event::Reply { op, answer });
    }

    pub(crate) fn key_of(&self, op: OpId) -> Option<Key> {
        self.clients.key_of(op)
    }

    pub(crate) fn disk_factor(&self, slot: usize) -> u64 {
        self.disk_factors.get(slot).copied().unwrap_or(1)
    }
}
