//! Routes completions from the log's thread to the drivers.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use synod_log::{CompletionSink, LogFailure};
use synod_types::{GroupId, WriteSeq};

use crate::error::Fault;

/// Called by the log when a group's writes are durable, or when the log has failed.
pub(crate) trait LogListener: Send + Sync {
    fn persisted(&self, seq: WriteSeq);
    fn failed(&self, fault: Fault);
}

#[derive(Default)]
struct State {
    groups: BTreeMap<GroupId, Arc<dyn LogListener>>,
    failure: Option<Fault>,
}

/// The process passes this to `Log::open`. It routes completions to the replicas of the groups,
/// which register when they start.
#[derive(Default)]
pub struct Completions {
    state: RwLock<State>,
}

impl Completions {
    /// Creates a router without listeners.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Registers a listener. If the log has already failed, the listener is told at once.
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
