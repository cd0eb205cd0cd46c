//! The versions that this server reports.

use synod_service::VERSION;

/// The etcd release whose API is served. Clients and kube-apiserver choose features by it.
pub(crate) const ETCD_VERSION: &str = "3.7.0";
/// The cluster-wide minimum, as etcd shows it in `/version`.
pub(crate) const ETCD_CLUSTER_VERSION: &str = "3.7.0";
/// The storage schema version, as etcd shows it in `/version` and `endpoint status`.
pub(crate) const ETCD_STORAGE_VERSION: &str = "3.7.0";
/// The highest feature level of this release.
///
/// A change of what an entry does, or a new command, gets a level of its own. Entries may rely on a
/// level once all members have it (`SetClusterVersion`). A level is never changed or reused.
///
/// | level | since | what it adds |
/// |---|---|---|
/// | 0 | 0.1.0 | |
/// | 1 | 0.2.0 | [`BOUNDED_WRITES`] |
/// | 2 | 0.2.0 | [`LEASES_ON_PEER_PORT`] |
/// | 3 | 0.2.0 | [`USERS`] |
pub(crate) const FEATURE_LEVEL: u32 = USERS;
/// A write that returns more than `MAX_REPLY_BYTES` is refused. A deletion of more than
/// `MAX_DELETE_BYTES` is refused in a transaction or if it returns what it deletes; otherwise it is
/// stored in pieces.
pub(crate) const BOUNDED_WRITES: u32 = 1;
/// Followers ask the leader about leases on its peer port, where members know each other, and not
/// on its client port, which may ask for certificates and tokens that only clients have.
pub(crate) const LEASES_ON_PEER_PORT: u32 = 2;
/// Users and roles. Below this level commands on them are refused: a member that doesn't know them
/// would let everybody do everything.
pub(crate) const USERS: u32 = 3;

/// What `--version` prints.
pub(crate) fn banner() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nSynod Version: {VERSION}\nOS/Arch: {}/{}\n",
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}
