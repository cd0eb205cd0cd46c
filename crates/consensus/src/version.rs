//! Which versions this server reports.

/// The etcd release whose API is served: clients and kube-apiserver decide on features by it.
pub(crate) const ETCD_VERSION: &str = "3.7.0";
/// The cluster-wide minimum, as etcd shows it in `/version`.
pub(crate) const ETCD_CLUSTER_VERSION: &str = "3.7.0";
/// The storage schema version, as etcd shows it in `/version` and `endpoint status`.
pub(crate) const ETCD_STORAGE_VERSION: &str = "3.7.0";
/// Synod's own version.
pub(crate) const SYNOD_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What `--version` prints.
pub(crate) fn banner() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nSynod Version: {SYNOD_VERSION}\nOS/Arch: {}/{}\n",
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}
