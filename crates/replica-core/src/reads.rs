//! Read rounds. Reads that wait at the same time share a round, several rounds may be in flight,
//! and lost rounds are issued again.

use std::collections::BTreeMap;

use synod_consensus_core::mutants::{Mutant, is_active};
use synod_consensus_core::{Consensus, Input, ReadContext, ReadMode, Rejected};
use synod_types::Tick;

use crate::proposals::is_transient;

/// The maximum number of rounds in flight. Later reads wait for the next round.
const MAX_ROUNDS: usize = 32;

/// A caller that waits for a read index.
pub trait Reader {
    /// The shell's clock.
    type Time: Copy + Ord;

    /// The caller's deadline.
    fn deadline(&self) -> Self::Time;

    /// Whether the caller no longer waits for the answer.
    fn is_abandoned(&self) -> bool {
        false
    }
}

/// The time of a driver's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment<T> {
    /// The core's time.
    pub tick: Tick,
    /// The shell's time.
    pub now: T,
    /// Deadline after which a read that is forwarded now is considered lost.
    pub lost_at: T,
    /// After a rejection now, the earliest time for a new round.
    pub retry_at: T,
}

#[derive(Debug)]
struct Round<R: Reader> {
    readers: Vec<R>,
    lost_at: R::Time,
}

/// Unconfirmed reads. The admission of reads bounds them.
#[derive(Debug)]
pub struct ReadRounds<R: Reader> {
    /// Readers for the next rounds.
    index: Vec<R>,
    lease: Vec<R>,
    rounds: BTreeMap<u64, Round<R>>,
    next: u64,
    /// No new round starts before this time, because the last one was rejected.
    pause_until: Option<R::Time>,
    no_leader: bool,
}

impl<R: Reader> Default for ReadRounds<R> {
    fn default() -> Self {
        Self {
            index: Vec::new(),
            lease: Vec::new(),
            rounds: BTreeMap::new(),
            next: 0,
            pause_until: None,
            no_leader: false,
        }
    }
}

impl<R: Reader> ReadRounds<R> {
    /// Adds a read. It takes part only in rounds that start after it: the index of an earlier round
    /// may be older than writes acknowledged before the read.
    pub fn add(&mut self, mode: ReadMode, reader: R) {
        if is_active(Mutant::ReadJoinsOlderRound)
            && let Some(mut round) = self.rounds.last_entry()
        {
            round.get_mut().readers.push(reader);
            return;
        }
        self.waiting(mode).push(reader);
    }

    fn waiting(&mut self, mode: ReadMode) -> &mut Vec<R> {
        match mode {
            ReadMode::Index => &mut self.index,
            ReadMode::Lease => &mut self.lease,
        }
    }

