//! Reads: those that wait at the same time share a round, several rounds may be under way, lost
//! ones are issued again.

use std::collections::BTreeMap;

use synod_consensus_core::mutants::{Mutant, is_active};
use synod_consensus_core::{Consensus, Input, ReadContext, ReadMode, Rejected};
use synod_types::Tick;

use crate::proposals::is_transient;

/// Rounds under way at once; later reads wait for the next.
const MAX_ROUNDS: usize = 32;

/// Somebody who waits for a read index.
pub trait Reader {
    /// The shell's clock.
    type Time: Copy + Ord;

    /// When it gives up.
    fn deadline(&self) -> Self::Time;

    /// Whether it gave up already: nobody waits for its answer any more.
    fn is_abandoned(&self) -> bool {
        false
    }
}

/// When a driver's turn takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment<T> {
    /// For the core.
    pub tick: Tick,
    /// For the shell.
    pub now: T,
    /// Deadline after which a read that is forwarded now is considered lost.
    pub lost_at: T,
    /// After a refusal now, no new round before.
    pub retry_at: T,
}

#[derive(Debug)]
struct Round<R: Reader> {
    readers: Vec<R>,
    lost_at: R::Time,
}

/// Reads that are not confirmed yet. Bounded by the admission of reads.
#[derive(Debug)]
pub struct ReadRounds<R: Reader> {
    /// For the next rounds.
    index: Vec<R>,
    lease: Vec<R>,
    rounds: BTreeMap<u64, Round<R>>,
    next: u64,
    /// No new round before this: the last one was refused.
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
    /// A new read. It takes part in rounds that begin after it, and in no other: the index of an
    /// earlier one may be older than what was acknowledged before the read.
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

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty() && self.lease.is_empty() && self.rounds.is_empty()
    }

    /// Whether the last attempt failed since no leader was known.
    #[must_use]
    pub fn lacks_leader(&self) -> bool {
        self.no_leader
    }

    /// When to look again: for the earliest deadline of what waits, and for lost rounds.
    #[must_use]
    pub fn deadline(&self) -> Option<R::Time> {
        let waiting = self.index.iter().chain(&self.lease).map(R::deadline).min();
        let lost = self.rounds.values().map(|round| round.lost_at).min();
        [waiting, lost, self.pause_until]
            .into_iter()
            .flatten()
            .min()
    }

    /// Starts rounds for what waits; those whom the core refuses for good go to `refused`. Returns
    /// how many rounds.
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
        // Taken before either is asked: who is refused now is not asked twice.
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

    /// Reads change nothing: they are asked again until their deadline, where that may help.
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

    /// The core has confirmed a round. Returns its readers; none if the round was given up as lost.
    pub fn confirmed(&mut self, ctx: ReadContext) -> Vec<R> {
        let round = self.rounds.remove(&ctx.0);
        round.map(|round| round.readers).unwrap_or_default()
    }

    /// The core has given up a round; those for whom asking again doesn't help go to `refused`.
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

    /// Once a tick: asks again where an answer got lost, forgets those who gave up, and returns
    /// those who are late.
    pub fn expire(&mut self, now: R::Time, leads: bool) -> Vec<R> {
        if !leads {
            // A leader's own rounds ride on its heartbeats and can't get lost.
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

    /// A core that only takes reads.
    #[derive(Default)]
    struct Core {
        refusal: Option<Rejected>,
        asked: Vec<(u64, ReadMode)>,
    }

    impl Consensus for Core {
        fn step(&mut self, _now: Tick, input: Input) -> Result<(), Rejected> {
            let Input::Read { ctx, mode } = input else {
                panic!("only reads are asked for: {input:?}")
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
            panic!("nobody asks")
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

    /// Issues what waits; nobody is refused.
    fn issue(reads: &mut ReadRounds<Read>, core: &mut Core, now: u64) -> usize {
        let mut refused = Vec::new();
        let issued = reads.issue(core, true, &at(now), &mut refused);
        assert_eq!(refused, []);
        issued
    }

    #[test]
    fn reads_share_the_next_round_and_never_one_under_way() {
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
    fn rounds_are_bounded_and_later_reads_wait_as_they_are() {
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
    fn what_passes_by_itself_is_asked_again_and_the_rest_is_told() {
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
    fn without_a_lease_the_same_turn_asks_a_quorum() {
        let (mut reads, mut core) = (ReadRounds::default(), Core::default());
        core.refusal = Some(Rejected::LeaseExpired);
        reads.add(ReadMode::Lease, Read("a", 100));
        assert_eq!(issue(&mut reads, &mut core, 0), 1);
        assert_eq!(core.asked, [(1, ReadMode::Index)]);
    }

    #[test]
    fn those_who_gave_up_leave_without_being_late() {
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
    fn nothing_is_asked_without_a_leader() {
        let (mut reads, mut core) = (ReadRounds::default(), Core::default());
        reads.add(ReadMode::Index, Read("a", 5));
        assert_eq!(reads.issue(&mut core, false, &at(0), &mut Vec::new()), 0);
        assert!(reads.lacks_leader());
        assert_eq!(reads.expire(5, false), [Read("a", 5)]);
        assert_eq!(core.asked, []);
    }

    #[test]
    fn an_answer_that_got_lost_is_asked_for_again_except_by_the_leader_itself() {
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
