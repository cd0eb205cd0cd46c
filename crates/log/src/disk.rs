//! The log's view of a disk: one flat directory of preallocated files.
//!
//! Everything that the log does to storage goes through these two traits, so that the simulator and
//! the tests can run the real log over a disk that tears writes, loses what was not synced, flips
//! bits and runs full.

use std::io::{self, IoSlice};

mod files;
mod sim;

pub use files::FileDisk;
pub use sim::{Crash, SimDisk};

/// A directory.
pub trait Disk: Send + Sync {
    /// The directory as error messages name it.
    fn describe(&self) -> String;

    /// The names of all files.
    ///
    /// # Errors
    /// The directory can't be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// It is missing or can't be opened.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Creates a file of `len` zero bytes and reserves the room for it; replaces a file of that
    /// name. Leaves no file behind where it fails. Neither the content nor the name is durable
    /// before the file's [`DiskFile::sync`] and [`Disk::sync_dir`].
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] where the room is lacking; others as the disk has them.
    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn DiskFile>>;

    /// Renames a file, replacing one that has the new name. Open handles stay valid.
    ///
    /// # Errors
    /// As the disk has them.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the disk has them.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// As the disk has them; what was to be made durable may be lost then.
    fn sync_dir(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Length in bytes.
    ///
    /// # Errors
    /// As the disk has them.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where the file ends before; others as the disk has them.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes all of `parts`, one after the other, from `offset` on, in one operation where the
    /// disk can.
    ///
    /// # Errors
    /// Any part of the data may have been written then.
    fn write_at(&self, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// What was to be made durable may be lost, even if a later call succeeds: never try again.
    fn sync(&self) -> io::Result<()>;
}
