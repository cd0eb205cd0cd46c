//! The file format of backups.
//!
//! ```text
//! magic | content | zeros up to a multiple of 512 | SHA-256 of all before
//! ```
//! Size and digest are as in etcd's snapshots, so that etcd's clients can check them. The digest
//! also is the backup's id.

mod reader;
mod writer;

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use reader::{Backup, BackupContent};
pub use writer::BackupWriter;

/// The size of the file without its digest is a multiple of this.
const ALIGN_BYTES: usize = 512;
const DIGEST_BYTES: usize = 32;

/// How a service's backups are recognised, and what is said about other files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupFormat {
    /// The first bytes of a file.
    pub magic: &'static [u8],
    /// The first bytes of a file of any version, also of later ones.
    pub family: &'static [u8],
    /// Other programs' files that may be named by mistake.
    pub foreign: &'static [ForeignFile],
    /// Why any other file is refused, and what to do. The error names the path, then says this.
    pub refusal: &'static str,
    /// The flag that names a backup to restore, without its dashes.
    pub flag: &'static str,
}

/// How another program's file is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignFile {
    /// The offset of its magic number, within the first 64 bytes.
    pub at: usize,
    /// The magic number.
    pub magic: &'static [u8],
    /// Why it is refused, and what to do. The error names the path, then says this.
    pub refusal: &'static str,
}

/// A backup that can't be restored. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// An I/O error.
    #[error("can't read the backup {path}: {source}; correct --{flag}")]
    Io {
        /// Which.
        path: PathBuf,
        /// The flag that named it.
        flag: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It is not a backup of this service.
    #[error("{path} {refusal}")]
    Foreign {
        /// Which.
        path: PathBuf,
        /// What it is, and what to do.
        refusal: &'static str,
    },
    /// A later release saved it.
    #[error(
        "the backup {path} was saved by a newer release, whose format this one doesn't read: restore it with that release"
    )]
    Newer {
        /// Which.
        path: PathBuf,
    },
    /// It was cut off or changed.
    #[error("the backup {path} is damaged ({why}): restore another one")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Identifies a backup: the digest at its end. As text it is hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupId([u8; DIGEST_BYTES]);

impl BackupId {
    /// The id of the backup with this digest.
    #[must_use]
    pub const fn new(digest: [u8; DIGEST_BYTES]) -> Self {
        Self(digest)
    }

    /// The digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use bytes::BytesMut;

    use super::*;

    const FORMAT: BackupFormat = BackupFormat {
        magic: b"STORE BACKUP 1\n",
        family: b"STORE BACKUP ",
        foreign: &[ForeignFile {
            at: 4,
            magic: &[0xed, 0xda],
            refusal: "is another store's: copy it",
        }],
        refusal: "is no backup: name one",
        flag: "restore",
    };

    /// A whole file, written in pieces.
    fn saved(parts: &[&[u8]], piece_bytes: usize) -> Vec<u8> {
        let mut writer = BackupWriter::new(&FORMAT, piece_bytes);
        let mut file = Vec::new();
        for part in parts {
            writer.write(part);
            writer.take_pieces().for_each(|piece| file.extend(piece));
        }
        writer.finish();
        writer.take_pieces().for_each(|piece| file.extend(piece));
        file
    }

    fn content(path: &Path) -> Result<Vec<u8>, BackupError> {
        let mut content = Backup::open(path, &FORMAT)?.verify()?;
        let mut buffer = BytesMut::new();
        while content.read(&mut buffer)? {}
        Ok(buffer.to_vec())
    }

    #[test]
    fn what_was_saved_is_read_back_with_its_padding() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("backup");
        let rows = vec![7; 2_000_000];
        for length in [0, 1, 496, 497, 498, 1_500_000] {
            fs::write(&path, saved(&[&rows[..length], b"end"], 1000)).unwrap();
            let read = content(&path).unwrap();
            assert_eq!(&read[..length], &rows[..length]);
            assert_eq!(&read[length..length + 3], b"end");
            let padding = &read[length + 3..];
            assert!(padding.len() < ALIGN_BYTES && padding.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn other_files_are_refused_by_what_they_are() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        let whole = saved(&[b"rows"], 64);
        let mut changed = whole.clone();
        changed[20] ^= 1;
        let newer = [&b"STORE BACKUP 2\n"[..], &whole[15..]].concat();
        let foreign = [0, 0, 0, 0, 0xed, 0xda, 0];
        for (bytes, said) in [
            (&b""[..], "is no backup: name one"),
            (&foreign, "is another store's: copy it"),
            (&newer, "was saved by a newer release"),
            (&whole[..whole.len() - 1], "is damaged"),
            (&whole[..20], "is damaged"),
            (&changed, "its SHA-256 does not match"),
        ] {
            fs::write(&path, bytes).unwrap();
            let refused = content(&path).unwrap_err().to_string();
            assert!(refused.contains(said), "{said}: {refused}");
        }
        let missing = content(&temp.path().join("absent"))
            .unwrap_err()
            .to_string();
        assert!(missing.ends_with("; correct --restore"), "{missing}");
    }

    #[test]
    fn an_id_is_the_digest_in_hexadecimal() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("backup");
        let bytes = saved(&[b"rows"], 64);
        fs::write(&path, &bytes).unwrap();
        let id = Backup::open(&path, &FORMAT).unwrap().id();
        assert_eq!(id.as_bytes(), &bytes[bytes.len() - DIGEST_BYTES..]);
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(text, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<BackupId>(&text).unwrap(), id);
        let short = serde_json::from_str::<BackupId>("\"ab\"").unwrap_err();
        assert!(short.to_string().starts_with("not 64 hexadecimal digits"));
    }
}
