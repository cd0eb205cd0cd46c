//! The actions of the simulated driver. `synod_replica_core::drain` defines their order, as for
//! `synod_replica`. The invariants check everything that passes.

use synod_consensus_core::{
    ConfigCommand, Consensus, Entry, EntryKind, Input, Install, Message, ReadContext, ReadState,
    Rejected, Role, RoleChange, Write,
};
use synod_replica_core::{Outbox, Shell};
use synod_types::{Index, RequestId, Tick, WriteSeq};

use super::turn::Turn;
use crate::env::Env;
use crate::event::Event;
use crate::invariants::{Check, Violation};
use crate::snapshot::Fetch;
use crate::words;

/// A turn and its environment.
pub(super) struct Hands<'a, 'p> {
    pub(super) turn: &'a mut Turn<'p>,
    pub(super) env: &'a mut Env,
}

impl Shell for Hands<'_, '_> {
    type Error = Violation;

    fn core(&mut self) -> &mut dyn Consensus {
        self.turn.process.core.as_mut()
    }

    fn step(&mut self, input: Input) {
        self.turn.step(self.env, input);
    }

    fn outbox(&mut self) -> &mut Outbox {
        &mut self.turn.process.outbox
    }

    fn publish_lease(&mut self, until: Option<Tick>) {
        self.turn.process.published.lease = until;
    }

    fn publish_commit(&mut self, commit: Index) {
        let published = &mut self.turn.process.published;
        published.commit = published.commit.max(commit);
    }

    fn write(&mut self, seq: WriteSeq, writes: Vec<Write>) -> Check {
        let Self { turn, env } = self;
        let status = turn.process.core.status();
        let leads = (status.role == Role::Leader).then_some((status.ballot, status.commit));
        env.checks.on_writes(turn.id, &writes, leads)?;
        turn.count_writes(env, &writes);
        turn.append(env, seq, writes);
        Ok(())
    }

    fn send(&mut self, message: Message) -> Check {
        self.env.checks.on_send(self.turn.tick, &message)?;
        self.env.send(self.turn.slot, message);
        Ok(())
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Check {
        let Self { turn, env } = self;
        let status = turn.process.core.status();
        let new = env.checks.on_committed(turn.id, &status, &entries)?;
        env.counts.commits += new;
        for entry in &entries {
            words::committed(env, turn.id, entry, &status);
            if new > 0 && entry.kind == EntryKind::Config {
                env.counts.config_changes += 1;
                if let Ok(command) = ConfigCommand::decode(entry.data.clone()) {
                    env.committed_members = command.membership;
                }
            }
        }
        turn.process.compactor.committed(&entries);
        turn.process.queue.extend(entries);
        turn.process.start_applying(env, turn.slot, turn.epoch);
        Ok(())
    }

    fn role_changed(&mut self, role: RoleChange) {
        words::role(self.env, self.turn.id, &role);
        self.turn.process.role = role;
    }

    fn answer_reads(
        &mut self,
        confirmed: Vec<ReadState>,
        failed: Vec<(ReadContext, Rejected)>,
    ) -> Check {
        self.turn.answer_reads(self.env, confirmed, failed)
    }

    fn dropped(&mut self, dropped: Vec<(RequestId, Rejected)>) -> Check {
        self.turn.dropped(self.env, dropped)
    }

    fn install(&mut self, install: Install) {
        let Self { turn, env } = self;
        words::install(env, turn.id, &install);
        env.counts.snapshots_begun += 1;
        turn.process.fetch = Some(Fetch::new(install));
        let (slot, epoch) = (turn.slot, turn.epoch);
        env.after(100, Event::Fetch { slot, epoch });
    }
}
