//! A simple model of a log's content, and random work for it.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use rand::Rng;
use synod_consensus_core::{
    Entry, EntryFields, EntryKind, HardState, Membership, SnapshotMeta, Write,
};
use synod_log::{
    Action, GroupState, LogCore, LogCoreConfig, LogFailure, Recovered, SimDisk, SyncMode,
};
use synod_types::{Ballot, GroupId, Index, LogPosition, NodeId, RequestId};

pub(crate) const SEGMENT_BYTES: u64 = 16 << 10;
pub(crate) const HEADER_BYTES: usize = 4096;

pub(crate) fn config() -> LogCoreConfig {
    LogCoreConfig {
        segment_bytes: SEGMENT_BYTES,
        max_recycled_segments: 2,
        sync: SyncMode::Data,
    }
}

pub(crate) fn open(disk: &SimDisk) -> Result<(LogCore, Recovered), synod_log::OpenError> {
    LogCore::open(Arc::new(disk.clone()), config(), 0xfeed, Arc::default())
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Write(Write),
    Release(SnapshotMeta),
    Forget,
}

pub(crate) type Work = Vec<(GroupId, Op)>;

pub(crate) fn commit(log: &mut LogCore, work: &Work) -> Result<(), LogFailure> {
    log.commit(work.iter().map(|(group, op)| {
        let action = match op {
            Op::Write(write) => Action::Write(write),
            Op::Release(start) => Action::Release(start),
            Op::Forget => Action::Forget,
        };
        (*group, action)
    }))
}

pub(crate) fn start(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        last: LogPosition {
            ballot: Ballot::term(index % 5 + 1),
            index: Index::new(index),
        },
        membership: Membership::of([NodeId::new(1), NodeId::new(index % 7 + 2)]),
    }
}

pub(crate) fn entry(index: u64, round: u64, data: impl Into<Bytes>) -> Entry {
    Entry::from(EntryFields {
        index: Index::new(index),
        ballot: Ballot { round, node: 3 },
        id: RequestId {
            node: NodeId::new(9),
            seq: round * 1000 + index,
        },
        kind: match round % 3 {
            0 => EntryKind::Noop,
            1 => EntryKind::Normal,
            _ => EntryKind::Config,
        },
        data: data.into(),
    })
}

pub(crate) fn put(group: u64, index: u64, data: impl Into<Bytes>) -> (GroupId, Op) {
    let write = Write::Put(entry(index, 1, data));
    (GroupId::new(group), Op::Write(write))
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    groups: BTreeMap<GroupId, ModelGroup>,
    style: Style,
}

/// The kind of random work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Style {
    /// Like Raft: mostly one entry after the other, truncated where another leader's entries
    /// differ; sometimes any other operation.
    #[default]
    Raft,
    /// Like Paxos: slots are accepted in any order, and again under later ballots, one at a time,
    /// and later slots stay. Nothing is ever truncated.
    Paxos,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct ModelGroup {
    hard_state: Option<HardState>,
    start: Option<SnapshotMeta>,
    entries: BTreeMap<Index, Entry>,
}

impl ModelGroup {
    fn start_index(&self) -> Index {
        self.start
            .as_ref()
            .map_or(Index::ZERO, |start| start.last.index)
    }

    fn last(&self) -> u64 {
        let last = self.entries.keys().next_back().copied();
        last.unwrap_or_else(|| self.start_index()).get()
    }
}

impl From<&Recovered> for Model {
    fn from(recovered: &Recovered) -> Self {
        let groups = recovered.groups.iter().map(|(group, state)| {
            let GroupState {
                hard_state,
                start,
                entries,
            } = state.clone();
            let count = entries.len();
            let entries: BTreeMap<_, _> = entries.into_iter().map(|e| (e.index, e)).collect();
            assert_eq!(count, entries.len(), "an index occurs twice");
            let group_model = ModelGroup {
                hard_state,
                start,
                entries,
            };
            (*group, group_model)
        });
        Self {
            groups: groups.collect(),
            style: Style::default(),
        }
    }
}

impl Model {
    /// An empty log for work of this style.
    pub(crate) fn of(style: Style) -> Self {
        Self {
            style,
            ..Self::default()
        }
    }

    pub(crate) const fn style(&self) -> Style {
        self.style
    }

