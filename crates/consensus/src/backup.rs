//! A backup: the file that a client saves from the Snapshot stream, and from which a new cluster
//! begins.
//!
//! ```text
//! SYNOD SNAPSHOT 1\n | rows of the store | zeros up to a multiple of 512 | SHA-256 of all before
//! ```
//! Size and digest are those that etcd's clients check; what is inside is ours. The digest also is
//! the backup's name: the id of a cluster that was restored depends on it, so that members restored
//! from different files don't meet.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use synod_engine::Engine;
use synod_mvcc::{Importer, MvccError, whole_rows};

/// How a file begins, so that a restore knows what it has.
pub(crate) const MAGIC: &[u8] = b"SYNOD SNAPSHOT 1\n";
/// So begin those of every version.
const FAMILY: &[u8] = b"SYNOD SNAPSHOT ";
/// The file without its digest is a multiple of this.
pub(crate) const ALIGN_BYTES: usize = 512;
const DIGEST_BYTES: usize = 32;
/// How much of a file is read at a time.
const READ_BYTES: usize = 1 << 20;
/// No row is larger: a request's limit is far below.
const MAX_ROW_BYTES: usize = 256 << 20;
/// Where a bbolt file, stock etcd's snapshot, has its magic number, and the number.
const BBOLT_MAGIC: (usize, [u8; 4]) = (16, [0xed, 0xda, 0x0c, 0xed]);

/// A backup that can't be restored. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file system's.
    #[error("can't read the snapshot {path}: {source}; correct --restore-snapshot")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A snapshot of stock etcd.
    #[error(
        "{path} is a snapshot of stock etcd, whose format is another: start etcd from it and copy the keys with \
         `etcdctl make-mirror`"
    )]
    StockEtcd {
        /// Which.
        path: PathBuf,
    },
    /// Of a format that is not known yet.
    #[error(
        "the snapshot {path} was saved by a newer release, whose format this one doesn't read: restore it with that release"
    )]
    Newer {
        /// Which.
        path: PathBuf,
    },
    /// Something else.
    #[error(
        "{path} is not a snapshot of this service: name a file that `etcdctl snapshot save` wrote, with --restore-snapshot"
    )]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// Cut off, or changed.
    #[error("the snapshot {path} is damaged ({why}): restore another one")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// The store's.
    #[error(
        "can't restore the snapshot {path}: {source}; mend that and start again, nothing of it was kept"
    )]
    Store {
        /// Which.
        path: PathBuf,
        /// Why.
        source: MvccError,
    },
}

/// What tells one backup from another: the digest at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BackupId([u8; DIGEST_BYTES]);

impl BackupId {
    #[cfg(test)]
    pub(crate) const fn of(digest: [u8; DIGEST_BYTES]) -> Self {
        Self(digest)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for BackupId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BackupId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let malformed = || serde::de::Error::custom("not 64 hexadecimal digits");
        let mut id = [0; DIGEST_BYTES];
        if text.len() != 2 * id.len() {
            return Err(malformed());
        }
        for (at, byte) in id.iter_mut().enumerate() {
            let digits = text.get(2 * at..2 * at + 2).ok_or_else(malformed)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| malformed())?;
        }
        Ok(Self(id))
    }
}

/// A backup in a file, of the right kind and size; its content is not checked yet.
#[derive(Debug)]
pub(crate) struct Backup {
    path: PathBuf,
    file: File,
    /// Bytes before the digest.
    content_bytes: u64,
    id: BackupId,
}

