use std::time::Duration;

use prost::Message as _;
use synod_auth::AuthConfig;
use synod_consensus_core::{ConfigCommand, EntryFields, EntryKind};
use synod_lease::LeasePolicy;
use synod_proto::consensus::v1::{Command, SetClusterVersion, command::Command as Kind};
use synod_proto::etcd::etcdserverpb as pb;
use synod_replica::SnapshotSink as _;
use synod_runtime::metrics::Registry;
use synod_types::{Ballot, Index, RequestId};
use synod_watch::{StoreHistory, WatchHub, WatchLimits};
use tempfile::TempDir;

use super::*;
use crate::state::{Reply, create::create, txn};

mod deletions;
mod hostile;
mod users;

const MEMBER: NodeId = NodeId::new(1);
const LEVEL: u32 = 7;

struct Fixture {
    machine: Machine,
    next: u64,
    /// The engine's directory.
    dir: PathBuf,
    _hub: WatchHub,
    _temp: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = MachineConfig {
            dir: dir.path().join("engine"),
            cache_bytes: 1 << 20,
            member: MEMBER,
            feature_level: LEVEL,
        };
        let member = pb::Member {
            id: MEMBER.get(),
            ..Default::default()
        };
        let start = SnapshotMeta {
            membership: Membership::of([MEMBER]),
            ..Default::default()
        };
        create(&config, &Roster::of([member]), &start, None).unwrap();
        let state = OpenState::open(config).unwrap();
        let limits = WatchLimits::default();
        let history = Arc::new(StoreHistory::new(state.reader(), &limits));
        let hub = WatchHub::start(history, limits).unwrap();
        let policy = LeasePolicy::new(Duration::from_secs(1));
        let leases = Arc::new(Leases::new(policy, [], Keeper::default()));
        let auth = Auth::new(&AuthConfig::default(), state.users().clone()).unwrap();
        let auth = Arc::new(auth);
        let algorithm = synod_consensus_core::Algorithm::Raft;
        let listeners = Listeners {
            deletions: Deletions::default(),
            watch: hub.handle(),
            peers: PeerBook::new(),
            metrics: Metrics::new(&Registry::new(), 0, "1", algorithm).unwrap(),
        };
        Self {
            machine: state.connect(leases, auth, listeners, Arc::default()),
            next: 1,
            dir: dir.path().join("engine"),
            _hub: hub,
            _temp: dir,
        }
    }

    fn entry(&mut self, kind: EntryKind, data: impl Into<Bytes>) -> Entry {
        let index = Index::new(self.next);
        self.next += 1;
        EntryFields {
            index,
            ballot: Ballot::term(1),
            id: RequestId::NONE,
            kind,
            data: data.into(),
        }
        .into()
    }

    fn command(&mut self, kind: Kind) -> Entry {
        let command = Command {
            command: Some(kind),
            requester: None,
        };
        self.entry(EntryKind::Normal, command.encode_to_vec())
    }

    /// Takes over a peer's state.
    fn install(&mut self, source: &dyn SnapshotSource) {
        let meta = source.meta().clone();
        let mut sink = self.machine.begin_install(meta).unwrap();
        let mut resume = Some(Bytes::new());
        while let Some(after) = resume {
            let chunk = source.read(&after, 1 << 20).unwrap();
            sink.write(chunk.data).unwrap();
            resume = chunk.resume;
        }
        sink.finish().unwrap();
        self.machine.install(sink).unwrap();
    }

    /// Calls `apply` once. Returns the entries that it left, and the outcomes.
    fn apply(&mut self, entries: Vec<Entry>) -> Result<(Vec<Entry>, Vec<Outcome>), ApplyError> {
        let (mut entries, mut outcomes) = (entries.into_iter(), Vec::new());
        self.machine.apply(&mut entries, &mut outcomes)?;
        Ok((entries.collect(), outcomes))
    }
}

fn put(key: &str, value_bytes: usize) -> Kind {
    Kind::Put(pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: vec![7; value_bytes].into(),
        ..Default::default()
    })
}

#[test]
fn a_batch_ends_when_its_answers_or_its_changes_are_large() {
    let mut fixture = Fixture::new();
    let value = MAX_BATCH_BYTES / 4;
    let first = fixture.command(put("k", value));
    fixture.apply(vec![first]).unwrap();
    // Small entries that return a quarter of a batch each.
    let read = || {
        Kind::Txn(pb::TxnRequest {
            success: vec![pb::RequestOp {
                request: Some(pb::request_op::Request::RequestRange(pb::RangeRequest {
                    key: "k".into(),
                    ..Default::default()
                })),
            }],
            ..Default::default()
        })
    };
    let mut entries: Vec<_> = (0..10).map(|_| fixture.command(read())).collect();
    let mut calls = Vec::new();
    while !entries.is_empty() {
        let (rest, outcomes) = fixture.apply(entries).unwrap();
        calls.push(outcomes.len());
        entries = rest;
    }
    assert!(
        calls.len() >= 3 && calls.iter().all(|n| *n <= 4),
        "{calls:?}"
    );
    assert_eq!(calls.iter().sum::<usize>(), 10);
    assert_eq!(fixture.machine.applied().last.index, Index::new(11));
    // Small entries that replace large values.
    let keys = ["a", "b", "c", "d", "e", "f"];
    for key in keys {
        let entry = fixture.command(put(key, value));
        fixture.apply(vec![entry]).unwrap();
    }
    let entries = keys.map(|key| fixture.command(put(key, 1))).to_vec();
    let (rest, outcomes) = fixture.apply(entries).unwrap();
    assert!(!rest.is_empty() && !outcomes.is_empty(), "{}", rest.len());
}

