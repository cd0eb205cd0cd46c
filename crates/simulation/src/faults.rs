//! The fault menu. Each seed has a random subset of what its flavour allows; at random times one of
//! them strikes. All stay within what a cluster can survive: what is lost for good, is lost on a
//! minority only.

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
    /// Links become lossy, slow or doubling for a while, or good again.
    Links,
    /// Links are cut, in one of many shapes, or work again.
    Cuts,
    /// A process stops and goes on later.
    Pause,
    /// Nodes are told that a peer is gone which isn't.
    Slander,
    /// A process is killed.
    Kill,
    /// A machine loses power, perhaps in the middle of a write.
    PowerLoss,
    /// All machines lose power.
    Blackout,
    /// A clock runs at another rate.
    Clock,
    /// The membership is changed at random.
    Churn,
    /// A node loses its disk, and comes back as a new one.
    Wipe,
    /// The leadership is transferred.
    Transfer,
    /// A node campaigns out of turn.
    Campaign,
    /// Links become slow, or a node campaigns at every tick for a while, mostly against a leader
    /// that is cut off.
    Usurp,
    /// The leader is cut off or killed, while links lose and reorder much.
    Behead,
    /// Links of a node hold back what they carry; then the leader is cut off.
    Straggle,
    /// The leader's disk becomes slower than the others'; then somebody else gets the leadership.
    Outrun,
    /// A log is cut at once.
    Compaction,
    /// A disk becomes slow, or fast again.
    SlowDisk,
    /// A sync fails.
    SyncFailure,
    /// A byte of a log that is not in use changes.
    BitRot,
    /// A piece of a log is overwritten by another.
    Misdirected,
}

impl FaultKind {
    /// What a flavour may have.
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
    /// One fault, perhaps, and when to think of the next.
    pub(crate) fn fault(&mut self) -> Check {
        if self.env.calm {
            return Ok(());
        }
        let gap = self.env.plan.fault_gap_us;
        let pause = self.env.choices.between(Stream::Fault, gap, gap * 3);
        self.env.after(pause, Event::Fault);
        // None is the harmless choice.
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
