//! The driver's actions: log, peers, apply thread and readers. `synod_replica_core::drain` defines
//! their order.

use std::collections::VecDeque;
use std::sync::Arc;

use synod_consensus_core::{
    Consensus, Entry, Input, Install, Message, ReadContext, ReadState, Rejected, Role, RoleChange,
    Write,
};
use synod_log::LogError;
use synod_replica_core::{Outbox, Shell, requests};
use synod_runtime::task;
use synod_types::{Index, RequestId, Tick, WriteSeq};

use super::Driver;
use crate::error::Fault;
use crate::snapshot::Fetch;
use crate::state_machine::StateMachine;
use crate::transport::Unsent;

impl<S: StateMachine> Shell for Driver<S> {
    type Error = Fault;

    fn core(&mut self) -> &mut dyn Consensus {
        self.core.as_mut()
    }

    fn step(&mut self, input: Input) {
        let tick = self.tick();
        if let Err(rejected) = self.core.step(tick, input) {
            tracing::debug!(group = %self.group, %rejected, "the core refused an input");
        }
    }

    fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    fn publish_lease(&mut self, until: Option<Tick>) {
        self.shared.published.set_lease(until);
    }

    fn publish_commit(&mut self, commit: Index) {
        self.shared.published.set_commit(commit);
    }

    fn write(&mut self, seq: WriteSeq, writes: Vec<Write>) -> Result<(), Fault> {
        self.sampler.written(&writes, seq);
        self.stall.written(seq, self.now);
        self.unwritten.push_back((seq, writes));
        self.write_queued()
    }

    /// Messages that can't be queued are lost to the core. The exception is proposals that were
    /// certainly not sent to the leader: they are held and proposed again.
    fn send(&mut self, message: Message) -> Result<(), Fault> {
        let Some((unsent, message)) = self.transport.send(self.group, message) else {
            return Ok(());
        };
        let reason = match unsent {
            Unsent::NoStream => Rejected::NoLeader,
            Unsent::Overflow => Rejected::Overloaded,
        };
        let lost = requests(message.body).into_iter().map(|id| (id, reason));
        self.dropped(lost.collect())
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), Fault> {
        let commit = self.core.commit();
        self.metrics.committed(commit);
        self.compactor.committed(&entries);
        self.sampler
            .committed(commit, self.now, &self.shared, &self.metrics);
        self.queue.push_entries(entries);
        Ok(())
    }

    fn role_changed(&mut self, role: RoleChange) {
        let changed = self.role.leader != role.leader;
        self.role = role;
        self.status_due = true;
        let leads = role.role == Role::Leader;
        self.metrics.leadership(role.leader, leads, changed);
        self.transfers.leader_is(role.leader);
        if changed {
            let leader = role.leader.map(tracing::field::display);
            tracing::info!(group = %self.group, leader, ballot = %role.ballot, "leader changed");
            self.sampler.forget();
        }
    }

    fn answer_reads(
        &mut self,
        confirmed: Vec<ReadState>,
        failed: Vec<(ReadContext, Rejected)>,
    ) -> Result<(), Fault> {
        self.confirmed_reads(confirmed);
        self.failed_reads(failed);
        Ok(())
    }

    fn dropped(&mut self, dropped: Vec<(RequestId, Rejected)>) -> Result<(), Fault> {
        for (id, reason) in dropped {
            self.dropped_request(id, reason);
        }
        Ok(())
    }

    fn install(&mut self, install: Install) {
        let fetch = Fetch {
            group: self.group,
            config: self.snapshot_config.clone(),
            transport: Arc::clone(&self.transport),
            queue: Arc::clone(&self.queue),
            shared: Arc::clone(&self.shared),
            metrics: self.metrics.clone(),
        };
        // It reports its end to the inbox, and is aborted with the driver.
        let task = task::spawn("synod-snapshot-fetch", fetch.run(install));
        self.fetching = Some(task.abort_handle());
    }
}

/// Writes that the log had no room for, oldest first. They are written before any others. While
/// there are any, the node accepts no entries, so only ballots and a last burst of proposals
/// accumulate here.
pub(super) type Unwritten = VecDeque<(WriteSeq, Vec<Write>)>;

impl<S: StateMachine> Driver<S> {
    /// Passes waiting writes to the log, as far as it has room now.
    pub(super) fn write_queued(&mut self) -> Result<(), Fault> {
        while let Some((seq, writes)) = self.unwritten.pop_front() {
            match self.log.append(self.group, seq, writes) {
                Ok(()) => {}
                Err(LogError::Full { writes, .. }) => {
                    self.unwritten.push_front((seq, writes));
                    return Ok(());
                }
                Err(
                    error @ (LogError::TooLarge { .. }
                    | LogError::GroupExists { .. }
                    | LogError::Failed(_)
                    | LogError::Closed),
                ) => return Err(Fault::Log(error.to_string())),
            }
        }
        Ok(())
    }
}
