//! What only Multi-Paxos says.

use synod_consensus_core::{Body, Handover, TransferEpoch};
use synod_proto::replica::v1 as wire;
use synod_types::{Ballot, Index, LogPosition};
use wire::message::Body as WireBody;

use super::{
    WireError, entries_from_wire, entries_to_wire, meta_from_wire, meta_to_wire,
    parts::{ballot_from_wire, ballot_to_wire},
};

/// The wire form of a Multi-Paxos body; anything else says nothing.
pub(super) fn to_wire(body: Body) -> WireBody {
    if let Body::Prepare { from, transfer } = body {
        let transfer = transfer.map(|handover| wire::Handover {
            by: ballot_to_wire(handover.by),
            transfers: handover.transfers.0,
        });
        let from = from.get();
        return WireBody::Prepare(wire::Prepare { from, transfer });
    }
    if let Body::Promise {
        from,
        commit,
        entries,
        next,
        snapshot,
    } = body
    {
        return WireBody::Promise(wire::Promise {
            from: from.get(),
            commit: commit.get(),
            entries: entries_to_wire(before(from), entries),
            next: next.map(Index::get),
            snapshot: snapshot.as_deref().map(meta_to_wire),
        });
    }
    if let Body::Accept {
        prev,
        entries,
        commit,
    } = body
    {
        let ballot = entries.first().map_or(Ballot::ZERO, |first| first.ballot);
        let mut entries = entries_to_wire(at(prev, ballot), entries);
        for entry in &mut entries {
            // That of the message.
            entry.node = 0;
        }
        return WireBody::Accept(wire::Accept {
            prev: prev.get(),
            entries,
            commit: commit.get(),
        });
    }
    if let Body::Accepted { upto } = body {
        return WireBody::Accepted(wire::Accepted { upto: upto.get() });
    }
    if let Body::Gap { prev, held } = body {
        let (prev, held) = (prev.get(), held.get());
        return WireBody::Gap(wire::Gap { prev, held });
    }
    WireBody::Nack(wire::Nack {})
}

pub(super) fn from_wire(ballot: Ballot, body: WireBody) -> Result<Body, WireError> {
    if let WireBody::Prepare(prepare) = body {
        return Ok(Body::Prepare {
            from: Index::new(prepare.from),
            transfer: prepare.transfer.map(|handover| Handover {
                by: ballot_from_wire(handover.by.unwrap_or_default()),
                transfers: TransferEpoch(handover.transfers),
            }),
        });
    }
    if let WireBody::Promise(promise) = body {
        let from = Index::new(promise.from);
        return Ok(Body::Promise {
            from,
            commit: Index::new(promise.commit),
            entries: entries_from_wire(before(from), promise.entries)?,
            next: promise.next.map(Index::new),
            snapshot: promise
                .snapshot
                .map(meta_from_wire)
                .transpose()?
                .map(Box::new),
        });
    }
    if let WireBody::Accept(mut accept) = body {
        let prev = Index::new(accept.prev);
        for entry in &mut accept.entries {
            entry.node = ballot.node;
        }
        return Ok(Body::Accept {
            prev,
            entries: entries_from_wire(at(prev, ballot), accept.entries)?,
            commit: Index::new(accept.commit),
        });
    }
    if let WireBody::Accepted(accepted) = body {
        let upto = Index::new(accepted.upto);
        return Ok(Body::Accepted { upto });
    }
    if let WireBody::Gap(gap) = body {
        return Ok(Body::Gap {
            prev: Index::new(gap.prev),
            held: Index::new(gap.held),
        });
    }
    Ok(Body::Nack)
}

fn at(index: Index, ballot: Ballot) -> LogPosition {
    LogPosition { ballot, index }
}

fn before(from: Index) -> LogPosition {
    at(from.prev(), Ballot::ZERO)
}
