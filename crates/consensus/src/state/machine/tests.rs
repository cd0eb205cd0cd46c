use std::time::Duration;

use prost::Message as _;
use synod_consensus_core::{ConfigCommand, EntryFields, EntryKind};
use synod_lease::LeasePolicy;
use synod_proto::consensus::v1::{Command, SetClusterVersion, command::Command as Kind};
use synod_proto::etcd::etcdserverpb as pb;
use synod_runtime::metrics::Registry;
use synod_types::{Ballot, Index, RequestId};
use synod_watch::{StoreHistory, WatchHub, WatchLimits};
use tempfile::TempDir;

use super::*;
use crate::state::Reply;

const MEMBER: NodeId = NodeId::new(1);
const LEVEL: u32 = 7;

struct Fixture {
    machine: Machine,
    next: u64,
    _hub: WatchHub,
    _dir: TempDir,
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
        let engine = synod_consensus_core::Algorithm::Raft;
        let listeners = Listeners {
            watch: hub.handle(),
            peers: PeerBook::new(),
            metrics: Metrics::new(&Registry::new(), 0, "1", engine).unwrap(),
        };
        Self {
            machine: state.connect(leases, listeners, Arc::default()),
            next: 1,
            _hub: hub,
            _dir: dir,
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
        };
        self.entry(EntryKind::Normal, command.encode_to_vec())
    }

    /// Applies what the machine takes in one call. Returns what is left.
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
    // Small entries, each of which returns a quarter of a batch.
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
    // Small entries that displace large values.
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
    // The core has made the change: a restart must find it.
    let applied = fixture.machine.applied().membership;
    assert!(applied.contains(NodeId::new(2)));
}
