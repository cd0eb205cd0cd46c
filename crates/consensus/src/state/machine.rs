//! The state machine of the group: it takes entries and returns outcomes. All changes of a batch
//! are one write of the engine.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use synod_auth::{Auth, AuthState, DamagedRow, ROW_PREFIX};
use synod_consensus_core::{Entry, Membership, SnapshotMeta};
use synod_engine::{DiskConfig, DiskEngine, Engine, EngineError};
use synod_lease::{KEEPER_ROW, Keeper, Leases};
use synod_mvcc::{Applied, LeaseId, LeaseRecord, MvccConfig, MvccError, MvccStore};
use synod_replica::{ApplyError, PeerBook, Persister, SnapshotSource, StateMachine};
use synod_runtime::clock;
use synod_service::{Generations, SweepSignal};
use synod_types::NodeId;

use super::apply::Applier;
use super::outcome::Outcome;
use super::roster::Roster;
use super::snapshot::{Copied, EngineSink, StoreSnapshot};
use super::view::View;
use crate::backup::RestoreError;
use crate::metrics::Metrics;
use synod_watch::{Deletions, WatchHandle};

/// A batch ends once its changes and answers have so many bytes: a small entry may return or
/// replace far more than its own size.
const MAX_BATCH_BYTES: usize = 32 << 20;

/// The configuration of the state machine.
#[derive(Clone, Debug)]
pub(crate) struct MachineConfig {
    /// The directory of the engine's generations.
    pub(crate) dir: PathBuf,
    /// The size of the engine's block cache.
    pub(crate) cache_bytes: u64,
    /// This member.
    pub(crate) member: NodeId,
    /// The highest feature level of this member.
    pub(crate) feature_level: u32,
}

/// Why the stored state can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// An I/O error.
    #[error("cannot use the engine's directory {dir}: {source}", dir = dir.display())]
    Io {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] MvccError),
    /// The backup can't be restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The row of the membership is damaged.
    #[error(
        "the stored membership is damaged: {0}; remove this member from the cluster and add it again with an empty data \
         directory"
    )]
    Membership(String),
    /// The rows of users and roles.
    #[error(
        "{0}; remove this member from the cluster and add it again with an empty data directory"
    )]
    Auth(#[from] DamagedRow),
    /// The cluster uses a higher feature level than this member has.
    #[error(
        "the cluster uses feature level {required}, and this member has level {ours}: start a newer release, or without a \
         lower --feature-level"
    )]
    NewerLevel {
        /// The cluster's level.
        required: u32,
        /// This member's level.
        ours: u32,
    },
}

/// Who is told what the machine did.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) watch: WatchHandle,
    pub(crate) deletions: Deletions,
    pub(crate) peers: PeerBook,
    pub(crate) metrics: Metrics,
}

/// The opened state, before it is connected to its listeners.
pub(crate) struct OpenState {
    config: MachineConfig,
    generations: Generations,
    store: MvccStore,
    roster: Roster,
    users: AuthState,
    applied: SnapshotMeta,
}

/// The replicated state of this node. The apply thread owns it.
pub(crate) struct Machine {
    config: MachineConfig,
    generations: Generations,
    store: MvccStore,
    leases: Arc<Leases>,
    roster: Roster,
    /// Users and roles as of the last entry; `auth` shows those of the last batch.
    users: AuthState,
    auth: Arc<Auth>,
    applied: SnapshotMeta,
    /// `applied` for the thread that flushes; never ahead of what was written to the engine.
    written: Arc<ArcSwap<SnapshotMeta>>,
    view: Arc<View>,
    listeners: Listeners,
    sweep: Arc<SweepSignal>,
    /// The engine before the last installation, until its last reader is gone.
    retired: Option<Arc<dyn Engine>>,
}

impl OpenState {
    /// Opens the state that [`create`] made.
    ///
    /// # Errors
    /// Something is missing or damaged.
    pub(crate) fn open(config: MachineConfig) -> Result<Self, MachineError> {
        let generations = Generations::open(&config.dir).map_err(io_error(&config.dir))?;
        let engine = open_engine(&generations.path(), config.cache_bytes)?;
        let store = MvccStore::open(engine, MvccConfig::default())?;
        let view = store.view();
        let applied = SnapshotMeta {
            last: view.applied(),
            membership: decode(view.membership()?)?,
        };
        let roster = Roster::load(&view)?;
        check_level(&config, &roster)?;
        let users = AuthState::load(view.meta_rows(ROW_PREFIX)?)?;
        Ok(Self {
            config,
            generations,
            store,
            roster,
            users,
            applied,
        })
    }

    /// A reader of the keys.
    pub(crate) fn reader(&self) -> synod_mvcc::MvccReader {
        self.store.reader()
    }

    /// The leases.
    ///
    /// # Errors
    /// The engine fails, or a row is damaged.
    pub(crate) fn leases(&self) -> Result<Vec<(LeaseId, LeaseRecord)>, MachineError> {
        Ok(self.store.view().leases()?)
    }

