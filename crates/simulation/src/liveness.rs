//! The phases after the faults. First all faults end except some that remain on a minority; the
//! others must elect a leader and commit. Then everything is healed, and all members must reach the
//! same state.

use synod_consensus_core::Role;
use synod_types::NodeId;

use crate::choices::Stream;
use crate::invariants::{CONVERGENCE, Check, LIVENESS};
use crate::network::Quality;
use crate::node::{End, NodeState};
use crate::time::{MS, TICK_US, Time};
use crate::words;
use crate::world::World;

/// Election timeouts within which a healthy majority must commit something.
const ELECTIONS_TO_COMMIT: u64 = 30;
/// Election timeouts within which all members must be equal.
const ELECTIONS_TO_CONVERGE: u64 = 60;

/// A fault that remains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ailment {
    Nothing,
    /// These nodes stay down.
    Down,
    /// These nodes stay isolated.
    Isolated,
    /// Some links of these nodes stay cut.
    Partial,
}

impl World {
    /// The whole run: faults, a healthy majority, convergence.
    pub(crate) fn run(&mut self) -> Check {
        let storm = self.env.plan.storm_us;
        self.run_until(storm, |_| false)?;
        let ailing = self.freeze()?;
        self.expect_progress(&ailing)?;
        self.heal()?;
        self.expect_convergence()
    }

    /// Ends all faults, except for one that remains on a minority.
    fn freeze(&mut self) -> Check<Vec<NodeId>> {
        self.env.calm = true;
        self.quiet_down();
        let mut ailing = self.minority();
        let ailment = if ailing.is_empty() {
            Ailment::Nothing
        } else {
            let all = [
                Ailment::Nothing,
                Ailment::Down,
                Ailment::Isolated,
                Ailment::Partial,
            ];
            let ailment = self.env.choices.one_of(Stream::Fault, all);
            // Without pre-vote, a node that receives nothing deposes every leader that hears it
            // (Raft thesis §9.6).
            let disturbs = matches!(ailment, Ailment::Isolated | Ailment::Partial);
            if disturbs && !self.env.plan.pre_vote {
                Ailment::Down
            } else {
                ailment
            }
        };
        words::fault(
            &mut self.env,
            None,
            &format!("calm but {ailment:?} {ailing:?}"),
        );
        for slot in &ailing {
            match ailment {
                Ailment::Nothing => {}
                Ailment::Down => {
                    let World { env, nodes, .. } = self;
                    if let Some(node) = nodes.get_mut(*slot) {
                        node.end(env, End::Kill)?;
                    }
                }
                Ailment::Isolated => self.isolate(*slot),
                Ailment::Partial => self.cut_some(*slot),
            }
        }
        for slot in 0..self.nodes.len() {
            if ailment != Ailment::Down || !ailing.contains(&slot) {
                self.start(slot)?;
            }
        }
        if ailment == Ailment::Nothing {
            ailing.clear();
        }
        let ailing = ailing.iter().filter_map(|slot| self.nodes.get(*slot));
        Ok(ailing.map(|node| node.id).collect())
    }

    fn quiet_down(&mut self) {
        let World { env, nodes, .. } = self;
        env.net.heal();
        env.net.hasten();
        env.net.quality = Quality {
            jitter_us: 300,
            ..Quality::default()
        };
        env.disk_factors.fill(1);
        for node in nodes {
            node.resume(env);
        }
    }

    fn cut_some(&mut self, slot: usize) {
        for other in 0..self.nodes.len() {
            match self.env.choices.below(Stream::Fault, 4) {
                0 => {}
                1 => self.env.net.cut(slot, other),
                2 => self.env.net.cut(other, slot),
                _ => self.env.net.cut_both(slot, other),
            }
        }
    }

    /// Nodes without which every configuration that may be in effect still has a quorum.
    fn minority(&mut self) -> Vec<usize> {
        let first = self.env.choices.index(Stream::Fault, self.nodes.len());
        let count = self.nodes.len();
        let mut ids: Vec<NodeId> = Vec::new();
        let mut slots = Vec::new();
        for step in 0..count {
            let slot = (first + step) % count;
            let Some(node) = self.nodes.get(slot) else {
                continue;
            };
            ids.push(node.id);
            if self.survives_without(&ids) {
                slots.push(slot);
            } else {
                ids.pop();
            }
            if slots.len() >= 2 {
                break;
            }
        }
        slots
    }