impl Backup {
    /// Opens it and reads what it is.
    ///
    /// # Errors
    /// [`BackupError`] for anything but a complete file of ours.
    pub(crate) fn open(path: &Path) -> Result<Self, BackupError> {
        let failed = |source| io_error(path, source);
        let mut file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut head = Vec::new();
        let mut beginning = (&mut file).take(64);
        beginning.read_to_end(&mut head).map_err(failed)?;
        let path = path.to_owned();
        if !head.starts_with(MAGIC) {
            if head.starts_with(FAMILY) {
                return Err(BackupError::Newer { path });
            }
            let (at, magic) = BBOLT_MAGIC;
            return Err(match head.get(at..at + magic.len()) {
                Some(found) if found == magic => BackupError::StockEtcd { path },
                Some(_) | None => BackupError::Foreign { path },
            });
        }
        let content_bytes = size.saturating_sub(DIGEST_BYTES as u64);
        if size <= DIGEST_BYTES as u64 || !content_bytes.is_multiple_of(ALIGN_BYTES as u64) {
            let why = format!("{size} bytes are not a whole file");
            return Err(BackupError::Damaged { path, why });
        }
        let mut id = [0; DIGEST_BYTES];
        let mut read_id = || {
            file.seek(SeekFrom::Start(content_bytes))?;
            file.read_exact(&mut id)
        };
        if let Err(source) = read_id() {
            return Err(BackupError::Io { path, source });
        }
        Ok(Self {
            path,
            file,
            content_bytes,
            id: BackupId(id),
        })
    }

    /// Which backup it is.
    pub(crate) fn id(&self) -> BackupId {
        self.id
    }

    /// Writes its rows into an engine that is empty, durably; nothing before the whole file was
    /// checked.
    ///
    /// # Errors
    /// [`BackupError`]; remove the engine then.
    pub(crate) fn import(mut self, engine: Arc<dyn Engine>) -> Result<(), BackupError> {
        self.verify()?;
        let path = self.path.clone();
        let store_error = |source| BackupError::Store {
            path: path.clone(),
            source,
        };
        let mut importer = Importer::new(engine).map_err(store_error)?;
        let mut buffer = BytesMut::new();
        let mut left = self.rewind()?;
        while self.read_more(&mut buffer, &mut left)? {
            let whole = whole_rows(&buffer);
            let rows = buffer.split_to(whole).freeze();
            importer.write(rows).map_err(store_error)?;
            if buffer.len() > MAX_ROW_BYTES {
                return Err(self.damaged("what follows is no row"));
            }
        }
        if buffer.len() >= ALIGN_BYTES || buffer.iter().any(|byte| *byte != 0) {
            return Err(self.damaged("its last row is cut off"));
        }
        importer.finish().map_err(store_error)?;
        Ok(())
    }

    /// Whether the content is what was saved.
    fn verify(&mut self) -> Result<(), BackupError> {
        let mut digest = Sha256::new();
        digest.update(MAGIC);
        let mut buffer = BytesMut::new();
        let mut left = self.rewind()?;
        while self.read_more(&mut buffer, &mut left)? {
            digest.update(&buffer);
            buffer.clear();
        }
        if digest.finalize().as_slice() != self.id.as_bytes() {
            return Err(self.damaged("its SHA-256 does not match"));
        }
        Ok(())
    }

    /// Goes to the first row; how many bytes there are.
    fn rewind(&mut self) -> Result<u64, BackupError> {
        let after_magic = MAGIC.len() as u64;
        let sought = self.file.seek(SeekFrom::Start(after_magic));
        sought.map_err(|source| io_error(&self.path, source))?;
        Ok(self.content_bytes.saturating_sub(after_magic))
    }

    /// Appends what comes next; false at the end.
    fn read_more(&mut self, buffer: &mut BytesMut, left: &mut u64) -> Result<bool, BackupError> {
        let now = usize::try_from(*left).unwrap_or(READ_BYTES).min(READ_BYTES);
        let from = buffer.len();
        buffer.resize(from + now, 0);
        let (_, place) = buffer.split_at_mut(from);
        let read = self.file.read_exact(place);
        read.map_err(|source| io_error(&self.path, source))?;
        *left -= now as u64;
        Ok(now > 0)
    }

    fn damaged(&self, why: &str) -> BackupError {
        BackupError::Damaged {
            path: self.path.clone(),
            why: why.to_owned(),
        }
    }
}

fn io_error(path: &Path, source: io::Error) -> BackupError {
    BackupError::Io {
        path: path.to_owned(),
        source,
    }
}
