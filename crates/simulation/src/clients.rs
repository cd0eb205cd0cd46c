//! The clients. They write and read a few keys through any node, retry where that is safe, and
//! record what they observe.

use std::collections::BTreeMap;

use synod_history::Seen;
use synod_types::Index;

use crate::choices::Stream;
use crate::command::{Command, Key, OpId, Value, Write, WriteOutcome};
use crate::event::{Answer, Event};
use crate::invariants::{Check, History, check_read, check_write};
use crate::node::{NodeState, Proposed, ReadKind, ReadRequest, WriteRequest};
use crate::time::{MS, Time};
use crate::world::World;

/// How often a client retries after a refusal without effect.
const MAX_ATTEMPTS: u32 = 6;

#[derive(Default)]
pub(crate) struct Clients {
    ops: BTreeMap<OpId, Op>,
    next: u64,
    /// The value that each client expects each key to have.
    believed: BTreeMap<(u32, Key), Option<Value>>,
    /// The latest revision that any client has seen.
    revision: i64,
    pub(crate) history: History,
    /// Whether to start no new operations.
    pub(crate) stopped: bool,
}

#[derive(Clone, Copy, Debug)]
struct Op {
    client: u32,
    what: What,
    called: Time,
    /// The operations that had returned, and the commit index, when it began.
    begun: Index,
    floor: Index,
    attempts: u32,
    probe: bool,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Write(Write),
    Read(Key, ReadKind),
}

impl Clients {
    pub(crate) fn key_of(&self, op: OpId) -> Option<Key> {
        match self.ops.get(&op)?.what {
            What::Read(key, _) => Some(key),
            What::Write(_) => None,
        }
    }
}

impl World {
    /// A client chooses its next operation.
    pub(crate) fn client(&mut self, client: u32) {
        let env = &mut self.env;
        if env.clients.stopped {
            return;
        }
        // Zero, the harmless choice, means no operation.
        let kind = env.choices.below(Stream::Client, 16);
        let key = u8::try_from(env.choices.below(Stream::Client, env.plan.keys)).unwrap_or(0);
        let value = env.clients.next + 1;
        let believed = env.clients.believed.get(&(client, key)).copied();
        let what = match kind {
            0 => None,
            1..=3 => Some(What::Read(key, ReadKind::Linearizable)),
            4..=6 => Some(What::Read(key, ReadKind::Lease)),
            7 => Some(What::Read(key, ReadKind::Serializable)),
            8..=11 => Some(What::Write(Write::Put(key, value))),
            12 | 13 => Some(What::Write(Write::Cas {
                key,
                expect: believed.unwrap_or(None),
                new: value,
            })),
            14 => Some(What::Write(Write::Delete(key))),
            _ => Some(What::Write(Write::Compact(env.clients.revision - 3))),
        };
        match what {
            Some(what) => {
                let slot = self.any_server();
                self.begin(client, what, slot, false);
            }
            None => self.think(client),
        }
    }

    /// Starts an operation that must be committed if the cluster is alive. Returns its id.
    pub(crate) fn probe(&mut self, slot: usize) -> OpId {
        let value = self.env.clients.next + 1;
        self.begin(0, What::Write(Write::Put(0, value)), slot, true)
    }

    fn begin(&mut self, client: u32, what: What, slot: usize, probe: bool) -> OpId {
        let env = &mut self.env;
        env.clients.next += 1;
        let id = OpId(env.clients.next);
        let op = Op {
            client,
            what,
            called: env.now,
            begun: env.checks.real_time.begun(),
            floor: env.checks.agreement.last(),
            attempts: 0,
            probe,
        };
        env.clients.ops.insert(id, op);
        env.after(env.plan.patience_us + 50 * MS, Event::GiveUp { op: id });
        let delay = env.choices.between(Stream::Client, 100, 1_000);
        env.after(delay, Event::Request { slot, op: id });
        id
    }

    /// Usually a member; sometimes a node that is not a member, or no longer one.
    fn any_server(&mut self) -> usize {
        let World { env, nodes, .. } = self;
        if env.choices.often(Stream::Client, 50) {
            return env.choices.index(Stream::Client, nodes.len());
        }
        let members = &env.committed_members;
        let slots = nodes.iter().filter(|node| members.contains(node.id));
        let slots: Vec<usize> = slots.map(|node| node.slot).collect();
        let at = env.choices.index(Stream::Client, slots.len());
        slots.get(at).copied().unwrap_or(0)
    }

    fn think(&mut self, client: u32) {
        let think = self.env.plan.think_us;
        let pause = self
            .env
            .choices
            .between(Stream::Client, think / 4, think * 2);
        self.env.after(pause, Event::Client { client });
    }

