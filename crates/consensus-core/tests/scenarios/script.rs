//! Inputs as text. A ballot is a term, or `round.node` in Multi-Paxos. Positions are
//! `ballot/index`, entries `ballot/index=data`, where data may be `noop`, a membership in braces,
//! or `word*n` for n bytes.
//!
//! ```text
//! ## title             a new scenario
//! > start 1 of 1,2,3 [term=2] [vote=1] [commit=1] [log=1/1=a,1/2=b] [start=1/0] [applied=1/2] [key=value of the config]
//! > elect              at 40 (or later) the node is elected, and its no-op durable; prints nothing. Not
//!                      with pre_vote
//! > at 40              a tick of the clock; later inputs happen then, too
//! > 2>1 t1 ...         a message, as outputs print them
//! > propose a b        each with the next request id of this node
//! > change +4 ^4 v3 -2 add a voter, promote, demote, remove; %4 adds a learner
//! > read 7 index|lease, transfer 2, campaign, persisted [seq], persist-failed, applied 5,
//!   installed 2/9=1,2,3, install-failed, sent 2 ok|failed, compact 5, unreachable 2, gone 2
//! > status, deadline   print some of the state
//! ```

use bytes::Bytes;
use synod_consensus_core::{
    Algorithm, AppendOutcome, Body, Change, CommonBody, ConfigCommand, Consensus, CoreConfig,
    Entry, EntryFields, EntryKind, ForwardToken, Handover, Input, MemberChange, Membership,
    Message, PaxosBody, Priority, Proposal, RaftBody, ReadContext, ReadMode, Rejected, Restored,
    SnapshotMeta, TransferEpoch,
};
use synod_types::{Ballot, Index, LogPosition, NodeId, RequestId, Tick, WriteSeq};

use crate::render;

/// The election timeout of all scenarios, and the length of a lease unless a scenario sets it.
pub(crate) const ELECTION_TICKS: u64 = 20;

/// Plays a file of scenarios, and returns it with the actual outputs instead of the expected ones.
pub(crate) fn play(algorithm: Algorithm, text: &str) -> String {
    let mut out = String::new();
    let mut player = Player::new(algorithm);
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
        if line.starts_with("##") {
            player = Player::new(algorithm);
        }
        let Some(input) = line.strip_prefix('>') else {
            continue;
        };
        out.push_str(line);
        out.push('\n');
        let (input, drain) = match input.strip_prefix('>') {
            Some(input) => (input, false),
            None => (input, true),
        };
        for line in player.input(input.trim(), drain) {
            out.push_str(&line);
            out.push('\n');
        }
    }
    out
}

struct Player {
    algorithm: Algorithm,
    id: NodeId,
    core: Option<Box<dyn Consensus>>,
    now: Tick,
    seq: WriteSeq,
    requests: u64,
    /// The token of the last read that the core forwarded.
    token: u64,
    /// For messages forwarded to the core.
    forwarded: u64,
}

