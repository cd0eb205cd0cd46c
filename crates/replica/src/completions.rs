//! From the log thread to the drivers.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use synod_log::{CompletionSink, LogFailure};
use synod_types::{GroupId, WriteSeq};

use crate::error::Fault;

/// What the log calls when writes of a group are durable, or when it has failed.
pub(crate) trait LogListener: Send + Sync {
    fn persisted(&self, seq: WriteSeq);
    fn failed(&self, fault: Fault);
}

#[derive(Default)]
struct State {
    groups: BTreeMap<GroupId, Arc<dyn LogListener>>,
    failure: Option<Fault>,
}

/// What the process gives to `Log::open`: routes completions to the groups' replicas, which
/// register when they start.
#[derive(Default)]
pub struct Completions {
    state: RwLock<State>,
}

impl Completions {
    /// Nobody is registered yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// A failure that came earlier is told at once.
    pub(crate) fn register(&self, group: GroupId, listener: Arc<dyn LogListener>) {
        let mut state = self.state.write();
        if let Some(fault) = &state.failure {
            listener.failed(fault.clone());
        }
        state.groups.insert(group, listener);
    }

    pub(crate) fn unregister(&self, group: GroupId) {
        self.state.write().groups.remove(&group);
    }
}

impl CompletionSink for Completions {
    fn persisted(&self, group: GroupId, seq: WriteSeq) {
        if let Some(listener) = self.state.read().groups.get(&group) {
            listener.persisted(seq);
        }
    }

    fn failed(&self, failure: LogFailure) {
        let fault = Fault::Log(failure.to_string());
        let mut state = self.state.write();
        for listener in state.groups.values() {
            listener.failed(fault.clone());
        }
        state.failure.get_or_insert(fault);
    }
}
