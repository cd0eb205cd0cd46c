//! A simulated disk in memory with injectable faults.
//!
//! Writes and directory changes stay in a cache until they are synced. A power loss keeps any
//! subset of the unsynced writes, in sectors and in any order, and a prefix of the unsynced
//! directory changes. There is no randomness here: the caller draws it, so one seed gives one run.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, IoSlice},
    sync::Arc,
};

use parking_lot::{Condvar, Mutex};

use super::{Disk, DiskFile};

/// The unit that a disk writes atomically.
const SECTOR_BYTES: usize = 512;

/// How the process that used the disk ended.
pub enum Crash<'a> {
    /// The process was killed. The machine and its cache survive.
    Process,
    /// The machine lost power. The function draws a number below its argument, uniformly, for each
    /// decision about what survives.
    Power(&'a mut dyn FnMut(u64) -> u64),
}

impl fmt::Debug for Crash<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "Process",
            Self::Power(_) => "Power",
        })
    }
}

/// A simulated directory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    gate: Arc<Gate>,
}

/// Blocks syncs while the disk hangs.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    shut: bool,
    waiting: usize,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock();
        state.waiting += 1;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| state.shut);
        state.waiting -= 1;
    }
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, SimFile>,
    next_file: u64,
    /// The directory as the process sees it, and as it is on the medium.
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced_names: Vec<NameChange>,
    /// Handles opened before a crash are invalid.
    epoch: u64,
    operations: u64,
    writes: u64,
    syncs: u64,
    room_bytes: Option<u64>,
    stop: Option<Stop>,
    fail_sync: Option<u64>,
}

/// The operation in which the process stops.
#[derive(Clone, Copy, Debug)]
struct Stop {
    operation: u64,
    kept_bytes: usize,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, u64),
    Unlink(String),
    /// Atomic, as on any journaling file system.
    Rename {
        from: String,
        to: String,
        file: u64,
    },
}

#[derive(Debug, Default)]
struct SimFile {
    cached: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl SimDisk {
    /// Creates an empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the total size of all files.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.state.lock().room_bytes = bytes;
    }

    /// Makes operation `operation` (see [`SimDisk::operations`]) and all later ones fail until
    /// [`SimDisk::crash`]. If it is a write, its first `kept_bytes` bytes are written.
    pub fn stop_at(&self, operation: u64, kept_bytes: usize) {
        self.state.lock().stop = Some(Stop {
            operation,
            kept_bytes,
        });
    }

    /// Makes one sync of a file fail after `syncs` more successful ones. The data stays readable,
    /// and later syncs succeed without making it durable, as on Linux.
    pub fn fail_sync_after(&self, syncs: u64) {
        let mut state = self.state.lock();
        state.fail_sync = Some(state.syncs + syncs);
    }

    /// Makes every sync of a file block, as on a hanging disk, or unblocks them.
    pub fn hang(&self, hangs: bool) {
        self.gate.state.lock().shut = hangs;
        self.gate.changed.notify_all();
    }

    /// Waits until a sync is blocked.
    pub fn wait_until_hanging(&self) {
        let mut gate = self.gate.state.lock();
        let changed = &self.gate.changed;
        changed.wait_while(&mut gate, |gate| gate.waiting == 0);
    }

    /// Ends the process that uses the disk, and removes all faults.
    pub fn crash(&self, crash: Crash<'_>) {
        let mut state = self.state.lock();
        state.epoch += 1;
        state.stop = None;
        state.fail_sync = None;
        if let Crash::Power(draw) = crash {
            state.lose_power(draw);
        }
    }

    /// The number of operations that changed the disk: writes, creations, renames, removals, syncs.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// The number of writes to files.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state.lock().writes
    }

    /// The number of syncs of files, including failed ones.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// The content of a file; empty if there is none.
    #[must_use]
    pub fn contents(&self, name: &str) -> Vec<u8> {
        let state = self.state.lock();
        let file = state.names.get(name).and_then(|file| state.files.get(file));
        file.map(|file| file.cached.clone()).unwrap_or_default()
    }

    /// Creates or replaces a file, durably and regardless of faults. Simulates bit rot, truncation
    /// or a foreign file.
    pub fn put_contents(&self, name: &str, contents: Vec<u8>) {
        let mut state = self.state.lock();
        let id = state.next_file;
        state.next_file += 1;
        let file = SimFile {
            durable: contents.clone(),
            cached: contents,
            unsynced: Vec::new(),
        };
        state.files.insert(id, file);
        state.names.insert(name.to_owned(), id);
        state.durable_names.insert(name.to_owned(), id);
    }

    /// Removes a file, durably and regardless of faults.
    pub fn remove_file(&self, name: &str) {
        let mut state = self.state.lock();
        state.names.remove(name);
        state.durable_names.remove(name);
    }
}

impl State {
    /// Counts an operation. Fails if the process stops at it.
    fn operate(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        match self.stop {
            Some(stop) if number >= stop.operation => Err(io::Error::other("the process stopped")),
            _ => Ok(()),
        }
    }

