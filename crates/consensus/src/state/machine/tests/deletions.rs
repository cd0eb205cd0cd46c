//! Every kind of deletion wakes the tasks that wait for it, once the keyspace shows the deletion.

use futures::FutureExt as _;
use synod_watch::Interested;

use super::*;

fn waiting_for(fixture: &Fixture, key: &'static str) -> Interested {
    let deletions = &fixture.machine.listeners.deletions;
    deletions.of(vec![Bytes::from_static(key.as_bytes())])
}

fn is_woken(waiter: &Interested) -> bool {
    waiter.deleted().now_or_never().is_some()
}

/// Applies a command, in batches of its own.
fn apply(fixture: &mut Fixture, kind: Kind) {
    let mut entries = vec![fixture.command(kind)];
    while !entries.is_empty() {
        (entries, _) = fixture.apply(entries).unwrap();
    }
}

fn grant(fixture: &mut Fixture) {
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 9 };
    apply(fixture, Kind::LeaseGrant(grant));
}

fn revoke(fixture: &mut Fixture) {
    let revoke = synod_proto::consensus::v1::LeaseRevoke {
        ids: vec![9],
        ..Default::default()
    };
    apply(fixture, Kind::LeaseRevoke(revoke));
}

#[test]
fn a_deletion_and_the_end_of_a_lease_wake() {
    let mut fixture = Fixture::new();
    apply(&mut fixture, put("k", 1));
    let waiter = waiting_for(&fixture, "k");
    apply(&mut fixture, put("k", 1));
    assert!(!is_woken(&waiter));
    let delete = pb::DeleteRangeRequest {
        key: "k".into(),
        ..Default::default()
    };
    apply(&mut fixture, Kind::DeleteRange(delete));
    assert!(is_woken(&waiter));

    grant(&mut fixture);
    fill(&mut fixture, 1, 9);
    let waiter = waiting_for(&fixture, "d0");
    revoke(&mut fixture);
    assert!(is_woken(&waiter));
}

/// Their events are not in memory.
#[test]
fn a_large_deletion_and_an_installation_wake() {
    let mut fixture = Fixture::new();
    raise_level(&mut fixture, LEVEL);
    grant(&mut fixture);
    fill(&mut fixture, 5, 9);
    let waiter = waiting_for(&fixture, "d3");
    revoke(&mut fixture);
    assert!(is_woken(&waiter));

    let mut leader = Fixture::new();
    apply(&mut leader, put("other", 1));
    let source = leader.machine.snapshot().unwrap();
    let waiter = waiting_for(&fixture, "d4");
    fixture.install(&*source);
    assert!(is_woken(&waiter));
}
