//! Records up to which commit the engine is durable against power loss.
//!
//! The file has two slots, written alternately: a torn write leaves the older slot intact.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::format::io_error;
use crate::EngineError;

const MARKER_FILE: &str = "persisted";
/// The slots lie in different sectors.
const SLOT_STRIDE: u64 = 4096;
/// A commit number and its CRC32C.
const SLOT_BYTES: usize = 12;

/// Holds the number of the last persisted commit.
pub(super) struct Marker {
    dir: PathBuf,
    file: File,
    persisted: u64,
    next_slot: u64,
}

impl Marker {
    pub(super) fn open(dir: &Path) -> Result<Self, EngineError> {
        let (file, slots) = read(dir)?;
        let persisted = slots.iter().flatten().copied().max().unwrap_or(0);
        let next_slot = u64::from(slots[0] == Some(persisted));
        Ok(Self {
            dir: dir.to_owned(),
            file,
            persisted,
            next_slot,
        })
    }

    /// The number of the last durable commit; zero before the first.
    pub(super) fn persisted(&self) -> u64 {
        self.persisted
    }

    /// Checks that the engine still holds every durable commit; `commits` is the last one it has.
    pub(super) fn check(&self, commits: u64) -> Result<(), EngineError> {
        let persisted = self.persisted;
        if commits >= persisted {
            return Ok(());
        }
        Err(EngineError::Corrupt {
            dir: self.dir.clone(),
            detail: format!("commit {persisted} was durable, but the last one found is {commits}"),
        })
    }

    /// Records that all commits up to `commits` are durable.
    pub(super) fn record(&mut self, commits: u64) -> Result<(), EngineError> {
        if commits <= self.persisted {
            return Ok(());
        }
        let number = commits.to_be_bytes();
        let mut slot = [0; SLOT_BYTES];
        slot[..8].copy_from_slice(&number);
        slot[8..].copy_from_slice(&crc32c::crc32c(&number).to_be_bytes());
        self.file
            .write_all_at(&slot, self.next_slot * SLOT_STRIDE)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| io_error(&self.dir, error))?;
        self.persisted = commits;
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }
}

fn read(dir: &Path) -> Result<(File, [Option<u64>; 2]), EngineError> {
    let path = dir.join(MARKER_FILE);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| io_error(dir, error))?;
    let mut slots = [None, None];
    for (offset, slot) in [0, SLOT_STRIDE].into_iter().zip(&mut slots) {
        let mut bytes = [0; SLOT_BYTES];
        // The file is shorter until both slots have been written.
        if file.read_exact_at(&mut bytes, offset).is_ok() {
            let (number, crc) = bytes.split_at(8);
            if crc32c::crc32c(number).to_be_bytes() == crc
                && let Ok(number) = <[u8; 8]>::try_from(number)
            {
                *slot = Some(u64::from_be_bytes(number));
            }
        }
    }
    Ok((file, slots))
}