    fn file(&self, name: &str) -> io::Result<u64> {
        let file = self.names.get(name).copied();
        file.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    fn lose_power(&mut self, draw: &mut dyn FnMut(u64) -> u64) {
        let changes = std::mem::take(&mut self.unsynced_names);
        let kept = draw(
            u64::try_from(changes.len())
                .unwrap_or(u64::MAX)
                .saturating_add(1),
        );
        for change in changes
            .iter()
            .take(usize::try_from(kept).unwrap_or(usize::MAX))
        {
            change.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        for file in self.files.values_mut() {
            file.lose_power(draw);
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Link(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
            Self::Rename { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl SimFile {
    fn write(&mut self, at: usize, data: &[u8]) {
        let end = at + data.len();
        if self.cached.len() < end {
            self.cached.resize(end, 0);
        }
        self.cached[at..end].copy_from_slice(data);
        self.unsynced.push((at, data.to_vec()));
    }

    fn sync(&mut self) {
        self.durable.resize(self.cached.len(), 0);
        for (at, data) in self.unsynced.drain(..) {
            self.durable[at..at + data.len()].copy_from_slice(&data);
        }
    }

    fn lose_power(&mut self, draw: &mut dyn FnMut(u64) -> u64) {
        if self.durable.len() < self.cached.len() && draw(2) == 0 {
            self.durable.resize(self.cached.len(), 0);
        }
        for (at, data) in std::mem::take(&mut self.unsynced) {
            match draw(4) {
                0 => {}
                1 => self.survive(at, &data),
                2 => {
                    let kept = draw(u64::try_from(data.len()).unwrap_or(0).saturating_add(1));
                    self.survive(at, &data[..usize::try_from(kept).unwrap_or(0)]);
                }
                _ => {
                    let mut done = 0;
                    while done < data.len() {
                        let sector = SECTOR_BYTES - (at + done) % SECTOR_BYTES;
                        let end = data.len().min(done + sector);
                        if draw(2) == 0 {
                            self.survive(at + done, &data[done..end]);
                        }
                        done = end;
                    }
                }
            }
        }
        self.cached.clone_from(&self.durable);
    }

    /// Moves data to the medium, but not beyond the durable length of the file.
    fn survive(&mut self, at: usize, data: &[u8]) {
        let end = self.durable.len().min(at + data.len());
        if at < end {
            self.durable[at..end].copy_from_slice(&data[..end - at]);
        }
    }
}

impl Disk for SimDisk {
    fn describe(&self) -> String {
        "sim".to_owned()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state.lock();
        Ok(Box::new(SimHandle {
            disk: self.clone(),
            file: state.file(name)?,
            epoch: state.epoch,
        }))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.operate()?;
        let used: usize = state
            .names
            .values()
            .filter_map(|file| state.files.get(file))
            .map(|file| file.cached.len())
            .sum();
        let used = u64::try_from(used).unwrap_or(u64::MAX);
        if state
            .room_bytes
            .is_some_and(|room| used.saturating_add(len) > room)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = state.next_file;
        state.next_file += 1;
        let cached = vec![0; usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?];
        let content = SimFile {
            cached,
            ..SimFile::default()
        };
        state.files.insert(file, content);
        state.change_name(NameChange::Link(name.to_owned(), file));
        Ok(Box::new(SimHandle {
            disk: self.clone(),
            file,
            epoch: state.epoch,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operate()?;
        let file = state.file(from)?;
        state.change_name(NameChange::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
            file,
        });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operate()?;
        state.file(name)?;
        state.change_name(NameChange::Unlink(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operate()?;
        state.unsynced_names.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }
}

struct SimHandle {
    disk: SimDisk,
    file: u64,
    epoch: u64,
}

impl SimHandle {
    /// Calls `run` with the disk and the file, unless the process that opened it has ended.
    fn with<T>(
        &self,
        run: impl FnOnce(&mut State, &mut SimFile) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.disk.state.lock();
        if state.epoch != self.epoch {
            return Err(io::Error::other(
                "the process that opened the file has ended",
            ));
        }
        let mut file = state
            .files
            .remove(&self.file)
            .ok_or(io::ErrorKind::NotFound)?;
        let result = run(&mut state, &mut file);
        state.files.insert(self.file, file);
        result
    }
}

impl DiskFile for SimHandle {
    fn size(&self) -> io::Result<u64> {
        self.with(|_, file| Ok(u64::try_from(file.cached.len()).unwrap_or(u64::MAX)))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.with(|_, file| {
            let at = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
            let end = at
                .checked_add(buf.len())
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            let data = file
                .cached
                .get(at..end)
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            buf.copy_from_slice(data);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let data: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.with(|state, file| {
            let at = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
            let stops_here = state.stop.filter(|stop| stop.operation == state.operations);
            state.writes += 1;
            let result = state.operate();
            match (&result, stops_here) {
                (Ok(()), _) => file.write(at, &data),
                (Err(_), Some(stop)) => file.write(at, &data[..stop.kept_bytes.min(data.len())]),
                (Err(_), None) => {}
            }
            result
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.gate.pass();
        self.with(|state, file| {
            state.operate()?;
            let number = state.syncs;
            state.syncs += 1;
            if state.fail_sync == Some(number) {
                state.fail_sync = None;
                // The pages count as clean from now on.
                file.unsynced.clear();
                return Err(io::Error::other("injected sync failure"));
            }
            file.sync();
            Ok(())
        })
    }
}
