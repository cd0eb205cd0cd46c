//! Signs of life on their way to the leading pod.
//!
//! They are taken in rounds. A session counts as alive only when the leading pod has the round of
//! its sign: a pod that is cut off does not make its clients believe that they are safe.

use synod_coordination_core::SessionId;

use super::Hub;

/// Which rounds were taken, and which have arrived. Rounds count from one.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    taken: u64,
    arrived: u64,
}

impl Rounds {
    /// The round of what is noted now.
    pub(super) fn next(&self) -> u64 {
        self.taken + 1
    }
}

/// Signs of life that are taken again if this is dropped before they have
/// [arrived](OnTheirWay::arrived).
#[derive(Debug)]
pub(crate) struct OnTheirWay<'a> {
    hub: &'a Hub,
    touched: Option<Touched>,
}

impl OnTheirWay<'_> {
    /// Their sessions.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        let sessions = self.touched.iter().flat_map(|touched| &touched.sessions);
        sessions.copied()
    }

    /// The leading pod knows of them; for the sessions in `late` they came too late.
    pub(crate) fn arrived(mut self, late: &[SessionId]) {
        if let Some(touched) = self.touched.take() {
            self.hub.touches_arrived(&touched, late);
        }
    }
}

impl Drop for OnTheirWay<'_> {
    fn drop(&mut self) {
        if let Some(touched) = self.touched.take() {
            self.hub.touches_lost(touched);
        }
    }
}

/// Sessions whose clients have shown life.
#[derive(Debug)]
pub(crate) struct Touched {
    pub(crate) sessions: Vec<SessionId>,
    round: u64,
}

impl Hub {
    /// The sessions whose clients have shown life since the last call. Say then whether they have
    /// [arrived](Self::touches_arrived).
    pub(crate) fn take_touched(&self) -> Touched {
        let mut state = self.state.lock();
        state.rounds.taken += 1;
        Touched {
            sessions: state.touched.drain().collect(),
            round: state.rounds.taken,
        }
    }

    /// As [`Hub::take_touched`], for a call that may end at any time.
    pub(crate) fn send_touched(&self) -> OnTheirWay<'_> {
        OnTheirWay {
            hub: self,
            touched: Some(self.take_touched()),
        }
    }

    /// The leading pod knows of these signs of life. For the sessions in `late` they came too late:
    /// their end is on its way, so their clients lose their connections.
    pub(crate) fn touches_arrived(&self, touched: &Touched, late: &[SessionId]) {
        let mut state = self.state.lock();
        for session in late {
            if let Some(&id) = state.sessions.get(session) {
                state.close(id);
            }
        }
        state.rounds.arrived = state.rounds.arrived.max(touched.round);
        drop(state);
        self.progress.notify_waiters();
    }

    /// The leading pod may not know of these signs of life: they are taken again.
    fn touches_lost(&self, touched: Touched) {
        self.state.lock().touched.extend(touched.sessions);
    }

    /// Resolves when the leading pod knows of the signs of life of this round.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(super) async fn round_arrived(&self, round: u64) {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            // Before the check, so that no progress is missed.
            progress.as_mut().enable();
            if self.state.lock().rounds.arrived >= round {
                return;
            }
            progress.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use synod_coordination_core::OutboxLimits;

    use super::*;

    #[tokio::test]
    async fn a_sign_of_life_counts_when_its_round_has_arrived() {
        let limits = OutboxLimits {
            commands: 10,
            bytes: 1_000,
            command_bytes: 1_000,
        };
        let hub = Hub::new(limits, None);
        let session = SessionId::new(7);
        let before = hub.take_touched();
        hub.touch(session);
        let round = hub.state.lock().rounds.next();
        let arrival = hub.round_arrived(round);
        tokio::pin!(arrival);
        hub.touches_arrived(&before, &[]);
        assert!(
            futures::poll!(&mut arrival).is_pending(),
            "an earlier round"
        );
        let lost = hub.send_touched();
        assert_eq!(lost.sessions().collect::<Vec<_>>(), [session]);
        drop(lost);
        assert!(futures::poll!(&mut arrival).is_pending(), "it was lost");
        let taken = hub.send_touched();
        let again: Vec<SessionId> = taken.sessions().collect();
        assert_eq!(again, [session], "it is taken again");
        assert!(
            futures::poll!(&mut arrival).is_pending(),
            "it is on its way"
        );
        taken.arrived(&[]);
        assert!(futures::poll!(&mut arrival).is_ready());
        assert!(hub.take_touched().sessions.is_empty());
    }
}
