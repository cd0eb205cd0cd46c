//! Converts the messages of Multi-Paxos.

use synod_consensus_core::{Handover, PaxosBody, TransferEpoch};
use synod_proto::replica::v1 as wire;
use synod_types::{Ballot, Index, LogPosition};
use wire::message::Body as WireBody;

use super::{
    WireError, entries_from_wire, entries_to_wire, meta_from_wire, meta_to_wire,
    parts::{ballot_from_wire, ballot_to_wire},
};

pub(super) fn to_wire(body: PaxosBody) -> WireBody {
    match body {
        PaxosBody::Prepare { from, transfer } => {
            let transfer = transfer.map(|handover| wire::Handover {
                by: ballot_to_wire(handover.by),
                transfers: handover.transfers.0,
            });
            let from = from.get();
            WireBody::Prepare(wire::Prepare { from, transfer })
        }
        PaxosBody::Promise {
            from,
            commit,
            entries,
            next,
            snapshot,
        } => WireBody::Promise(wire::Promise {
            from: from.get(),
            commit: commit.get(),
            entries: entries_to_wire(before(from), entries),
            next: next.map(Index::get),
            snapshot: snapshot.as_deref().map(meta_to_wire),
        }),
        PaxosBody::Nack => WireBody::Nack(wire::Nack {}),
        PaxosBody::Accept {
            prev,
            entries,
            commit,
        } => {
            let ballot = entries.first().map_or(Ballot::ZERO, |first| first.ballot);
            let mut entries = entries_to_wire(at(prev, ballot), entries);
            for entry in &mut entries {
                // The message carries the ballot, so the entry doesn't.
                entry.node = 0;
            }
            WireBody::Accept(wire::Accept {
                prev: prev.get(),
                entries,
                commit: commit.get(),
            })
        }
        PaxosBody::Accepted { upto } => WireBody::Accepted(wire::Accepted { upto: upto.get() }),
        PaxosBody::Gap { prev, held } => {
            let (prev, held) = (prev.get(), held.get());
            WireBody::Gap(wire::Gap { prev, held })
        }
    }
}

pub(super) fn prepare_from_wire(prepare: wire::Prepare) -> PaxosBody {
    PaxosBody::Prepare {
        from: Index::new(prepare.from),
        transfer: prepare.transfer.map(|handover| Handover {
            by: ballot_from_wire(handover.by.unwrap_or_default()),
            transfers: TransferEpoch(handover.transfers),
        }),
    }
}

pub(super) fn promise_from_wire(promise: wire::Promise) -> Result<PaxosBody, WireError> {
    let from = Index::new(promise.from);
    let snapshot = promise.snapshot.map(meta_from_wire).transpose()?;
    Ok(PaxosBody::Promise {
        from,
        commit: Index::new(promise.commit),
        entries: entries_from_wire(before(from), promise.entries)?,
        next: promise.next.map(Index::new),
        snapshot: snapshot.map(Box::new),
    })
}

pub(super) fn accept_from_wire(
    ballot: Ballot,
    mut accept: wire::Accept,
) -> Result<PaxosBody, WireError> {
    let prev = Index::new(accept.prev);
    for entry in &mut accept.entries {
        entry.node = ballot.node;
    }
    Ok(PaxosBody::Accept {
        prev,
        entries: entries_from_wire(at(prev, ballot), accept.entries)?,
        commit: Index::new(accept.commit),
    })
}

fn at(index: Index, ballot: Ballot) -> LogPosition {
    LogPosition { ballot, index }
}

fn before(from: Index) -> LogPosition {
    at(from.prev(), Ballot::ZERO)
}
