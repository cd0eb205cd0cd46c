//! The data directory, `{log, engine, snapshots, meta.json}`: how it is created, whose it is, and
//! which directories are refused.
//!
//! A directory is created in three durable steps: the marker `CREATING`, then log and engine with
//! the first state, then `meta.json` in place of the marker. A crash before the last step leaves
//! the marker and nothing that was acknowledged, so the next start creates the directory again. A
//! directory with data but without both files is damaged.

mod error;
mod meta;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::DataDirError;
pub use meta::{Identity, Meta, Origin};

use crate::durable::{sync_directory, write_durably};

const META: &str = "meta.json";
/// A directory that mkfs(8) creates at the root of an ext file system.
const LOST_AND_FOUND: &str = "lost+found";
const MARKER: &str = "CREATING";
const LOCK: &str = "LOCK";
const PARTS: [&str; 3] = ["log", "engine", "snapshots"];

/// What a service expects of its data directory.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The newest format that this release reads.
    pub format: u32,
    /// Other programs whose directories may be named by mistake.
    pub foreign: &'static [Foreign],
}

/// How another program's data directory is recognised.
#[derive(Clone, Copy, Debug)]
pub struct Foreign {
    /// A directory that only the other program has.
    pub directory: &'static str,
    /// Whose data it is and what to do. The error says "data directory PATH", then this.
    pub refusal: &'static str,
}

/// An open data directory, locked against other processes until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    wal: Option<PathBuf>,
    _lock: File,
}

/// What a data directory holds.
#[derive(Debug)]
pub enum Found<Own> {
    /// Nothing yet: it is new, or an earlier creation did not finish.
    Empty,
    /// A member's data.
    Member(Meta<Own>),
}

impl DataDir {
    /// Opens the directory, and creates it if there is none. `wal` is the log's directory, if it is
    /// not in the data directory.
    ///
    /// # Errors
    /// [`DataDirError`] says why the directory can't be used, and what to do.
    pub fn open<Own: DeserializeOwned>(
        path: &Path,
        wal: Option<&Path>,
        layout: &Layout,
    ) -> Result<(Self, Found<Own>), DataDirError> {
        if path.exists() && !path.is_dir() {
            return Err(DataDirError::NotADirectory {
                path: path.to_owned(),
            });
        }
        let failed = |what| move |source| io_error(path, what, source);
        make_directory(path).map_err(failed("created"))?;
        // Before the lock: another program's directory gets no file of ours.
        let is_there = |foreign: &&Foreign| path.join(foreign.directory).is_dir();
        if let Some(foreign) = layout.foreign.iter().find(is_there)
            && !path.join(META).exists()
        {
            return Err(DataDirError::Foreign {
                path: path.to_owned(),
                refusal: foreign.refusal,
            });
        }
        let dir = Self {
            path: path.to_owned(),
            wal: wal.map(Path::to_owned),
            _lock: lock(path)?,
        };
        let found = dir.identify(layout.format)?;
        Ok((dir, found))
    }

    /// The directory of the log's segments.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.wal.clone().unwrap_or_else(|| self.path.join("log"))
    }

    /// The directory of the engine's generations.
    #[must_use]
    pub fn engine(&self) -> PathBuf {
        self.path.join("engine")
    }

    /// An empty directory, which release 0.1.0 expects to exist. Snapshots are received in the
    /// engine's directory.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a creation: writes the marker, and removes what an unfinished creation left.
    ///
    /// # Errors
    /// An I/O error.
    pub fn begin_creation(&self) -> Result<(), DataDirError> {
        let run = || -> io::Result<()> {
            write_durably(&self.path, MARKER, self.marker_text().as_bytes())?;
            for part in [self.log(), self.engine(), self.snapshots()] {
                make_directory(&part)?;
                empty(&part)?;
            }
            sync_directory(&self.path)
        };
        run().map_err(|source| io_error(&self.path, "prepared", source))
    }

    /// Ends a creation: replaces the marker by `meta.json`, durably.
    ///
    /// # Errors
    /// An I/O error.
    pub fn finish_creation<Own: Serialize>(&self, meta: &Meta<Own>) -> Result<(), DataDirError> {
        let run = || -> io::Result<()> {
            for part in [self.log(), self.engine(), self.snapshots()] {
                sync_directory(&part)?;
                sync_parent(&part)?;
            }
            sync_parent(&self.path)?;
            let mut text = serde_json::to_vec_pretty(meta).map_err(io::Error::other)?;
            text.push(b'\n');
            write_durably(&self.path, META, &text)?;
            fs::remove_file(self.path.join(MARKER))?;
            sync_directory(&self.path)
        };
        run().map_err(|source| io_error(&self.path, "written", source))
    }

    fn identify<Own: DeserializeOwned>(&self, newest: u32) -> Result<Found<Own>, DataDirError> {
        let path = self.path.join(META);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.without_meta(),
            Err(source) => return Err(io_error(&self.path, "read", source)),
        };
        let bad = |why: String| DataDirError::BadMeta {
            path: self.path.clone(),
            why,
        };
        // Check the format first: a newer one may have other fields.
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        let format = value.get("format").and_then(serde_json::Value::as_u64);
        match format {
            Some(found) if found > u64::from(newest) => {
                return Err(DataDirError::NewerFormat {
                    path: self.path.clone(),
                    found,
                    newest,
                });
            }
            Some(_) => {}
            None => return Err(bad("it has no format number".to_owned())),
        }
        let meta = serde_json::from_value(value).map_err(|error| bad(error.to_string()))?;
        for (part, place) in [("log", self.log()), ("engine", self.engine())] {
            if !place.is_dir() {
                return Err(DataDirError::PartMissing {
                    path: self.path.clone(),
                    part,
                });
            }
        }
        let marker = self.path.join(MARKER);
        if marker.exists() {
            // The process crashed between writing `meta.json` and removing the marker.
            fs::remove_file(&marker).map_err(|source| io_error(&self.path, "written", source))?;
        }
        Ok(Found::Member(meta))
    }

    fn marker_text(&self) -> String {
        format!(
            "unfinished creation with the log in {}\n",
            self.log().display()
        )
    }

    fn without_meta<Own>(&self) -> Result<Found<Own>, DataDirError> {
        // The marker names the log's directory: nothing is removed from a directory that this
        // creation did not use.
        let marker = fs::read_to_string(self.path.join(MARKER));
        if marker.is_ok_and(|text| text == self.marker_text()) {
            return Ok(Found::Empty);
        }
        let has_data = PARTS
            .iter()
            .map(|part| self.path.join(part))
            .chain(self.wal.clone())
            .any(|part| entries(&part).is_ok_and(|found| !found.is_empty()));
        if has_data {
            return Err(DataDirError::MetaMissing {
                path: self.path.clone(),
            });
        }
        Ok(Found::Empty)
    }
}

