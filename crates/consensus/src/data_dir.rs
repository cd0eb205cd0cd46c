//! The data directory: `{log, engine, snapshots, meta.json}`, whose it is, and what is refused.
//!
//! A directory is created in three durable steps: the marker `CREATING`, then log and engine with
//! the first state, then `meta.json` in place of the marker. A crash before the last step leaves a
//! marker and nothing that was ever acknowledged, so the next start begins anew. A directory with
//! data but neither file is damaged.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use synod_consensus_core::Algorithm;
use synod_types::{ClusterId, NodeId};

use crate::backup::BackupId;

/// The newest format that this release reads.
pub(crate) const FORMAT: u32 = 2;
/// The format without an engine's name, which is Raft's: so that releases that know no other still
/// read it.
const RAFT_FORMAT: u32 = 1;

const META: &str = "meta.json";
const MARKER: &str = "CREATING";
const LOCK: &str = "LOCK";
const PARTS: [&str; 3] = ["log", "engine", "snapshots"];

/// What `meta.json` holds. Ids are hexadecimal, as etcd prints them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// The format of the whole directory.
    pub(crate) format: u32,
    #[serde(with = "hex")]
    cluster_id: u64,
    #[serde(with = "hex")]
    member_id: u64,
    /// Random for each creation: a wiped member is not the one that voted before.
    #[serde(with = "hex")]
    pub(crate) incarnation: u64,
    /// The member's name when the directory was created.
    pub(crate) name: String,
    /// The token of the cluster that it was created for; empty if it joined one.
    pub(crate) token: String,
    /// Whether it was made with the cluster or joined it later.
    pub(crate) origin: Origin,
    /// Whose log it is. The algorithms can't read each other's.
    #[serde(default = "raft", with = "engine")]
    pub(crate) engine: Algorithm,
    /// The backup that it was made from, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restored: Option<BackupId>,
    /// The release that created it.
    pub(crate) created_by: String,
}

/// How a member came into its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Origin {
    /// As one of the first.
    Bootstrap,
    /// By `member add`.
    Join,
}

impl Meta {
    /// The identity of a directory that is about to be created.
    pub(crate) fn new(
        cluster: ClusterId,
        member: NodeId,
        incarnation: u64,
        name: &str,
        engine: Algorithm,
    ) -> Self {
        Self {
            format: match engine {
                Algorithm::Raft => RAFT_FORMAT,
                Algorithm::MultiPaxos => FORMAT,
            },
            engine,
            cluster_id: cluster.get(),
            member_id: member.get(),
            incarnation,
            name: name.to_owned(),
            token: String::new(),
            origin: Origin::Join,
            restored: None,
            created_by: format!("synod {}", crate::version::SYNOD_VERSION),
        }
    }

    /// The same, made with the cluster of this token, and of this backup.
    pub(crate) fn bootstrapped(mut self, token: &str, restored: Option<BackupId>) -> Self {
        token.clone_into(&mut self.token);
        self.origin = Origin::Bootstrap;
        self.restored = restored;
        self
    }

    /// The cluster whose data it is.
    pub(crate) fn cluster(&self) -> ClusterId {
        ClusterId::new(self.cluster_id)
    }

    /// The member whose data it is.
    pub(crate) fn member(&self) -> NodeId {
        NodeId::new(self.member_id)
    }
}

/// A data directory that can't be used. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("data directory {path} is a file: name a directory with --data-dir")]
    NotADirectory { path: PathBuf },
    #[error(
        "data directory {path} can't be {what}: {source}; make it writable for this user or name another with \
         --data-dir"
    )]
    Io {
        path: PathBuf,
        what: &'static str,
        source: io::Error,
    },
    #[error(
        "data directory {path} is in use by another process: stop that one first, or name another directory with \
         --data-dir"
    )]
    InUse { path: PathBuf },
    #[error(
        "data directory {path} belongs to stock etcd (it has member/): the formats differ; name another directory \
         with --data-dir, and move the data by reading it from etcd"
    )]
    StockEtcd { path: PathBuf },
    #[error(
        "data directory {path} has format {found}, and this release reads up to {FORMAT}: start the newer release \
         that wrote it"
    )]
    NewerFormat { path: PathBuf, found: u64 },
    #[error(
        "{path}/meta.json can't be read ({why}): restore it from a backup, or move the directory away and add this \
         member to its cluster again"
    )]
    BadMeta { path: PathBuf, why: String },
    #[error(
        "data directory {path} has data but no meta.json: restore that file, or move the directory away and add this \
         member to its cluster again"
    )]
    MetaMissing { path: PathBuf },
    #[error(
        "data directory {path} has lost its {part}: restore it from a backup, or move the directory away and add this \
         member to its cluster again"
    )]
    PartMissing { path: PathBuf, part: &'static str },
    #[error(
        "data directory {path} belongs to cluster {found}, but the flags describe cluster {expected} (they differ in \
         {difference}): name this cluster's own directory with --data-dir, or correct the flags"
    )]
    OtherCluster {
        path: PathBuf,
        found: ClusterId,
        expected: ClusterId,
        difference: &'static str,
    },
    #[error(
        "data directory {path} was made by --engine {found}, and --engine {asked} was asked for: the log of one algorithm \
         means nothing to the other; start it with --engine {found}, or begin a new cluster that runs {asked} with a \
         snapshot of this one (docs/operations.md, \"Change the engine\")"
    )]
    OtherEngine {
        path: PathBuf,
        found: Algorithm,
        asked: Algorithm,
    },
    #[error(
        "data directory {path} has data already, which is not that of the snapshot {snapshot}: a snapshot is restored \
         into an empty directory only; name one with --data-dir, or start without --restore-snapshot"
    )]
    NotRestored { path: PathBuf, snapshot: PathBuf },
}