#[test]
fn a_level_that_this_release_lacks_stops_it_before_anything_is_applied() {
    let mut fixture = Fixture::new();
    let raise = |feature_level| {
        Kind::SetClusterVersion(SetClusterVersion {
            version: "3.7.0".to_owned(),
            feature_level,
        })
    };
    let entry = fixture.command(raise(LEVEL));
    fixture.apply(vec![entry]).unwrap();
    assert_eq!(fixture.machine.view().roster().feature_level(), LEVEL);
    let entry = fixture.command(raise(LEVEL + 1));
    let error = fixture.apply(vec![entry]).unwrap_err().to_string();
    assert!(error.contains("start a newer release"), "{error}");
    assert_eq!(fixture.machine.applied().last.index, Index::new(1));
}

#[test]
fn a_change_of_members_with_an_undecodable_context_changes_no_roster_and_stops_nobody() {
    let mut fixture = Fixture::new();
    let command = ConfigCommand {
        membership: Membership::of([MEMBER, NodeId::new(2)]),
        context: Bytes::from_static(&[0xff; 9]),
    };
    let entries = vec![
        fixture.entry(EntryKind::Config, command.encode()),
        fixture.command(put("after", 1)),
    ];
    let (rest, outcomes) = fixture.apply(entries).unwrap();
    assert!(rest.is_empty());
    assert_eq!(
        outcomes[0].result.as_ref().unwrap_err(),
        &crate::Error::Undecodable
    );
    assert!(matches!(outcomes[1].result, Ok(Reply::Put { .. })));
    assert_eq!(fixture.machine.view().roster().members().count(), 1);
    // The core has made the change, so a restart must find it.
    let applied = fixture.machine.applied().membership;
    assert!(applied.contains(NodeId::new(2)));
}

/// Puts keys, each a quarter of what one command may delete.
fn fill(fixture: &mut Fixture, keys: usize, lease: i64) {
    for number in 0..keys {
        let Kind::Put(put) = put(&format!("d{number}"), txn::MAX_DELETE_BYTES / 4) else {
            unreachable!("a put");
        };
        let entry = fixture.command(Kind::Put(pb::PutRequest { lease, ..put }));
        let (_, outcomes) = fixture.apply(vec![entry]).unwrap();
        assert!(outcomes[0].result.is_ok());
    }
}

fn raise_level(fixture: &mut Fixture, feature_level: u32) {
    let entry = fixture.command(Kind::SetClusterVersion(SetClusterVersion {
        version: "3.7.0".to_owned(),
        feature_level,
    }));
    fixture.apply(vec![entry]).unwrap();
}

fn delete_all() -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: "d".into(),
        range_end: "e".into(),
        ..Default::default()
    }
}

#[test]
fn a_command_that_deletes_much_is_alone_in_its_batch() {
    let mut fixture = Fixture::new();
    raise_level(&mut fixture, LEVEL);
    fill(&mut fixture, 5, 0);
    let before = fixture.machine.store.revision();
    let mut entries = vec![
        fixture.command(put("before", 1)),
        fixture.command(Kind::DeleteRange(delete_all())),
        // A deleted key: the put creates it again.
        fixture.command(put("d1", 1)),
        fixture.command(Kind::DeleteRange(pb::DeleteRangeRequest {
            key: "d2".into(),
            ..Default::default()
        })),
    ];
    let mut calls = Vec::new();
    let mut deleted = Vec::new();
    while !entries.is_empty() {
        let (rest, outcomes) = fixture.apply(entries).unwrap();
        calls.push(outcomes.len());
        deleted.extend(outcomes.iter().filter_map(|outcome| match &outcome.result {
            Ok(Reply::Deleted { count, prev_kvs }) => Some((*count, prev_kvs.len())),
            _ => None,
        }));
        entries = rest;
    }
    assert_eq!(calls, [1, 1, 2]);
    assert_eq!(deleted, [(5, 0), (0, 0)]);
    let view = fixture.machine.store.view();
    assert_eq!(view.revision(), before.plus(3));
    assert_eq!(view.key_count(), 2);
    let record = view.get(b"d1").unwrap().unwrap();
    let fields = synod_mvcc::KeyValueView::parse(&record).unwrap();
    assert_eq!((fields.version, fields.create), (1, view.revision()));
    // One revision, which is read in pieces.
    let deleted = before.plus(2);
    let page = view.events(deleted, deleted, None, 1).unwrap();
    assert!(page.is_next_large && page.next == Some(deleted));
}

