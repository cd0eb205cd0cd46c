//! Reads a backup.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use sha2::{Digest as _, Sha256};

use super::{ALIGN_BYTES, BackupError, BackupFormat, BackupId, DIGEST_BYTES};

/// How much of a file is read to recognise it.
const HEAD_BYTES: u64 = 64;
/// How much content is read at a time.
const READ_BYTES: usize = 1 << 20;

/// A backup of the right format and size, whose content is not checked yet.
#[derive(Debug)]
pub struct Backup {
    path: PathBuf,
    format: &'static BackupFormat,
    file: File,
    /// Bytes before the digest.
    data_bytes: u64,
    id: BackupId,
}

/// The content of a backup whose digest was checked.
#[derive(Debug)]
pub struct BackupContent {
    backup: Backup,
    left: u64,
}

impl Backup {
    /// Opens a backup and reads its id.
    ///
    /// # Errors
    /// [`BackupError`] for every other file, and for a file of the wrong size.
    pub fn open(path: &Path, format: &'static BackupFormat) -> Result<Self, BackupError> {
        let failed = |source| io_error(path, format, source);
        let mut file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut head = Vec::new();
        let mut beginning = (&mut file).take(HEAD_BYTES);
        beginning.read_to_end(&mut head).map_err(failed)?;
        check_head(path, format, &head)?;
        let data_bytes = size.saturating_sub(DIGEST_BYTES as u64);
        if data_bytes == 0 || !data_bytes.is_multiple_of(ALIGN_BYTES as u64) {
            return Err(BackupError::Damaged {
                path: path.to_owned(),
                why: format!("{size} bytes are not a whole file"),
            });
        }
        let mut id = [0; DIGEST_BYTES];
        file.seek(SeekFrom::Start(data_bytes)).map_err(failed)?;
        file.read_exact(&mut id).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            format,
            file,
            data_bytes,
            id: BackupId::new(id),
        })
    }

    /// The backup's id.
    #[must_use]
    pub fn id(&self) -> BackupId {
        self.id
    }

    /// Reads the whole file and checks its digest.
    ///
    /// # Errors
    /// An I/O error, or a digest that does not match.
    pub fn verify(self) -> Result<BackupContent, BackupError> {
        let mut content = BackupContent {
            backup: self,
            left: 0,
        };
        content.rewind()?;
        let mut digest = Sha256::new_with_prefix(content.backup.format.magic);
        let mut buffer = BytesMut::new();
        while content.read(&mut buffer)? {
            digest.update(&buffer);
            buffer.clear();
        }
        if digest.finalize().as_slice() != content.backup.id.as_bytes() {
            return Err(content.damaged("its SHA-256 does not match"));
        }
        content.rewind()?;
        Ok(content)
    }
}

impl BackupContent {
    /// Appends the next part of the content to `buffer`. Returns `false` at the end. The content
    /// ends with up to 511 zeros of padding.
    ///
    /// # Errors
    /// An I/O error.
    pub fn read(&mut self, buffer: &mut BytesMut) -> Result<bool, BackupError> {
        let now = usize::try_from(self.left).map_or(READ_BYTES, |left| left.min(READ_BYTES));
        let from = buffer.len();
        buffer.resize(from + now, 0);
        let (_, place) = buffer.split_at_mut(from);
        let read = self.backup.file.read_exact(place);
        read.map_err(|source| self.io_error(source))?;
        self.left -= now as u64;
        Ok(now > 0)
    }

    /// The error for content that can't be decoded.
    #[must_use]
    pub fn damaged(&self, why: &str) -> BackupError {
        BackupError::Damaged {
            path: self.backup.path.clone(),
            why: why.to_owned(),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.backup.path
    }

    fn rewind(&mut self) -> Result<(), BackupError> {
        let magic_bytes = self.backup.format.magic.len() as u64;
        let sought = self.backup.file.seek(SeekFrom::Start(magic_bytes));
        sought.map_err(|source| self.io_error(source))?;
        self.left = self.backup.data_bytes.saturating_sub(magic_bytes);
        Ok(())
    }

    fn io_error(&self, source: io::Error) -> BackupError {
        io_error(&self.backup.path, self.backup.format, source)
    }
}

fn check_head(path: &Path, format: &BackupFormat, head: &[u8]) -> Result<(), BackupError> {
    let path = path.to_owned();
    if head.starts_with(format.magic) {
        return Ok(());
    }
    if head.starts_with(format.family) {
        return Err(BackupError::Newer { path });
    }
    let is_theirs = |file: &&super::ForeignFile| {
        let rest = head.get(file.at..).unwrap_or_default();
        rest.starts_with(file.magic)
    };
    let foreign = format.foreign.iter().find(is_theirs);
    let refusal = foreign.map_or(format.refusal, |file| file.refusal);
    Err(BackupError::Foreign { path, refusal })
}

fn io_error(path: &Path, format: &BackupFormat, source: io::Error) -> BackupError {
    BackupError::Io {
        path: path.to_owned(),
        flag: format.flag,
        source,
    }
}
