//! The faults. Each seed enables a random subset of its flavour's faults, and one of them occurs at
//! random times. All stay within what a cluster can survive: only a minority may lose data for
//! good.

mod clock;
mod compaction;
mod crash;
mod cuts;
mod disk;
mod gaps;
mod laggards;
mod leadership;
mod links;
mod members;
mod pause;
mod slander;
mod stragglers;

use crate::choices::Stream;
use crate::event::Event;
use crate::flavour::Flavour;
use crate::invariants::Check;
use crate::world::World;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Links become lossy, slow or duplicating for a while, or good again.
    Links,
    /// Links are cut, in one of many shapes, or restored.
    Cuts,
    /// A process stops and continues later.
    Pause,
    /// Nodes are told that a peer is gone which isn't.
    Slander,
    /// A process is killed.
    Kill,
    /// A machine loses power, perhaps during a write.
    PowerLoss,
    /// All machines lose power.
    Blackout,
    /// A clock's rate changes.
    Clock,
    /// The membership changes at random.
    Churn,
    /// A node loses its disk and is replaced by a new one.
    Wipe,
    /// Leadership is transferred.
    Transfer,
    /// A node campaigns without a reason.
    Campaign,
    /// Links become slow, or a node campaigns at every tick for a while, usually against a leader
    /// that is cut off.
    Usurp,
    /// The leader is cut off or killed while links lose and reorder many messages.
    Behead,
    /// A node's links delay messages for long, then the leader is cut off.
    Straggle,
    /// The leader's disk becomes slower than the others', then another node becomes leader.
    Outrun,
    /// A log is compacted immediately.
    Compaction,
    /// A disk becomes slow, or fast again.
    SlowDisk,
    /// A sync fails.
    SyncFailure,
    /// A byte changes in a log that is not in use.
    BitRot,
    /// A piece of a log is overwritten with another piece.
    Misdirected,
}

impl FaultKind {
    /// The faults of a flavour.
    pub(crate) fn of(flavour: Flavour) -> Vec<Self> {
        use FaultKind as F;
        let fixed = [
            F::Links,
            F::Cuts,
            F::Pause,
            F::Kill,
            F::PowerLoss,
            F::Blackout,
            F::Clock,
            F::Transfer,
            F::Campaign,
            F::Compaction,
            F::SlowDisk,
            F::SyncFailure,
            F::Slander,
        ];
        match flavour {
            Flavour::Everything => {
                let members = [F::Churn, F::Wipe, F::BitRot, F::Misdirected];
                [&fixed[..], &members[..]].concat()
            }
            Flavour::Fixed => fixed.to_vec(),
            Flavour::Churn => vec![
                F::Churn,
                F::Churn,
                F::Wipe,
                F::Cuts,
                F::Kill,
                F::PowerLoss,
                F::Transfer,
                F::Compaction,
            ],
            Flavour::Leases => vec![
                F::Links,
                F::Cuts,
                F::Pause,
                F::Kill,
                F::Clock,
                F::Transfer,
                F::Campaign,
                F::Usurp,
                F::Usurp,
                F::Slander,
                F::Slander,
            ],
            Flavour::Disk => vec![
                F::Kill,
                F::PowerLoss,
                F::PowerLoss,
                F::Blackout,
                F::Compaction,
                F::SlowDisk,
                F::SyncFailure,
                F::BitRot,
                F::Misdirected,
                F::Wipe,
            ],
            Flavour::Partitions => vec![
                F::Cuts,
                F::Cuts,
                F::Links,
                F::Pause,
                F::Campaign,
                F::Slander,
            ],
            Flavour::Calm => Vec::new(),
            Flavour::Gaps => vec![
                F::Behead,
                F::Behead,
                F::Behead,
                F::Behead,
                F::Campaign,
                F::Kill,
                F::PowerLoss,
                F::Compaction,
            ],
            Flavour::Stragglers => vec![
                F::Straggle,
                F::Straggle,
                F::Straggle,
                F::Straggle,
                F::Clock,
                F::Transfer,
                F::Campaign,
                F::Kill,
                F::SlowDisk,
            ],
            Flavour::Laggards => vec![
                F::Outrun,
                F::Outrun,
                F::Outrun,
                F::Outrun,
                F::Links,
                F::Cuts,
                F::Campaign,
                F::PowerLoss,
                F::Compaction,
            ],
        }
    }
}

impl World {
    /// Causes at most one fault, and schedules the next.
    pub(crate) fn fault(&mut self) -> Check {
        if self.env.calm {
            return Ok(());
        }
        let gap = self.env.plan.fault_gap_us;
        let pause = self.env.choices.between(Stream::Fault, gap, gap * 3);
        self.env.after(pause, Event::Fault);
        // No fault is the harmless choice.
        let number = self
            .env
            .choices
            .index(Stream::Fault, self.env.plan.faults.len() + 1);
        let kind = number
            .checked_sub(1)
            .and_then(|at| self.env.plan.faults.get(at).copied());
        match kind {
            Some(kind) => self.strike(kind),
            None => Ok(()),
        }
    }

    fn strike(&mut self, kind: FaultKind) -> Check {
        match kind {
            FaultKind::Links => self.change_links(),
            FaultKind::Cuts => self.change_cuts(),
            FaultKind::Pause => self.pause_one(),
            FaultKind::Slander => self.slander(),
            FaultKind::Kill => return self.kill_one(),
            FaultKind::PowerLoss => return self.power_loss(),
            FaultKind::Blackout => return self.blackout(),
            FaultKind::Clock => return self.change_clock(),
            FaultKind::Churn => self.change_members(),
            FaultKind::Wipe => return self.wipe_one(),
            FaultKind::Transfer => self.transfer(),
            FaultKind::Campaign => self.campaign(),
            FaultKind::Usurp => self.usurp(),
            FaultKind::Behead => return self.behead(),
            FaultKind::Straggle => self.straggle(),
            FaultKind::Outrun => self.outrun(),
            FaultKind::Compaction => self.compact_one(),
            FaultKind::SlowDisk => self.change_disk_speed(),
            FaultKind::SyncFailure => self.fail_sync(),
            FaultKind::BitRot => return self.bit_rot(),
            FaultKind::Misdirected => return self.misdirected_write(),
        }
        Ok(())
    }

    /// Any node.
    fn any_slot(&mut self) -> usize {
        self.env.choices.index(Stream::Fault, self.nodes.len())
    }
}
