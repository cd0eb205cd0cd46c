//! The trace's vocabulary, taken from the papers.

use synod_consensus_core::{
    Body, Entry, EntryKind, Install, Message, RaftBody, Role, RoleChange, Status, Write,
};
use synod_types::{Index, LogPosition, NodeId, RequestId};

use crate::env::Env;

/// A message's name in the papers, and its content.
fn name_of(message: &Message) -> (String, String) {
    let text = format!("{:?}", message.body);
    let end = text.find([' ', '(', '{']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let name = match name {
        "Append" => "AppendEntries",
        "AppendReply" => "AppendEntriesReply",
        "Vote" => "RequestVote",
        "VoteReply" => "RequestVoteReply",
        "Snapshot" => "InstallSnapshot",
        other => other,
    };
    let detail: String = rest.trim().chars().take(200).collect();
    (name.to_owned(), detail)
}

fn message(env: &mut Env, node: NodeId, event: &str, message: &Message) {
    let now = env.now;
    let Some(line) = env.trace.event(now, Some(node), event) else {
        return;
    };
    let (name, detail) = name_of(message);
    let line = line
        .word("message", name)
        .number("from", message.from.get())
        .number("to", message.to.get())
        .word("ballot", message.ballot);
    if let Body::Raft(RaftBody::Append {
        prev,
        entries,
        commit,
    }) = &message.body
    {
        line.word("prev", prev)
            .number("entries", entries.len() as u64)
            .number("commit", commit.get());
    } else if !detail.is_empty() {
        line.word("says", detail);
    }
}

pub(crate) fn received(env: &mut Env, it: &Message) {
    message(env, it.to, "receives", it);
}

pub(crate) fn lost(env: &mut Env, it: &Message) {
    message(env, it.from, "loses", it);
}

/// A node learns that a peer's process seems to have ended.
pub(crate) fn gone(env: &mut Env, node: NodeId, peer: NodeId) {
    env.counts.gone += 1;
    let now = env.now;
    if let Some(line) = env.trace.event(now, Some(node), "misses") {
        line.number("peer", peer.get());
    }
}

pub(crate) fn write(env: &mut Env, node: NodeId, write: &Write) {
    let now = env.now;
    let Some(line) = env.trace.event(now, Some(node), "writes") else {
        return;
    };
    match write {
        Write::Put(entry) => line
            .word("what", "Put")
            .number("index", entry.index.get())
            .word("ballot", entry.ballot),
        Write::TruncateFrom(index) => line
            .word("what", "TruncateFrom")
            .number("index", index.get()),
        Write::Reset(meta) => line
            .word("what", "Reset")
            .number("index", meta.last.index.get())
            .word("ballot", meta.last.ballot),
        Write::Advance(meta) => line
            .word("what", "Advance")
            .number("index", meta.last.index.get())
            .word("ballot", meta.last.ballot),
        Write::HardState(state) => line
            .word("what", "HardState")
            .word("ballot", state.ballot)
            .number("vote", state.vote.map_or(0, NodeId::get))
            .number("commit", state.commit.get()),
    };
}

pub(crate) fn committed(env: &mut Env, node: NodeId, entry: &Entry, status: &Status) {
    let now = env.now;
    if let Some(line) = env.trace.event(now, Some(node), "commits") {
        let kind = match entry.kind {
            EntryKind::Noop => "no-op",
            EntryKind::Normal => "command",
            EntryKind::Config => "configuration",
        };
        let line = line
            .number("index", entry.index.get())
            .word("ballot", entry.ballot)
            .word("kind", kind)
            .number("commit", status.commit.get());
        if entry.id != RequestId::NONE {
            line.word("id", entry.id);
        }
    }
}

pub(crate) fn applied(env: &mut Env, node: NodeId, index: Index, revision: i64) {
    let now = env.now;
    if let Some(line) = env.trace.event(now, Some(node), "applies") {
        line.number("index", index.get())
            .number("revision", revision.cast_unsigned());
    }
}

pub(crate) fn role(env: &mut Env, node: NodeId, change: &RoleChange) {
    let now = env.now;
    if let Some(line) = env.trace.event(now, Some(node), "becomes") {
        let role = match change.role {
            Role::Follower => "follower",
            Role::PreCandidate => "pre-candidate",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        };
        line.word("role", role)
            .word("ballot", change.ballot)
            .number("leader", change.leader.map_or(0, NodeId::get));
    }
}

pub(crate) fn install(env: &mut Env, node: NodeId, install: &Install) {
    let now = env.now;
    if let Some(line) = env.trace.event(now, Some(node), "fetches-snapshot") {
        line.number("from", install.from.get())
            .word("at-least", install.meta.last);
    }
}

pub(crate) fn installed(env: &mut Env, node: NodeId, at: LogPosition) {
    let now = env.now;
    if let Some(line) = env.trace.event(now, Some(node), "installs-snapshot") {
        line.number("index", at.index.get())
            .word("ballot", at.ballot);
    }
}

/// The start or end of a fault.
pub(crate) fn fault(env: &mut Env, node: Option<NodeId>, what: &str) {
    let now = env.now;
    if let Some(line) = env.trace.event(now, node, "fault") {
        line.word("what", what);
    }
}
