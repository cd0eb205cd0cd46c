//! The state machine of a simulated node: the real keyspace on the simulated engine.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use synod_consensus_core::mutants::{Mutant, is_active};
use synod_consensus_core::{ConfigCommand, Entry, EntryKind, Membership, SnapshotMeta};
use synod_engine::Engine;
use synod_mvcc::{
    Applied as Position, Importer, KeyRange, KeyValueView, MvccConfig, MvccError, MvccStore, Put,
    Revision, View, WriteTxn,
};
use synod_types::{Index, mix};

use crate::command::{Applied, Command, Key, Value, Write, WriteOutcome};
use crate::engine::SimEngine;

/// The row for the digest of everything applied. It is written in the same batch as the data.
const DIGEST_KEY: &[u8] = b"digest";

/// An error that a correct node can't have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    #[error("keyspace: {0}")]
    Mvcc(#[from] MvccError),
    #[error("entry {0} can't be decoded")]
    Undecodable(Index),
    #[error("the state machine is at {at}, but was given entry {given}")]
    Gap { at: Index, given: Index },
    #[error("a snapshot of {expected} is one of {found}")]
    WrongSnapshot { expected: Index, found: Index },
    #[error("a stored membership can't be decoded")]
    Membership,
}

pub(crate) struct Machine {
    engine: Arc<SimEngine>,
    store: MvccStore,
    applied: SnapshotMeta,
    digest: u64,
}

/// A peer's state that is being received, next to the live state.
pub(crate) struct Incoming {
    engine: Arc<SimEngine>,
    importer: Importer,
    meta: SnapshotMeta,
}

impl Machine {
    pub(crate) fn open(engine: Arc<SimEngine>) -> Result<Self, MachineError> {
        let store = MvccStore::open(Arc::clone(&engine) as Arc<dyn Engine>, config())?;
        let applied = applied_of(&store.view())?;
        let digest = digest_of(&store.view())?;
        Ok(Self {
            engine,
            store,
            applied,
            digest,
        })
    }

    /// The initial state of a new group's state machine.
    pub(crate) fn create(
        engine: &Arc<SimEngine>,
        start: &SnapshotMeta,
    ) -> Result<(), MachineError> {
        let mut store = MvccStore::open(Arc::clone(engine) as Arc<dyn Engine>, config())?;
        store.commit(Position {
            position: start.last,
            membership: Some(encode(&start.membership)),
        })?;
        engine.persist().map_err(MvccError::from)?;
        Ok(())
    }

    pub(crate) fn engine(&self) -> &Arc<SimEngine> {
        &self.engine
    }

    /// Position and membership. Empty until a configuration is applied.
    pub(crate) fn applied(&self) -> &SnapshotMeta {
        &self.applied
    }

    pub(crate) fn index(&self) -> Index {
        self.applied.last.index
    }

    /// The digest of everything applied, in order.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn revision(&self) -> i64 {
        self.store.view().revision().get()
    }

    pub(crate) fn view(&self) -> View {
        self.store.view()
    }

    /// Applies entries in one batch.
    pub(crate) fn apply(&mut self, entries: &[Entry]) -> Result<Vec<Applied>, MachineError> {
        let before = self.applied.last;
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut membership = None;
        for entry in entries {
            let expected = self.applied.last.index.next();
            if entry.index != expected {
                return Err(MachineError::Gap {
                    at: self.applied.last.index,
                    given: entry.index,
                });
            }
            let mut txn = self.store.begin();
            let outcome = run(&mut txn, entry)?;
            let revision = txn.revision().get();
            self.digest = digest_after(self.digest, entry, Applied { revision, outcome });
            txn.meta_put(
                DIGEST_KEY,
                Bytes::copy_from_slice(&self.digest.to_be_bytes()),
            );
            txn.finish();
            outcomes.push(Applied { revision, outcome });
            if entry.kind == EntryKind::Config {
                let command = ConfigCommand::decode(entry.data.clone());
                let command = command.map_err(|_| MachineError::Undecodable(entry.index))?;
                membership = Some(command.membership);
            }
            self.applied.last = entry.position();
        }
        if is_active(Mutant::AppliedNotAtomic) {
            self.store.commit(Position {
                position: before,
                membership: None,
            })?;
        }
        self.store.commit(Position {
            position: self.applied.last,
            membership: membership.as_ref().map(encode),
        })?;
        if let Some(membership) = membership {
            self.applied.membership = membership;
        }
        Ok(outcomes)
    }

    /// A key's current value.
    pub(crate) fn get(&self, key: Key) -> Result<Option<Value>, MachineError> {
        let record = self.store.view().get(&[key])?;
        record.map(|record| value_of(&record)).transpose()
    }

    /// The checksum of everything that members have in common.
    pub(crate) fn hash(&self) -> Result<u32, MachineError> {
        Ok(self.store.view().hash()?.hash)
    }

    /// Starts receiving a peer's state.
    pub(crate) fn begin_install(meta: SnapshotMeta) -> Result<Incoming, MachineError> {
        let engine = Arc::new(SimEngine::default());
        let importer = Importer::new(Arc::clone(&engine) as Arc<dyn Engine>)?;
        Ok(Incoming {
            engine,
            importer,
            meta,
        })
    }

    /// Replaces the state with a peer's, durably.
    pub(crate) fn install(&mut self, mut incoming: Incoming) -> Result<(), MachineError> {
        incoming.importer.finish()?;
        let Incoming { engine, meta, .. } = incoming;
        self.store
            .replace_engine(Arc::clone(&engine) as Arc<dyn Engine>)?;
        let found = self.store.view().applied();
        if found != meta.last {
            return Err(MachineError::WrongSnapshot {
                expected: meta.last.index,
                found: found.index,
            });
        }
        self.engine = engine;
        self.digest = digest_of(&self.store.view())?;
        self.applied = meta;
        Ok(())
    }
}

