//! Orders commands into batches and appends them.

use std::collections::{HashMap, VecDeque};

use super::LogNumber;
use super::time::{LogTime, Now};
use crate::machine::MAX_PODS;
use crate::{Batch, Command, Kind, PodId, Zxid};

/// How much a sequencer gathers.
#[derive(Clone, Copy, Debug)]
pub struct SequencerLimits {
    /// Commands in a batch.
    pub batch_commands: usize,
    /// Bytes of commands in a batch. A larger command has a batch of its own.
    pub batch_bytes: usize,
    /// Commands that wait for a batch.
    pub waiting_commands: usize,
    /// Bytes of commands that wait for a batch.
    pub waiting_bytes: usize,
}

/// Where a new sequencer begins: the state after the whole log, which it has read after it became
/// the leader.
#[derive(Clone, Debug)]
pub struct Start {
    /// The last batch of the log.
    pub applied: LogNumber,
    /// The last transaction.
    pub last: Zxid,
    /// The time of the last batch, in milliseconds since 1970.
    pub time_ms: i64,
    /// When this pod applied that batch, by the clock of [`Now::monotonic_ms`]. `None` if the pod
    /// followed the log only later, so that the batch may be much older: after a start.
    pub applied_ms: Option<u64>,
    /// The registered pods, each with the number of its last command in the log.
    pub pods: Vec<(PodId, u64)>,
    /// The transaction that last forgot a pod.
    pub forgotten: Zxid,
}

/// What the sequencer wants done. Tell it what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// One transaction: if the batch's key does not exist and the sequencer still holds its
    /// leadership key, write the batch; otherwise read both. Then call
    /// [`appended`](Sequencer::appended).
    Append {
        /// The batch's place.
        number: LogNumber,
        /// The batch.
        batch: Vec<u8>,
    },
    /// A linearizable read of the batch's key and the leadership key. Then call
    /// [`appended`](Sequencer::appended) with [`Outcome::Found`], or [`Outcome::Unknown`] if it
    /// failed.
    Read {
        /// The batch's place.
        number: LogNumber,
    },
}

/// What came of an [`Action`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The batch was written.
    Appended,
    /// The batch was not written by this transaction, or nothing was to be written. This is what
    /// was read instead.
    Found(Found),
    /// The endpoint does not take so many bytes. The batch is divided; a single command is
    /// replaced by [`Kind::Nothing`], and its pod answers that it is too large.
    TooLarge,
    /// No answer, or an answer that doesn't say whether the batch was written.
    Unknown,
}

/// What a transaction or a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The value of the batch's key, if it exists.
    pub batch: Option<Vec<u8>>,
    /// Whether the sequencer still holds its leadership key.
    pub leads: bool,
}

/// Why a sequencer has stopped. Its waiting commands stay in the outboxes of their pods, which send
/// them to its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// It does not hold its leadership key any more.
    #[error("another pod leads")]
    NotLeading,
    /// Another sequencer has appended at its place.
    #[error("another sequencer has appended batch {0}")]
    Overtaken(LogNumber),
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsequenced {
    /// Wait until a batch was appended.
    #[error("too many commands wait for the log")]
    Full,
    /// Earlier commands of the pod are missing.
    #[error("the pod's next command must have number {expected}")]
    Gap {
        /// The number that must come next.
        expected: u64,
    },
    /// The pod is not registered, or was forgotten. It takes a new id and registers.
    #[error("pod {0} is not registered")]
    UnknownPod(PodId),
    /// As many pods are registered as the machine has room for. Wait until one is forgotten.
    #[error("{MAX_PODS} pods are registered, the most that the log knows")]
    TooManyPods,
    /// The sequencer has stopped.
    #[error(transparent)]
    Stopped(Stopped),
}

/// Orders the commands of all pods. It exists while its pod leads.
#[derive(Debug)]
pub struct Sequencer {
    limits: SequencerLimits,
    /// The number of the last command of each pod that is in the log or waits here.
    pods: HashMap<PodId, u64>,
    /// The transaction that last forgot a pod. While such a command waits, it is at the end of all.
    forgotten: Zxid,
    waiting: VecDeque<(Command, usize)>,
    waiting_bytes: usize,
    /// Where the next batch is appended.
    number: LogNumber,
    /// The next batch's first transaction.
    next: Zxid,
    time: LogTime,
    append: Append,
}

