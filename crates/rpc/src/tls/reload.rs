//! Files that are read again when they change.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use synod_runtime::clock;

use super::TlsError;

/// The files are looked at with a new connection, at most once in this time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What was made of files.
pub(super) struct Made<T> {
    pub(super) value: T,
    /// When the certificate among them expires; `None` without one.
    pub(super) expires: Option<SystemTime>,
}

/// A certificate's state, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateStatus {
    /// When it expires.
    pub expires: SystemTime,
    /// How often its files could not be used after a change.
    pub failed_reloads: u64,
}

/// A value made of files, and made again after one of them changed.
pub(super) struct Reloading<T> {
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<Made<T>, TlsError> + Send + Sync>,
    current: ArcSwap<Made<T>>,
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

impl<T> fmt::Debug for Reloading<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Reloading")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<T> Reloading<T> {
    /// Makes the value for the first time.
    pub(super) fn new<F>(files: Vec<PathBuf>, make: F) -> Result<Self, TlsError>
    where
        F: Fn() -> Result<Made<T>, TlsError> + Send + Sync + 'static,
    {
        // Before the files are read: a change while they are is seen next time.
        let stamps = stamps(&files);
        let made = make()?;
        Ok(Self {
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
    pub(super) fn current(&self) -> Arc<Made<T>> {
        // Whoever finds it locked uses what there is: somebody else is looking.
        if let Some(mut seen) = self.seen.try_lock()
            && clock::now() >= seen.looked + LOOK_EVERY
        {
            seen.looked = clock::now();
            self.look(&mut seen);
        }
        self.current.load_full()
    }

    pub(super) fn status(&self) -> Option<CertificateStatus> {
        Some(CertificateStatus {
            expires: self.current().expires?,
            failed_reloads: self.failed.load(Ordering::Relaxed),
        })
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
                    "read the changed TLS files; new connections use them"
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
                    %error,
                    "cannot use the changed TLS files; the previous ones stay in use"
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