/// An open data directory, locked against other processes until it is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    wal: Option<PathBuf>,
    _lock: File,
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing: it was just made, or an earlier creation did not finish.
    Empty,
    /// A member's data.
    Member(Meta),
}

impl DataDir {
    /// Makes or opens the directory. `wal` is where the log is, if elsewhere.
    ///
    /// # Errors
    /// Every reason why it can't be this member's.
    pub(crate) fn open(path: &Path, wal: Option<&Path>) -> Result<(Self, Found), DataDirError> {
        if path.exists() && !path.is_dir() {
            return Err(DataDirError::NotADirectory {
                path: path.to_owned(),
            });
        }
        let failed = |what| move |source| io_error(path, what, source);
        make_directory(path).map_err(failed("created"))?;
        let lock = lock(path)?;
        if path.join("member").is_dir() && !path.join(META).exists() {
            return Err(DataDirError::StockEtcd {
                path: path.to_owned(),
            });
        }
        let dir = Self {
            path: path.to_owned(),
            wal: wal.map(Path::to_owned),
            _lock: lock,
        };
        let found = dir.identify()?;
        Ok((dir, found))
    }

    /// Where the log's segments are.
    pub(crate) fn log(&self) -> PathBuf {
        self.wal.clone().unwrap_or_else(|| self.path.join("log"))
    }

    /// Where the engine's generations are.
    pub(crate) fn engine(&self) -> PathBuf {
        self.path.join("engine")
    }

    /// Nothing is in it: snapshots are received in the engine's directory. Release 0.1.0 expects
    /// it.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a creation: removes what an unfinished one left, and leaves the marker.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn begin_creation(&self) -> Result<(), DataDirError> {
        let run = || -> io::Result<()> {
            write_durably(&self.path, MARKER, self.marker_text().as_bytes())?;
            for part in [self.log(), self.engine(), self.snapshots()] {
                if part.exists() {
                    fs::remove_dir_all(&part)?;
                }
                fs::create_dir_all(&part)?;
            }
            sync_directory(&self.path)
        };
        run().map_err(|source| io_error(&self.path, "prepared", source))
    }

    /// Ends a creation: from here on the data is this member's.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn finish_creation(&self, meta: &Meta) -> Result<(), DataDirError> {
        let run = || -> io::Result<()> {
            for part in [self.log(), self.engine(), self.snapshots()] {
                sync_directory(&part)?;
            }
            let mut text = serde_json::to_vec_pretty(meta).map_err(io::Error::other)?;
            text.push(b'\n');
            write_durably(&self.path, META, &text)?;
            fs::remove_file(self.path.join(MARKER))?;
            sync_directory(&self.path)
        };
        run().map_err(|source| io_error(&self.path, "written", source))
    }

    fn identify(&self) -> Result<Found, DataDirError> {
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
        // The format first: a newer one may have other fields.
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        let format = value.get("format").and_then(serde_json::Value::as_u64);
        match format {
            Some(found) if found > u64::from(FORMAT) => {
                return Err(DataDirError::NewerFormat {
                    path: self.path.clone(),
                    found,
                });
            }
            Some(_) => {}
            None => return Err(bad("it has no format number".to_owned())),
        }
        let meta: Meta = serde_json::from_value(value).map_err(|error| bad(error.to_string()))?;
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
            // The crash came between the last two steps of the creation.
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

    fn without_meta(&self) -> Result<Found, DataDirError> {
        // The marker names the log's place, so that nothing is removed from a directory that this
        // creation never had.
        let marker = fs::read_to_string(self.path.join(MARKER));
        if marker.is_ok_and(|text| text == self.marker_text()) {
            return Ok(Found::Empty);
        }
        let has_data = PARTS
            .iter()
            .map(|part| self.path.join(part))
            .chain(self.wal.clone())
            .any(|part| fs::read_dir(part).is_ok_and(|mut entries| entries.next().is_some()));
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

/// Private to this user, as etcd makes it.
fn make_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Opening the lock file also finds out whether the directory is writable.
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

/// All of the file or nothing of it, after a power loss at any point.
pub(crate) fn write_durably(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, dir.join(name))?;
    sync_directory(dir)
}

/// Makes the directory's entries durable.
pub(crate) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

const fn raft() -> Algorithm {
    Algorithm::Raft
}

mod engine {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use synod_consensus_core::Algorithm;

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature is serde's"
    )]
    pub(super) fn serialize<S: Serializer>(
        value: &Algorithm,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Algorithm, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|_| D::Error::custom(format!("unknown engine {text:?}")))
    }
}

