//! Clients are told what the log says. Acknowledged writes are committed with this outcome, and
//! reads return the state at the index from which they were served.

use synod_types::Index;

use super::{Agreement, Check, Invariant};
use crate::command::{Applied, Key, OpId, Value};

pub(crate) const RULE: Invariant = Invariant {
    name: "client-answers",
    source: "Raft §8; etcd API guarantees: durability; DESIGN §1: an acknowledged write survives",
};

/// A write was acknowledged.
pub(crate) fn check_write(
    agreement: &Agreement,
    op: OpId,
    index: Index,
    applied: Applied,
) -> Check {
    let expected = agreement.outcome(index);
    RULE.ensure(expected == Some(applied), || {
        format!("{op:?} was answered {applied:?} at {index}, the log says {expected:?}")
    })
}

/// A read of any kind was answered from the state at `index`.
pub(crate) fn check_read(
    agreement: &Agreement,
    op: OpId,
    index: Index,
    key: Key,
    found: Option<Value>,
) -> Check {
    let expected = agreement.value_at(index, key);
    RULE.ensure(expected == found && index <= agreement.last(), || {
        format!("{op:?} read {found:?} of key {key} at {index}, the log says {expected:?}")
    })
}
