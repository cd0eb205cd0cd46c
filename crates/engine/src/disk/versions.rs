//! Lets go of what no open snapshot needs.
//!
//! fjall keeps, for a space, every version since the oldest open snapshot, and each version keeps
//! its write buffers: with one snapshot open for a minute, a minute's writes would stay in memory.
//! A snapshot needs just one version, the last before it.

use fjall::{AbstractTree, Keyspace};

use super::snapshot::OpenSnapshots;

impl OpenSnapshots {
    /// Drops the versions of a space that no open snapshot reads from.
    pub(super) fn drop_unused_versions(&self, keyspace: &Keyspace) -> Result<(), fjall::Error> {
        // No snapshot is opened meanwhile.
        let open = self.lock();
        let mut versions = keyspace.tree.get_version_history_lock();
        let Some(oldest) = open.keys().next().copied().filter(|oldest| *oldest > 0) else {
            return Ok(());
        };
        if versions.len() <= open.len() + 1 {
            return Ok(());
        }
        let needed: Vec<_> = open
            .keys()
            .map(|sequence| versions.get_version_for_snapshot(*sequence))
            .collect();
        let latest = versions.latest_version();
        // Nothing but the latest stays, and on disk nothing else is needed.
        let folder = &keyspace.tree.tree_config().path;
        versions.maintenance(folder, u64::MAX)?;
        for version in needed {
            versions.append_version(version);
        }
        versions.append_version(latest);
        // The latest stands in front now, too. It goes from there without its file, which fjall
        // would look for in this folder.
        let no_folder = folder.join("none");
        versions.maintenance(&no_folder, oldest)?;
        Ok(())
    }
}