    fn elections(&self, count: u64) -> Time {
        count * self.env.plan.election_ticks * TICK_US
    }

    /// Checks that a new operation is committed soon.
    fn expect_progress(&mut self, ailing: &[NodeId]) -> Check {
        let end = self.env.now + self.elections(ELECTIONS_TO_COMMIT);
        let mut probes = Vec::new();
        let mut next = self.env.now;
        let done = self.run_until(end, |world| {
            if world.env.now >= next {
                next = world.env.now + 150 * MS;
                // Through the leader: other nodes may not reach it.
                if let Some((slot, _)) = world.leader() {
                    probes.push(world.probe(slot));
                }
            }
            probes
                .iter()
                .any(|op| world.env.checks.once.has_happened(*op))
        })?;
        // A change requested earlier may since have made the faulty nodes part of every quorum.
        LIVENESS.ensure(done || !self.survives_without(ailing), || {
            format!(
                "no commit within {ELECTIONS_TO_COMMIT} election timeouts: {}",
                self.describe()
            )
        })
    }

    /// Ends all faults.
    fn heal(&mut self) -> Check {
        words::fault(&mut self.env, None, "all faults are healed");
        self.env.net.heal();
        self.env.clients.stopped = true;
        for slot in 0..self.nodes.len() {
            self.start(slot)?;
        }
        Ok(())
    }

    /// Checks that all members reach the same state.
    fn expect_convergence(&mut self) -> Check {
        let end = self.env.now + self.elections(ELECTIONS_TO_CONVERGE);
        let mut next = self.env.now;
        let done = self.run_until(end, |world| {
            if world.env.now < next {
                return false;
            }
            next = world.env.now + 20 * MS;
            world.has_converged()
        })?;
        let wedged = !done && !self.survives_without(&[]);
        self.env.counts.wedged += u64::from(wedged);
        CONVERGENCE.ensure(done || wedged, || {
            format!(
                "members differ after {ELECTIONS_TO_CONVERGE} election timeouts: {}",
                self.describe()
            )
        })?;
        self.hang_up()?;
        let World { env, nodes, .. } = self;
        for node in nodes {
            let id = node.id;
            if let Some(process) = node.process()
                && process.machine.index() == env.checks.agreement.last()
            {
                process.check_hash(env, id)?;
            }
        }
        env.counts.history_checked += crate::invariants::check_history(&env.clients.history)?;
        Ok(())
    }

    fn has_converged(&self) -> bool {
        let Some((_, status)) = self.leader() else {
            return false;
        };
        let membership = &status.membership;
        if membership.is_joint() || status.commit != status.last.index {
            return false;
        }
        membership.members().into_iter().all(|id| {
            let slot = self.env.slots.get(&id);
            let node = slot.and_then(|slot| self.nodes.get(*slot));
            let process = node
                .filter(|node| node.id == id)
                .and_then(|node| node.process());
            process.is_some_and(|process| process.machine.index() == status.commit)
        })
    }

    /// One line per node, for reports.
    pub(crate) fn describe(&self) -> String {
        let nodes = self.nodes.iter().map(|node| {
            let state = match &node.state {
                NodeState::Running(_) => "runs",
                NodeState::Paused(..) => "paused",
                NodeState::Down => "down",
                NodeState::Refused => "refuses to start",
            };
            let core = node.process().map(|process| {
                let status = process.core.status();
                let role = match status.role {
                    Role::Leader => "leads",
                    Role::Follower => "follows",
                    Role::PreCandidate => "pre-candidate",
                    Role::Candidate => "candidate",
                };
                format!(
                    "{role} {:?} in {}, commit {}, last {}, applied {}",
                    status.leader,
                    status.ballot,
                    status.commit,
                    status.last,
                    process.machine.index(),
                )
            });
            let members = self.env.checks.memberships_of(node.id);
            let voters: Vec<_> = members.iter().map(|m| (&m.voters, &m.outgoing)).collect();
            let core = core.unwrap_or_default();
            format!("\n  n{} {state} {core}, log's voters {voters:?}", node.id)
        });
        nodes.collect()
    }
}