    /// Whether no reader waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty() && self.lease.is_empty() && self.rounds.is_empty()
    }

    /// Whether the last attempt failed because no leader was known.
    #[must_use]
    pub fn lacks_leader(&self) -> bool {
        self.no_leader
    }

    /// The time of the next check: the earliest deadline of a reader, or the loss of a round.
    #[must_use]
    pub fn deadline(&self) -> Option<R::Time> {
        let waiting = self.index.iter().chain(&self.lease).map(R::deadline).min();
        let lost = self.rounds.values().map(|round| round.lost_at).min();
        [waiting, lost, self.pause_until]
            .into_iter()
            .flatten()
            .min()
    }

    /// Starts rounds for waiting readers. Readers that the core rejects for good go to `refused`.
    /// Returns the number of rounds.
    pub fn issue(
        &mut self,
        core: &mut dyn Consensus,
        has_leader: bool,
        at: &Moment<R::Time>,
        refused: &mut Vec<(R, Rejected)>,
    ) -> usize {
        if self.index.is_empty() && self.lease.is_empty() {
            return 0;
        }
        self.no_leader = !has_leader;
        if self.no_leader || self.pause_until.is_some_and(|until| until > at.now) {
            return 0;
        }
        self.pause_until = None;
        let mut issued = 0;
        // Both lists are taken first, so that a reader that is rejected now is not issued twice.
        let waiting = [ReadMode::Lease, ReadMode::Index]
            .map(|mode| (mode, std::mem::take(self.waiting(mode))));
        for (mode, readers) in waiting {
            if !readers.is_empty() {
                issued += self.start(core, mode, readers, at, refused);
            }
        }
        issued
    }

    fn start(
        &mut self,
        core: &mut dyn Consensus,
        mode: ReadMode,
        readers: Vec<R>,
        at: &Moment<R::Time>,
        refused: &mut Vec<(R, Rejected)>,
    ) -> usize {
        if self.rounds.len() >= MAX_ROUNDS {
            self.waiting(mode).extend(readers);
            return 0;
        }
        let ctx = self.next;
        self.next = ctx.wrapping_add(1);
        let input = Input::Read {
            ctx: ReadContext(ctx),
            mode,
        };
        match core.step(at.tick, input) {
            Ok(()) => {
                let lost_at = at.lost_at;
                self.rounds.insert(ctx, Round { readers, lost_at });
                1
            }
            Err(Rejected::LeaseExpired) if mode == ReadMode::Lease => {
                self.start(core, ReadMode::Index, readers, at, refused)
            }
            Err(reason) => {
                self.refuse(readers, reason, at, refused);
                0
            }
        }
    }

    /// Handles a rejection. Reads change nothing, so they are retried until their deadline if that
    /// can help.
    fn refuse(
        &mut self,
        readers: Vec<R>,
        reason: Rejected,
        at: &Moment<R::Time>,
        refused: &mut Vec<(R, Rejected)>,
    ) {
        if is_transient(reason) || reason == Rejected::LeaseExpired {
            self.pause_until = Some(at.retry_at);
            self.index.extend(readers);
        } else {
            refused.extend(readers.into_iter().map(|reader| (reader, reason)));
        }
    }

    /// The core confirmed a round. Returns its readers; none if the round was considered lost.
    pub fn confirmed(&mut self, ctx: ReadContext) -> Vec<R> {
        let round = self.rounds.remove(&ctx.0);
        round.map(|round| round.readers).unwrap_or_default()
    }

    /// The core gave up a round. Readers for whom a retry doesn't help go to `refused`.
    pub fn failed(
        &mut self,
        ctx: ReadContext,
        reason: Rejected,
        at: &Moment<R::Time>,
        refused: &mut Vec<(R, Rejected)>,
    ) {
        let readers = self.confirmed(ctx);
        if !readers.is_empty() {
            self.refuse(readers, reason, at, refused);
        }
    }

    /// Called once per tick. Retries lost rounds, removes abandoned readers, and returns readers
    /// past their deadline.
    pub fn expire(&mut self, now: R::Time, leads: bool) -> Vec<R> {
        if !leads {
            // A leader's own rounds use its heartbeats and can't get lost.
            let lost = self.rounds.extract_if(.., |_, round| round.lost_at <= now);
            let lost: Vec<R> = lost.flat_map(|(_, round)| round.readers).collect();
            self.index.extend(lost);
        }
        let mut late = Vec::new();
        let rounds = self.rounds.values_mut().map(|round| &mut round.readers);
        for readers in rounds.chain([&mut self.index, &mut self.lease]) {
            readers.retain(|reader| !reader.is_abandoned());
            late.extend(readers.extract_if(.., |reader| reader.deadline() <= now));
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use synod_consensus_core::{Ready, Status};
    use synod_types::Index;

    use super::*;

    /// A core that only accepts reads.
    #[derive(Default)]
    struct Core {
        refusal: Option<Rejected>,
        asked: Vec<(u64, ReadMode)>,
    }

    impl Consensus for Core {
        fn step(&mut self, _now: Tick, input: Input) -> Result<(), Rejected> {
            let Input::Read { ctx, mode } = input else {
                panic!("this core only accepts reads: {input:?}")
            };
            match self.refusal {
                Some(Rejected::LeaseExpired) if mode == ReadMode::Index => {}
                Some(refusal) => return Err(refusal),
                None => {}
            }
            self.asked.push((ctx.0, mode));
            Ok(())
        }

        fn ready(&mut self) -> Option<Ready> {
            None
        }

        fn status(&self) -> Status {
            panic!("no test asks for it")
        }

        fn deadline(&self) -> Tick {
            Tick::MAX
        }

        fn commit(&self) -> Index {
            Index::ZERO
        }

        fn lease_until(&self) -> Option<Tick> {
            None
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Read(&'static str, u64);

    impl Reader for Read {
        type Time = u64;

        fn deadline(&self) -> u64 {
            self.1
        }

        fn is_abandoned(&self) -> bool {
            self.0 == "abandoned"
        }
    }

    fn at(now: u64) -> Moment<u64> {
        Moment {
            tick: Tick::new(now),
            now,
            lost_at: now + 30,
            retry_at: now + 10,
        }
    }

    /// Issues waiting reads; none may be rejected.
    fn issue(reads: &mut ReadRounds<Read>, core: &mut Core, now: u64) -> usize {
        let mut refused = Vec::new();
        let issued = reads.issue(core, true, &at(now), &mut refused);
        assert_eq!(refused, []);
        issued
    }

    #[test]
    fn reads_share_the_next_round_and_never_one_in_flight() {
        let (mut reads, mut core) = (ReadRounds::default(), Core::default());
        reads.add(ReadMode::Index, Read("a", 100));
        reads.add(ReadMode::Index, Read("b", 100));
        assert_eq!(issue(&mut reads, &mut core, 0), 1);
        reads.add(ReadMode::Index, Read("c", 100));
        assert_eq!(issue(&mut reads, &mut core, 0), 1);
        assert_eq!(core.asked, [(0, ReadMode::Index), (1, ReadMode::Index)]);
        let first = reads.confirmed(ReadContext(0));
        assert_eq!(first, [Read("a", 100), Read("b", 100)]);
        assert_eq!(reads.confirmed(ReadContext(0)), [], "only once");
        assert_eq!(reads.confirmed(ReadContext(1)), [Read("c", 100)]);
        assert!(reads.is_empty());
    }

    #[test]
    fn rounds_are_bounded_and_later_reads_wait() {
        let (mut reads, mut core) = (ReadRounds::default(), Core::default());
        for _ in 0..MAX_ROUNDS {
            reads.add(ReadMode::Index, Read("early", 100));
            assert_eq!(issue(&mut reads, &mut core, 0), 1);
        }
        reads.add(ReadMode::Lease, Read("late", 100));
        assert_eq!(issue(&mut reads, &mut core, 0), 0);
        assert_eq!(reads.confirmed(ReadContext(7)).len(), 1);
        assert_eq!(issue(&mut reads, &mut core, 0), 1);
        assert_eq!(core.asked.last(), Some(&(32, ReadMode::Lease)));
    }

    #[test]
    fn transient_rejections_are_retried_and_others_are_reported() {
        let (mut reads, mut core) = (ReadRounds::default(), Core::default());
        reads.add(ReadMode::Lease, Read("a", 100));
        core.refusal = Some(Rejected::LeaderNotReady);
        assert_eq!(issue(&mut reads, &mut core, 0), 0);
        core.refusal = None;
        assert_eq!(
            issue(&mut reads, &mut core, 9),
            0,
            "not before the pause ends"
        );
        assert_eq!(reads.deadline(), Some(10));
        assert_eq!(issue(&mut reads, &mut core, 10), 1);
        let mut refused = Vec::new();
        reads.failed(ReadContext(1), Rejected::TimedOut, &at(20), &mut refused);
        assert_eq!(refused, []);
        assert_eq!(issue(&mut reads, &mut core, 30), 1);
        reads.failed(ReadContext(2), Rejected::Removed, &at(40), &mut refused);
        assert_eq!(refused, [(Read("a", 100), Rejected::Removed)]);
        assert!(reads.is_empty());
    }

    #[test]
    fn without_a_lease_the_same_turn_starts_a_quorum_round() {
        let (mut reads, mut core) = (ReadRounds::default(), Core::default());
        core.refusal = Some(Rejected::LeaseExpired);
        reads.add(ReadMode::Lease, Read("a", 100));
        assert_eq!(issue(&mut reads, &mut core, 0), 1);
        assert_eq!(core.asked, [(1, ReadMode::Index)]);
    }

    #[test]
    fn abandoned_reads_are_removed_without_a_timeout() {
        let (mut reads, mut core) = (ReadRounds::default(), Core::default());
        reads.add(ReadMode::Index, Read("abandoned", 5));
        reads.add(ReadMode::Index, Read("a", 100));
        assert_eq!(issue(&mut reads, &mut core, 0), 1);
        reads.add(ReadMode::Lease, Read("abandoned", 100));
        assert_eq!(reads.expire(6, true), []);
        assert_eq!(reads.confirmed(ReadContext(0)), [Read("a", 100)]);
        assert!(reads.is_empty());
    }

    #[test]
    fn no_round_starts_without_a_leader() {
        let (mut reads, mut core) = (ReadRounds::default(), Core::default());
        reads.add(ReadMode::Index, Read("a", 5));
        assert_eq!(reads.issue(&mut core, false, &at(0), &mut Vec::new()), 0);
        assert!(reads.lacks_leader());
        assert_eq!(reads.expire(5, false), [Read("a", 5)]);
        assert_eq!(core.asked, []);
    }

    #[test]
    fn lost_rounds_are_retried_except_on_the_leader() {
        let (mut reads, mut core) = (ReadRounds::default(), Core::default());
        reads.add(ReadMode::Index, Read("a", 100));
        assert_eq!(issue(&mut reads, &mut core, 0), 1);
        assert_eq!(reads.expire(30, true), []);
        assert_eq!(issue(&mut reads, &mut core, 30), 0);
        assert_eq!(reads.expire(30, false), []);
        assert_eq!(issue(&mut reads, &mut core, 30), 1);
        assert_eq!(reads.confirmed(ReadContext(0)), [], "the lost round");
        assert_eq!(reads.expire(100, true), [Read("a", 100)]);
        assert_eq!(reads.confirmed(ReadContext(1)), [], "its reader gave up");
    }
}