    /// The keeper of the leases' time.
    ///
    /// # Errors
    /// The engine fails, or the row is damaged.
    pub(crate) fn lease_keeper(&self) -> Result<Keeper, MachineError> {
        Ok(load_keeper(&self.store.view())?)
    }

    /// The cluster's members.
    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Users and roles.
    pub(crate) fn users(&self) -> &AuthState {
        &self.users
    }

    /// Connects the state with its listeners.
    pub(crate) fn connect(
        self,
        leases: Arc<Leases>,
        auth: Arc<Auth>,
        listeners: Listeners,
        sweep: Arc<SweepSignal>,
    ) -> Machine {
        let member = self.config.member;
        let view = Arc::new(View::new(self.store.reader(), member, self.roster.clone()));
        let machine = Machine {
            config: self.config,
            generations: self.generations,
            store: self.store,
            leases,
            roster: self.roster,
            users: self.users,
            auth,
            written: Arc::new(ArcSwap::from_pointee(self.applied.clone())),
            applied: self.applied,
            view,
            listeners,
            sweep,
            retired: None,
        };
        machine.tell_peers();
        machine
    }
}

impl Machine {
    /// The published state.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// Tells the transport the members of the roster.
    fn tell_peers(&self) {
        let peers = &self.listeners.peers;
        peers.require_feature_level(self.roster.feature_level());
        for member in self.roster.members() {
            let id = NodeId::new(member.id);
            if id != self.config.member {
                peers.set(id, member.peer_urls.clone());
            }
        }
        for id in peers.all().into_keys() {
            if self.roster.member(id).is_none() {
                peers.remove(id);
            }
        }
    }

    fn publish_roster(&self) {
        self.view.publish(self.roster.clone());
        self.tell_peers();
    }

    /// Removes the engine before the last installation once its last reader is gone.
    fn drop_retired(&mut self) {
        let Some(engine) = self.retired.take() else {
            return;
        };
        if Arc::strong_count(&engine) > 1 || engine.has_snapshots() {
            self.retired = Some(engine);
            return;
        }
        drop(engine);
        if let Err(error) = self.generations.remove_others() {
            tracing::warn!(%error, "could not remove the data that a snapshot has replaced; the next start tries again");
        }
    }
}

impl StateMachine for Machine {
    type Output = Outcome;
    type Sink = EngineSink;

    fn apply(
        &mut self,
        entries: &mut vec::IntoIter<Entry>,
        outputs: &mut Vec<Outcome>,
    ) -> Result<(), ApplyError> {
        let mut last = self.applied.last;
        let revision = self.store.revision();
        self.drop_retired();
        let begun = clock::now();
        let compacted = self.store.view().compacted();
        let mut applier = Applier {
            store: &mut self.store,
            roster: &mut self.roster,
            leases: &self.leases,
            users: &mut self.users,
            tokens: self.auth.tokens(),
            metrics: &self.listeners.metrics,
            membership: None,
            roster_changed: false,
            users_changed: false,
            feature_level: self.config.feature_level,
        };
        let mut returned = 0;
        while let Some(entry) = entries.as_slice().first() {
            let position = entry.position();
            let Some(outcome) = applier.apply(entry.clone())? else {
                break;
            };
            entries.next();
            last = position;
            returned += outcome.pair_bytes();
            outputs.push(outcome);
            let bytes = returned + applier.store.pending_bytes();
            // Later entries become visible only after the change of users: a read that was checked
            // before the change cannot see their data.
            let is_last = applier.users_changed || applier.store.must_commit();
            if bytes >= MAX_BATCH_BYTES || is_last {
                break;
            }
        }
        let (membership, roster_changed) = (applier.membership, applier.roster_changed);
        let users_changed = applier.users_changed;
        let applied = Applied {
            position: last,
            membership: membership.as_ref().map(encode),
        };
        let events = self
            .store
            .commit(applied)
            .map_err(|error| ApplyError::caused_by("the engine refused a batch", error))?;
        self.applied.last = last;
        if let Some(membership) = membership {
            self.applied.membership = membership;
        }
        self.written.store(Arc::new(self.applied.clone()));
        if roster_changed {
            self.publish_roster();
        }
        if users_changed {
            self.auth.publish(self.users.clone());
        }
        if !events.is_empty() {
            self.listeners.deletions.publish(&events);
            self.listeners.watch.publish(events);
        } else if self.store.revision() > revision {
            // After a large deletion its events must be read from the store.
            self.listeners.deletions.jumped();
            self.listeners.watch.jumped(self.store.revision().get());
        }
        if self.store.view().compacted() > compacted {
            self.sweep.wake();
        }
        self.listeners
            .metrics
            .apply_seconds
            .observe(clock::now().saturating_duration_since(begun).as_secs_f64());
        Ok(())
    }

    fn applied(&self) -> SnapshotMeta {
        self.applied.clone()
    }

