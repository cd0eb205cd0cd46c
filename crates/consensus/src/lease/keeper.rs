//! The task that makes time count: when this node becomes the leader it claims the leases' time by
//! an entry and starts the clocks, proposes to revoke what ran out and to record what is left, and
//! stops when another node leads.

use std::time::{Duration, Instant};

use synod_consensus_core::Role;
use synod_proto::consensus::v1::{Command, LeaseCheckpoint, LeaseClaim, LeaseRevoke, command};
use synod_proto::etcd::etcdserverpb as pb;
use synod_replica::Leadership;
use synod_runtime::shutdown::Shutdown;
use synod_runtime::{clock, random};
use tokio::sync::watch;

use super::shared::{Leases, NotLeading};
use crate::error::Error;
use crate::shared::Shared;
use crate::state::Reply;

/// The pause after a proposal that failed or did nothing.
const RETRY: Duration = Duration::from_millis(200);

/// Keeps this node's leases until `stop`.
pub(crate) async fn keep(shared: &Shared, leases: &Leases, stop: &Shutdown) {
    let mut role = shared.replica.watch_role();
    loop {
        let now = *role.borrow_and_update();
        let term = now.ballot.round;
        if now.role == Role::Leader {
            // Stopping comes first, then the loss of leadership: nothing is proposed after either.
            let next = tokio::select! {
                biased;
                () = stop.triggered() => None,
                changed = until_changed(&mut role, now) => changed.ok(),
                NotLeading = keep_term(shared, leases, term) => Some(()),
            };
            leases.follow();
            if next.is_none() {
                return;
            }
            continue;
        }
        tokio::select! {
            biased;
            () = stop.triggered() => return,
            changed = role.changed() => if changed.is_err() { return },
        }
    }
}

/// Before the leadership is handed over: records what is left of all leases, so that they end in
/// time.
///
/// # Errors
/// Why it could not be recorded; handing over is safe all the same, leases then last longer.
pub(crate) async fn checkpoint_all(
    shared: &Shared,
    leases: &Leases,
    deadline: Instant,
) -> Result<(), Error> {
    let term = *leases.keeping().borrow();
    if leases.record_all(term).is_err() {
        return Ok(());
    }
    while let Ok(due) = leases.due(term) {
        if due.record.is_empty() {
            break;
        }
        record(shared, term, due.record, deadline).await?;
    }
    Ok(())
}

/// Writes what is left of leases; zero seconds take a record back.
///
/// # Errors
/// Why not. An entry that comes after another leader's claim has no effect and is no error.
pub(super) async fn record(
    shared: &Shared,
    term: u64,
    records: Vec<(i64, i64)>,
    deadline: Instant,
) -> Result<(), Error> {
    let checkpoints = records
        .into_iter()
        .map(|(id, remaining_ttl)| pb::LeaseCheckpoint { id, remaining_ttl })
        .collect();
    let member = shared.member.get();
    let command = LeaseCheckpoint {
        checkpoints,
        term,
        member,
    };
    let command = Command {
        command: Some(command::Command::LeaseCheckpoint(command)),
    };
    shared.propose(&command, deadline).await.map(|_| ())
}

async fn until_changed(
    role: &mut watch::Receiver<Leadership>,
    from: Leadership,
) -> Result<(), watch::error::RecvError> {
    let moved = |now: &Leadership| now.role != from.role || now.ballot != from.ballot;
    role.wait_for(moved).await.map(|_| ())
}

async fn keep_term(shared: &Shared, leases: &Leases, term: u64) -> NotLeading {
    claim(shared, term).await;
    leases.lead(term);
    loop {
        let due = match leases.due(term) {
            Ok(due) => due,
            Err(not_leading) => return not_leading,
        };
        if due.revoke.is_empty() && due.record.is_empty() {
            wait(leases, due.next).await;
            continue;
        }
        let deadline = clock::now() + shared.settings.request_timeout;
        let recorded = match due.record.is_empty() {
            true => Ok(()),
            false => record(shared, term, due.record, deadline).await,
        };
        let revoked = match due.revoke.is_empty() {
            true => Ok(()),
            false => revoke(shared, term, due.revoke, deadline).await,
        };
        if let Err(error) = recorded.and(revoked) {
            tracing::debug!(%error, term, "leases could not be updated; trying again");
            clock::sleep(random::jitter(RETRY)).await;
        }
    }
}

/// Makes this node's findings count, and those of earlier leaders void. The clocks start only after
/// it was applied: whoever is given time here can't lose it to an entry of before. Resolves once it
/// holds; not at all where a later leader's does, of which this node hears sooner or later.
async fn claim(shared: &Shared, term: u64) {
    let member = shared.member.get();
    let command = Command {
        command: Some(command::Command::LeaseClaim(LeaseClaim { term, member })),
    };
    loop {
        let deadline = clock::now() + shared.settings.request_timeout;
        match shared.propose(&command, deadline).await {
            Ok(applied) if matches!(applied.reply, Reply::LeasesClaimed { held: true }) => return,
            Ok(_) => tracing::debug!(term, "a later leader keeps the leases"),
            Err(error) => {
                tracing::debug!(%error, term, "leases could not be claimed; trying again");
            }
        }
        clock::sleep(random::jitter(RETRY)).await;
    }
}

async fn wait(leases: &Leases, next: Option<Instant>) {
    let timer = async {
        match next {
            Some(next) => clock::sleep_until(next).await,
            None => std::future::pending().await,
        }
    };
    // Whichever comes first leads to the same look at what is due.
    tokio::select! {
        biased;
        () = leases.sooner() => {}
        () = timer => {}
    }
}

async fn revoke(shared: &Shared, term: u64, ids: Vec<i64>, deadline: Instant) -> Result<(), Error> {
    let count = ids.len();
    let command = LeaseRevoke {
        ids,
        expired_in_term: term,
        expired_by: shared.member.get(),
    };
    let command = Command {
        command: Some(command::Command::LeaseRevoke(command)),
    };
    let reply = shared.propose(&command, deadline).await?.reply;
    if matches!(reply, Reply::LeasesRevoked { ids } if ids.is_empty()) {
        // Another term began in between: whoever leads now decides anew.
        return Err(Error::LeaderChanged);
    }
    tracing::debug!(count, term, "revoked leases that ran out");
    Ok(())
}
