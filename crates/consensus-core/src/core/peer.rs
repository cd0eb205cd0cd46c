//! A leader's state about another member.

use std::collections::VecDeque;

use synod_types::{Index, Tick};

use crate::{CoreConfig, PeerMode, PeerStatus};

/// The progress of one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    /// The peer's log durably equals ours up to here.
    pub(super) matched: Index,
    /// The next entry to send.
    pub(super) next: Index,
    pub(super) mode: PeerMode,
    /// The append of [`PeerMode::Probe`] in flight, sent after this heartbeat round.
    pub(super) probing: Option<u64>,
    /// When it last answered; for a new peer, when it was added.
    pub(super) heard_at: Tick,
    /// The highest heartbeat round that it answered.
    pub(super) acked_round: u64,
    /// The highest commit index sent to it.
    pub(super) told_commit: Index,
    /// `matched` at its last answer to a heartbeat. If it does not advance, a message may be lost.
    pub(super) matched_at_heartbeat: Index,
    /// When to offer the snapshot again.
    pub(super) offer_at: Tick,
    /// Set when a configuration without it was appended. It still gets the log up to that entry and
    /// its commit, so that it learns of its removal.
    pub(super) removed_at: Option<Index>,
    /// When to stop telling it.
    pub(super) forget_at: Option<Tick>,
    inflight: VecDeque<Inflight>,
    inflight_bytes: u64,
}

/// An append without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Inflight {
    last: Index,
    bytes: u64,
}

impl Peer {
    pub(super) fn new(next: Index, now: Tick) -> Self {
        Self {
            matched: Index::ZERO,
            next,
            mode: PeerMode::Probe,
            probing: None,
            heard_at: now,
            acked_round: 0,
            told_commit: Index::ZERO,
            matched_at_heartbeat: Index::ZERO,
            offer_at: now,
            removed_at: None,
            forget_at: None,
            inflight: VecDeque::new(),
            inflight_bytes: 0,
        }
    }

    pub(super) fn probe_from(&mut self, next: Index) {
        self.set_mode(PeerMode::Probe);
        self.next = next.max(self.matched.next());
        self.probing = None;
    }

    pub(super) fn replicate(&mut self) {
        self.set_mode(PeerMode::Replicate);
        self.next = self.matched.next();
    }

    pub(super) fn await_snapshot(&mut self, offer_again_at: Tick) {
        self.set_mode(PeerMode::Snapshot);
        self.offer_at = offer_again_at;
    }

    fn set_mode(&mut self, mode: PeerMode) {
        self.mode = mode;
        self.inflight.clear();
        self.inflight_bytes = 0;
    }

    /// Whether another append may be sent.
    pub(super) fn has_window(&self, config: &CoreConfig) -> bool {
        self.inflight.is_empty()
            || (self.inflight.len() < config.max_inflight_messages
                && self.inflight_bytes < config.max_inflight_bytes)
    }

    /// Records an append with entries up to `last`.
    pub(super) fn sent(&mut self, last: Index, bytes: u64) {
        self.inflight.push_back(Inflight { last, bytes });
        self.inflight_bytes += bytes;
        self.next = last.next();
    }

    /// Records an acknowledgement. Returns whether it was new.
    pub(super) fn acknowledge(&mut self, matched: Index) -> bool {
        while let Some(first) = self.inflight.front()
            && first.last <= matched
        {
            self.inflight_bytes -= first.bytes;
            self.inflight.pop_front();
        }
        if matched <= self.matched {
            return false;
        }
        self.matched = matched;
        self.next = self.next.max(matched.next());
        true
    }

    pub(super) fn status(&self) -> PeerStatus {
        PeerStatus {
            matched: self.matched,
            next: self.next,
            mode: self.mode,
            heard_at: self.heard_at,
            inflight_messages: self.inflight.len(),
            inflight_bytes: self.inflight_bytes,
        }
    }
}
