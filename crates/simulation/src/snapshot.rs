//! A follower copies its leader's state piece by piece. `synod_replica_core` makes the decisions of
//! both sides, as on a real member. Here each piece is a separate stream.

use std::time::Duration;

use synod_consensus_core::Install;
use synod_mvcc::export;
use synod_replica_core::{Attempts, Opened, Piece, PieceError, Resume, Step, Transfer};
use synod_types::NodeId;

use crate::choices::Stream;
use crate::event::Event;
use crate::invariants::{Check, SHELL_CONTRACT};
use crate::machine::{Incoming, Machine};
use crate::node::ShellEvent;
use crate::time::MS;
use crate::words;
use crate::world::World;

/// How often a broken transfer without progress is continued, and after which delays.
const ATTEMPTS: Attempts = Attempts {
    max: 3,
    backoff_min: Duration::from_millis(20),
    backoff_max: Duration::from_millis(20),
};
/// The maximum number of open views on a leader.
pub(crate) const MAX_VIEWS: usize = 2;

/// One pull of a snapshot.
pub(crate) struct Fetch {
    install: Install,
    transfer: Transfer<Incoming>,
}

impl Fetch {
    pub(crate) fn new(install: Install) -> Self {
        Self {
            transfer: Transfer::new(install.meta.last, ATTEMPTS),
            install,
        }
    }

    /// Writes a piece. The inner error breaks the transfer. The outer one is a fault of the node
    /// itself and ends the run.
    fn take(&mut self, id: NodeId, mut piece: Piece) -> Check<Result<(), PieceError>> {
        let broken = |error| SHELL_CONTRACT.broken(format!("n{id} can't take a piece: {error}"));
        match self.transfer.check(&mut piece) {
            Ok(Step::Write) => {}
            Ok(Step::Begin(begun)) => {
                let sink = Machine::begin_install(begun.meta.clone()).map_err(broken)?;
                self.transfer.begun(begun, sink);
            }
            Err(error) => return Ok(Err(error)),
        }
        let mut sink = match self.transfer.take_sink() {
            Ok(sink) => sink,
            Err(error) => return Ok(Err(error)),
        };
        sink.write(piece.data).map_err(broken)?;
        self.transfer.written(sink, piece.resume);
        Ok(Ok(()))
    }
}

impl World {
    /// The next step of a transfer: one piece or a failure.
    pub(crate) fn fetch(&mut self, slot: usize, epoch: u64) -> Check {
        let taken = self.node_mut(slot).and_then(|node| {
            let id = node.id;
            node.process_mut()?.fetch.take().map(|fetch| (id, fetch))
        });
        let Some((id, mut fetch)) = taken else {
            return Ok(());
        };
        let resume = fetch.transfer.request();
        let took = match self.pull(slot, id, fetch.install.from, resume)? {
            Some(piece) => fetch.take(id, piece)?.is_ok(),
            None => false,
        };
        let pause = if took {
            if fetch.transfer.is_done() {
                return match fetch.transfer.finish() {
                    Some((_, incoming)) => self.install(slot, incoming),
                    None => Ok(()),
                };
            }
            self.env.choices.between(Stream::Node, 200, 20 * MS)
        } else {
            let Some(pause) = fetch.transfer.broke() else {
                self.env.counts.snapshots_failed += 1;
                return self.fetched(slot, ShellEvent::InstallFailed);
            };
            u64::try_from(pause.as_micros()).unwrap_or(u64::MAX)
        };
        self.keep(slot, fetch);
        self.env.after(pause, Event::Fetch { slot, epoch });
        Ok(())
    }

    fn keep(&mut self, slot: usize, fetch: Fetch) {
        if let Some(process) = self.node_mut(slot).and_then(|node| node.process_mut()) {
            process.fetch = Some(fetch);
        }
    }

    /// The next piece from `from`, if it is reachable and has a view.
    fn pull(
        &mut self,
        to_slot: usize,
        to: NodeId,
        from: NodeId,
        resume: Option<Resume>,
    ) -> Check<Option<Piece>> {
        let Some(slot) = self.env.slots.get(&from).copied() else {
            return Ok(None);
        };
        if self.env.net.is_cut(slot, to_slot) || self.env.net.is_cut(to_slot, slot) {
            return Ok(None);
        }
        let World { env, nodes, .. } = self;
        let Some(server) = nodes.get_mut(slot) else {
            return Ok(None);
        };
        if !server.is_running() || server.id != from {
            return Ok(None);
        }
        let (epoch, now) = (server.epoch, env.now);
        let Some(process) = server.process_mut() else {
            return Ok(None);
        };
        let sent = |to, ok| Event::SnapshotSent {
            slot,
            epoch,
            to,
            ok,
        };
        let mut cursor = match resume.and_then(|resume| process.views.take_up(resume, to, now)) {
            Some(cursor) => cursor,
            None => {
                let opened = Opened {
                    // Instead of a random number: unique among the views of this process.
                    id: now.max(1),
                    source: process.machine.view(),
                    meta: process.initial.complete(process.machine.applied().clone()),
                    to,
                };
                let Ok((cursor, given_up)) = process.views.admit(opened, now) else {
                    return Ok(None);
                };
                for node in given_up {
                    env.after(1, sent(node, false));
                }
                cursor
            }
        };
        let (view, after) = cursor.next();
        let (data, resume) = export(view, after, env.plan.chunk_bytes)
            .map_err(|error| SHELL_CONTRACT.broken(format!("can't export: {error}")))?;
        let piece = cursor.advance(data, resume);
        process.views.used(cursor.position(), now);
        if piece.resume.is_none() {
            process.views.finished(cursor.position(), to, now);
            env.after(300, sent(to, true));
        }
        process.views.ended(cursor.position(), now);
        Ok(Some(piece))
    }

    /// On the apply thread: replaces the state, durably, unless it is already further.
    fn install(&mut self, slot: usize, incoming: Incoming) -> Check {
        let meta = incoming.meta().clone();
        let World { env, nodes, .. } = self;
        let Some(node) = nodes.get_mut(slot) else {
            return Ok(());
        };
        let id = node.id;
        let Some(process) = node.process_mut() else {
            return Ok(());
        };
        if meta.last.index <= process.machine.index() {
            env.counts.snapshots_failed += 1;
            return self.fetched(slot, ShellEvent::InstallFailed);
        }
        process
            .machine
            .install(incoming)
            .map_err(|error| SHELL_CONTRACT.broken(format!("n{id} can't install: {error}")))?;
        env.counts.snapshots += 1;
        words::installed(env, id, meta.last);
        env.checks.on_installed(id, meta.last.index);
        env.checks
            .on_applied(id, meta.last.index.next(), &[], process.machine.digest())?;
        if meta.last.index == env.checks.agreement.last() {
            process.check_hash(env, id)?;
        }
        process.installed(env)?;
        self.fetched(slot, ShellEvent::Installed(meta))
    }

    fn fetched(&mut self, slot: usize, event: ShellEvent) -> Check {
        let World { env, nodes, .. } = self;
        if let Some(node) = nodes.get_mut(slot) {
            if let Some(process) = node.process_mut() {
                process.inbox.events.push(event);
            }
            node.wake(env);
        }
        Ok(())
    }
}
