//! The outcome of an entry, for the caller that proposed it on this member.

use bytes::Bytes;
use synod_proto::etcd::etcdserverpb::{AlarmMember, Member, TxnResponse, response_op::Response};

use crate::error::Error;

/// The result of one entry.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The term in which the entry was appended, or last accepted with Multi-Paxos. It may differ
    /// between members.
    pub(crate) term: u64,
    /// The store's revision after the entry.
    pub(crate) revision: i64,
    /// The reply, or why the entry had no effect. The same on all members.
    pub(crate) result: Result<Reply, Error>,
}

impl Outcome {
    /// The size of the pairs that it returns, in bytes.
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

/// The answer to a command, without the header.
#[derive(Debug)]
pub(crate) enum Reply {
    /// No answer: no-ops and checkpoints.
    Done,
    /// A put.
    Put {
        /// The replaced record, encoded, if the request asks for it.
        prev_kv: Option<Bytes>,
    },
    /// A delete.
    Deleted {
        /// How many keys.
        count: i64,
        /// The deleted records, encoded, if the request asks for them.
        prev_kvs: Vec<Bytes>,
    },
    /// A transaction.
    Txn(Box<TxnResponse>),
    /// A compaction. The rows are deleted in the background.
    Compacted,
    /// A new lease.
    LeaseGranted {
        /// Its id.
        id: i64,
        /// Its time to live in seconds.
        ttl: i64,
    },
    /// A leader claimed to keep the leases' time.
    LeasesClaimed {
        /// Whether it keeps it now: no later claim of another leader came first.
        held: bool,
    },
    /// Leases were revoked.
    LeasesRevoked {
        /// The leases that existed.
        ids: Vec<i64>,
    },
    /// A token is known to this member.
    TokenGranted {
        /// The index of the entry, which the token names.
        index: u64,
    },
    /// The alarms that were listed, raised or disarmed.
    Alarms(Vec<AlarmMember>),
    /// The members after a change.
    Members(Vec<Member>),
}
