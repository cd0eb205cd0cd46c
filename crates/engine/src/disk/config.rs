//! Memory and disk limits of the engine.

use std::path::PathBuf;
use std::sync::Arc;

use fjall::KeyspaceCreateOptions;
use fjall::compaction::Leveled;
use fjall::config::{
    BlockSizePolicy, BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry, HashRatioPolicy,
    PinningPolicy,
};

use crate::Space;

/// The minimum that fjall accepts.
pub(super) const MIN_JOURNAL_BYTES: u64 = 64 << 20;
pub(super) const MIN_OPEN_FILES: usize = 10;

/// The write buffer of a space that holds few or small rows. Each batch writes to some of these
/// spaces, and all writes wait while a flush is committed, so the buffer should not be smaller.
pub(super) const SMALL_MEMTABLE_BYTES: u64 = 4 << 20;

/// Settings of a [`DiskEngine`](crate::DiskEngine). With the defaults, a process with 5 GiB of data
/// stays below 1 GiB of memory.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// The engine's own directory.
    pub dir: PathBuf,
    /// Limit of the block cache, in bytes. Default: 128 MiB. It fills as blocks are read.
    pub cache_bytes: u64,
    /// Writes slow down above this many unflushed bytes. Default: 64 MiB.
    pub write_buffer_bytes: u64,
    /// Size at which the write buffer of a large space is flushed, in bytes. Default: 16 MiB. Fixed
    /// when the directory is created.
    pub memtable_bytes: u64,
    /// Total journal size above which lagging spaces are flushed, in bytes. At least 64 MiB, the
    /// default. It determines the duration of an unclean restart: about a second for 128 MiB.
    pub journal_bytes: u64,
    /// Target size of a table, in bytes. Default: 16 MiB. Smaller tables make compactions shorter.
    pub table_bytes: u64,
    /// Block size of a table, in bytes. Default: 8 KiB. Fixed when the directory is created.
    pub block_bytes: u32,
    /// Limit of open table files, at least 10. Default: 512.
    pub open_files: usize,
}

impl DiskConfig {
    /// The default settings for an engine in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache_bytes: 128 << 20,
            write_buffer_bytes: 64 << 20,
            memtable_bytes: 16 << 20,
            journal_bytes: MIN_JOURNAL_BYTES,
            table_bytes: 16 << 20,
            block_bytes: 8 << 10,
            open_files: 512,
        }
    }

    pub(super) fn keyspace(&self, space: Space) -> KeyspaceCreateOptions {
        self.options(self.buffer_bytes(space))
    }

    /// Size at which the write buffer of a space is flushed.
    pub(super) fn buffer_bytes(&self, space: Space) -> u64 {
        match space {
            Space::Latest | Space::History => self.memtable_bytes,
            Space::Revisions => (self.memtable_bytes / 2).max(SMALL_MEMTABLE_BYTES),
            Space::Meta | Space::Leases | Space::LeaseKeys | Space::Members | Space::Counts => {
                SMALL_MEMTABLE_BYTES
            }
        }
    }

    pub(super) fn small_keyspace(&self) -> KeyspaceCreateOptions {
        self.options(SMALL_MEMTABLE_BYTES)
    }

    /// The strategy of our compaction thread.
    pub(super) fn strategy(&self) -> Arc<Leveled> {
        Arc::new(Leveled::default().with_table_target_size(self.table_bytes))
    }

    fn options(&self, memtable_bytes: u64) -> KeyspaceCreateOptions {
        // fjall's worker compacts after each flush. With these limits it only ever moves tables.
        let passive = Leveled::default()
            .with_l0_threshold(u8::MAX)
            .with_table_target_size(1 << 40);
        KeyspaceCreateOptions::default()
            .max_memtable_size(memtable_bytes)
            .compaction_strategy(Arc::new(passive))
            .data_block_size_policy(BlockSizePolicy::all(self.block_bytes))
            .data_block_hash_ratio_policy(HashRatioPolicy::all(0.75))
            // The cache limit doesn't count pinned blocks, so only those of the two small upper
            // levels are pinned.
            .index_block_pinning_policy(PinningPolicy::new([true, true, false]))
            .filter_block_pinning_policy(PinningPolicy::new([true, true, false]))
            .filter_policy(FilterPolicy::new([
                FilterPolicyEntry::Bloom(BloomConstructionPolicy::FalsePositiveRate(0.001)),
                FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0)),
            ]))
    }
}
