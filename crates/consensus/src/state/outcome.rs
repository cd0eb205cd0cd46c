//! What applying an entry tells whoever proposed it here.

use bytes::Bytes;
use synod_proto::etcd::etcdserverpb::{AlarmMember, Member, TxnResponse, response_op::Response};

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

impl Outcome {
    /// Bytes of the pairs that it returns.
    pub(crate) fn pair_bytes(&self) -> usize {
        match &self.result {
            Ok(Reply::Put { prev_kv }) => sum(prev_kv),
            Ok(Reply::Deleted { prev_kvs, .. }) => sum(prev_kvs),
            Ok(Reply::Txn(response)) => txn_pair_bytes(response),
            Ok(
                Reply::Done
                | Reply::Compacted
                | Reply::LeaseGranted { .. }
                | Reply::LeasesClaimed { .. }
                | Reply::LeasesRevoked { .. }
                | Reply::TokenGranted { .. }
                | Reply::Alarms(_)
                | Reply::Members(_),
            )
            | Err(_) => 0,
        }
    }
}

fn txn_pair_bytes(response: &TxnResponse) -> usize {
    let responses = response.responses.iter();
    let bytes = responses.map(|op| match &op.response {
        Some(Response::ResponseRange(range)) => sum(&range.kvs),
        Some(Response::ResponsePut(put)) => sum(&put.prev_kv),
        Some(Response::ResponseDeleteRange(deleted)) => sum(&deleted.prev_kvs),
        Some(Response::ResponseTxn(child)) => txn_pair_bytes(child),
        None => 0,
    });
    bytes.sum()
}

fn sum<'a>(pairs: impl IntoIterator<Item = &'a Bytes>) -> usize {
    pairs.into_iter().map(Bytes::len).sum()
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
    /// A token is known to this member.
    TokenGranted {
        /// The index of the entry, which the token names.
        #[cfg_attr(
            not(test),
            expect(dead_code, reason = "for the Auth service, which is to come")
        )]
        index: u64,
    },
    /// The alarms that were asked for, raised or taken back.
    Alarms(Vec<AlarmMember>),
    /// The members after a change.
    Members(Vec<Member>),
}
