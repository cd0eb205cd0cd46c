//! Proposals and membership changes. They are held until there is a leader, passed to the core in
//! batches, and answered by the apply thread, or here if they certainly were not appended.

use std::collections::VecDeque;
use std::time::Instant;

use synod_consensus_core::{Input, MemberChange, Proposal, Rejected, Role};
use synod_replica_core::is_transient;
use synod_types::RequestId;

use super::Driver;
use crate::error::ProposeError;
use crate::inbox::{ChangeRequest, ProposalRequest};
use crate::pending::{Retry, Waiter};
use crate::state_machine::StateMachine;

/// The maximum size of a batch for the core, which accepts all of it or nothing.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Requests that wait for a leader, for room, or for the apply thread. The admission of proposals
/// bounds them.
pub(super) struct Held<O> {
    proposals: VecDeque<ProposalRequest<O>>,
    changes: VecDeque<ChangeRequest<O>>,
    /// A lower bound for the earliest deadline.
    earliest: Option<Instant>,
    /// The core's last rejection.
    reason: Option<Rejected>,
}

impl<O> Default for Held<O> {
    fn default() -> Self {
        Self {
            proposals: VecDeque::new(),
            changes: VecDeque::new(),
            earliest: None,
            reason: None,
        }
    }
}

impl<O> Held<O> {
    pub(super) fn take(
        &mut self,
        proposals: &mut Vec<ProposalRequest<O>>,
        changes: &mut Vec<ChangeRequest<O>>,
    ) {
        for proposal in proposals.drain(..) {
            self.hold(proposal);
        }
        for change in changes.drain(..) {
            self.hold_change(change);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.earliest
    }

    fn hold(&mut self, proposal: ProposalRequest<O>) {
        self.note(proposal.deadline);
        self.proposals.push_back(proposal);
    }

    fn hold_change(&mut self, change: ChangeRequest<O>) {
        self.note(change.deadline);
        self.changes.push_back(change);
    }

    fn note(&mut self, deadline: Instant) {
        self.earliest = Some(self.earliest.map_or(deadline, |at| at.min(deadline)));
    }

    fn settle(&mut self) {
        if self.proposals.is_empty() && self.changes.is_empty() {
            self.earliest = None;
            self.reason = None;
        }
    }
}

impl<S: StateMachine> Driver<S> {
    /// Passes held requests to the core, as far as it accepts them. Returns the number of accepted
    /// requests.
    pub(super) fn propose(&mut self) -> usize {
        if self.held.proposals.is_empty() && self.held.changes.is_empty() {
            return 0;
        }
        if self.role.leader.is_none() {
            self.held.reason = Some(Rejected::NoLeader);
            return 0;
        }
        if self.is_overloaded() {
            self.held.reason = Some(Rejected::Overloaded);
            return 0;
        }
        let taken = self.propose_changes() + self.propose_batches();
        self.held.settle();
        taken
    }

    fn propose_batches(&mut self) -> usize {
        let mut taken = 0;
        while let Some(batch) = self.next_batch() {
            let count = batch.len();
            let proposals = batch.iter().zip(self.next_request..);
            let node = self.node;
            let proposals = proposals.map(|(request, seq)| Proposal {
                id: RequestId { node, seq },
                data: request.data.clone(),
            });
            let input = Input::ProposeMany(proposals.collect());
            let tick = self.tick();
            match self.core.step(tick, input) {
                Ok(()) => {
                    self.await_batch(batch);
                    taken += count;
                }
                Err(reason) if is_transient(reason) => {
                    self.held.reason = Some(reason);
                    for request in batch.into_iter().rev() {
                        self.held.proposals.push_front(request);
                    }
                    break;
                }
                Err(reason) => {
                    for request in batch {
                        self.refuse(request, ProposeError::Rejected(reason));
                    }
                }
            }
        }
        taken
    }

    /// The next proposals, up to [`MAX_BATCH_BYTES`]. A larger one forms its own batch.
    fn next_batch(&mut self) -> Option<Vec<ProposalRequest<S::Output>>> {
        let mut bytes = 0;
        let fitting = self.held.proposals.iter().take_while(|request| {
            bytes += request.data.len();
            bytes <= MAX_BATCH_BYTES
        });
        let count = fitting.count().max(1).min(self.held.proposals.len());
        (count > 0).then(|| self.held.proposals.drain(..count).collect())
    }

    /// Registers the callers of a batch that the core accepted. They are answered when the entries
    /// are applied here, or when the core drops them.
    fn await_batch(&mut self, batch: Vec<ProposalRequest<S::Output>>) {
        let first = self.next_request;
        self.next_request = first.wrapping_add(u64::try_from(batch.len()).unwrap_or(u64::MAX));
        let leads = self.role.role == Role::Leader;
        if let Some(request) = batch.first()
            && leads
        {
            self.sampler
                .proposed(first, request.received, self.now, &self.metrics);
        }
        let waiters = batch.into_iter().map(|request| Waiter {
            reply: request.reply,
            deadline: request.deadline,
            received: request.received,
            bytes: request.data.len(),
            // A leader never drops its own proposals after it has accepted them.
            retry: if leads {
                Retry::Never
            } else {
                Retry::Data(request.data)
            },
        });
        self.shared.pending.add(first, waiters);
    }