    /// A request arrives at a node.
    pub(crate) fn request(&mut self, slot: usize, id: OpId) -> Check {
        let World { env, nodes, .. } = self;
        let (Some(op), Some(node)) = (env.clients.ops.get(&id).copied(), nodes.get_mut(slot))
        else {
            return Ok(());
        };
        match &mut node.state {
            NodeState::Running(_) => {}
            NodeState::Paused(_, waiting) => {
                waiting.push(Event::Request { slot, op: id });
                return Ok(());
            }
            NodeState::Down | NodeState::Refused => {
                env.after(
                    500,
                    Event::Reply {
                        op: id,
                        answer: Answer::Refused,
                    },
                );
                return Ok(());
            }
        }
        let deadline = op.called + env.plan.patience_us;
        match op.what {
            What::Write(write) => {
                let what = Proposed::Command(Command { op: id, write });
                if let Some(process) = node.process_mut() {
                    process.inbox.writes.push(WriteRequest { what, deadline });
                }
                node.wake(env);
                Ok(())
            }
            What::Read(_, kind) => {
                let read = ReadRequest {
                    op: id,
                    kind,
                    deadline,
                    floor: op.floor,
                };
                node.read(env, read)
            }
        }
    }

    /// An answer arrives at its client.
    pub(crate) fn reply(&mut self, id: OpId, answer: Answer) -> Check {
        let env = &mut self.env;
        let Some(op) = env.clients.ops.get_mut(&id) else {
            return Ok(());
        };
        if matches!(answer, Answer::Refused) && op.attempts < MAX_ATTEMPTS && !op.probe {
            // Certainly without effect, so retry the same operation, perhaps on another node.
            op.attempts += 1;
            let slot = self.any_server();
            let env = &mut self.env;
            let pause = env.choices.between(Stream::Client, 5 * MS, 40 * MS);
            env.after(pause, Event::Request { slot, op: id });
            return Ok(());
        }
        let Some(op) = env.clients.ops.remove(&id) else {
            return Ok(());
        };
        self.settle(id, op, Some(answer))?;
        if !op.probe {
            self.think(op.client);
        }
        Ok(())
    }

    /// The client stops waiting.
    pub(crate) fn give_up(&mut self, id: OpId) -> Check {
        if let Some(op) = self.env.clients.ops.remove(&id) {
            self.settle(id, op, None)?;
            if !op.probe {
                self.think(op.client);
            }
        }
        Ok(())
    }

    /// Ends the run: operations in flight get no answer.
    pub(crate) fn hang_up(&mut self) -> Check {
        while let Some((id, op)) = self.env.clients.ops.pop_first() {
            self.settle(id, op, None)?;
        }
        Ok(())
    }

    /// Checks an answer against everything that is known.
    fn settle(&mut self, id: OpId, op: Op, answer: Option<Answer>) -> Check {
        let env = &mut self.env;
        let now = env.now;
        let (agreement, real_time) = (&env.checks.agreement, &mut env.checks.real_time);
        match (op.what, answer) {
            (What::Write(write), Some(Answer::Wrote { index, applied })) => {
                env.counts.writes += 1;
                check_write(agreement, id, index, applied)?;
                real_time.wrote(op.begun, index)?;
                let clients = &mut env.clients;
                clients.revision = clients.revision.max(applied.revision);
                clients.note(op, write, Some((now, applied.outcome)));
            }
            (What::Read(key, kind), Some(Answer::Read { index, value })) => {
                check_read(agreement, id, index, key, value)?;
                match kind {
                    ReadKind::Linearizable => env.counts.index_reads += 1,
                    ReadKind::Lease => env.counts.lease_reads += 1,
                    ReadKind::Serializable => env.counts.serializable_reads += 1,
                }
                env.clients.believed.insert((op.client, key), value);
                if kind != ReadKind::Serializable {
                    real_time.read(op.begun, index)?;
                    let seen = Seen::Read(value);
                    env.clients
                        .history
                        .add(op.client, key, op.called, Some(now), seen);
                }
            }
            (What::Write(write), Some(Answer::Unknown) | None) => {
                env.counts.unknown_writes += 1;
                env.clients.note(op, write, None);
            }
            // An operation without effect, or a read without an answer.
            (_, Some(Answer::Refused | Answer::Unknown) | None) => {}
            (What::Write(_), Some(Answer::Read { .. }))
            | (What::Read(..), Some(Answer::Wrote { .. })) => {}
        }
        Ok(())
    }
}

impl Clients {
    fn note(&mut self, op: Op, write: Write, ended: Option<(Time, WriteOutcome)>) {
        let (returned, outcome) = (ended.map(|(at, _)| at), ended.map(|(_, outcome)| outcome));
        let (key, seen, believed) = match (write, outcome) {
            (Write::Put(key, value), _) => (key, Seen::Wrote(Some(value)), Some(value)),
            (Write::Delete(key), _) => (key, Seen::Wrote(None), None),
            (Write::Cas { key, expect, .. }, Some(WriteOutcome::Kept(found))) => {
                (key, Seen::Kept { expect, found }, found)
            }
            (Write::Cas { key, expect, new }, _) => (key, Seen::Swapped { expect, new }, Some(new)),
            (Write::Compact(_), _) => return,
        };
        if ended.is_some() {
            self.believed.insert((op.client, key), believed);
        }
        self.history.add(op.client, key, op.called, returned, seen);
    }
}