impl Incoming {
    pub(crate) fn write(&mut self, chunk: Bytes) -> Result<(), MachineError> {
        Ok(self.importer.write(chunk)?)
    }

    pub(crate) fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }
}

fn config() -> MvccConfig {
    MvccConfig {
        recent_revisions: 8,
        recent_bytes: 1 << 10,
        count_cache_bytes: 1 << 10,
        recent_record_bytes: 1 << 12,
        ..MvccConfig::default()
    }
}

fn encode(membership: &Membership) -> Bytes {
    let mut out = BytesMut::new();
    membership.encode(&mut out);
    out.freeze()
}

fn applied_of(view: &View) -> Result<SnapshotMeta, MachineError> {
    let membership = match view.membership()? {
        None => Membership::default(),
        Some(mut row) => Membership::decode(&mut row).map_err(|_| MachineError::Membership)?,
    };
    Ok(SnapshotMeta {
        last: view.applied(),
        membership,
    })
}

fn digest_of(view: &View) -> Result<u64, MachineError> {
    let row = view.meta_get(DIGEST_KEY)?;
    let bytes = row.and_then(|row| <[u8; 8]>::try_from(&row[..]).ok());
    Ok(bytes.map_or(0, u64::from_be_bytes))
}

fn value_of(record: &[u8]) -> Result<Value, MachineError> {
    let fields = KeyValueView::parse(record)?;
    let value = <[u8; 8]>::try_from(fields.value(record));
    Ok(value.map_or(0, u64::from_be_bytes))
}

/// The digest after an entry. Without the ballot: in Paxos a value may be chosen again under a
/// higher one.
pub(crate) fn digest_after(before: u64, entry: &Entry, applied: Applied) -> u64 {
    let mut digest = mix(before ^ entry.index.get());
    digest = mix(digest ^ entry.id.seq ^ entry.id.node.get().rotate_left(32));
    digest = mix(digest ^ u64::from(fnv(&entry.data)));
    mix(digest ^ applied.revision.cast_unsigned())
}

/// FNV-1a. It only has to distinguish entries.
fn fnv(data: &[u8]) -> u32 {
    data.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

fn run(txn: &mut WriteTxn<'_>, entry: &Entry) -> Result<WriteOutcome, MachineError> {
    match entry.kind {
        EntryKind::Noop | EntryKind::Config => return Ok(WriteOutcome::Nothing),
        EntryKind::Normal => {}
    }
    let command = Command::decode(&entry.data).ok_or(MachineError::Undecodable(entry.index))?;
    Ok(match command.write {
        Write::Put(key, value) => {
            txn.put(&put(key, value))?;
            WriteOutcome::Done
        }
        Write::Delete(key) => {
            let range = KeyRange::One(Bytes::copy_from_slice(&[key]));
            WriteOutcome::Deleted(txn.delete_range(&range, None)?.count)
        }
        Write::Cas { key, expect, new } => {
            let found = txn.get(&[key])?;
            let found = found.map(|record| value_of(&record)).transpose()?;
            if found == expect {
                txn.put(&put(key, new))?;
                WriteOutcome::Swapped
            } else {
                WriteOutcome::Kept(found)
            }
        }
        Write::Compact(revision) => match txn.compact(Revision::new(revision)) {
            Ok(()) => WriteOutcome::Done,
            Err(MvccError::Compacted { .. } | MvccError::FutureRevision { .. }) => {
                WriteOutcome::Refused
            }
            Err(error) => return Err(error.into()),
        },
    })
}

fn put(key: Key, value: Value) -> Put {
    Put {
        key: Bytes::copy_from_slice(&[key]),
        value: Bytes::copy_from_slice(&value.to_be_bytes()),
        ..Put::default()
    }
}
