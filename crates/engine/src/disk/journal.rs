//! Checks fjall's journals before fjall reads them, and repairs the end of the active one after a
//! power loss.
//!
//! After a power loss, batches since the last persist may be damaged, in any order of pages. fjall
//! drops batches that look incomplete, wherever they are, refuses some damage and panics at other
//! damage. So this module checks every batch first. It truncates the active journal at the first
//! bad batch if nothing after it was reported as durable, which the commit number of the last sound
//! batch shows. Otherwise it refuses the journal. The replicated log supplies the truncated batches
//! again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::format::io_error;
use super::{COMMITS_KEY, DATABASE_FOLDER};
use crate::EngineError;

/// Marks the end of a batch, after its checksum.
const MAGIC: &[u8] = b"FJL\x03";
const TAG_START: u8 = 1;
const TAG_ITEM: u8 = 2;
const TAG_END: u8 = 3;
const READ_BUFFER_BYTES: usize = 256 << 10;

/// The result of reading a journal.
#[derive(Default)]
struct Content {
    /// Length of the sound prefix, in bytes: whole batches with matching checksums.
    sound: u64,
    /// Number of the last commit in the sound prefix.
    commits: Option<u64>,
    /// Whether the prefix is followed by anything but preallocated zeros.
    is_damaged: bool,
}

/// Makes sure that fjall can read the journals below `dir`. Commits up to `persisted` are durable.
pub(super) fn check(dir: &Path, persisted: u64) -> Result<(), EngineError> {
    let io = |error| io_error(dir, error);
    let mut journals = journals(&dir.join(DATABASE_FOLDER)).map_err(io)?;
    let Some(active) = journals.pop() else {
        return Ok(());
    };
    let mut commits = None;
    for path in journals {
        let content = read(&path).map_err(io)?;
        // fjall syncs a journal when it seals it, so damage here is data loss.
        if content.is_damaged {
            return Err(damaged(dir, &path, &content));
        }
        commits = content.commits.or(commits);
    }
    let content = read(&active).map_err(io)?;
    if !content.is_damaged {
        return Ok(());
    }
    commits = content.commits.or(commits);
    if commits.is_some_and(|commits| commits < persisted) {
        return Err(damaged(dir, &active, &content));
    }
    tracing::warn!(
        journal = %active.display(),
        offset = content.sound,
        "truncating the damaged end of the engine's journal; it was never reported as durable"
    );
    let file = OpenOptions::new().write(true).open(&active).map_err(io)?;
    file.set_len(content.sound)
        .and_then(|()| file.sync_all())
        .map_err(io)
}

fn damaged(dir: &Path, journal: &Path, content: &Content) -> EngineError {
    EngineError::Corrupt {
        dir: dir.to_owned(),
        detail: format!(
            "journal {} is damaged at offset {}",
            journal.display(),
            content.sound
        ),
    }
}

/// The journals, oldest first; the last one is active.
pub(super) fn journals(database: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(database) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut journals = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let number: Option<u64> = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".jnl"))
            .and_then(|name| name.parse().ok());
        journals.extend(number.map(|number| (number, path)));
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

fn read(path: &Path) -> io::Result<Content> {
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, File::open(path)?);
    let mut content = Content::default();
    let mut last_sequence = None;
    let mut item = Vec::new();
    loop {
        match batch(&mut reader, &mut item) {
            Ok(Some(batch)) if last_sequence < Some(batch.sequence) => {
                content.sound += batch.length;
                content.commits = batch.commits.or(content.commits);
                last_sequence = Some(batch.sequence);
            }
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    let mut rest = File::open(path)?;
    io::Seek::seek(&mut rest, io::SeekFrom::Start(content.sound))?;
    content.is_damaged = !only_zeros(rest)?;
    Ok(content)
}

fn only_zeros(mut rest: File) -> io::Result<bool> {
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        match rest.read(&mut buffer)? {
            0 => return Ok(true),
            length if buffer[..length].iter().any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

struct JournalBatch {
    sequence: u64,
    commits: Option<u64>,
    length: u64,
}

/// Reads a batch. Returns `None` if it is damaged.
fn batch(reader: &mut impl Read, item: &mut Vec<u8>) -> io::Result<Option<JournalBatch>> {
    let mut start = [0; 13];
    reader.read_exact(&mut start)?;
    let [TAG_START, a, b, c, d, sequence @ ..] = start else {
        return Ok(None);
    };
    let mut batch = JournalBatch {
        sequence: u64::from_le_bytes(sequence),
        commits: None,
        length: start.len() as u64,
    };
    let mut hasher = Xxh3::default();
    for _ in 0..u32::from_le_bytes([a, b, c, d]) {
        // Tag, value type, compression, keyspace, and the lengths of key, value, stored value.
        let mut head = [0; 21];
        reader.read_exact(&mut head)?;
        let [TAG_ITEM, _, 0, _, _, _, _, _, _, _, _, lengths @ ..] = head else {
            return Ok(None);
        };
        let [k0, k1, v0, v1, v2, v3, s0, s1, s2, s3] = lengths;
        if [v0, v1, v2, v3] != [s0, s1, s2, s3] {
            return Ok(None);
        }
        let key = usize::from(u16::from_le_bytes([k0, k1]));
        let length = key as u64 + u64::from(u32::from_le_bytes([v0, v1, v2, v3]));
        item.clear();
        if reader.take(length).read_to_end(item)? as u64 != length {
            return Ok(None);
        }
        hasher.update(&head);
        hasher.update(item);
        batch.length += head.len() as u64 + length;
        let (key, value) = item.split_at(key);
        if key == COMMITS_KEY
            && let Ok(number) = <[u8; 8]>::try_from(value)
        {
            // The engine's own row is last in its batch, so it overrides a user's row with the same
            // key.
            batch.commits = Some(u64::from_be_bytes(number));
        }
    }
    let mut end = [0; 13];
    reader.read_exact(&mut end)?;
    batch.length += end.len() as u64;
    let sound =
        end[0] == TAG_END && end[1..9] == hasher.digest().to_le_bytes() && end[9..] == *MAGIC;
    Ok(sound.then_some(batch))
}
