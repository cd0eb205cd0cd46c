//! Proposals that were passed to the core and wait to be applied here.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use synod_consensus_core::Change;

use crate::error::ProposeError;
use crate::inbox::ProposalReply;

/// A waiting request, with what is needed to propose it again if it was certainly not appended.
pub(crate) struct Waiter<O> {
    pub(crate) reply: ProposalReply<O>,
    pub(crate) deadline: Instant,
    pub(crate) received: Instant,
    pub(crate) retry: Retry,
    pub(crate) bytes: usize,
}

/// How to propose a request again that was certainly not appended.
pub(crate) enum Retry {
    /// Not at all: a leader never drops what it accepted.
    Never,
    /// With the same payload.
    Data(Bytes),
    /// With the same changes and context.
    Change(Vec<Change>, Bytes),
}

/// A hash for sequence numbers. They are consecutive, so it only has to spread their low bits.
#[derive(Default)]
pub(crate) struct SeqHasher(u64);

impl Hasher for SeqHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte) ^ self.0);
        }
    }

    fn write_u64(&mut self, seq: u64) {
        // The 64-bit golden ratio (Knuth). The table takes its control bits from the top bits of
        // the hash.
        self.0 = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32) ^ seq;
    }
}

type SeqMap<T> = HashMap<u64, T, BuildHasherDefault<SeqHasher>>;

struct State<O> {
    waiters: SeqMap<Waiter<O>>,
    earliest: Option<Instant>,
}

/// Waiters by the sequence number of their request. The driver adds them before the proposal is
/// sent anywhere; the apply thread removes them in bulk. The admission of proposals bounds them.
pub(crate) struct Pending<O> {
    state: Mutex<State<O>>,
}

impl<O> Pending<O> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                waiters: SeqMap::default(),
                earliest: None,
            }),
        }
    }

    /// Adds waiters under consecutive numbers from `first_seq`.
    pub(crate) fn add(&self, first_seq: u64, waiters: impl Iterator<Item = Waiter<O>>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        for (offset, waiter) in (0u64..).zip(waiters) {
            let deadline = waiter.deadline;
            state.earliest = Some(state.earliest.map_or(deadline, |at| at.min(deadline)));
            state.waiters.insert(first_seq.wrapping_add(offset), waiter);
        }
    }

    pub(crate) fn remove(&self, seq: u64) -> Option<Waiter<O>> {
        self.state.lock().waiters.remove(&seq)
    }

    /// Moves the waiters of `seqs` (position in a batch, sequence number) to `found`.
    pub(crate) fn remove_all(
        &self,
        seqs: impl Iterator<Item = (usize, u64)>,
        found: &mut Vec<(usize, Waiter<O>)>,
    ) {
        let mut state = self.state.lock();
        if state.waiters.is_empty() {
            return;
        }
        found.extend(seqs.filter_map(|(at, seq)| Some((at, state.waiters.remove(&seq)?))));
    }

    /// Removes and returns the waiters past their deadline. Also returns when to call this again.
    pub(crate) fn expire(&self, now: Instant) -> (Vec<Waiter<O>>, Option<Instant>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.earliest.is_none_or(|at| at > now) {
            return (Vec::new(), state.earliest);
        }
        let late: Vec<_> = state
            .waiters
            .extract_if(|_, waiter| waiter.deadline <= now)
            .map(|(_, w)| w)
            .collect();
        state.earliest = state.waiters.values().map(|waiter| waiter.deadline).min();
        (late, state.earliest)
    }

    /// A lower bound for the earliest deadline.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.state.lock().earliest
    }

    /// Removes and returns all waiters.
    pub(crate) fn drain(&self) -> Vec<Waiter<O>> {
        let mut state = self.state.lock();
        state.earliest = None;
        state.waiters.drain().map(|(_, waiter)| waiter).collect()
    }
}

impl<O> Waiter<O> {
    /// Sends the answer. It doesn't matter if the caller has given up.
    pub(crate) fn answer(self, result: Result<O, ProposeError>) {
        let _gone = self.reply.send(result);
    }
}
