//! Which commands of which pod were applied, so that one that was sent twice is applied once.

use std::collections::BTreeMap;

use crate::codec::{Reader, Writer};
use crate::command::{Command, Origin};
use crate::{DecodeError, PodId, Refused, Zxid};

/// How many pods can be registered at the same time. A pod that restarts counts twice until its
/// earlier run is forgotten.
pub const MAX_PODS: usize = 4096;

/// How long a pod without sessions sends no command before it is forgotten, in milliseconds of the
/// log's time. A pod that is cut off comes back within this time, and its commands still count.
pub const POD_IDLE_MS: i64 = 60 * 60 * 1000;

/// The registered pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pods {
    registered: BTreeMap<PodId, Pod>,
    /// The transaction that last forgot a pod.
    forgotten: Zxid,
}

/// A pod's last command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pod {
    number: u64,
    time_ms: i64,
}

impl Pods {
    const MIN_BYTES: usize = 8 + 1 + 8;

    /// Checks that a command is the next of its pod, and counts it. A pod's numbers have no gaps:
    /// otherwise a command that overtakes another would make that one a duplicate, and so lose it.
    pub(super) fn admit(&mut self, command: &Command, time_ms: i64) -> Result<(), Refused> {
        let Some(Origin { pod, number }) = command.origin else {
            return Ok(());
        };
        let Some(last) = self.registered.get_mut(&pod) else {
            return self.register(command, pod, Pod { number, time_ms });
        };
        let expected = last.number.saturating_add(1);
        if number < expected {
            return Err(Refused::Duplicate);
        }
        if number > expected {
            return Err(Refused::Gap { expected });
        }
        *last = Pod { number, time_ms };
        Ok(())
    }

    fn register(&mut self, command: &Command, pod: PodId, first: Pod) -> Result<(), Refused> {
        if !command.kind.is_registration_after(self.forgotten) {
            return Err(Refused::UnknownPod(pod));
        }
        if first.number != 1 {
            return Err(Refused::Gap { expected: 1 });
        }
        if self.registered.len() == MAX_PODS {
            return Err(Refused::TooManyPods);
        }
        self.registered.insert(pod, first);
        Ok(())
    }

    /// No copy of the pod's registration can register it again: it was sent before `zxid`.
    pub(super) fn forget(&mut self, pod: PodId, zxid: Zxid) {
        self.registered.remove(&pod);
        self.forgotten = zxid;
    }

    /// The transaction that last forgot a pod; zero if none did.
    pub(super) fn forgotten(&self) -> Zxid {
        self.forgotten
    }

    /// The number of a pod's last command.
    pub(super) fn last(&self, pod: PodId) -> Option<u64> {
        self.registered.get(&pod).map(|pod| pod.number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PodId, u64)> {
        let pods = self.registered.iter();
        pods.map(|(&pod, last)| (pod, last.number))
    }

    /// The pods that have sent nothing for [`POD_IDLE_MS`].
    pub(super) fn unused(&self, time_ms: i64) -> impl Iterator<Item = (PodId, u64)> {
        let is_unused = move |last: &Pod| time_ms.saturating_sub(last.time_ms) >= POD_IDLE_MS;
        let unused = self.registered.iter();
        let unused = unused.filter(move |(_, last)| is_unused(last));
        unused.map(|(&pod, last)| (pod, last.number))
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.i64(self.forgotten.get());
        out.len(self.registered.len());
        for (pod, last) in &self.registered {
            out.u64(pod.get());
            out.varint(last.number);
            out.i64(last.time_ms);
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let forgotten = Zxid::new(input.i64()?);
        let mut pods = BTreeMap::new();
        for _ in 0..input.count(Self::MIN_BYTES)? {
            let pod = PodId::new(input.u64()?);
            let is_in_order = pods.last_key_value().is_none_or(|(&last, _)| last < pod);
            if !is_in_order {
                return Err(DecodeError::Invalid("list of pods"));
            }
            let last = Pod {
                number: input.varint()?,
                time_ms: input.i64()?,
            };
            pods.insert(pod, last);
        }
        Ok(Self {
            registered: pods,
            forgotten,
        })
    }
}
