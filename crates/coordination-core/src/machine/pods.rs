//! Which commands of which pod were applied, so that one that was sent twice is applied once.

use std::collections::BTreeMap;

use crate::command::{Command, Kind, Origin};
use crate::{PodId, Refused};

/// The number of each pod's last command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pods(BTreeMap<PodId, u64>);

impl Pods {
    /// How many pods can be registered at the same time.
    const LIMIT: usize = 4096;

    /// Checks that a command is the next of its pod, and counts it. A pod's numbers have no gaps:
    /// otherwise a command that overtakes another would make that one a duplicate, and so lose it.
    pub(super) fn admit(&mut self, command: &Command) -> Result<(), Refused> {
        let Some(Origin { pod, number }) = command.origin else {
            return Ok(());
        };
        let Some(last) = self.0.get_mut(&pod) else {
            return self.register(command, pod, number);
        };
        let expected = last.saturating_add(1);
        if number < expected {
            return Err(Refused::Duplicate);
        }
        if number > expected {
            return Err(Refused::Gap { expected });
        }
        *last = number;
        Ok(())
    }

    fn register(&mut self, command: &Command, pod: PodId, number: u64) -> Result<(), Refused> {
        if command.kind != Kind::RegisterPod {
            return Err(Refused::UnknownPod(pod));
        }
        if number != 1 {
            return Err(Refused::Gap { expected: 1 });
        }
        if self.0.len() == Self::LIMIT {
            return Err(Refused::TooManyPods);
        }
        self.0.insert(pod, number);
        Ok(())
    }

    pub(super) fn forget(&mut self, pod: PodId) {
        self.0.remove(&pod);
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (PodId, u64)> {
        self.0.iter().map(|(&pod, &number)| (pod, number))
    }

    pub(super) fn load(pods: BTreeMap<PodId, u64>) -> Self {
        Self(pods)
    }
}
