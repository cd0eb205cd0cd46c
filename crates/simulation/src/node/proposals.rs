//! Proposals and membership changes: held until there is a leader, given to the core, and answered
//! when they are applied, or here if they certainly were not appended.

use bytes::Bytes;
use synod_consensus_core::mutants::{Mutant, is_active};
use synod_consensus_core::{Input, MemberChange, Proposal, Rejected, Role};
use synod_replica_core::is_transient;
use synod_types::RequestId;

use super::inbox::{Proposed, WriteRequest};
use super::turn::Turn;
use crate::command::OpId;
use crate::env::Env;
use crate::event::Answer;
use crate::invariants::Check;

/// A request that the core accepted.
pub(super) struct Waiter {
    request: WriteRequest,
    /// A leader's own proposals are never dropped after they were accepted.
    may_retry: bool,
}

impl Waiter {
    pub(super) fn op(&self) -> Option<OpId> {
        self.request.op()
    }
}

impl WriteRequest {
    fn op(&self) -> Option<OpId> {
        match &self.what {
            Proposed::Command(command) => Some(command.op),
            Proposed::Members(_) => None,
        }
    }
}

impl Turn<'_> {
    /// Passes held requests to the core, as far as it accepts them. Returns the number of accepted
    /// requests.
    pub(super) fn propose(&mut self, env: &mut Env) -> Check<usize> {
        let mut taken = 0;
        if self.process.role.leader.is_none() {
            return Ok(0);
        }
        while let Some(request) = self.process.held.pop_front() {
            let id = RequestId {
                node: self.id,
                seq: self.process.next_request,
            };
            self.process.next_request += 1;
            let input = match &request.what {
                Proposed::Command(command) => Input::ProposeMany(vec![Proposal {
                    id,
                    data: command.encode(),
                }]),
                Proposed::Members(changes) => Input::ChangeMembers(MemberChange {
                    id,
                    changes: changes.clone(),
                    context: Bytes::new(),
                }),
            };
            env.checks.once.proposed(id, request.op());
            match self.process.core.step(self.tick, input) {
                Ok(()) => {
                    taken += 1;
                    let waiter = Waiter {
                        may_retry: self.process.role.role != Role::Leader,
                        request,
                    };
                    self.process.pending.insert(id.seq, waiter);
                }
                Err(reason) => {
                    env.checks.on_refused(id)?;
                    env.counts.refusals += 1;
                    if is_transient(reason) {
                        self.process.held.push_front(request);
                        break;
                    }
                    refuse(env, &request);
                }
            }
        }
        Ok(taken)
    }

    /// The core reports that these were certainly not appended and never will be.
    pub(super) fn dropped(&mut self, env: &mut Env, dropped: Vec<(RequestId, Rejected)>) -> Check {
        for (id, reason) in dropped {
            env.checks.on_refused(id)?;
            env.counts.drops += 1;
            let waiter = (id.node == self.id)
                .then(|| self.process.pending.remove(&id.seq))
                .flatten();
            let Some(waiter) = waiter else {
                continue;
            };
            if is_transient(reason) && waiter.may_retry {
                self.process.held.push_back(waiter.request);
            } else {
                refuse(env, &waiter.request);
            }
        }
        Ok(())
    }

    /// Requests held past their deadline were certainly not appended. The outcome of those that the
    /// core accepted is unknown.
    pub(super) fn expire_writes(&mut self, env: &mut Env) {
        let now = env.now;
        for request in std::mem::take(&mut self.process.held) {
            if request.deadline <= now {
                refuse(env, &request);
            } else {
                self.process.held.push_back(request);
            }
        }
        let late = self
            .process
            .pending
            .extract_if(.., |_, waiter| waiter.request.deadline <= now);
        for (_, waiter) in late {
            if let Some(op) = waiter.op() {
                let is_sure = is_active(Mutant::LateWriteReportedFailed);
                env.answer(
                    op,
                    if is_sure {
                        Answer::Refused
                    } else {
                        Answer::Unknown
                    },
                );
            }
        }
    }
}

fn refuse(env: &mut Env, request: &WriteRequest) {
    if let Some(op) = request.op() {
        env.answer(op, Answer::Refused);
    }
}
