//! The log's interface to the disk: one flat directory of preallocated files.
//!
//! The log accesses storage only through these two traits. So the simulator and the tests can run
//! the real log on a disk that tears writes, loses unsynced data, flips bits and fills up.

use std::io::{self, IoSlice};

mod files;
mod sim;

pub use files::FileDisk;
pub use sim::{Crash, SimDisk};

/// A directory.
pub trait Disk: Send + Sync {
    /// The directory's name for error messages.
    fn describe(&self) -> String;

    /// The names of all files.
    ///
    /// # Errors
    /// The directory can't be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// The file is missing or can't be opened.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Creates a file of `len` zero bytes and reserves its space. Replaces a file with the same
    /// name. If it fails, no file is left. Content and name become durable with [`DiskFile::sync`]
    /// and [`Disk::sync_dir`].
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] if there is not enough space, or another error of the disk.
    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn DiskFile>>;

    /// Renames a file and replaces any file with the new name. Open handles stay valid.
    ///
    /// # Errors
    /// The disk's error.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The disk's error.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// The disk's error. The changes may then be lost.
    fn sync_dir(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// The file's length in bytes.
    ///
    /// # Errors
    /// The disk's error.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file ends before that, or another error of the disk.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes all `parts` consecutively from `offset` on, in one operation if the disk can.
    ///
    /// # Errors
    /// The disk's error. Any part of the data may then have been written.
    fn write_at(&self, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// The disk's error. The data may be lost even if a later call succeeds, so never retry.
    fn sync(&self) -> io::Result<()>;
}
