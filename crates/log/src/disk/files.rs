//! The log's disk on a real file system.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, IoSlice},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::{Errno, pwritev},
};
use synod_runtime::clock;

use super::{Disk, DiskFile};
use crate::{error::OpenError, metrics::Metrics};

const LOCK_FILE: &str = "LOCK";
/// Linux's limit of buffers per call (`UIO_MAXIOV`).
const MAX_PARTS: usize = 1024;
/// A sync that takes longer than this is logged.
const SLOW_SYNC: Duration = Duration::from_secs(1);

/// A directory in the file system, locked against other processes until this is dropped.
#[derive(Debug)]
pub struct FileDisk {
    dir: PathBuf,
    handle: File,
    metrics: Arc<Metrics>,
    _lock: File,
}

impl FileDisk {
    /// Opens and locks `dir`. Creates it if it is missing. `metrics` receives the duration of each
    /// sync.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process, or another log in this process, uses the
    /// directory; [`OpenError::Io`] if it can't be created or written.
    pub fn open(dir: &Path, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        let failed = |operation: &'static str| {
            move |source: io::Error| OpenError::io(operation, dir.display().to_string(), source)
        };
        create_durably(dir).map_err(failed("create directory"))?;
        let handle = File::open(dir).map_err(failed("open directory"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(dir.join(LOCK_FILE))
            .map_err(failed("create the lock file in"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked {
                    dir: dir.display().to_string(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
        Ok(Self {
            dir: dir.to_owned(),
            handle,
            metrics,
            _lock: lock,
        })
    }

    fn file(&self, file: File) -> Box<dyn DiskFile> {
        Box::new(RealFile {
            file,
            metrics: Arc::clone(&self.metrics),
        })
    }
}

impl Disk for FileDisk {
    fn describe(&self) -> String {
        self.dir.display().to_string()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != LOCK_FILE {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.dir.join(name))?;
        Ok(self.file(file))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn DiskFile>> {
        let path = self.dir.join(name);
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)?;
        if let Err(error) = allocate(&file, len) {
            // The caller gets the first error. The leftover is at worst a spare of the wrong size,
            // which the next start removes.
            if let Err(left) = fs::remove_file(&path) {
                tracing::warn!(file = name, error = %left, "could not remove a file that was not filled");
            }
            return Err(error);
        }
        Ok(self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

struct RealFile {
    file: File,
    metrics: Arc<Metrics>,
}

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, mut offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut parts = parts;
        // Empty slices at the front would make the write return zero.
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let some = &parts[..parts.len().min(MAX_PARTS)];
            match pwritev(&self.file, some, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    IoSlice::advance_slices(&mut parts, written);
                    offset += u64::try_from(written).unwrap_or(u64::MAX);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let start = clock::now();
        let result = self.file.sync_data();
        let took = clock::now().saturating_duration_since(start);
        self.metrics.observe_sync(took);
        if took > SLOW_SYNC {
            tracing::warn!(took_ms = took.as_millis(), "slow fdatasync of the log");
        }
        result
    }
}

/// Reserves `len` bytes. If the file system can't, only the file's length is set, and a full disk
/// is noticed by a later write.
fn allocate(file: &File, len: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(len),
        Err(error) => Err(error.into()),
    }
}

/// Creates `dir` and its parents, and makes each one durable in its parent.
fn create_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_durably(parent)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // If the path exists but is not a directory, this fails, as opening the handle does.
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_of_many_parts_arrive_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(&dir.path().join("a/b"), Arc::default()).unwrap();
        let file = disk.create("x", 1 << 16).unwrap();
        let bytes: Vec<[u8; 3]> = (0..3000u32)
            .map(|i| {
                let i = i.to_le_bytes();
                [i[0], i[1], 7]
            })
            .collect();
        let mut parts: Vec<IoSlice<'_>> = vec![IoSlice::new(&[])];
        parts.extend(bytes.iter().map(|part| IoSlice::new(part)));
        file.write_at(10, &mut parts).unwrap();
        file.sync().unwrap();
        let mut read = vec![0; 9000];
        disk.open("x").unwrap().read_at(10, &mut read).unwrap();
        assert_eq!(read, bytes.concat());
        assert_eq!(file.size().unwrap(), 1 << 16);
        assert_eq!(disk.list().unwrap(), ["x"]);
        disk.rename("x", "y").unwrap();
        disk.sync_dir().unwrap();
        disk.remove("y").unwrap();
        assert!(disk.open("y").is_err());
    }

    #[test]
    fn a_second_log_finds_the_directory_locked() {
        let dir = tempfile::tempdir().unwrap();
        let first = FileDisk::open(dir.path(), Arc::default()).unwrap();
        let second = FileDisk::open(dir.path(), Arc::default()).unwrap_err();
        assert!(matches!(second, OpenError::Locked { .. }), "{second}");
        drop(first);
        FileDisk::open(dir.path(), Arc::default()).unwrap();
    }

    #[test]
    fn an_error_names_the_file_in_place_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plain");
        fs::write(&path, "x").unwrap();
        let error = FileDisk::open(&path, Arc::default()).unwrap_err();
        assert!(error.to_string().contains("plain"), "{error}");
    }
}
