//! Backups of the whole store: `etcdctl snapshot save` writes them, and a new cluster can begin
//! with one. Their content is the store's rows.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;
use synod_engine::Engine;
use synod_mvcc::{Importer, MvccError, whole_rows};
use synod_service::{Backup, BackupError, BackupFormat, ForeignFile};

/// The format of this release.
pub(crate) const FORMAT: BackupFormat = BackupFormat {
    magic: b"SYNOD SNAPSHOT 1\n",
    family: b"SYNOD SNAPSHOT ",
    foreign: &[ForeignFile {
        // A bbolt file.
        at: 16,
        magic: &[0xed, 0xda, 0x0c, 0xed],
        refusal: "is a snapshot of stock etcd, whose format is another: start etcd from it and copy the keys with \
                  `etcdctl make-mirror`",
    }],
    refusal: "is not a snapshot of this service: name a file that `etcdctl snapshot save` wrote, with --restore-snapshot",
    flag: "restore-snapshot",
};

/// No row is larger, since requests are limited to far less.
const MAX_ROW_BYTES: usize = 256 << 20;

/// Why a new cluster can't begin with a backup. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file can't be used.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The store refused its rows.
    #[error(
        "can't restore the backup {path}: {source}; correct that and start again; nothing was restored"
    )]
    Store {
        /// The backup.
        path: PathBuf,
        /// Why.
        source: MvccError,
    },
}

/// Checks a backup and then writes its rows into an empty engine, durably.
///
/// # Errors
/// [`RestoreError`]; remove the engine then.
pub(crate) fn import(backup: Backup, engine: Arc<dyn Engine>) -> Result<(), RestoreError> {
    let mut content = backup.verify()?;
    let path = content.path().to_owned();
    let store_error = |source| RestoreError::Store {
        path: path.clone(),
        source,
    };
    let mut importer = Importer::new(engine).map_err(store_error)?;
    let mut buffer = BytesMut::new();
    while content.read(&mut buffer)? {
        let rows = buffer.split_to(whole_rows(&buffer)).freeze();
        importer.write(rows).map_err(store_error)?;
        if buffer.len() > MAX_ROW_BYTES {
            return Err(content.damaged("what follows is no row").into());
        }
    }
    // Only the padding may be left.
    if buffer.iter().any(|byte| *byte != 0) {
        return Err(content.damaged("its last row is cut off").into());
    }
    importer.finish().map_err(store_error)?;
    Ok(())
}