    /// The same content, for work of this style.
    pub(crate) fn with(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    pub(crate) fn apply(&mut self, group: GroupId, op: &Op) {
        let state = self.groups.entry(group).or_default();
        match op {
            Op::Write(Write::Put(entry)) => {
                if entry.index > state.start_index() {
                    state.entries.insert(entry.index, entry.clone());
                }
            }
            Op::Write(Write::TruncateFrom(from)) => drop(state.entries.split_off(from)),
            Op::Write(Write::Reset(start)) => {
                state.entries.clear();
                state.start = Some(start.clone());
            }
            Op::Write(Write::HardState(hard_state)) => state.hard_state = Some(*hard_state),
            Op::Release(start) | Op::Write(Write::Advance(start)) => {
                if state.start.is_none() || start.last.index >= state.start_index() {
                    state.entries = state.entries.split_off(&start.last.index.next());
                    state.start = Some(start.clone());
                }
            }
            Op::Forget => *state = ModelGroup::default(),
        }
        // A group without any content equals one that never existed.
        if *state == ModelGroup::default() {
            self.groups.remove(&group);
        }
    }

    /// A one-line summary for messages.
    pub(crate) fn brief(&self) -> String {
        let groups = self.groups.iter().map(|(group, state)| {
            let entries: Vec<String> = state
                .entries
                .values()
                .map(|entry| format!("{}@{}:{}", entry.index, entry.ballot, entry.data.len()))
                .collect();
            let commit = state.hard_state.map(|hard_state| hard_state.commit);
            format!(
                "{group}: {commit:?} after {}: {}",
                state.start_index(),
                entries.join(" ")
            )
        });
        groups.collect::<Vec<_>>().join("; ")
    }

    pub(crate) fn apply_all(&mut self, work: &Work) {
        for (group, op) in work {
            self.apply(*group, op);
        }
    }

    /// Generates work for one commit that is valid in the model's state, and applies it to the
    /// model.
    pub(crate) fn random_work(&mut self, rng: &mut impl Rng) -> Work {
        let count = rng.random_range(1..=8);
        (0..count)
            .map(|_| {
                let group = GroupId::new(rng.random_range(1..=3));
                let op = self.random_op(group, rng);
                self.apply(group, &op);
                (group, op)
            })
            .collect()
    }

    fn random_op(&self, group: GroupId, rng: &mut impl Rng) -> Op {
        match self.style {
            Style::Raft => self.raft_op(group, rng),
            Style::Paxos => self.paxos_op(group, rng),
        }
    }

    fn paxos_op(&self, group: GroupId, rng: &mut impl Rng) -> Op {
        let state = self.groups.get(&group).cloned().unwrap_or_default();
        let (start_index, last) = (state.start_index().get(), state.last());
        let round = rng.random_range(1..100);
        match rng.random_range(0..100) {
            // Beyond the end, with gaps that may be filled later or never.
            0..35 => {
                let index = last + rng.random_range(1..6);
                Op::Write(Write::Put(entry(index, round, random_data(rng))))
            }
            // An existing slot or a gap, far before the end.
            35..75 => {
                let index = rng.random_range(start_index + 1..=last + 1);
                Op::Write(Write::Put(entry(index, round, random_data(rng))))
            }
            75..85 => Op::Write(Write::HardState(HardState {
                ballot: Ballot { round, node: 3 },
                vote: None,
                commit: Index::new(rng.random_range(start_index..=last)),
            })),
            85..95 => Op::Release(start(rng.random_range(start_index..=last))),
            // A snapshot was installed; slots after it stay accepted.
            95..98 => {
                let index = rng.random_range(start_index..=last + 4);
                Op::Write(Write::Advance(start(index)))
            }
            98 => Op::Write(Write::Reset(start(last + rng.random_range(0..10)))),
            _ => Op::Forget,
        }
    }

    fn raft_op(&self, group: GroupId, rng: &mut impl Rng) -> Op {
        let state = self.groups.get(&group).cloned().unwrap_or_default();
        let (start_index, last) = (state.start_index().get(), state.last());
        let round = rng.random_range(1..100);
        match rng.random_range(0..100) {
            0..60 => Op::Write(Write::Put(entry(last + 1, round, random_data(rng)))),
            // As in Paxos: over existing entries or beyond the end.
            60..66 => {
                let index = rng.random_range(start_index + 1..=last + 3);
                Op::Write(Write::Put(entry(index, round, random_data(rng))))
            }
            66..72 => {
                let from = rng.random_range(start_index + 1..=last + 1);
                Op::Write(Write::TruncateFrom(Index::new(from)))
            }
            72..82 => Op::Write(Write::HardState(HardState {
                ballot: Ballot::term(round),
                vote: rng.random_bool(0.5).then(|| NodeId::new(round)),
                commit: Index::new(last),
            })),
            82..96 => Op::Release(start(rng.random_range(start_index..=last))),
            96..98 => Op::Write(Write::Reset(start(last + rng.random_range(0..10)))),
            _ => Op::Forget,
        }
    }
}

fn random_data(rng: &mut impl Rng) -> Vec<u8> {
    let len = match rng.random_range(0..100) {
        0..10 => 0,
        10..80 => rng.random_range(1..200),
        80..97 => rng.random_range(200..4000),
        // Not copied when written, and sometimes larger than a whole segment.
        _ => rng.random_range(16_000..40_000),
    };
    (0..len).map(|_| rng.random()).collect()
}
