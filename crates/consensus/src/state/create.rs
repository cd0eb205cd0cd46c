//! The state of a new node: empty, or from a backup.

use std::sync::Arc;

use synod_auth::{AuthState, ROW_PREFIX};
use synod_consensus_core::SnapshotMeta;
use synod_lease::KEEPER_ROW;
use synod_mvcc::{Applied, MvccConfig, MvccStore};
use synod_service::{Backup, Generations};
use synod_types::NodeId;

use super::guard::write_rows;
use super::machine::{MachineConfig, MachineError, encode, io_error, open_engine};
use super::roster::Roster;
use crate::backup;
use crate::version::USERS;

/// Creates the state of a new node from members and position, and from a backup if there is one:
/// its keys with their history, its leases, users and roles.
///
/// # Errors
/// The engine fails, or the backup can't be used.
pub(crate) fn create(
    config: &MachineConfig,
    roster: &Roster,
    start: &SnapshotMeta,
    backup: Option<Backup>,
) -> Result<(), MachineError> {
    let generations = Generations::create(&config.dir).map_err(io_error(&config.dir))?;
    let engine = open_engine(&generations.path(), config.cache_bytes)?;
    if let Some(backup) = backup {
        backup::import(backup, Arc::clone(&engine))?;
    }
    let mut store = MvccStore::open(engine, MvccConfig::default())?;
    let before = Roster::load(&store.view())?;
    let mut users = AuthState::load(store.view().meta_rows(ROW_PREFIX)?)?;
    let mut roster = roster.clone();
    let mut user_rows = Vec::new();
    if users != AuthState::default() {
        // Below this level a member doesn't know users and would let everyone do everything.
        roster.raise_level(USERS);
        user_rows = users.restore();
    }
    let mut txn = store.begin();
    write_rows(&mut txn, user_rows);
    // The backup holds its cluster's members, and the keeper of its leases.
    for member in before.members() {
        txn.member_delete(NodeId::new(member.id));
    }
    txn.meta_delete(KEEPER_ROW);
    roster.store(&mut txn);
    txn.finish();
    store.commit(Applied {
        position: start.last,
        membership: Some(encode(&start.membership)),
    })?;
    store.persist()?;
    Ok(())
}