impl Player {
    fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            id: NodeId::NONE,
            core: None,
            now: Tick::ZERO,
            seq: WriteSeq::ZERO,
            requests: 0,
            token: 0,
            forwarded: 0,
        }
    }

    fn input(&mut self, text: &str, drain: bool) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(rest) = text.strip_prefix("start ") {
            if let Err(error) = self.start(rest) {
                lines.push(format!("error: {error}"));
                return lines;
            }
        } else if text == "elect" {
            self.elect();
        } else if text == "status" {
            lines.push(self.status());
        } else if text == "deadline" {
            lines.push(format!(
                "deadline {}",
                self.core.as_ref().unwrap().deadline()
            ));
        } else {
            let input = self.parse(text);
            let core = self.core.as_mut().unwrap();
            if let Err(reason) = core.step(self.now, input) {
                lines.push(format!("refused: {reason}"));
            }
        }
        while drain && let Some(ready) = self.core.as_mut().unwrap().ready() {
            self.seq = ready.seq;
            for message in &ready.messages {
                if let Body::Common(CommonBody::ReadIndex { token, .. }) = message.body {
                    self.token = token;
                }
            }
            lines.extend(render::ready(&ready));
        }
        lines
    }

    fn elect(&mut self) {
        let status = self.core.as_ref().unwrap().status();
        let id = self.id;
        let round = status.ballot.round + 1;
        let (ballot, help) = match self.algorithm {
            Algorithm::Raft => (round.to_string(), "vote-reply yes".to_owned()),
            Algorithm::MultiPaxos => {
                let from = status.commit.next();
                let promise = format!("promise {from} [] commit={}", status.commit);
                (format!("{round}.{id}"), promise)
            }
        };
        self.input(&format!("at {}", self.now.get() + 40), true);
        self.input("persisted", true);
        for node in status.membership.members() {
            if node != id && status.membership.is_voter(node) {
                self.input(&format!("{node}>{id} t{ballot} {help}"), true);
            }
        }
        self.input("persisted", true);
    }

    fn status(&self) -> String {
        let status = self.core.as_ref().unwrap().status();
        let lease = status
            .lease_until
            .map_or("none".to_owned(), |end| end.to_string());
        format!(
            "status {:?} t{} last={} durable={} commit={} lease={lease} members={} removed={}",
            status.role,
            status.ballot,
            status.last,
            status.durable,
            status.commit,
            render::membership(&status.membership),
            status.removed
        )
    }

    fn start(&mut self, text: &str) -> Result<(), synod_consensus_core::ConfigError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        self.id = node(words[0]);
        let mut config = CoreConfig::new(self.id, 7);
        config.election_ticks = ELECTION_TICKS;
        config.lease_ticks = ELECTION_TICKS;
        config.heartbeat_ticks = 4;
        let mut restored = Restored::default();
        if words[2] != "none" {
            restored.start.membership = membership(words[2]);
        }
        restored.applied = restored.start.clone();
        for word in &words[3..] {
            let (key, value) = word.split_once('=').unwrap();
            match key {
                "term" => restored.hard_state.ballot = ballot(value),
                "vote" => restored.hard_state.vote = Some(node(value)),
                "commit" => restored.hard_state.commit = Index::new(number(value)),
                "log" => restored.entries = value.split(';').map(entry).collect(),
                "start" => {
                    restored.start.last = position(value);
                    restored.applied = restored.start.clone();
                }
                "applied" => restored.applied.last = position(value),
                "pre_vote" => config.pre_vote = value == "true",
                "check_quorum" => config.check_quorum = value == "true",
                "lease" => config.lease_ticks = number(value),
                "strict" => config.strict_reconfig = value == "true",
                "window" => config.max_inflight_messages = number(value).try_into().unwrap(),
                "window_bytes" => config.max_inflight_bytes = number(value),
                "append_bytes" => config.max_append_bytes = number(value),
                "uncommitted" => config.max_uncommitted_bytes = number(value),
                "entry_bytes" => config.max_entry_bytes = number(value),
                "committed_bytes" => config.max_committed_bytes = number(value),
                "reads" => config.max_pending_reads = number(value).try_into().unwrap(),
                "priority" => {
                    config.priority = if value == "low" {
                        Priority::Low
                    } else {
                        Priority::High
                    };
                }
                _ => panic!("{key}"),
            }
        }
        self.core = Some(self.algorithm.start(config, restored, self.now)?);
        Ok(())
    }

    fn parse(&mut self, text: &str) -> Input {
        let words: Vec<&str> = text.split_whitespace().collect();
        let word = |at: usize| words[at];
        match word(0) {
            "at" => {
                self.now = Tick::new(number(word(1)));
                Input::Tick
            }
            "propose" => {
                Input::ProposeMany(words[1..].iter().map(|data| self.proposal(data)).collect())
            }
            "change" => Input::ChangeMembers(self.change(&words[1..])),
            "read" => Input::Read {
                ctx: ReadContext(number(word(1))),
                mode: read_mode(word(2)),
            },
            "transfer" => Input::Transfer { to: node(word(1)) },
            "campaign" => Input::Campaign,
            "persisted" => Input::Persisted(
                words
                    .get(1)
                    .map_or(self.seq, |seq| WriteSeq::new(number(seq))),
            ),
            "persist-failed" => Input::PersistFailed(self.seq),
            "applied" => Input::Applied(Index::new(number(word(1)))),
            "installed" => Input::SnapshotInstalled(meta(word(1))),
            "install-failed" => Input::SnapshotFailed,
            "sent" => Input::SnapshotSent {
                to: node(word(1)),
                ok: word(2) == "ok",
            },
            "compact" => Input::Compact(Index::new(number(word(1)))),
            "unreachable" => Input::Unreachable(node(word(1))),
            "gone" => Input::Gone(node(word(1))),
            _ => {
                let (from, to) = word(0).split_once('>').unwrap();
                Input::Message(Message {
                    from: node(from),
                    to: node(to),
                    ballot: ballot(word(1).strip_prefix('t').unwrap()),
                    body: self.body(node(from), &words[2..]),
                })
            }
        }
    }

    fn proposal(&mut self, data: &str) -> Proposal {
        self.requests += 1;
        Proposal {
            id: RequestId {
                node: self.id,
                seq: self.requests,
            },
            data: payload(data),
        }
    }

    fn change(&mut self, words: &[&str]) -> MemberChange {
        let change = |word: &&str| {
            let (kind, id) = word.split_at(1);
            let id = node(id);
            match kind {
                "+" => Change::AddVoter(id),
                "%" => Change::AddLearner(id),
                "^" => Change::Promote(id),
                "v" => Change::Demote(id),
                "-" => Change::Remove(id),
                _ => panic!("{word}"),
            }
        };
        MemberChange {
            id: self.proposal("").id,
            changes: words.iter().map(change).collect(),
            context: Bytes::from_static(b"context"),
        }
    }

    fn body(&mut self, from: NodeId, words: &[&str]) -> Body {
        let value = |at: usize| words[at].split_once('=').unwrap().1;
        match words[0] {
            "prevote" => Body::Common(CommonBody::PreVote {
                last: position(words[1]),
            }),
            "prevote-reply" => Body::Common(CommonBody::PreVoteReply {
                granted: words[1] == "yes",
            }),
            "vote" => Body::Raft(RaftBody::Vote {
                last: position(words[1]),
                transfer: (words.len() > 2).then(|| TransferEpoch(number(value(2)))),
            }),
            "vote-reply" => Body::Raft(RaftBody::VoteReply {
                granted: words[1] == "yes",
            }),
            "append" => {
                let entries = words[2..words.len() - 1].join(" ");
                let entries = entries.trim_start_matches('[').trim_end_matches(']');
                Body::Raft(RaftBody::Append {
                    prev: position(words[1]),
                    entries: entries.split_whitespace().map(entry).collect(),
                    commit: Index::new(number(value(words.len() - 1))),
                })
            }
            "matched" => Body::Raft(RaftBody::AppendReply {
                outcome: AppendOutcome::Matched(Index::new(number(words[1]))),
            }),
            "rejected" => Body::Raft(RaftBody::AppendReply {
                outcome: AppendOutcome::Rejected {
                    at: Index::new(number(value(1))),
                    hint: position(value(2)),
                },
            }),
            "commit" => Body::Common(CommonBody::Commit {
                commit: position(words[1]),
            }),
            "heartbeat" => Body::Common(CommonBody::Heartbeat {
                round: number(words[1]),
                commit: position(value(2)),
                transfers: TransferEpoch(number(value(3))),
                lease_ticks: (words.len() > 4).then(|| number(value(4))),
            }),
            "heartbeat-reply" => Body::Common(CommonBody::HeartbeatReply {
                round: number(words[1]),
            }),
            "snapshot" => Body::Common(CommonBody::Snapshot {
                meta: Box::new(meta(words[1])),
            }),
            "timeout-now" => Body::Common(CommonBody::TimeoutNow {
                transfers: TransferEpoch(number(words[1])),
            }),
            "forward" => {
                self.forwarded += u64::from(words[1] != "again");
                let first = 100 * self.forwarded;
                let proposal = |(at, data): (usize, &&str)| Proposal {
                    id: RequestId {
                        node: from,
                        seq: first + at as u64,
                    },
                    data: payload(data),
                };
                Body::Common(CommonBody::Forward {
                    token: self.forward_token(),
                    proposals: words[1..].iter().enumerate().map(proposal).collect(),
                })
            }
            "forward-change" => {
                self.forwarded += 1;
                let mut change = self.change(&words[1..]);
                change.id.node = from;
                Body::Common(CommonBody::ForwardChange {
                    token: self.forward_token(),
                    change: Box::new(change),
                })
            }
            "forward-rejected" => Body::Common(CommonBody::ForwardRejected {
                ids: vec![RequestId {
                    node: self.id,
                    seq: number(words[1]),
                }],
                reason: Rejected::Overloaded,
            }),
            "read-index" | "read-lease" => Body::Common(CommonBody::ReadIndex {
                token: 1,
                mode: read_mode(&words[0][5..]),
            }),
            "read-reply" => Body::Common(CommonBody::ReadIndexReply {
                token: self.token,
                result: words[1]
                    .parse()
                    .map(Index::new)
                    .map_err(|_| Rejected::NoLeader),
            }),
            _ => paxos_body(words),
        }
    }

    fn forward_token(&self) -> ForwardToken {
        ForwardToken {
            session: 1,
            number: self.forwarded,
        }
    }
}

