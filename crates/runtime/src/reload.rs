//! Files that are read again when they change: certificates, passwords.

use std::{
    fmt::{self, Display},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::clock;

/// The files are looked at with a new connection, at most once in this time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A value made of files, and made again after one of them changed.
pub struct Reloading<T, E> {
    /// What the files are for, for the log.
    purpose: &'static str,
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, E> + Send + Sync>,
    current: ArcSwap<T>,
    seen: Mutex<Seen>,
    failed: AtomicU64,
}

struct Seen {
    looked: Instant,
    stamps: Vec<Stamp>,
    /// Why the files could not be used at the last look: they are tried again.
    error: Option<String>,
}

/// Distinguishes a file from the one that was there before: the times of the last change of its
/// content and of its inode, the inode, the size. `None` while there is no such file.
type Stamp = Option<[i128; 6]>;

impl<T, E> fmt::Debug for Reloading<T, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Reloading")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<T, E: Display> Reloading<T, E> {
    /// Makes the value for the first time. `purpose` says in the log what the files are for.
    ///
    /// # Errors
    /// That of `make`.
    pub fn new<F>(purpose: &'static str, files: Vec<PathBuf>, make: F) -> Result<Self, E>
    where
        F: Fn() -> Result<T, E> + Send + Sync + 'static,
    {
        // Before the files are read: a change while they are is seen next time.
        let stamps = stamps(&files);
        let made = make()?;
        Ok(Self {
            purpose,
            files,
            make: Box::new(make),
            current: ArcSwap::from_pointee(made),
            seen: Mutex::new(Seen {
                looked: clock::now(),
                stamps,
                error: None,
            }),
            failed: AtomicU64::new(0),
        })
    }

    /// The value of the files as they are, or were up to a second ago.
    pub fn current(&self) -> Arc<T> {
        // Whoever finds it locked uses what there is: somebody else is looking.
        if let Some(mut seen) = self.seen.try_lock()
            && clock::now() >= seen.looked + LOOK_EVERY
        {
            seen.looked = clock::now();
            self.look(&mut seen);
        }
        self.current.load_full()
    }

    /// How often the files could not be used after a change.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    fn look(&self, seen: &mut Seen) {
        let stamps = stamps(&self.files);
        if stamps == seen.stamps && seen.error.is_none() {
            return;
        }
        seen.stamps = stamps;
        let files = self.files.iter().map(|file| file.display().to_string());
        let files = files.collect::<Vec<_>>().join(", ");
        match (self.make)() {
            Ok(made) => {
                seen.error = None;
                self.current.store(Arc::new(made));
                tracing::info!(
                    files,
                    purpose = self.purpose,
                    "read the changed files; new connections use them"
                );
            }
            // Of a pair that is replaced one file comes first; and what can't be read now may be
            // readable later without a change.
            Err(error) => {
                let text = error.to_string();
                if seen.error.as_ref() == Some(&text) {
                    return;
                }
                seen.error = Some(text);
                self.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    files,
                    purpose = self.purpose,
                    %error,
                    "cannot use the changed files; the previous ones stay in use"
                );
            }
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|file| stamp(file)).collect()
}

/// Follows links: Kubernetes replaces a secret's files by pointing a link elsewhere.
fn stamp(file: &Path) -> Stamp {
    let metadata = fs::metadata(file).ok()?;
    Some([
        metadata.mtime().into(),
        metadata.mtime_nsec().into(),
        metadata.ctime().into(),
        metadata.ctime_nsec().into(),
        metadata.ino().into(),
        metadata.len().into(),
    ])
}
