//! What applying an entry tells whoever proposed it here.

use bytes::Bytes;
use synod_proto::etcd::etcdserverpb::{AlarmMember, Member, TxnResponse};

use crate::error::Error;

/// The result of one entry.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The term in which the entry was appended, or accepted last with Multi-Paxos: not the same on
    /// every member.
    pub(crate) term: u64,
    /// The store's revision after it.
    pub(crate) revision: i64,
    /// What it did, or why it did nothing. The same on every member.
    pub(crate) result: Result<Reply, Error>,
}

/// What a command answers besides the header.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Nothing: no-ops, checkpoints, publications.
    Done,
    /// A put.
    Put {
        /// The encoded version that it replaced, if it was asked for.
        prev_kv: Option<Bytes>,
    },
    /// A delete.
    Deleted {
        /// How many keys.
        count: i64,
        /// Their encoded versions, if they were asked for.
        prev_kvs: Vec<Bytes>,
    },
    /// A transaction.
    Txn(Box<TxnResponse>),
    /// A compaction that has taken effect; its deletions go on in the background.
    Compacted,
    /// A new lease.
    LeaseGranted {
        /// Its id.
        id: i64,
        /// Its time to live in seconds.
        ttl: i64,
    },
    /// A leader wants to keep the leases' time.
    LeasesClaimed {
        /// Whether it does now: this claim, or an earlier attempt at the same, is the latest.
        held: bool,
    },
    /// Leases are gone.
    LeasesRevoked {
        /// Those that were there.
        ids: Vec<i64>,
    },
    /// The alarms that were asked for, raised or taken back.
    Alarms(Vec<AlarmMember>),
    /// The members after a change.
    Members(Vec<Member>),
}