/// The messages of Multi-Paxos.
fn paxos_body(words: &[&str]) -> Body {
    let value = |at: usize| words[at].split_once('=').unwrap().1;
    match words[0] {
        "prepare" => Body::Paxos(PaxosBody::Prepare {
            from: Index::new(number(words[1])),
            transfer: (words.len() > 2).then(|| {
                let (by, epoch) = value(2).split_once(':').unwrap();
                Handover {
                    by: ballot(by),
                    transfers: TransferEpoch(number(epoch)),
                }
            }),
        }),
        "promise" => {
            let (entries, rest) = bracketed(&words[1..]);
            let option = |name: &str| {
                let found = rest.iter().filter_map(|word| word.split_once('='));
                found.filter(|(key, _)| *key == name).map(|(_, v)| v).next()
            };
            Body::Paxos(PaxosBody::Promise {
                from: Index::new(number(words[1])),
                commit: Index::new(number(option("commit").unwrap())),
                entries,
                next: option("next").map(|next| Index::new(number(next))),
                snapshot: option("snapshot").map(|text| Box::new(meta(text))),
            })
        }
        "nack" => Body::Paxos(PaxosBody::Nack),
        "accept" => {
            let (entries, rest) = bracketed(&words[1..]);
            Body::Paxos(PaxosBody::Accept {
                prev: Index::new(number(words[1])),
                entries,
                commit: Index::new(number(rest[0].split_once('=').unwrap().1)),
            })
        }
        "accepted" => Body::Paxos(PaxosBody::Accepted {
            upto: Index::new(number(words[1])),
        }),
        "gap" => Body::Paxos(PaxosBody::Gap {
            prev: Index::new(number(words[1])),
            held: Index::new(number(value(2))),
        }),
        _ => panic!("{words:?}"),
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("a number: {text}"))
}

