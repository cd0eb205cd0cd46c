//! The synod: agreement on one value ("The Part-Time Parliament" §2; "Paxos Made Simple" §2.2-2.3).
//!
//! Multi-Paxos is one synod per slot, all with the same acceptors and ballots. This module contains
//! what makes it safe. The other modules let the messages of many slots travel together.

use synod_types::Ballot;

use crate::mutants::{Mutant, is_active};

/// A value that an acceptor has accepted, with its ballot ("maxVBal, maxVal").
pub(super) trait Vote {
    fn ballot(&self) -> Ballot;
}

/// An acceptor's state besides its votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acceptor {
    /// The highest ballot that it has taken part in. It accepts nothing below ("maxBal").
    pub(super) max_bal: Ballot,
}

/// The acceptor has promised a higher ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nack;

/// The effect of accepting a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// A new vote that replaces the previous one.
    Anew,
    /// A repeated vote: it already voted in this ballot, and a ballot has only one value.
    Again,
}

impl Acceptor {
    /// Phase 1b: a promise to accept nothing below `ballot`. If the same proposer asks again, it
    /// answers again.
    pub(super) fn prepare(&mut self, ballot: Ballot) -> Result<(), Nack> {
        if ballot < self.max_bal {
            return Err(Nack);
        }
        self.max_bal = ballot;
        Ok(())
    }

    /// Phase 2b (P1a): accepts unless it has promised not to.
    pub(super) fn accept(
        &mut self,
        ballot: Ballot,
        voted: Option<Ballot>,
    ) -> Result<Accepted, Nack> {
        self.prepare(ballot)?;
        if voted == Some(ballot) {
            Ok(Accepted::Again)
        } else {
            Ok(Accepted::Anew)
        }
    }
}

/// Phase 2a (P2c): among the values that a quorum's acceptors have accepted, only that of the
/// highest ballot may have been chosen. If none has accepted anything, the proposer may choose
/// freely.
pub(super) fn adopt<V: Vote>(known: Option<V>, vote: V) -> V {
    match known {
        Some(known) if is_active(Mutant::LowestBallotAdopted) => {
            if known.ballot() <= vote.ballot() {
                known
            } else {
                vote
            }
        }
        Some(known) if known.ballot() >= vote.ballot() => known,
        Some(_) | None => vote,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    struct Cast(u64, usize);

    impl Vote for Cast {
        fn ballot(&self) -> Ballot {
            Ballot::term(self.0)
        }
    }

    const ACCEPTORS: usize = 3;
    const PROPOSERS: usize = 3;

    /// Three acceptors. Proposer p has ballot p + 1 and proposes the value p. A message may arrive
    /// at any time, any number of times or never, so the set of sent messages only grows.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct State {
        max_bal: [u64; ACCEPTORS],
        votes: [Option<Cast>; ACCEPTORS],
        /// The promise of each acceptor to each proposer.
        promises: [[Option<Option<Cast>>; ACCEPTORS]; PROPOSERS],
        /// The value that each proposer proposes, if any.
        proposals: [Option<usize>; PROPOSERS],
        /// Every vote ever cast.
        cast: BTreeSet<(usize, Cast)>,
    }

    fn steps(state: &State) -> Vec<State> {
        let mut next = Vec::new();
        for proposer in 0..PROPOSERS {
            let ballot = Ballot::term(proposer as u64 + 1);
            for at in 0..ACCEPTORS {
                let mut acceptor = Acceptor {
                    max_bal: Ballot::term(state.max_bal[at]),
                };
                let mut after = state.clone();
                if state.promises[proposer][at].is_none() && acceptor.prepare(ballot).is_ok() {
                    after.max_bal[at] = acceptor.max_bal.round;
                    after.promises[proposer][at] = Some(state.votes[at]);
                    next.push(after);
                    continue;
                }
                let voted = state.votes[at].map(|vote| vote.ballot());
                if let Some(value) = state.proposals[proposer]
                    && acceptor.accept(ballot, voted) == Ok(Accepted::Anew)
                {
                    after.max_bal[at] = acceptor.max_bal.round;
                    after.votes[at] = Some(Cast(ballot.round, value));
                    after.cast.insert((at, Cast(ballot.round, value)));
                    next.push(after);
                }
            }
            let heard: Vec<Option<Cast>> =
                state.promises[proposer].iter().flatten().copied().collect();
            if state.proposals[proposer].is_none() && heard.len() * 2 > ACCEPTORS {
                let votes = heard.into_iter().flatten();
                let known = votes.fold(None, |known, vote| Some(adopt(known, vote)));
                let mut after = state.clone();
                after.proposals[proposer] = Some(known.map_or(proposer, |vote| vote.1));
                next.push(after);
            }
        }
        next
    }

    fn chosen(state: &State) -> BTreeSet<usize> {
        let mut chosen = BTreeSet::new();
        for (_, cast) in &state.cast {
            let voters = state.cast.iter().filter(|(_, other)| other == cast);
            if voters.count() * 2 > ACCEPTORS {
                chosen.insert(cast.1);
            }
        }
        chosen
    }

    #[test]
    fn only_one_value_is_ever_chosen() {
        let start = State {
            max_bal: [0; ACCEPTORS],
            votes: [None; ACCEPTORS],
            promises: [[None; ACCEPTORS]; PROPOSERS],
            proposals: [None; PROPOSERS],
            cast: BTreeSet::new(),
        };
        let mut seen = BTreeSet::from([start.clone()]);
        let mut open = vec![start];
        let mut decided = BTreeSet::new();
        while let Some(state) = open.pop() {
            let values = chosen(&state);
            assert!(values.len() <= 1, "{state:?}");
            decided.extend(values);
            for next in steps(&state) {
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        // Each proposer's value can be chosen.
        assert_eq!(decided, BTreeSet::from([0, 1, 2]));
        assert!(seen.len() > 1000, "{}", seen.len());
    }
}
