//! Outputs as text.

use synod_consensus_core::{
    AppendOutcome, Body, CommonBody, ConfigCommand, Entry, EntryKind, Membership, Message,
    PaxosBody, RaftBody, ReadMode, Ready, SnapshotMeta, Write,
};
use synod_types::NodeId;

use crate::script::ELECTION_TICKS;

pub(crate) fn ready(ready: &Ready) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(change) = ready.role {
        let leader = change.leader.map_or("?".to_owned(), |id| id.to_string());
        let role = format!("{:?}", change.role).to_lowercase();
        lines.push(format!("role {role} t{} leader={leader}", change.ballot));
    }
    for write in &ready.writes {
        lines.push(format!("write {}: {}", ready.seq, self::write(write)));
    }
    lines.extend(ready.messages.iter().map(message));
    for after in &ready.messages_after_persist {
        lines.push(format!("after {}: {}", ready.seq, message(after)));
    }
    if !ready.committed.is_empty() {
        lines.push(format!("committed {}", entries(&ready.committed)));
    }
    for read in &ready.reads {
        lines.push(format!("read {} at {}", read.ctx.0, read.index));
    }
    for (ctx, reason) in &ready.failed_reads {
        lines.push(format!("read {} failed: {reason}", ctx.0));
    }
    if let Some(install) = &ready.install {
        lines.push(format!(
            "install {} from {}",
            meta(&install.meta),
            install.from
        ));
    }
    for (id, reason) in &ready.dropped {
        lines.push(format!("dropped {id}: {reason}"));
    }
    lines
}

fn write(write: &Write) -> String {
    match write {
        Write::Put(entry) => format!("put {}", self::entry(entry)),
        Write::TruncateFrom(index) => format!("truncate from {index}"),
        Write::Reset(to) => format!("reset to {}", meta(to)),
        Write::Advance(to) => format!("advance to {}", meta(to)),
        Write::HardState(state) => format!(
            "hard state t{} vote={} commit={}",
            state.ballot,
            state.vote.map_or("none".to_owned(), |id| id.to_string()),
            state.commit
        ),
    }
}

fn message(message: &Message) -> String {
    let Message {
        from,
        to,
        ballot,
        body,
    } = message;
    format!("{from}>{to} t{ballot} {}", self::body(body))
}

fn body(body: &Body) -> String {
    let yes = |granted: &bool| if *granted { "yes" } else { "no" };
    match body {
        Body::Common(CommonBody::PreVote { last }) => format!("prevote {last}"),
        Body::Common(CommonBody::PreVoteReply { granted }) => {
            format!("prevote-reply {}", yes(granted))
        }
        Body::Raft(RaftBody::Vote { last, transfer }) => match transfer {
            None => format!("vote {last}"),
            Some(transfer) => format!("vote {last} transfer={}", transfer.0),
        },
        Body::Raft(RaftBody::VoteReply { granted }) => format!("vote-reply {}", yes(granted)),
        Body::Raft(RaftBody::Append {
            prev,
            entries,
            commit,
        }) => format!("append {prev} [{}] commit={commit}", self::entries(entries)),
        Body::Raft(RaftBody::AppendReply { outcome }) => match outcome {
            AppendOutcome::Matched(matched) => format!("matched {matched}"),
            AppendOutcome::Rejected { at, hint } => format!("rejected at={at} hint={hint}"),
        },
        Body::Common(CommonBody::Commit { commit }) => format!("commit {commit}"),
        Body::Common(CommonBody::Heartbeat {
            round,
            commit,
            transfers,
            lease_ticks,
        }) => {
            // An election timeout is not printed.
            let lease = lease_ticks.filter(|ticks| *ticks != ELECTION_TICKS);
            let lease = lease.map_or(String::new(), |ticks| format!(" lease={ticks}"));
            let transfers = transfers.0;
            format!("heartbeat {round} commit={commit} transfers={transfers}{lease}")
        }
        Body::Common(CommonBody::HeartbeatReply { round }) => format!("heartbeat-reply {round}"),
        Body::Common(CommonBody::Snapshot { meta }) => format!("snapshot {}", self::meta(meta)),
        Body::Common(CommonBody::TimeoutNow { transfers }) => {
            format!("timeout-now {}", transfers.0)
        }
        Body::Paxos(PaxosBody::Prepare { from, transfer }) => match transfer {
            None => format!("prepare {from}"),
            Some(by) => format!("prepare {from} transfer={}:{}", by.by, by.transfers.0),
        },
        Body::Paxos(PaxosBody::Promise {
            from,
            commit,
            entries,
            next,
            snapshot,
        }) => {
            let mut text = format!(
                "promise {from} [{}] commit={commit}",
                self::entries(entries)
            );
            if let Some(next) = next {
                text.push_str(&format!(" next={next}"));
            }
            if let Some(snapshot) = snapshot {
                text.push_str(&format!(" snapshot={}", meta(snapshot)));
            }
            text
        }
        Body::Paxos(PaxosBody::Nack) => "nack".to_owned(),
        Body::Paxos(PaxosBody::Accept {
            prev,
            entries,
            commit,
        }) => format!("accept {prev} [{}] commit={commit}", self::entries(entries)),
        Body::Paxos(PaxosBody::Accepted { upto }) => format!("accepted {upto}"),
        Body::Paxos(PaxosBody::Gap { prev, held }) => format!("gap {prev} held={held}"),
        Body::Common(CommonBody::Forward { proposals, .. }) => {
            let ids: Vec<String> = proposals.iter().map(|p| p.id.to_string()).collect();
            format!("forward {}", ids.join(" "))
        }
        Body::Common(CommonBody::ForwardChange { change, .. }) => {
            format!("forward-change {}", change.id)
        }
        Body::Common(CommonBody::ForwardRejected { ids, reason }) => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            format!("forward-rejected {}: {reason}", ids.join(" "))
        }
        Body::Common(CommonBody::ReadIndex { mode, .. }) => match mode {
            ReadMode::Index => "read-index".to_owned(),
            ReadMode::Lease => "read-lease".to_owned(),
        },
        Body::Common(CommonBody::ReadIndexReply { result, .. }) => match result {
            Ok(index) => format!("read-reply {index}"),
            Err(reason) => format!("read-reply {reason}"),
        },
    }
}

pub(crate) fn entries(entries: &[Entry]) -> String {
    let entries: Vec<String> = entries.iter().map(entry).collect();
    entries.join(" ")
}

fn entry(entry: &Entry) -> String {
    let what = match entry.kind {
        EntryKind::Noop => "noop".to_owned(),
        EntryKind::Normal => {
            let text = String::from_utf8_lossy(&entry.data);
            if text.len() > 8 {
                format!("{}..", &text[..3])
            } else {
                text.into_owned()
            }
        }
        EntryKind::Config => {
            let command = ConfigCommand::decode(entry.data.clone()).unwrap();
            membership(&command.membership)
        }
    };
    format!("{}={what}", entry.position())
}

fn meta(meta: &SnapshotMeta) -> String {
    format!("{}={}", meta.last, membership(&meta.membership))
}

/// `voters[|outgoing][+learners][~learners next]`
pub(crate) fn membership(membership: &Membership) -> String {
    let list = |nodes: &std::collections::BTreeSet<NodeId>| {
        let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        nodes.join(",")
    };
    let mut text = list(&membership.voters);
    for (mark, nodes) in [
        ('|', &membership.outgoing),
        ('+', &membership.learners),
        ('~', &membership.learners_next),
    ] {
        if !nodes.is_empty() {
            text.push(mark);
            text.push_str(&list(nodes));
        }
    }
    text
}