fn node(text: &str) -> NodeId {
    NodeId::new(number(text))
}

fn read_mode(text: &str) -> ReadMode {
    if text == "lease" {
        ReadMode::Lease
    } else {
        ReadMode::Index
    }
}

fn ballot(text: &str) -> Ballot {
    match text.split_once('.') {
        None => Ballot::term(number(text)),
        Some((round, node)) => Ballot {
            round: number(round),
            node: number(node),
        },
    }
}

/// The entries in brackets, and the words after them.
fn bracketed<'a>(words: &[&'a str]) -> (Vec<Entry>, Vec<&'a str>) {
    let end = words.iter().position(|word| word.ends_with(']')).unwrap();
    let inside = words[1..=end]
        .iter()
        .map(|word| word.trim_matches(['[', ']']));
    let entries = inside.filter(|word| !word.is_empty()).map(entry).collect();
    (entries, words[end + 1..].to_vec())
}

fn position(text: &str) -> LogPosition {
    let (at, index) = text.split_once('/').unwrap();
    LogPosition {
        ballot: ballot(at),
        index: Index::new(number(index)),
    }
}

fn payload(text: &str) -> Bytes {
    let text = match text.split_once('*') {
        Some((word, times)) => word.repeat(number(times).try_into().unwrap()),
        None => text.to_owned(),
    };
    Bytes::from(text)
}

fn entry(text: &str) -> Entry {
    let (at, data) = text.split_once('=').unwrap();
    let at = position(at);
    let (kind, data) = if data == "noop" {
        (EntryKind::Noop, Bytes::new())
    } else if let Some(members) = data.strip_prefix('{') {
        let command = ConfigCommand {
            membership: membership(members.trim_end_matches('}')),
            context: Bytes::new(),
        };
        (EntryKind::Config, command.encode())
    } else {
        (EntryKind::Normal, payload(data))
    };
    Entry::from(EntryFields {
        index: at.index,
        ballot: at.ballot,
        id: RequestId::NONE,
        kind,
        data,
    })
}

fn meta(text: &str) -> SnapshotMeta {
    let (last, members) = text.split_once('=').unwrap();
    SnapshotMeta {
        last: position(last),
        membership: membership(members),
    }
}

fn membership(text: &str) -> Membership {
    let mut result = Membership::default();
    let mut set = &mut result.voters;
    let mut digits = String::new();
    for c in text.chars().chain([',']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if !digits.is_empty() {
            set.insert(node(&digits));
            digits.clear();
        }
        match c {
            '|' => set = &mut result.outgoing,
            '+' => set = &mut result.learners,
            '~' => set = &mut result.learners_next,
            _ => {}
        }
    }
    result
}
