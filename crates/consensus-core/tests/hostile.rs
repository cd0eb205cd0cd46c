//! Whatever peers and shells send, a core neither panics nor contradicts itself.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;

use bytes::Bytes;
use synod_consensus_core::{
    Algorithm, AppendOutcome, Body, Change, CommonBody, ConfigCommand, CoreConfig, Entry,
    EntryFields, EntryKind, ForwardToken, Handover, Input, MemberChange, Membership, Message,
    PaxosBody, Proposal, RaftBody, ReadContext, ReadMode, Rejected, Restored, SnapshotMeta,
    TransferEpoch, Write,
};
use synod_types::{Ballot, Index, LogPosition, NodeId, RequestId, SplitMix64, Tick, WriteSeq};

/// Generates random inputs for one algorithm. The tested core is node 1.
struct Rng(SplitMix64, Algorithm);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    fn index(&mut self) -> Index {
        Index::new(if self.below(50) == 0 {
            u64::MAX
        } else {
            self.below(8)
        })
    }

    fn ballot(&mut self) -> Ballot {
        Ballot {
            round: if self.below(200) == 0 {
                u64::MAX
            } else {
                self.below(6)
            },
            node: match self.1 {
                Algorithm::Raft => u64::from(self.below(200) == 0),
                Algorithm::MultiPaxos => self.below(2) * self.below(5) + 1,
            },
        }
    }

    fn position(&mut self) -> LogPosition {
        LogPosition {
            ballot: self.ballot(),
            index: self.index(),
        }
    }

    fn node(&mut self) -> NodeId {
        NodeId::new(self.below(6))
    }

    fn nodes(&mut self) -> BTreeSet<NodeId> {
        (0..self.below(4)).map(|_| self.node()).collect()
    }

    fn membership(&mut self) -> Membership {
        if self.below(2) == 0 {
            return Membership::of((1..=3).map(NodeId::new));
        }
        Membership {
            voters: self.nodes(),
            outgoing: self.nodes(),
            learners: self.nodes(),
            learners_next: self.nodes(),
        }
    }

    fn meta(&mut self) -> SnapshotMeta {
        SnapshotMeta {
            last: self.position(),
            membership: self.membership(),
        }
    }

    fn entries(&mut self, prev: LogPosition) -> Vec<Entry> {
        let mut at = prev;
        (0..self.below(4))
            .map(|_| {
                at.index = at.index.next();
                if self.below(3) == 0 {
                    at.ballot = at.ballot.max(self.ballot());
                }
                if self.below(40) == 0 {
                    at = self.position();
                }
                let (kind, data) = match self.below(4) {
                    0 => {
                        let membership = self.membership();
                        let context = Bytes::new();
                        (
                            EntryKind::Config,
                            ConfigCommand {
                                membership,
                                context,
                            }
                            .encode(),
                        )
                    }
                    1 => (EntryKind::Config, Bytes::from_static(b"damaged")),
                    _ => (EntryKind::Normal, Bytes::from_static(b"data")),
                };
                Entry::from(EntryFields {
                    index: at.index,
                    ballot: at.ballot,
                    id: RequestId::NONE,
                    kind,
                    data,
                })
            })
            .collect()
    }

    fn body(&mut self, ballot: Ballot) -> Body {
        if self.1 == Algorithm::MultiPaxos && self.below(2) == 0 {
            return self.paxos_body(ballot);
        }
        let token = ForwardToken {
            session: self.below(2),
            number: self.below(4),
        };
        let transfers = TransferEpoch(self.below(3));
        match self.below(17) {
            0 => Body::Common(CommonBody::PreVote {
                last: self.position(),
            }),
            1 => Body::Common(CommonBody::PreVoteReply {
                granted: self.below(2) == 0,
            }),
            2 => Body::Raft(RaftBody::Vote {
                last: self.position(),
                transfer: (self.below(2) == 0).then_some(transfers),
            }),
            3 | 4 => Body::Raft(RaftBody::VoteReply {
                granted: self.below(4) > 0,
            }),
            5..=7 => {
                let prev = self.position();
                let entries = self.entries(prev);
                Body::Raft(RaftBody::Append {
                    prev,
                    entries,
                    commit: self.index(),
                })
            }
            8 => Body::Raft(RaftBody::AppendReply {
                outcome: AppendOutcome::Matched(self.index()),
            }),
            9 => {
                let (at, hint) = (self.index(), self.position());
                Body::Raft(RaftBody::AppendReply {
                    outcome: AppendOutcome::Rejected { at, hint },
                })
            }
            10 => Body::Common(CommonBody::Commit {
                commit: self.position(),
            }),
            11 => Body::Common(CommonBody::Heartbeat {
                round: self.below(9),
                commit: self.position(),
                transfers,
                lease_ticks: match self.below(20) {
                    0 => Some(u64::MAX),
                    1..=5 => None,
                    _ => Some(self.below(12)),
                },
            }),
            12 => Body::Common(CommonBody::HeartbeatReply {
                round: self.below(9),
            }),
            13 => Body::Common(CommonBody::Snapshot {
                meta: Box::new(self.meta()),
            }),
            14 => Body::Common(CommonBody::TimeoutNow { transfers }),
            15 => Body::Common(CommonBody::Forward {
                token,
                proposals: vec![self.proposal()],
            }),
            _ => Body::Common(CommonBody::ReadIndex {
                token: 1,
                mode: ReadMode::Lease,
            }),
        }
    }

    fn paxos_body(&mut self, ballot: Ballot) -> Body {
        match self.below(8) {
            0 => Body::Paxos(PaxosBody::Prepare {
                from: self.index(),
                transfer: (self.below(4) == 0).then(|| Handover {
                    by: self.ballot(),
                    transfers: TransferEpoch(0),
                }),
            }),
            1 | 2 => {
                let before = self.position();
                let commit = self.index();
                Body::Paxos(PaxosBody::Promise {
                    from: before.index.next(),
                    commit,
                    entries: self.entries(before),
                    next: (self.below(4) == 0).then(|| self.index()),
                    snapshot: (self.below(8) == 0).then(|| Box::new(self.meta())),
                })
            }
            3 => Body::Paxos(PaxosBody::Nack),
            4 | 5 => {
                let prev = self.index();
                let entries = self.entries(LogPosition {
                    ballot,
                    index: prev,
                });
                Body::Paxos(PaxosBody::Accept {
                    prev,
                    entries,
                    commit: self.index(),
                })
            }
            6 => Body::Paxos(PaxosBody::Accepted { upto: self.index() }),
            _ => Body::Paxos(PaxosBody::Gap {
                prev: self.index(),
                held: self.index(),
            }),
        }
    }

    fn proposal(&mut self) -> Proposal {
        Proposal {
            id: RequestId::NONE,
            data: Bytes::from_static(b"data"),
        }
    }

    fn input(&mut self, seq: WriteSeq) -> Input {
        match self.below(30) {
            0 | 1 => Input::Propose(self.proposal()),
            2 => {
                let node = self.node();
                let change = match self.below(5) {
                    0 => Change::AddVoter(node),
                    1 => Change::AddLearner(node),
                    2 => Change::Promote(node),
                    3 => Change::Demote(node),
                    _ => Change::Remove(node),
                };
                Input::ChangeMembers(MemberChange {
                    id: RequestId::NONE,
                    changes: vec![change],
                    context: Bytes::new(),
                })
            }
            3 => Input::Read {
                ctx: ReadContext(1),
                mode: ReadMode::Index,
            },
            4 => Input::Transfer { to: self.node() },
            5 => Input::Campaign,
            6 => Input::Applied(self.index()),
            7 => Input::SnapshotInstalled(self.meta()),
            8 => Input::SnapshotFailed,
            9 => Input::SnapshotSent {
                to: self.node(),
                ok: self.below(2) == 0,
            },
            10 => Input::Compact(self.index()),
            11 => Input::Unreachable(self.node()),
            12..=15 => Input::Persisted(seq),
            16..=17 => Input::Tick,
            18 => Input::Gone(self.node()),
            _ => {
                let from = self.node();
                let mut ballot = self.ballot();
                if self.1 == Algorithm::MultiPaxos && self.below(2) == 0 {
                    ballot.node = from.get();
                }
                Input::Message(Message {
                    from,
                    to: NodeId::new(1),
                    ballot,
                    body: self.body(ballot),
                })
            }
        }
    }
}

