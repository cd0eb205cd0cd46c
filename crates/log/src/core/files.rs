//! The files of the segments: listing, preparing and naming them.

use std::{collections::BTreeSet, io, sync::Arc};

use super::{LogCoreConfig, SyncMode};
use crate::{
    disk::{Disk, DiskFile},
    error::{LogFailure, OpenError},
    record::SegmentId,
    recovery::Segment,
    segment::{FileRole, SegmentHeader, file_role, segment_name, spare_name},
};

/// A request to prepare a file for a segment, see [`LogCore::wants_spare`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpareRequest {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// A prepared file.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) name: String,
    /// Whether the file may contain anything but zeros.
    pub(super) recycled: bool,
}

/// Prepares a file for [`LogCore::add_spare`]. It reserves the space and fills it with zeros, so
/// that later writes only change data and their syncs are cheaper. This takes long, so run it on
/// another thread. It polls `stopped` to know whether to give up.
///
/// # Errors
/// The disk's error, or [`io::ErrorKind::Interrupted`]. The log works without the spare.
pub fn make_spare(
    disk: &dyn Disk,
    request: &SpareRequest,
    stopped: &dyn Fn() -> bool,
) -> io::Result<()> {
    /// Small steps, each synced, so that the log's own syncs don't wait for a large one.
    const STEP_BYTES: usize = 1 << 20;
    let file = disk.create(&request.name, request.bytes)?;
    let zeros = vec![0; STEP_BYTES];
    let mut offset = 0;
    while offset < request.bytes {
        if stopped() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let step =
            usize::try_from(request.bytes - offset).map_or(STEP_BYTES, |n| n.min(STEP_BYTES));
        file.write_at(offset, &mut [io::IoSlice::new(&zeros[..step])])?;
        file.sync()?;
        offset += u64::try_from(step).unwrap_or(u64::MAX);
    }
    Ok(())
}

/// The files in the log's directory, by role.
pub(super) struct Files {
    pub(super) segments: BTreeSet<u64>,
    pub(super) spares: Vec<Spare>,
    pub(super) next_spare: u64,
}

impl Files {
    /// Lists the directory and removes unusable spares.
    pub(super) fn list(disk: &dyn Disk, config: &LogCoreConfig) -> Result<Self, OpenError> {
        let failed = |operation: &'static str, name: &str| {
            let path = format!("{}/{name}", disk.describe());
            move |error| OpenError::io(operation, path, error)
        };
        let mut files = Self {
            segments: BTreeSet::new(),
            spares: Vec::new(),
            next_spare: 0,
        };
        for name in disk.list().map_err(failed("list", ""))? {
            match file_role(&name) {
                FileRole::Segment(sequence) => {
                    files.segments.insert(sequence);
                }
                FileRole::Spare(number) => {
                    files.next_spare = files.next_spare.max(number + 1);
                    let size = disk.open(&name).and_then(|file| file.size());
                    let fits = size.is_ok_and(|size| size == config.segment_bytes);
                    if fits && files.spares.len() < config.max_recycled_segments {
                        files.spares.push(Spare {
                            name,
                            recycled: true,
                        });
                    } else {
                        disk.remove(&name).map_err(failed("remove", &name))?;
                    }
                }
                FileRole::Unknown => {
                    tracing::warn!(
                        file = name,
                        "ignoring an unknown file in the log's directory"
                    );
                }
            }
        }
        Ok(files)
    }
}

/// Turns spare files into segments.
pub(super) struct SegmentMaker<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) config: &'a LogCoreConfig,
    pub(super) log: u64,
    pub(super) spares: &'a mut Vec<Spare>,
    pub(super) next_spare: &'a mut u64,
}

impl SegmentMaker<'_> {
    /// Creates the first segment of a new log and fills it with zeros. No one is waiting yet.
    pub(super) fn make_first(&mut self) -> Result<Segment, LogFailure> {
        if self.config.sync == SyncMode::Data {
            let request = SpareRequest {
                name: spare_name(*self.next_spare),
                bytes: self.config.segment_bytes,
            };
            *self.next_spare += 1;
            let made = make_spare(self.disk, &request, &|| false);
            made.map_err(|error| failure(self.disk, "create", &request.name, error))?;
            self.spares.push(Spare {
                name: request.name,
                recycled: false,
            });
        }
        self.make(1, self.config.segment_bytes)
    }

    /// Creates a segment. The file gets its name only after its header is durable, so a segment
    /// always has a header.
    pub(super) fn make(&mut self, sequence: u64, capacity: u64) -> Result<Segment, LogFailure> {
        let name = segment_name(sequence);
        let fail = |error| failure(self.disk, "create", &name, error);
        let at_hand = if capacity == self.config.segment_bytes {
            self.spares.pop()
        } else {
            None
        };
        let (file, spare) = match at_hand {
            Some(spare) => (self.disk.open(&spare.name).map_err(fail)?, spare),
            None => {
                let spare = Spare {
                    name: spare_name(*self.next_spare),
                    recycled: false,
                };
                *self.next_spare += 1;
                (
                    self.disk.create(&spare.name, capacity).map_err(fail)?,
                    spare,
                )
            }
        };
        let header = SegmentHeader {
            id: SegmentId {
                log: self.log,
                sequence,
            },
            capacity,
            recycled: spare.recycled,
        };
        let sync = self.config.sync == SyncMode::Data;
        let publish = |file: &dyn DiskFile| {
            file.write_at(0, &mut [io::IoSlice::new(&header.encode())])?;
            if sync {
                file.sync()?;
            }
            self.disk.rename(&spare.name, &name)?;
            if sync {
                self.disk.sync_dir()?;
            }
            Ok(())
        };
        publish(file.as_ref()).map_err(fail)?;
        Ok(Segment {
            sequence,
            capacity,
            file,
        })
    }
}

/// Converts a failed operation to the log's error.
pub(super) fn failure(
    disk: &dyn Disk,
    operation: &'static str,
    name: &str,
    error: io::Error,
) -> LogFailure {
    let (dir, file) = (disk.describe(), name.to_owned());
    if matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    ) {
        return LogFailure::NoSpace {
            dir,
            operation,
            file,
        };
    }
    LogFailure::Io {
        dir,
        operation,
        file,
        source: Arc::new(error),
    }
}