    fn persister(&self) -> Arc<dyn Persister> {
        Arc::new(Flusher {
            written: Arc::clone(&self.written),
            compactor: self.store.reader().compactor(),
        })
    }

    fn snapshot(&mut self) -> Result<Arc<dyn SnapshotSource>, ApplyError> {
        Ok(Arc::new(StoreSnapshot::new(
            self.applied.clone(),
            self.store.view(),
        )))
    }

    fn begin_install(&mut self, meta: SnapshotMeta) -> Result<EngineSink, ApplyError> {
        let failed = |error| ApplyError::caused_by("cannot make room for a snapshot", error);
        let generation = self.generations.prepare().map_err(failed)?;
        let path = self.generations.path_of(generation);
        let engine = open_engine(&path, self.config.cache_bytes).map_err(|error| {
            ApplyError::caused_by("cannot open an engine for a snapshot", error)
        })?;
        EngineSink::new(generation, engine, meta)
    }

    fn install(&mut self, sink: EngineSink) -> Result<(), ApplyError> {
        let begun = clock::now();
        let Copied {
            generation,
            engine,
            meta,
            users,
        } = sink.into_copied()?;
        let failed = |error| ApplyError::caused_by("cannot switch to a snapshot", error);
        // The sink is complete and durable. From this write on a restart uses it.
        self.generations.switch(generation).map_err(failed)?;
        let broken = |error| ApplyError::caused_by("an installed snapshot can't be used", error);
        // Before the data. Otherwise users whose permission was revoked could read the new data.
        // New users may read the old data: a permission is for a key at all its revisions.
        self.users = users;
        self.auth.reload(self.users.clone());
        let old = self.store.replace_engine(engine).map_err(broken)?;
        self.roster = Roster::load(&self.store.view()).map_err(broken)?;
        check_level(&self.config, &self.roster)
            .map_err(|error| ApplyError::new(error.to_string()))?;
        let view = self.store.view();
        let keeper = load_keeper(&view).map_err(broken)?;
        self.leases.reload(view.leases().map_err(broken)?, keeper);
        self.applied = meta;
        self.written.store(Arc::new(self.applied.clone()));
        self.publish_roster();
        self.listeners.deletions.jumped();
        self.listeners.watch.jumped(self.store.revision().get());
        self.sweep.wake();
        self.retired = Some(old);
        let took = clock::now().saturating_duration_since(begun);
        self.listeners
            .metrics
            .snapshot_install_seconds
            .observe(took.as_secs_f64());
        tracing::info!(
            position = %self.applied.last,
            revision = self.store.revision().get(),
            "installed a peer's snapshot"
        );
        Ok(())
    }
}

/// Flushes the engine while entries are applied.
struct Flusher {
    written: Arc<ArcSwap<SnapshotMeta>>,
    compactor: synod_mvcc::Compactor,
}

impl Persister for Flusher {
    fn persist(&self) -> Result<SnapshotMeta, ApplyError> {
        // Load the position before the flush: everything up to it was written to the engine. If an
        // installation comes in between, the new engine is flushed, which is further ahead and
        // durable.
        let written = self.written.load_full();
        self.compactor
            .persist()
            .map_err(|error| ApplyError::caused_by("cannot flush the engine", error))?;
        Ok(SnapshotMeta::clone(&written))
    }
}

pub(super) fn open_engine(dir: &Path, cache_bytes: u64) -> Result<Arc<dyn Engine>, EngineError> {
    let config = DiskConfig {
        cache_bytes,
        ..DiskConfig::new(dir)
    };
    Ok(Arc::new(DiskEngine::open(config)?))
}

/// Checks that this member has the cluster's feature level.
fn check_level(config: &MachineConfig, roster: &Roster) -> Result<(), MachineError> {
    let (required, ours) = (roster.feature_level(), config.feature_level);
    match required <= ours {
        true => Ok(()),
        false => Err(MachineError::NewerLevel { required, ours }),
    }
}

fn load_keeper(view: &synod_mvcc::View) -> Result<Keeper, MvccError> {
    Keeper::decode(view.meta_get(KEEPER_ROW)?).map_err(|_| MvccError::Corrupt {
        detail: "the row of the leases' keeper can't be decoded".to_owned(),
    })
}

pub(super) fn encode(membership: &Membership) -> Bytes {
    let mut out = BytesMut::new();
    membership.encode(&mut out);
    out.freeze()
}

fn decode(row: Option<Bytes>) -> Result<Membership, MachineError> {
    match row {
        None => Ok(Membership::default()),
        Some(mut row) => Membership::decode(&mut row)
            .map_err(|error| MachineError::Membership(error.to_string())),
    }
}

pub(super) fn io_error(dir: &Path) -> impl Fn(io::Error) -> MachineError {
    let dir = dir.to_owned();
    move |source| MachineError::Io {
        dir: dir.clone(),
        source,
    }
}

#[cfg(test)]
mod tests;