    fn propose_changes(&mut self) -> usize {
        let mut taken = 0;
        while let Some(request) = self.held.changes.pop_front() {
            let seq = self.next_request;
            let change = MemberChange {
                id: RequestId {
                    node: self.node,
                    seq,
                },
                changes: request.changes.clone(),
                context: request.context.clone(),
            };
            let tick = self.tick();
            match self.core.step(tick, Input::ChangeMembers(change)) {
                Ok(()) => {
                    self.next_request = seq.wrapping_add(1);
                    taken += 1;
                    self.await_change(seq, request);
                }
                Err(reason) if is_transient(reason) => {
                    self.held.reason = Some(reason);
                    self.held.changes.push_front(request);
                    break;
                }
                Err(reason) => {
                    self.shared.load.release_proposal(request.context.len());
                    self.metrics.proposal_failed();
                    let _gone = request.reply.send(Err(ProposeError::Rejected(reason)));
                }
            }
        }
        taken
    }

    fn await_change(&mut self, seq: u64, request: ChangeRequest<S::Output>) {
        let waiter = Waiter {
            reply: request.reply,
            deadline: request.deadline,
            received: self.now,
            bytes: request.context.len(),
            retry: Retry::Change(request.changes, request.context),
        };
        self.shared.pending.add(seq, std::iter::once(waiter));
    }

    /// The core reports that a request was certainly not appended and never will be.
    pub(super) fn dropped_request(&mut self, id: RequestId, reason: Rejected) {
        // The id came over the wire, but only this node's requests wait here.
        let waiter = (id.node == self.node)
            .then(|| self.shared.pending.remove(id.seq))
            .flatten();
        let Some(waiter) = waiter else {
            return;
        };
        if !is_transient(reason) {
            self.shared.load.release_proposal(waiter.bytes);
            self.metrics.proposal_failed();
            waiter.answer(Err(ProposeError::Rejected(reason)));
            return;
        }
        self.held.reason = Some(reason);
        self.hold_again(waiter, reason);
    }

    fn hold_again(&mut self, waiter: Waiter<S::Output>, reason: Rejected) {
        match waiter.retry {
            Retry::Data(data) => self.held.hold(ProposalRequest {
                data,
                reply: waiter.reply,
                deadline: waiter.deadline,
                received: waiter.received,
            }),
            Retry::Change(changes, context) => self.held.hold_change(ChangeRequest {
                changes,
                context,
                reply: waiter.reply,
                deadline: waiter.deadline,
            }),
            Retry::Never => {
                self.shared.load.release_proposal(waiter.bytes);
                let _gone = waiter.reply.send(Err(ProposeError::Rejected(reason)));
            }
        }
    }

    /// Answers requests past their deadline. Held requests were certainly not appended; the outcome
    /// of those that the core accepted is unknown.
    pub(super) fn expire_proposals(&mut self) {
        let (late, _) = self.shared.pending.expire(self.now);
        for waiter in late {
            self.shared.load.release_proposal(waiter.bytes);
            self.metrics.proposal_failed();
            waiter.answer(Err(ProposeError::Timeout));
        }
        if self.held.earliest.is_none_or(|at| at > self.now) {
            return;
        }
        let error = match self.held.reason {
            None | Some(Rejected::NoLeader | Rejected::NotLeader { .. }) => ProposeError::NoLeader,
            Some(Rejected::Overloaded) => ProposeError::TooBusy,
            Some(other) => ProposeError::Rejected(other),
        };
        let mut earliest: Option<Instant> = None;
        for request in std::mem::take(&mut self.held.proposals) {
            if request.deadline <= self.now {
                self.refuse(request, error.clone());
            } else {
                earliest = Some(earliest.map_or(request.deadline, |at| at.min(request.deadline)));
                self.held.proposals.push_back(request);
            }
        }
        for request in std::mem::take(&mut self.held.changes) {
            if request.deadline <= self.now {
                self.shared.load.release_proposal(request.context.len());
                self.metrics.proposal_failed();
                let _gone = request.reply.send(Err(error.clone()));
            } else {
                earliest = Some(earliest.map_or(request.deadline, |at| at.min(request.deadline)));
                self.held.changes.push_back(request);
            }
        }
        self.held.earliest = earliest;
    }

    fn refuse(&self, request: ProposalRequest<S::Output>, error: ProposeError) {
        self.shared.load.release_proposal(request.data.len());
        self.metrics.proposal_failed();
        let _gone = request.reply.send(Err(error));
    }

    /// Answers all current and future callers: the replica has stopped.
    pub(super) fn close(&mut self) {
        let rest = self.shared.inbox.close();
        let held = std::mem::take(&mut self.held);
        // These were never passed to the core, so they were certainly not applied.
        for request in rest.proposals.into_iter().chain(held.proposals) {
            self.refuse(request, ProposeError::NotRunning);
        }
        for request in rest.changes.into_iter().chain(held.changes) {
            self.shared.load.release_proposal(request.context.len());
            let _gone = request.reply.send(Err(ProposeError::NotRunning));
        }
        for waiter in self.shared.pending.drain() {
            self.shared.load.release_proposal(waiter.bytes);
            waiter.answer(Err(ProposeError::Stopped));
        }
        // Dropping the senders answers reads and transfers.
        self.shared.readers.close();
    }
}