#[test]
fn invalid_inputs_do_no_harm_to_raft() {
    suffer(Algorithm::Raft);
}

#[test]
fn invalid_inputs_do_no_harm_to_multi_paxos() {
    suffer(Algorithm::MultiPaxos);
}

fn suffer(algorithm: Algorithm) {
    let mut leaders = 0;
    let mut refused = 0;
    for seed in 0..20_000 {
        let mut rng = Rng(SplitMix64::new(seed * 77), algorithm);
        let mut config = CoreConfig::new(NodeId::new(1), seed);
        config.pre_vote = seed % 2 == 0;
        config.election_ticks = 10;
        config.heartbeat_ticks = 3;
        config.lease_ticks = 6;
        let voters = (1..=1 + rng.below(3)).map(NodeId::new);
        let start = SnapshotMeta {
            last: LogPosition::ZERO,
            membership: Membership::of(voters),
        };
        let restored = Restored {
            start: start.clone(),
            applied: start,
            ..Restored::default()
        };
        let mut core = algorithm.start(config, restored, Tick::ZERO).unwrap();
        let (mut now, mut seq, mut handed) = (0, WriteSeq::ZERO, Index::ZERO);
        for _ in 0..60 {
            now += rng.below(8);
            let input = rng.input(seq);
            let installed = if let Input::SnapshotInstalled(meta) = &input {
                Some(meta.last.index)
            } else {
                None
            };
            let result = core.step(Tick::new(now), input);
            refused += u64::from(result == Err(Rejected::InvalidMessage));
            if let (Ok(()), Some(installed)) = (result, installed) {
                handed = installed;
            }
            while let Some(ready) = core.ready() {
                assert_eq!(ready.seq > seq, !ready.writes.is_empty());
                seq = ready.seq;
                for entry in &ready.committed {
                    assert_eq!(entry.index, handed.next());
                    handed = entry.index;
                }
                let puts = ready.writes.iter().filter_map(|write| {
                    if let Write::Put(entry) = write {
                        Some(entry.index)
                    } else {
                        None
                    }
                });
                let puts: Vec<Index> = puts.collect();
                let step = |pair: &[Index]| match algorithm {
                    Algorithm::Raft => pair[1] == pair[0].next(),
                    Algorithm::MultiPaxos => true,
                };
                assert!(puts.windows(2).all(step));
            }
            let status = core.status();
            leaders += u64::from(status.role == synod_consensus_core::Role::Leader);
            assert!(status.start.index <= status.applied && status.applied <= status.commit);
            assert!(status.commit <= status.last.index && status.last.ballot <= status.ballot);
        }
    }
    assert!(leaders > 10_000 && refused > 10_000, "{leaders} {refused}");
}