fn io_error(path: &Path, what: &'static str, source: io::Error) -> DataDirError {
    DataDirError::Io {
        path: path.to_owned(),
        what,
        source,
    }
}

/// Makes a directory that only this user can access.
fn make_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// What is in a directory, except for what a file system keeps at its root.
fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() != LOST_AND_FOUND {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Empties a directory. The directory itself stays, since it may be a mount point.
fn empty(dir: &Path) -> io::Result<()> {
    for path in entries(dir)? {
        match path.is_dir() && !path.is_symlink() {
            true => fs::remove_dir_all(path)?,
            false => fs::remove_file(path)?,
        }
    }
    Ok(())
}

/// Makes the existence of a directory durable.
fn sync_parent(dir: &Path) -> io::Result<()> {
    match dir.canonicalize()?.parent() {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// Locks the directory. Opening the lock file also shows whether the directory is writable.
fn lock(path: &Path) -> Result<File, DataDirError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join(LOCK))
        .map_err(|source| io_error(path, "written", source))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::InUse {
            path: path.to_owned(),
        }),
        Err(errno) => Err(io_error(path, "locked", errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use synod_types::{ClusterId, NodeId};

    use super::*;

    /// What a storage service might add to `meta.json`.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Shards {
        #[serde(default)]
        shards: u32,
    }

    const STORAGE: Layout = Layout {
        format: 3,
        foreign: &[Foreign {
            directory: "version-2",
            refusal: "belongs to another program (it has version-2/): name another with --data-dir",
        }],
    };

    fn open(path: &Path, wal: Option<&Path>) -> Result<(DataDir, Found<Shards>), DataDirError> {
        DataDir::open(path, wal, &STORAGE)
    }

    fn meta() -> Meta<Shards> {
        let identity = Identity {
            cluster: ClusterId::new(0xc1),
            member: NodeId::new(0xa1),
            incarnation: 7,
            name: "n",
        };
        Meta::new(3, identity, Shards { shards: 16 }).bootstrapped("t")
    }

    fn create(path: &Path) {
        let (dir, found) = open(path, None).unwrap();
        assert!(matches!(found, Found::Empty));
        dir.begin_creation().unwrap();
        dir.finish_creation(&meta()).unwrap();
    }

    #[test]
    fn a_created_directory_is_found_again() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("deep/er");
        create(&path);
        // With `meta.json` it is this service's, whatever else is in it.
        fs::create_dir(path.join("version-2")).unwrap();
        let (_dir, found) = open(&path, None).unwrap();
        assert!(matches!(found, Found::Member(found) if found == meta()));
    }

    #[test]
    fn the_file_holds_the_services_own_fields_beside_the_others() {
        let temp = tempfile::tempdir().unwrap();
        create(temp.path());
        let text = fs::read_to_string(temp.path().join(META)).unwrap();
        let expected = format!(
            r#"{{
  "format": 3,
  "cluster_id": "c1",
  "member_id": "a1",
  "incarnation": "7",
  "name": "n",
  "token": "t",
  "origin": "bootstrap",
  "shards": 16,
  "created_by": "synod {}"
}}
"#,
            crate::VERSION
        );
        assert_eq!(text, expected);
        fs::write(
            temp.path().join(META),
            text.replace("  \"shards\": 16,\n", ""),
        )
        .unwrap();
        let (_dir, found) = open(temp.path(), None).unwrap();
        assert!(matches!(found, Found::Member(found) if found.own == Shards { shards: 0 }));
    }

    #[test]
    fn a_service_may_add_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let identity = Identity {
            cluster: ClusterId::new(1),
            member: NodeId::new(2),
            incarnation: 3,
            name: "n",
        };
        let meta = Meta::new(1, identity, ());
        let (dir, _) = DataDir::open::<()>(temp.path(), None, &STORAGE).unwrap();
        dir.begin_creation().unwrap();
        dir.finish_creation(&meta).unwrap();
        drop(dir);
        let (_dir, found) = DataDir::open::<()>(temp.path(), None, &STORAGE).unwrap();
        assert!(matches!(found, Found::Member(found) if found == meta));
    }

    #[test]
    fn an_unfinished_creation_begins_anew_and_its_leftovers_go() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, _) = open(temp.path(), None).unwrap();
        dir.begin_creation().unwrap();
        fs::write(dir.log().join("half"), b"x").unwrap();
        drop(dir);
        let (dir, found) = open(temp.path(), None).unwrap();
        assert!(matches!(found, Found::Empty));
        dir.begin_creation().unwrap();
        assert!(!dir.log().join("half").exists());
        drop(dir);

        let foreign = temp.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("precious"), b"x").unwrap();
        let refused = open(temp.path(), Some(&foreign)).unwrap_err();
        assert!(
            matches!(refused, DataDirError::MetaMissing { .. }),
            "{refused}"
        );
    }

    #[test]
    fn unusable_directories_are_refused_with_what_to_do() {
        let temp = tempfile::tempdir().unwrap();
        let refused = |path: &Path| open(path, None).unwrap_err();

        let file = temp.path().join("file");
        fs::write(&file, b"").unwrap();
        assert!(matches!(refused(&file), DataDirError::NotADirectory { .. }));
        assert!(
            refused(&file.join("below"))
                .to_string()
                .contains("--data-dir")
        );

        let stock = temp.path().join("stock");
        fs::create_dir_all(stock.join("version-2/log")).unwrap();
        assert!(matches!(refused(&stock), DataDirError::Foreign { .. }));
        assert_eq!(fs::read_dir(&stock).unwrap().count(), 1, "it is as it was");

        let newer = temp.path().join("newer");
        create(&newer);
        fs::write(newer.join(META), r#"{"format": 99}"#).unwrap();
        assert!(matches!(
            refused(&newer),
            DataDirError::NewerFormat { found: 99, .. }
        ));

        let garbled = temp.path().join("garbled");
        create(&garbled);
        fs::write(garbled.join(META), "{").unwrap();
        assert!(matches!(refused(&garbled), DataDirError::BadMeta { .. }));

        let lost = temp.path().join("lost");
        create(&lost);
        fs::write(lost.join("log/segment"), b"x").unwrap();
        fs::remove_file(lost.join(META)).unwrap();
        assert!(matches!(refused(&lost), DataDirError::MetaMissing { .. }));

        let partial = temp.path().join("partial");
        create(&partial);
        fs::remove_dir_all(partial.join("log")).unwrap();
        assert!(matches!(
            refused(&partial),
            DataDirError::PartMissing { part: "log", .. }
        ));

        let busy = temp.path().join("busy");
        create(&busy);
        let (_held, _) = open(&busy, None).unwrap();
        assert!(matches!(refused(&busy), DataDirError::InUse { .. }));
    }

    #[test]
    fn the_log_may_have_a_file_system_of_its_own() {
        use std::os::unix::fs::PermissionsExt as _;
        let temp = tempfile::tempdir().unwrap();
        let (path, wal) = (temp.path().join("data"), temp.path().join("wal"));
        // As mkfs leaves it.
        fs::create_dir_all(wal.join("lost+found")).unwrap();
        let (dir, found) = open(&path, Some(&wal)).unwrap();
        assert!(matches!(found, Found::Empty));
        dir.begin_creation().unwrap();
        fs::write(wal.join("segment"), "").unwrap();
        // The process ends here. The next creation begins with an empty log.
        drop(dir);
        let (dir, found) = open(&path, Some(&wal)).unwrap();
        assert!(matches!(found, Found::Empty));
        dir.begin_creation().unwrap();
        assert!(!wal.join("segment").exists() && wal.join("lost+found").exists());
        dir.finish_creation(&meta()).unwrap();
        drop(dir);
        assert!(matches!(
            open(&path, Some(&wal)).unwrap().1,
            Found::Member(_)
        ));
        // If this service makes it, it is private too.
        let (path, wal) = (temp.path().join("other"), temp.path().join("new/wal"));
        let (dir, _) = open(&path, Some(&wal)).unwrap();
        dir.begin_creation().unwrap();
        let mode = fs::metadata(&wal).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
