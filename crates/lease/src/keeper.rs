//! The task that makes time count: when this node becomes the leader it claims the leases' time by
//! an entry and starts the clocks, proposes to revoke what ran out and to record what is left, and
//! stops when another node leads.

use std::time::{Duration, Instant};

use synod_proto::consensus::v1::{LeaseCheckpoint, LeaseClaim, LeaseRevoke};
use synod_proto::etcd::etcdserverpb as pb;
use synod_runtime::shutdown::Shutdown;
use synod_runtime::{clock, random};
use tokio::sync::watch;

use crate::error::LeaseError;
use crate::host::Host;
use crate::leases::{Leases, NotLeading};

/// The pause after a proposal that failed or did nothing.
const RETRY: Duration = Duration::from_millis(200);

/// Keeps this node's leases until `stop`.
pub async fn keep<H: Host>(host: &H, leases: &Leases, stop: &Shutdown) {
    let mut role = host.watch_leadership();
    loop {
        let term = H::term_led(&role.borrow_and_update());
        if let Some(term) = term {
            // Stopping comes first, then the loss of leadership: nothing is proposed after either.
            let next = tokio::select! {
                biased;
                () = stop.triggered() => None,
                changed = until_over::<H>(&mut role, term) => changed.ok(),
                NotLeading = keep_term(host, leases, term) => Some(()),
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
pub async fn checkpoint_all<H: Host>(
    host: &H,
    leases: &Leases,
    deadline: Instant,
) -> Result<(), H::Error> {
    let term = *leases.keeping().borrow();
    if leases.record_all(term).is_err() {
        return Ok(());
    }
    while let Ok(due) = leases.due(term) {
        if due.record.is_empty() {
            break;
        }
        record(host, term, due.record, deadline).await?;
    }
    Ok(())
}

/// Writes what is left of leases; zero seconds take a record back.
///
/// # Errors
/// Why not. An entry that comes after another leader's claim has no effect and is no error.
pub(crate) async fn record<H: Host>(
    host: &H,
    term: u64,
    records: Vec<(i64, i64)>,
    deadline: Instant,
) -> Result<(), H::Error> {
    let checkpoints = records
        .into_iter()
        .map(|(id, remaining_ttl)| pb::LeaseCheckpoint { id, remaining_ttl })
        .collect();
    let member = host.member().get();
    let command = LeaseCheckpoint {
        checkpoints,
        term,
        member,
    };
    host.checkpoint(command, deadline).await
}

/// Resolves when this member does not lead in `term` any more.
async fn until_over<H: Host>(
    role: &mut watch::Receiver<H::Leadership>,
    term: u64,
) -> Result<(), watch::error::RecvError> {
    let over = |now: &H::Leadership| H::term_led(now) != Some(term);
    role.wait_for(over).await.map(|_| ())
}

async fn keep_term<H: Host>(host: &H, leases: &Leases, term: u64) -> NotLeading {
    claim(host, term).await;
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
        let deadline = clock::now() + host.request_timeout();
        let recorded = match due.record.is_empty() {
            true => Ok(()),
            false => record(host, term, due.record, deadline)
                .await
                .map_err(LeaseError::Host),
        };
        let revoked = match due.revoke.is_empty() {
            true => Ok(()),
            false => revoke(host, term, due.revoke, deadline).await,
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
async fn claim<H: Host>(host: &H, term: u64) {
    let member = host.member().get();
    loop {
        let deadline = clock::now() + host.request_timeout();
        match host.claim(LeaseClaim { term, member }, deadline).await {
            Ok(true) => return,
            Ok(false) => tracing::debug!(term, "a later leader keeps the leases"),
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

async fn revoke<H: Host>(
    host: &H,
    term: u64,
    ids: Vec<i64>,
    deadline: Instant,
) -> Result<(), LeaseError<H::Error>> {
    let count = ids.len();
    let command = LeaseRevoke {
        ids,
        expired_in_term: term,
        expired_by: host.member().get(),
    };
    let any = host.revoke(command, deadline).await;
    if !any.map_err(LeaseError::Host)? {
        // Another term began in between: whoever leads now decides anew.
        return Err(LeaseError::LeaderChanged);
    }
    tracing::debug!(count, term, "revoked leases that ran out");
    Ok(())
}