mod hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature is serde's"
    )]
    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{value:x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        let engine = Algorithm::MultiPaxos;
        Meta::new(ClusterId::new(0xc1), NodeId::new(0xa1), 7, "n", engine).bootstrapped("t", None)
    }

    fn create(path: &Path) {
        let (dir, found) = DataDir::open(path, None).unwrap();
        assert!(matches!(found, Found::Empty));
        dir.begin_creation().unwrap();
        dir.finish_creation(&meta()).unwrap();
    }

    #[test]
    fn a_created_directory_is_found_again() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("deep/er");
        create(&path);
        let (_dir, found) = DataDir::open(&path, None).unwrap();
        assert!(matches!(found, Found::Member(found) if found == meta()));
    }

    #[test]
    fn a_directory_without_an_engine_is_that_of_raft() {
        let temp = tempfile::tempdir().unwrap();
        create(temp.path());
        let text = fs::read_to_string(temp.path().join(META)).unwrap();
        assert!(text.contains("\"engine\": \"multi-paxos\""), "{text}");
        let engine = |text: &str| {
            fs::write(temp.path().join(META), text).unwrap();
            DataDir::open(temp.path(), None).map(|(_dir, found)| match found {
                Found::Member(meta) => (meta.format, meta.engine),
                Found::Empty => panic!("it has data"),
            })
        };
        // As the first release wrote it.
        let old = r#"{"format": 1, "cluster_id": "c1", "member_id": "a1", "incarnation": "7", "name": "n",
            "token": "t", "origin": "bootstrap", "created_by": "synod 0.1.0"}"#;
        assert_eq!(engine(old).unwrap(), (1, Algorithm::Raft));
        // Which that release refuses, as it must.
        assert_eq!(engine(&text).unwrap(), (2, Algorithm::MultiPaxos));
        let unknown = text.replace("multi-paxos", "zab");
        let refused = engine(&unknown).unwrap_err().to_string();
        assert!(refused.contains("unknown engine \"zab\""), "{refused}");
    }

    #[test]
    fn an_unfinished_creation_begins_anew_and_its_leftovers_go() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, _) = DataDir::open(temp.path(), None).unwrap();
        dir.begin_creation().unwrap();
        fs::write(dir.log().join("half"), b"x").unwrap();
        drop(dir);
        let (dir, found) = DataDir::open(temp.path(), None).unwrap();
        assert!(matches!(found, Found::Empty));
        dir.begin_creation().unwrap();
        assert!(!dir.log().join("half").exists());
        drop(dir);

        let foreign = temp.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("precious"), b"x").unwrap();
        let refused = DataDir::open(temp.path(), Some(&foreign)).unwrap_err();
        assert!(
            matches!(refused, DataDirError::MetaMissing { .. }),
            "{refused}"
        );
    }

    #[test]
    fn unusable_directories_are_refused_with_what_to_do() {
        let temp = tempfile::tempdir().unwrap();
        let refused = |path: &Path| DataDir::open(path, None).unwrap_err();

        let file = temp.path().join("file");
        fs::write(&file, b"").unwrap();
        assert!(matches!(refused(&file), DataDirError::NotADirectory { .. }));
        assert!(
            refused(&file.join("below"))
                .to_string()
                .contains("--data-dir")
        );

        let stock = temp.path().join("stock");
        fs::create_dir_all(stock.join("member/wal")).unwrap();
        assert!(matches!(refused(&stock), DataDirError::StockEtcd { .. }));

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
        let (_held, _) = DataDir::open(&busy, None).unwrap();
        assert!(matches!(refused(&busy), DataDirError::InUse { .. }));
    }
}
