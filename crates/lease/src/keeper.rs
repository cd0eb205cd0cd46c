//! The task that keeps leases on the leader. When this node becomes the leader, it claims the
//! leases through an entry and starts their clocks. Then it proposes to revoke expired leases and
//! to record remaining times. It stops when another node leads.

use std::time::{Duration, Instant};

use synod_proto::consensus::v1::{LeaseCheckpoint, LeaseClaim, LeaseRevoke};
use synod_proto::etcd::etcdserverpb as pb;
use synod_runtime::shutdown::Shutdown;
use synod_runtime::{clock, random};
use tokio::sync::watch;

use crate::error::LeaseError;
use crate::host::Host;
use crate::leases::{Leases, NotLeading};

/// The delay after a proposal that failed or had no effect.
const RETRY: Duration = Duration::from_millis(200);

/// Keeps this node's leases until `stop`.
pub async fn keep<H: Host>(host: &H, leases: &Leases, stop: &Shutdown) {
    let mut role = host.watch_leadership();
    loop {
        let term = H::term_led(&role.borrow_and_update());
        if let Some(term) = term {
            // Stopping has priority, then the loss of leadership: nothing is proposed after either.
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

/// Records the remaining time of all leases before leadership is handed over, so that they don't
/// last longer than granted.
///
/// # Errors
/// The reason why it could not be recorded. Handing over is still safe; leases then last longer.
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

/// Records the remaining time of leases; zero seconds delete a record.
///
/// # Errors
/// The reason for the failure. If the entry comes after another leader's claim, it has no effect;
/// that is not an error.
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

/// Resolves when this member no longer leads in `term`.
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
            tracing::debug!(%error, term, "could not update leases; retrying");
            clock::sleep(random::jitter(RETRY)).await;
        }
    }
}

/// Claims the leases for this leader, which voids entries based on earlier leaders' clocks. The
/// clocks start only after the claim is applied, so a lease that is renewed here can't be revoked
/// by an older entry. Resolves once the claim is in force. If a later leader's claim is in force it
/// never resolves; this node then learns about that leader.
async fn claim<H: Host>(host: &H, term: u64) {
    let member = host.member().get();
    loop {
        let deadline = clock::now() + host.request_timeout();
        match host.claim(LeaseClaim { term, member }, deadline).await {
            Ok(true) => return,
            Ok(false) => tracing::debug!(term, "a later leader's claim is in force"),
            Err(error) => {
                tracing::debug!(%error, term, "could not claim leases; retrying");
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
    // Either event leads to the same check for due work.
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
        // Another term began in between. Its leader decides anew.
        return Err(LeaseError::LeaderChanged);
    }
    tracing::debug!(count, term, "revoked expired leases");
    Ok(())
}
