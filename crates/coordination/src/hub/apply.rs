//! Applies the log: executes its commands, and tells clients.

use synod_coordination_core::{
    AclList, Batch, BatchOutOfOrder, Command, ConnectionId, DecodeError, Kind, LogNumber,
    LogReader, Machine, Missing, Notification, Perms, Refused, SessionId, SessionInfo, check_acl,
};

use super::{Hub, State};
use crate::convert;

/// A session was opened, changed or closed by a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionChange {
    /// It was opened, or attached to a connection.
    Opened(SessionInfo),
    /// It is gone.
    Closed {
        /// The session.
        session: SessionId,
    },
}

/// Why a batch was not applied. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApplyError {
    /// Earlier batches are missing.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// It is damaged, or of a later release.
    #[error("{0}: it is damaged, or was written by a later release")]
    Decode(#[from] DecodeError),
    /// Its transactions were applied already.
    #[error(transparent)]
    OutOfOrder(#[from] BatchOutOfOrder),
    /// Another batch of this number was applied.
    #[error(
        "another batch of this number was applied: if the etcd endpoint was restored from a \
         backup, restart all pods"
    )]
    Replaced,
}

impl Hub {
    /// Applies a batch, unless it was applied before.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub(crate) fn apply(
        &self,
        number: LogNumber,
        batch: &[u8],
    ) -> Result<Vec<SessionChange>, ApplyError> {
        if number <= self.applied() {
            return Ok(Vec::new());
        }
        let batch = Batch::decode(batch)?;
        let mut state = self.state.lock();
        if number <= state.reader.applied() {
            return Ok(Vec::new());
        }
        let applied = state.machine.last_zxid();
        if number == state.reader.applied().next() && batch.first <= applied {
            let first = batch.first;
            return Err(BatchOutOfOrder { first, applied }.into());
        }
        state.reader.take(number)?;
        let changes = state.apply(&batch);
        drop(state);
        self.progress.notify_waiters();
        Ok(changes)
    }

    /// Goes on from a checkpoint. Connections are closed, since the events in between are unknown:
    /// the clients connect again and set their watches again.
    pub(crate) fn replace(&self, machine: Machine, applied: LogNumber) {
        let mut state = self.state.lock();
        state.machine = machine;
        state.reader = LogReader::new(applied);
        state.close_all();
        state.waiting.clear();
        // Commands of this pod that the checkpoint contains. Their replies are unknown.
        let pod = state.outbox.pod();
        let own = state.machine.pods().find(|&(other, _)| other == pod);
        if let Some((_, number)) = own {
            state.outbox.executed(number);
        }
        drop(state);
        self.progress.notify_waiters();
    }
}

impl State {
    fn apply(&mut self, batch: &Batch) -> Vec<SessionChange> {
        let mut changes = Vec::new();
        let mut notifications = Vec::new();
        let mut is_forgotten = false;
        for (index, command) in batch.commands.iter().enumerate() {
            let zxid = batch.first.plus(index);
            let applied = self.machine.apply(command, zxid, batch.time_ms);
            for event in &applied.events {
                let connections = &self.connections;
                let may_know = |id: ConnectionId, acl: &AclList| {
                    let connection = connections.get(&id);
                    connection.is_some_and(|connection| {
                        // A client in this process is only woken. It looks again, under the list.
                        connection.out.is_in_process()
                            || check_acl(acl, Perms::READ, &connection.identities).is_ok()
                    })
                };
                self.watches.trigger(event, may_know, &mut notifications);
            }
            for notification in notifications.drain(..) {
                self.notify(&notification);
            }
            let own = command
                .origin
                .filter(|origin| origin.pod == self.outbox.pod());
            match &applied.reply {
                Ok(_) | Err(Refused::Op(_) | Refused::Multi { .. }) => {}
                Err(Refused::Duplicate | Refused::Gap { .. } | Refused::PodInUse(_)) => continue,
                Err(Refused::UnknownPod(_) | Refused::TooManyPods) => {
                    is_forgotten |= own.is_some();
                    continue;
                }
            }
            let number = own.map_or(0, |origin| origin.number);
            let answered = own.and_then(|origin| {
                self.outbox.executed(origin.number);
                self.waiting.remove(&origin.number)
            });
            if applied.reply.is_ok() {
                self.follow_session(command, answered, &mut changes);
            }
            if let Some(id) = answered {
                self.answer(id, number, applied);
            }
        }
        if is_forgotten {
            self.renew();
        }
        self.finish_syncs();
        changes
    }

    /// What a command means for sessions and their connections. `answered` is the connection that
    /// sent it, if it is one of this pod.
    fn follow_session(
        &mut self,
        command: &Command,
        answered: Option<ConnectionId>,
        changes: &mut Vec<SessionChange>,
    ) {
        let session = command.session;
        match &command.kind {
            Kind::CreateSession { .. } | Kind::AttachSession { .. } => {
                changes.extend(self.machine.session(session).map(SessionChange::Opened));
                // It was moved to another connection, of this pod or of another.
                if let Some(before) = self.sessions.remove(&session) {
                    self.close(before);
                }
            }
            Kind::CloseSession | Kind::ExpireSession { .. } => {
                changes.push(SessionChange::Closed { session });
                // The connection that asked for it gets its answer first.
                if let Some(id) = self.sessions.remove(&session)
                    && answered != Some(id)
                {
                    self.close(id);
                }
            }
            Kind::Write(_)
            | Kind::Multi(_)
            | Kind::Reap { .. }
            | Kind::SetConfig { .. }
            | Kind::RegisterPod { .. }
            | Kind::ForgetPod { .. }
            | Kind::Nothing => {}
        }
    }

    pub(super) fn notify(&mut self, notification: &Notification) {
        if let Some(connection) = self.connections.get_mut(&notification.connection) {
            let event = convert::event(notification);
            connection.out.event(notification.zxid.get(), &event);
            connection.account.statistics.sent += 1;
            self.totals.notified();
        }
    }
}