#[derive(Debug)]
enum Append {
    Idle,
    /// The caller executes an action.
    Running(Written),
    /// The caller is to execute an action.
    Due(Written, Step),
    Stopped(Stopped),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Append,
    Read,
}

/// The batch that is being appended.
#[derive(Debug)]
struct Written {
    batch: Vec<u8>,
    /// The transaction after its last one.
    next: Zxid,
}

impl Sequencer {
    /// A new sequencer. Its transactions have the epoch after the last one's.
    #[must_use]
    pub fn new(start: Start, limits: SequencerLimits) -> Self {
        Self {
            limits,
            pods: start.pods.into_iter().collect(),
            forgotten: start.forgotten,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            number: start.applied.next(),
            next: start.last.next_epoch(),
            time: LogTime::new(start.time_ms, start.applied_ms),
            append: Append::Idle,
        }
    }

    /// Takes a command, of a pod or of the sequencer's own. A command that was taken before, or is
    /// in the log already, is not taken again. Nor is one that forgets a pod which has sent
    /// commands since.
    ///
    /// # Errors
    /// [`Unsequenced`]: the command was not taken.
    pub fn submit(&mut self, command: Command) -> Result<(), Unsequenced> {
        if let Append::Stopped(stopped) = self.append {
            return Err(Unsequenced::Stopped(stopped));
        }
        let bytes = command.encode().len();
        let full = self.waiting.len() >= self.limits.waiting_commands
            || self.waiting_bytes >= self.limits.waiting_bytes;
        if let Some(origin) = command.origin {
            let last = match self.pods.get(&origin.pod) {
                Some(&last) => last,
                None => {
                    self.check_registration(origin.pod, &command.kind)?;
                    0
                }
            };
            if origin.number <= last {
                return Ok(());
            }
            if origin.number > last + 1 {
                return Err(Unsequenced::Gap { expected: last + 1 });
            }
            if full {
                return Err(Unsequenced::Full);
            }
            self.pods.insert(origin.pod, origin.number);
        } else if full {
            return Err(Unsequenced::Full);
        }
        if let Kind::ForgetPod { pod, last } = command.kind {
            if self.pods.get(&pod) != Some(&last) {
                return Ok(());
            }
            self.pods.remove(&pod);
            self.forgotten = Zxid::MAX;
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back((command, bytes));
        Ok(())
    }

    /// The machine would refuse such a registration, and the commands behind it.
    fn check_registration(&self, pod: PodId, kind: &Kind) -> Result<(), Unsequenced> {
        if !kind.is_registration_after(self.forgotten) {
            return Err(Unsequenced::UnknownPod(pod));
        }
        if self.pods.len() >= MAX_PODS {
            return Err(Unsequenced::TooManyPods);
        }
        Ok(())
    }

    /// What to do next; `None` while an action is being executed, and without commands.
    ///
    /// Batches are stamped with a time that follows the wall clock. It never goes back, and passes
    /// by the monotonic clock while the wall clock jumps; it gains or loses an eighth until both
    /// agree. The first batch takes the wall clock as it is if [`Start::applied_ms`] is `None`.
    pub fn next_action(&mut self, now: Now) -> Option<Action> {
        let (written, step) = match std::mem::replace(&mut self.append, Append::Idle) {
            Append::Due(written, step) => (written, step),
            Append::Idle => (self.gather(now)?, Step::Append),
            other @ (Append::Running(_) | Append::Stopped(_)) => {
                self.append = other;
                return None;
            }
        };
        let action = match step {
            Step::Append => Action::Append {
                number: self.number,
                batch: written.batch.clone(),
            },
            Step::Read => Action::Read {
                number: self.number,
            },
        };
        self.append = Append::Running(written);
        Some(action)
    }

    /// The time that a batch would have now. Pass it to [`Machine::due`](crate::Machine::due) and
    /// [`Machine::idle_pods`](crate::Machine::idle_pods): their commands are checked by it.
    #[must_use]
    pub fn time_ms(&self, now: Now) -> i64 {
        self.time.at(now)
    }

    /// The next batch, of the commands that wait.
    fn gather(&mut self, now: Now) -> Option<Written> {
        let mut commands = Vec::new();
        let mut bytes = 0;
        while let Some(&(_, size)) = self.waiting.front() {
            let fits = bytes + size <= self.limits.batch_bytes
                && commands.len() < self.limits.batch_commands;
            if !fits && !commands.is_empty() {
                break;
            }
            let (command, size) = self.waiting.pop_front()?;
            self.waiting_bytes -= size;
            bytes += size;
            commands.push(command);
        }
        if commands.is_empty() {
            return None;
        }
        if !self.next.has_room_for(commands.len()) {
            self.next = self.next.next_epoch();
        }
        let next = self.next.plus(commands.len());
        let is_forget = |command: &Command| matches!(command.kind, Kind::ForgetPod { .. });
        if let Some(place) = commands.iter().rposition(is_forget)
            && !self.waiting.iter().any(|(command, _)| is_forget(command))
        {
            self.forgotten = self.next.plus(place);
        }
        let batch = Batch {
            first: self.next,
            time_ms: self.time.stamp(now),
            commands,
        };
        Some(Written {
            batch: batch.encode(),
            next,
        })
    }

    /// Takes the outcome of an action. Returns the batch that is now certainly in the log, with its
    /// place: this pod can apply it without waiting for its watch.
    ///
    /// # Panics
    /// If no action is being executed.
    pub fn appended(&mut self, outcome: Outcome) -> Option<(LogNumber, Vec<u8>)> {
        let is_running = matches!(self.append, Append::Running(_));
        assert!(is_running, "an outcome without an action");
        let Append::Running(written) = std::mem::replace(&mut self.append, Append::Idle) else {
            return None;
        };
        match outcome {
            Outcome::Appended => return Some(self.settled(written)),
            Outcome::TooLarge => self.divide(&written),
            // Not to be repeated before the key was read: if it is there, the log has moved on.
            Outcome::Unknown => self.append = Append::Due(written, Step::Read),
            Outcome::Found(Found {
                batch: Some(batch), ..
            }) => {
                if batch == written.batch {
                    return Some(self.settled(written));
                }
                self.append = Append::Stopped(Stopped::Overtaken(self.number));
            }
            // An earlier attempt may still arrive, so the batch must be the same.
            Outcome::Found(Found {
                batch: None,
                leads: true,
            }) => self.append = Append::Due(written, Step::Append),
            // An earlier attempt can't succeed any more: it requires the leadership.
            Outcome::Found(Found {
                batch: None,
                leads: false,
            }) => self.append = Append::Stopped(Stopped::NotLeading),
        }
        None
    }

    /// Puts the commands of a batch back, for smaller batches. If an earlier attempt arrives late,
    /// the next batch finds it, and the sequencer stops as if it was overtaken.
    fn divide(&mut self, written: &Written) {
        let Ok(batch) = Batch::decode(&written.batch) else {
            return;
        };
        let is_single = batch.commands.len() == 1;
        if !is_single {
            self.limits.batch_bytes = written.batch.len() / 2;
        }
        for mut command in batch.commands.into_iter().rev() {
            if is_single {
                command.kind = Kind::Nothing;
                command.caller.clear();
            }
            let bytes = command.encode().len();
            self.waiting_bytes += bytes;
            self.waiting.push_front((command, bytes));
        }
    }

    fn settled(&mut self, written: Written) -> (LogNumber, Vec<u8>) {
        let number = self.number;
        self.number = number.next();
        self.next = written.next;
        (number, written.batch)
    }

    /// Why the sequencer has stopped, if it has.
    #[must_use]
    pub fn stopped(&self) -> Option<Stopped> {
        match self.append {
            Append::Stopped(stopped) => Some(stopped),
            Append::Idle | Append::Running(_) | Append::Due(..) => None,
        }
    }
}