#[test]
fn a_revocation_that_deletes_much_removes_the_lease_with_its_keys() {
    let mut fixture = Fixture::new();
    raise_level(&mut fixture, LEVEL);
    let grant = fixture.command(Kind::LeaseGrant(pb::LeaseGrantRequest { ttl: 60, id: 9 }));
    fixture.apply(vec![grant]).unwrap();
    fill(&mut fixture, 5, 9);
    let revoke = Kind::LeaseRevoke(synod_proto::consensus::v1::LeaseRevoke {
        ids: vec![9, 9, 10],
        ..Default::default()
    });
    let mut entries = vec![
        fixture.command(put("before", 1)),
        fixture.command(revoke),
        fixture.command(Kind::DeleteRange(delete_all())),
    ];
    let mut revoked = Vec::new();
    let mut calls = Vec::new();
    while !entries.is_empty() {
        let (rest, outcomes) = fixture.apply(entries).unwrap();
        calls.push(outcomes.len());
        for outcome in outcomes {
            if let Ok(Reply::LeasesRevoked { ids }) = outcome.result {
                revoked.extend(ids);
            }
        }
        entries = rest;
    }
    assert_eq!((revoked, calls), (vec![9], vec![1, 1, 1]));
    assert!(!fixture.machine.leases.contains(9));
    let view = fixture.machine.store.view();
    assert_eq!(view.key_count(), 1);
    assert_eq!(view.leases().unwrap().len(), 0);
}

#[test]
fn a_transaction_that_deletes_much_is_refused_once_all_members_know_that() {
    let mut fixture = Fixture::new();
    fill(&mut fixture, 5, 0);
    let txn = || {
        Kind::Txn(pb::TxnRequest {
            success: vec![pb::RequestOp {
                request: Some(pb::request_op::Request::RequestDeleteRange(delete_all())),
            }],
            ..Default::default()
        })
    };
    raise_level(&mut fixture, LEVEL);
    let entry = fixture.command(txn());
    let (_, outcomes) = fixture.apply(vec![entry]).unwrap();
    assert_eq!(
        outcomes[0].result.as_ref().unwrap_err(),
        &crate::Error::DeleteTooLarge {
            largest: txn::MAX_DELETE_BYTES
        }
    );
    assert_eq!(fixture.machine.store.view().key_count(), 5);
    // Below that level it is one write of the engine, as before.
    let mut fixture = Fixture::new();
    fill(&mut fixture, 5, 0);
    let entry = fixture.command(txn());
    let (_, outcomes) = fixture.apply(vec![entry]).unwrap();
    assert!(outcomes[0].result.is_ok());
    let view = fixture.machine.store.view();
    assert_eq!(view.key_count(), 0);
    let page = view.events(view.revision(), view.revision(), None, 1);
    assert!(!page.unwrap().is_next_large);
}

#[test]
fn a_deletion_that_returns_what_it_deletes_is_bounded_by_the_number_of_keys_too() {
    let mut fixture = Fixture::new();
    raise_level(&mut fixture, LEVEL);
    // Together just under what a write may return; with their overhead more than it may delete.
    for key in ["d0", "d1", "d2", "d3"] {
        let entry = fixture.command(put(key, txn::MAX_REPLY_BYTES / 4 - 128));
        fixture.apply(vec![entry]).unwrap();
    }
    let returned = |prev_kv| {
        Kind::DeleteRange(pb::DeleteRangeRequest {
            prev_kv,
            ..delete_all()
        })
    };
    let entry = fixture.command(returned(true));
    let (_, outcomes) = fixture.apply(vec![entry]).unwrap();
    assert_eq!(
        outcomes[0].result.as_ref().unwrap_err(),
        &crate::Error::DeleteTooLarge {
            largest: txn::MAX_DELETE_BYTES
        }
    );
    assert_eq!(fixture.machine.store.view().key_count(), 4);
    let entry = fixture.command(returned(false));
    fixture.apply(vec![entry]).unwrap();
    assert_eq!(fixture.machine.store.view().key_count(), 0);
}

#[test]
fn what_was_there_before_an_installation_stays_while_somebody_reads_it() {
    let mut leader = Fixture::new();
    let entry = leader.command(put("k", 1));
    leader.apply(vec![entry]).unwrap();
    let source = leader.machine.snapshot().unwrap();

    let mut fixture = Fixture::new();
    // So much that it is read from tables and not from memory.
    for number in 0..40 {
        let entry = fixture.command(put(&format!("old{number:02}"), 1 << 20));
        fixture.apply(vec![entry]).unwrap();
    }
    let old = fixture.machine.store.view();
    fixture.install(&*source);

    let generations = || {
        let entries = std::fs::read_dir(&fixture.dir).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("gen-")).count()
    };
    fixture.machine.drop_retired();
    assert_eq!(generations(), 2);
    let all = synod_mvcc::RangeQuery::new(synod_mvcc::KeyRange::all());
    assert_eq!(old.range(&all).unwrap().kvs.len(), 40);
    drop(old);
    fixture.machine.drop_retired();
    assert_eq!(generations(), 1);
}
