//! The synod: agreement on one value ("The Part-Time Parliament" §2; "Paxos Made Simple" §2.2-2.3).
//!
//! Multi-Paxos is one synod a slot, all with the same acceptors and the same ballots; what makes it
//! safe stands here. The rest of the module is how the messages of many slots travel together.

use synod_types::Ballot;

use crate::mutants::{Mutant, is_active};

/// A value that an acceptor has accepted, with the ballot in which it did ("maxVBal, maxVal").
pub(super) trait Vote {
    fn ballot(&self) -> Ballot;
}

/// What an acceptor knows besides its votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acceptor {
    /// The highest ballot that it has taken part in: it accepts nothing below ("maxBal").
    pub(super) max_bal: Ballot,
}

/// The acceptor has promised a higher ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nack;

/// What accepting changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// This is a new vote, and replaces the one before.
    Anew,
    /// In this ballot it voted already, and a ballot has only one value.
    Again,
}

impl Acceptor {
    /// Phase 1b: a promise not to accept anything below `ballot`. Asked again by the same proposer,
    /// it answers again.
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

/// Phase 2a (P2c): of what the acceptors of a quorum have accepted, the value of the highest ballot
/// is the only one that may have been chosen. Where nobody accepted anything the proposer is free.
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

    /// Three acceptors; proposer p has ballot p + 1 and wants the value p. A message once sent may
    /// arrive at any time, any number of times or never, so that what was sent only grows.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct State {
        max_bal: [u64; ACCEPTORS],
        votes: [Option<Cast>; ACCEPTORS],
        /// What each acceptor has promised each proposer.
        promises: [[Option<Option<Cast>>; ACCEPTORS]; PROPOSERS],
        /// What each proposer proposes, once it does.
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
        // Every proposer's value can win.
        assert_eq!(decided, BTreeSet::from([0, 1, 2]));
        assert!(seen.len() > 1000, "{}", seen.len());
    }
}
