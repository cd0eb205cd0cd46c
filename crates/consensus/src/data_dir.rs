//! The data directory of the consensus service: its own fields in `meta.json`, and the directories
//! that it refuses.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use synod_consensus_core::Algorithm;
use synod_service::{BackupId, DataDir, DataDirError, Foreign, Found, Identity, Layout};

/// The newest format that this release reads.
const FORMAT: u32 = 2;
/// The format of a directory of Raft. It does not name the algorithm, so that releases that know
/// only Raft can read it.
const RAFT_FORMAT: u32 = 1;

const LAYOUT: Layout = Layout {
    format: FORMAT,
    foreign: &[Foreign {
        directory: "member",
        refusal: "belongs to stock etcd (it has member/): the formats differ; name another directory with --data-dir, \
                  and move the data by reading it from etcd",
    }],
};

/// The content of `meta.json`.
pub(crate) type Meta = synod_service::Meta<Own>;

/// This service's own fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Own {
    /// The algorithm that wrote the log. The algorithms can't read each other's logs.
    #[serde(rename = "engine", default = "raft", with = "algorithm")]
    pub(crate) algorithm: Algorithm,
    /// The backup that the data was restored from, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restored: Option<BackupId>,
}

/// Data that can't be used as the flags ask. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OtherDataError {
    /// The data was made with another algorithm.
    #[error(
        "data directory {path} was made by --engine {found}, and --engine {asked} was asked for: the algorithms read the \
         log differently; start it with --engine {found}, or start a new cluster with --engine {asked} from a snapshot of \
         this one (docs/operations.md, \"Change the engine\")"
    )]
    OtherAlgorithm {
        /// Where.
        path: PathBuf,
        /// The algorithm of the data.
        found: Algorithm,
        /// The algorithm in the flags.
        asked: Algorithm,
    },
    /// There is data, and it does not come from the backup.
    #[error(
        "data directory {path} already has data that does not come from the snapshot {snapshot}: a snapshot is restored \
         into an empty directory only; name one with --data-dir, or start without --restore-snapshot"
    )]
    NotRestored {
        /// Where.
        path: PathBuf,
        /// The backup.
        snapshot: PathBuf,
    },
}

/// Opens the data directory, and creates it if there is none. `wal` is the log's directory, if it
/// is not in the data directory.
///
/// # Errors
/// [`DataDirError`] says why the directory can't be used, and what to do.
pub(crate) fn open(path: &Path, wal: Option<&Path>) -> Result<(DataDir, Found<Own>), DataDirError> {
    DataDir::open(path, wal, &LAYOUT)
}

/// For a directory that is about to be created, of a member that joins a cluster.
pub(crate) fn meta(identity: Identity<'_>, algorithm: Algorithm) -> Meta {
    let format = match algorithm {
        Algorithm::Raft => RAFT_FORMAT,
        Algorithm::MultiPaxos => FORMAT,
    };
    let restored = None;
    Meta::new(
        format,
        identity,
        Own {
            algorithm,
            restored,
        },
    )
}

const fn raft() -> Algorithm {
    Algorithm::Raft
}

mod algorithm {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use synod_types::{ClusterId, NodeId};

    use super::*;

    #[test]
    fn a_directory_that_names_no_algorithm_is_that_of_raft() {
        let temp = tempfile::tempdir().unwrap();
        let algorithm = Algorithm::MultiPaxos;
        let identity = Identity {
            cluster: ClusterId::new(0xc1),
            member: NodeId::new(0xa1),
            incarnation: 7,
            name: "n",
        };
        let (dir, _) = open(temp.path(), None).unwrap();
        dir.begin_creation().unwrap();
        dir.finish_creation(&meta(identity, algorithm).bootstrapped("t"))
            .unwrap();
        drop(dir);
        let text = fs::read_to_string(temp.path().join("meta.json")).unwrap();
        let expected = format!(
            r#"{{
  "format": 2,
  "cluster_id": "c1",
  "member_id": "a1",
  "incarnation": "7",
  "name": "n",
  "token": "t",
  "origin": "bootstrap",
  "engine": "multi-paxos",
  "created_by": "synod {}"
}}
"#,
            synod_service::VERSION
        );
        assert_eq!(text, expected);
        let algorithm = |text: &str| {
            fs::write(temp.path().join("meta.json"), text).unwrap();
            open(temp.path(), None).map(|(_dir, found)| match found {
                Found::Member(meta) => (meta.format, meta.own.algorithm),
                Found::Empty => panic!("it has data"),
            })
        };
        // Written by the first release.
        let old = r#"{"format": 1, "cluster_id": "c1", "member_id": "a1", "incarnation": "7", "name": "n",
            "token": "t", "origin": "bootstrap", "created_by": "synod 0.1.0"}"#;
        assert_eq!(algorithm(old).unwrap(), (1, Algorithm::Raft));
        // The first release refuses this format, as it must.
        assert_eq!(algorithm(&text).unwrap(), (2, Algorithm::MultiPaxos));
        let unknown = text.replace("multi-paxos", "zab");
        let refused = algorithm(&unknown).unwrap_err().to_string();
        assert!(refused.contains("unknown engine \"zab\""), "{refused}");
    }
}
