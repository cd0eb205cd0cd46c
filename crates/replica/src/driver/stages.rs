//! Times from stage to stage for one proposal at a time. Cheap enough to be always on.

use std::time::Instant;

use synod_consensus_core::Write;
use synod_types::{Index, WriteSeq};

use crate::metrics::{Metrics, Stage};
use crate::shared::GroupRequests;

/// The sampled proposal.
struct Sample {
    request: u64,
    proposed: Instant,
    /// Known once the core has appended it.
    place: Option<(Index, WriteSeq)>,
    persisted: bool,
    committed: bool,
}

/// Follows one proposal on a leader from stage to stage. The next sample starts when this one is
/// committed and durable.
#[derive(Default)]
pub(super) struct Sampler {
    sample: Option<Sample>,
}

impl Sampler {
    pub(super) fn proposed(
        &mut self,
        request: u64,
        received: Instant,
        now: Instant,
        metrics: &Metrics,
    ) {
        if self.sample.is_none() {
            metrics.stage(Stage::Proposed, now.saturating_duration_since(received));
            self.sample = Some(Sample {
                request,
                proposed: now,
                place: None,
                persisted: false,
                committed: false,
            });
        }
    }

    /// Finds the sampled proposal among the writes.
    pub(super) fn written(&mut self, writes: &[Write], seq: WriteSeq) {
        let Some(sample) = self.sample.as_mut().filter(|sample| sample.place.is_none()) else {
            return;
        };
        let index = writes.iter().find_map(|write| match write {
            Write::Put(entry) => (entry.id.seq == sample.request).then_some(entry.index),
            Write::TruncateFrom(_) | Write::Reset(_) | Write::Advance(_) | Write::HardState(_) => {
                None
            }
        });
        sample.place = index.map(|index| (index, seq));
    }

    pub(super) fn persisted(&mut self, seq: WriteSeq, now: Instant, metrics: &Metrics) {
        if let Some(sample) = &mut self.sample
            && !sample.persisted
            && sample.place.is_some_and(|(_, written)| written <= seq)
        {
            metrics.stage(
                Stage::Persisted,
                now.saturating_duration_since(sample.proposed),
            );
            sample.persisted = true;
        }
        self.finish();
    }

    /// Also tells the apply thread to time the last stage.
    pub(super) fn committed<O>(
        &mut self,
        commit: Index,
        now: Instant,
        shared: &GroupRequests<O>,
        metrics: &Metrics,
    ) {
        if let Some(sample) = &mut self.sample
            && !sample.committed
            && let Some((index, _)) = sample.place
            && index <= commit
        {
            metrics.stage(
                Stage::Committed,
                now.saturating_duration_since(sample.proposed),
            );
            sample.committed = true;
            shared.apply_sample.start(index, now);
        }
        self.finish();
    }

    /// The leadership changed, so the sample's outcome is unknown.
    pub(super) fn forget(&mut self) {
        self.sample = None;
    }

    fn finish(&mut self) {
        self.sample
            .take_if(|sample| sample.persisted && sample.committed);
    }
}
