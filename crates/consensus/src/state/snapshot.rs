//! Snapshots between members: the store's export, sent by the replica.

use std::sync::Arc;

use bytes::Bytes;
use synod_auth::{AuthState, ROW_PREFIX};
use synod_consensus_core::SnapshotMeta;
use synod_engine::Engine;
use synod_mvcc::{Importer, MvccConfig, MvccStore, View, export};
use synod_replica::{ApplyError, SnapshotChunk, SnapshotSink, SnapshotSource};

/// A view of the store that a follower copies.
pub(super) struct StoreSnapshot {
    meta: SnapshotMeta,
    view: View,
}

impl StoreSnapshot {
    pub(super) fn new(meta: SnapshotMeta, view: View) -> Self {
        Self { meta, view }
    }
}

impl SnapshotSource for StoreSnapshot {
    fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    fn read(&self, resume_after: &Bytes, max_bytes: usize) -> Result<SnapshotChunk, ApplyError> {
        let (data, resume) = export(&self.view, resume_after, max_bytes)
            .map_err(|error| ApplyError::caused_by("cannot read a snapshot", error))?;
        Ok(SnapshotChunk { data, resume })
    }
}

/// Receives a snapshot into an engine of its own, beside the one in use.
pub(crate) struct EngineSink {
    generation: u64,
    engine: Arc<dyn Engine>,
    importer: Importer,
    meta: SnapshotMeta,
    /// Users and roles of the finished copy.
    users: Option<AuthState>,
}

/// A finished copy.
pub(super) struct Copied {
    pub(super) generation: u64,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) meta: SnapshotMeta,
    pub(super) users: AuthState,
}

impl EngineSink {
    pub(super) fn new(
        generation: u64,
        engine: Arc<dyn Engine>,
        meta: SnapshotMeta,
    ) -> Result<Self, ApplyError> {
        let importer = Importer::new(Arc::clone(&engine))
            .map_err(|error| ApplyError::caused_by("cannot receive a snapshot", error))?;
        Ok(Self {
            generation,
            engine,
            importer,
            meta,
            users: None,
        })
    }

    /// The finished copy.
    ///
    /// # Errors
    /// It is not finished.
    pub(super) fn into_copied(self) -> Result<Copied, ApplyError> {
        let unfinished = || ApplyError::new("an unfinished snapshot can't be installed");
        Ok(Copied {
            generation: self.generation,
            engine: self.engine,
            meta: self.meta,
            users: self.users.ok_or_else(unfinished)?,
        })
    }
}

impl SnapshotSink for EngineSink {
    fn write(&mut self, data: Bytes) -> Result<(), ApplyError> {
        self.importer
            .write(data)
            .map_err(|error| ApplyError::caused_by("cannot write a snapshot", error))
    }

    fn finish(&mut self) -> Result<(), ApplyError> {
        let failed = |error| ApplyError::caused_by("cannot finish a snapshot", error);
        let rows = self.importer.finish().map_err(failed)?;
        let copy =
            MvccStore::open(Arc::clone(&self.engine), MvccConfig::default()).map_err(failed)?;
        let found = copy.view().applied();
        if found != self.meta.last {
            let expected = self.meta.last;
            return Err(ApplyError::new(format!(
                "a snapshot of {expected} turned out to be one of {found} with {rows} rows"
            )));
        }
        let users = copy.view().meta_rows(ROW_PREFIX).map_err(failed)?;
        let users = AuthState::load(users).map_err(|error| ApplyError::new(error.to_string()))?;
        self.users = Some(users);
        Ok(())
    }
}
