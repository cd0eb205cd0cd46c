//! A follower copies its leader's state, chunk by chunk: as `synod_replica::snapshot`.

use bytes::Bytes;
use synod_consensus_core::{Install, SnapshotMeta};
use synod_mvcc::export;
use synod_types::NodeId;

use crate::choices::Stream;
use crate::event::Event;
use crate::invariants::{Check, SHELL_CONTRACT};
use crate::machine::{Incoming, Machine};
use crate::node::{OpenView, ShellEvent};
use crate::time::MS;
use crate::words;
use crate::world::World;

/// A broken transfer is taken up again so many times without progress.
const MAX_ATTEMPTS: u32 = 3;
/// Open views on a leader.
const MAX_VIEWS: usize = 2;

/// One pull of a snapshot.
pub(crate) struct Fetch {
    install: Install,
    progress: Option<Progress>,
    failures: u32,
}

struct Progress {
    incoming: Incoming,
    resume: Bytes,
}

/// One piece.
struct Chunk {
    meta: SnapshotMeta,
    data: Bytes,
    resume: Option<Bytes>,
}

impl Fetch {
    pub(crate) fn new(install: Install) -> Self {
        Self {
            install,
            progress: None,
            failures: 0,
        }
    }
}

impl World {
    /// The next step of a transfer: one chunk, or a failure.
    pub(crate) fn fetch(&mut self, slot: usize, epoch: u64) -> Check {
        let taken = self.node_mut(slot).and_then(|node| {
            let id = node.id;
            node.process_mut()?.fetch.take().map(|fetch| (id, fetch))
        });
        let Some((id, mut fetch)) = taken else {
            return Ok(());
        };
        let from = fetch.install.from;
        let Some(chunk) = self.pull(slot, id, &fetch)? else {
            fetch.failures += 1;
            if fetch.failures >= MAX_ATTEMPTS {
                self.env.counts.snapshots_failed += 1;
                return self.fetched(slot, ShellEvent::InstallFailed);
            }
            self.keep(slot, fetch);
            self.env.after(20 * MS, Event::Fetch { slot, epoch });
            return Ok(());
        };
        let broken = |error| SHELL_CONTRACT.broken(format!("n{id} can't take a chunk: {error}"));
        let same = |progress: &Progress| *progress.incoming.meta() == chunk.meta;
        let mut progress = match fetch.progress.take().filter(same) {
            Some(progress) => progress,
            None => Progress {
                incoming: Machine::begin_install(chunk.meta).map_err(broken)?,
                resume: Bytes::new(),
            },
        };
        progress.incoming.write(chunk.data).map_err(broken)?;
        fetch.failures = 0;
        match chunk.resume {
            Some(resume) => {
                progress.resume = resume;
                fetch.progress = Some(progress);
                self.keep(slot, fetch);
                let took = self.env.choices.between(Stream::Node, 200, 20 * MS);
                self.env.after(took, Event::Fetch { slot, epoch });
                Ok(())
            }
            None => {
                self.tell_sent(slot, from, id, true);
                self.install(slot, progress.incoming)
            }
        }
    }

    fn keep(&mut self, slot: usize, fetch: Fetch) {
        if let Some(process) = self.node_mut(slot).and_then(|node| node.process_mut()) {
            process.fetch = Some(fetch);
        }
    }

    /// The next chunk, from the view that the transfer was begun with if it is still open.
    fn pull(&mut self, to_slot: usize, to: NodeId, fetch: &Fetch) -> Check<Option<Chunk>> {
        let Some(from_slot) = self.env.slots.get(&fetch.install.from).copied() else {
            return Ok(None);
        };
        if self.env.net.is_cut(from_slot, to_slot) || self.env.net.is_cut(to_slot, from_slot) {
            return Ok(None);
        }
        let (now, max_bytes) = (self.env.now, self.env.plan.chunk_bytes);
        let Some(server) = self.node_mut(from_slot) else {
            return Ok(None);
        };
        if !server.is_running() || server.id != fetch.install.from {
            return Ok(None);
        }
        let Some(process) = server.process_mut() else {
            return Ok(None);
        };
        let begun = fetch
            .progress
            .as_ref()
            .map(|progress| progress.incoming.meta().last);
        let at = process
            .views
            .iter()
            .position(|view| Some(view.meta.last) == begun);
        let (at, resume) = match at {
            Some(at) => (
                at,
                fetch
                    .progress
                    .as_ref()
                    .map_or(Bytes::new(), |p| p.resume.clone()),
            ),
            None => {
                if process.views.len() >= MAX_VIEWS {
                    process.views.remove(0);
                }
                let view = OpenView {
                    meta: process.initial.complete(process.machine.applied().clone()),
                    view: process.machine.view(),
                    to,
                    used_at: now,
                };
                process.views.push(view);
                (process.views.len() - 1, Bytes::new())
            }
        };
        let Some(view) = process.views.get_mut(at) else {
            return Ok(None);
        };
        view.used_at = now;
        if view.meta.last.index < fetch.install.meta.last.index {
            // Stale: the peer has to apply first.
            return Ok(None);
        }
        let (data, resume) = export(&view.view, &resume, max_bytes)
            .map_err(|error| SHELL_CONTRACT.broken(format!("can't export: {error}")))?;
        Ok(Some(Chunk {
            meta: view.meta.clone(),
            data,
            resume,
        }))
    }

    fn tell_sent(&mut self, to_slot: usize, from: NodeId, to: NodeId, ok: bool) {
        let Some(slot) = self.env.slots.get(&from).copied() else {
            return;
        };
        if self.env.net.is_cut(slot, to_slot) {
            return;
        }
        if let Some(node) = self.node_mut(slot) {
            let epoch = node.epoch;
            if let Some(process) = node.process_mut() {
                process.views.retain(|view| view.to != to);
            }
            self.env.after(
                300,
                Event::SnapshotSent {
                    slot,
                    epoch,
                    to,
                    ok,
                },
            );
        }
    }

    /// On the apply thread: replaces the state, durably, unless it is further by now.
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
