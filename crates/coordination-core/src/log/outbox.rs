//! The commands of a pod that are not in the log yet.

use std::collections::VecDeque;

use crate::{Command, Kind, Origin, PodId, SessionId, Zxid};

/// How much an outbox holds.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// Commands.
    pub commands: usize,
    /// Bytes of encoded commands.
    pub bytes: usize,
    /// Bytes of one encoded command. It must fit a batch of its own.
    pub command_bytes: usize,
}

/// Why a command was not added to an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// Wait until commands are executed.
    #[error("too many commands wait for the sequencer")]
    Full,
    /// The command is larger than a batch may be.
    #[error("the command has {bytes} bytes, more than the {most} that the log takes")]
    TooLarge {
        /// The size of the encoded command.
        bytes: usize,
        /// The limit.
        most: usize,
    },
}

/// A pod's commands, from the first that is not applied. They have consecutive numbers.
#[derive(Debug)]
pub struct Outbox {
    pod: PodId,
    limits: OutboxLimits,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// The number of the first command in `waiting`, or of the next one.
    first: u64,
    /// How many of `waiting` were sent to the current sequencer.
    sent: usize,
}

#[derive(Debug)]
struct Waiting {
    command: Command,
    bytes: usize,
}

impl Outbox {
    /// The outbox of a new pod. Its first command registers the pod. `seen` is the last transaction
    /// that the pod has applied. A pod that starts follows the log to its end first: otherwise its
    /// registration may be refused, and it needs another id.
    #[must_use]
    pub fn new(pod: PodId, seen: Zxid, limits: OutboxLimits) -> Self {
        let mut outbox = Self {
            pod,
            limits,
            waiting: VecDeque::new(),
            bytes: 0,
            first: 1,
            sent: 0,
        };
        let register = Command {
            origin: None,
            session: SessionId::default(),
            caller: Vec::new(),
            kind: Kind::RegisterPod { seen },
        };
        let bytes = register.encode().len();
        outbox.add(register, bytes);
        outbox
    }

    /// The pod has followed the log up to this transaction. Call it before the first
    /// [`send`](Self::send).
    pub fn set_seen(&mut self, last: Zxid) {
        if let Some(first) = self.waiting.front_mut()
            && let Kind::RegisterPod { seen } = &mut first.command.kind
        {
            *seen = last;
            let bytes = first.command.encode().len();
            self.bytes = self.bytes - first.bytes + bytes;
            first.bytes = bytes;
        }
    }

    /// The pod.
    #[must_use]
    pub const fn pod(&self) -> PodId {
        self.pod
    }

    /// Adds a command. Returns its number.
    ///
    /// # Errors
    /// [`NotSent`]: the command was not added.
    pub fn push(&mut self, mut command: Command) -> Result<u64, NotSent> {
        if self.waiting.len() >= self.limits.commands || self.bytes >= self.limits.bytes {
            return Err(NotSent::Full);
        }
        command.origin = Some(self.next_origin());
        let (bytes, most) = (command.encode().len(), self.limits.command_bytes);
        if bytes > most {
            return Err(NotSent::TooLarge { bytes, most });
        }
        Ok(self.add(command, bytes))
    }

    fn add(&mut self, mut command: Command, bytes: usize) -> u64 {
        let origin = self.next_origin();
        command.origin = Some(origin);
        self.bytes += bytes;
        self.waiting.push_back(Waiting { command, bytes });
        origin.number
    }

    /// The origin of the next command.
    fn next_origin(&self) -> Origin {
        Origin {
            pod: self.pod,
            number: self.first + self.waiting.len() as u64,
        }
    }

    /// The next commands for the sequencer, at most so many. They count as sent.
    ///
    /// Until the registration is executed, nothing else is sent: it may be refused.
    pub fn send(&mut self, most: usize) -> impl Iterator<Item = &Command> {
        let from = self.sent;
        let sendable = match self.first {
            1 => 1,
            _ => self.waiting.len(),
        };
        self.sent = sendable.min(from.saturating_add(most));
        let sent = self.waiting.range(from..self.sent);
        sent.map(|waiting| &waiting.command)
    }

    /// There is another sequencer, or a new connection to it: all commands are sent again, since
    /// nobody knows which of them have arrived.
    pub fn restart(&mut self) {
        self.sent = 0;
    }

    /// The sequencer lacks commands from this number on.
    pub fn resend_from(&mut self, number: u64) {
        let before = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.sent = self.sent.min(before);
    }

    /// The machine has executed all commands up to this number. Call it for each of the pod's
    /// commands in the log, except duplicates and commands after a gap, which were not executed;
    /// and after a checkpoint was loaded, with the number that
    /// [`Machine::pods`](crate::Machine::pods) has. If the log forgets the pod, the pod needs a new
    /// id, and so a new outbox.
    pub fn executed(&mut self, number: u64) {
        while self.first <= number
            && let Some(done) = self.waiting.pop_front()
        {
            self.bytes -= done.bytes;
            self.first += 1;
            self.sent = self.sent.saturating_sub(1);
        }
    }

    /// Whether half of the room is used. Who asks before adding a command leaves the other half to
    /// those who have asked already.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.waiting.len() >= self.limits.commands / 2 || self.bytes >= self.limits.bytes / 2
    }

    /// The number of the last command that was added.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first + self.waiting.len() as u64 - 1
    }

    /// Whether the commands up to this number are executed.
    #[must_use]
    pub const fn has_executed(&self, number: u64) -> bool {
        self.first > number
    }

    /// How many commands are not executed yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether all commands are executed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Zxid = Zxid::new(9);

    const LIMITS: OutboxLimits = OutboxLimits {
        commands: 4,
        bytes: 1 << 20,
        command_bytes: 100,
    };

    fn nothing() -> Command {
        Command {
            origin: None,
            session: SessionId::default(),
            caller: Vec::new(),
            kind: Kind::Nothing,
        }
    }

    fn sent(outbox: &mut Outbox, most: usize) -> Vec<u64> {
        let numbers = outbox.send(most);
        numbers
            .map(|command| command.origin.unwrap().number)
            .collect()
    }

    #[test]
    fn a_pod_registers_first() {
        let mut outbox = Outbox::new(PodId::new(7), SEEN, LIMITS);
        let first = outbox.send(9).next().cloned().unwrap();
        assert_eq!(first.kind, Kind::RegisterPod { seen: SEEN });
        let origin = Origin {
            pod: PodId::new(7),
            number: 1,
        };
        assert_eq!(first.origin, Some(origin));
    }

    #[test]
    fn commands_are_sent_in_order_and_again_after_a_change() {
        let mut outbox = Outbox::new(PodId::new(7), SEEN, LIMITS);
        for number in 2..=4 {
            assert_eq!(outbox.push(nothing()), Ok(number));
        }
        outbox.executed(1);
        assert_eq!(sent(&mut outbox, 2), [2, 3]);
        assert_eq!(sent(&mut outbox, 9), [4]);
        assert_eq!(sent(&mut outbox, 9), []);
        outbox.executed(2);
        assert_eq!(sent(&mut outbox, 9), []);
        outbox.resend_from(4);
        assert_eq!(sent(&mut outbox, 9), [4]);
        outbox.restart();
        assert_eq!(sent(&mut outbox, 1), [3]);
        outbox.executed(3);
        assert_eq!(sent(&mut outbox, 9), [4]);
        outbox.executed(4);
        assert!(outbox.is_empty());
        assert_eq!(outbox.push(nothing()), Ok(5));
    }

    #[test]
    fn nothing_is_sent_before_the_registration_is_executed() {
        let mut outbox = Outbox::new(PodId::new(7), SEEN, LIMITS);
        outbox.push(nothing()).unwrap();
        assert_eq!(sent(&mut outbox, 9), [1]);
        outbox.restart();
        assert_eq!(sent(&mut outbox, 9), [1]);
        outbox.executed(1);
        assert_eq!(sent(&mut outbox, 9), [2]);
    }

    #[test]
    fn a_loaded_checkpoint_executes_all_commands_that_it_contains() {
        let mut outbox = Outbox::new(PodId::new(7), SEEN, LIMITS);
        for _ in 0..3 {
            outbox.push(nothing()).unwrap();
        }
        outbox.executed(1);
        sent(&mut outbox, 2);
        outbox.executed(3);
        assert_eq!(outbox.len(), 1);
        outbox.executed(2);
        assert_eq!(sent(&mut outbox, 9), [4]);
    }

    #[test]
    fn commands_of_an_earlier_sequencer_may_be_executed_before_they_are_sent_again() {
        let mut outbox = Outbox::new(PodId::new(7), SEEN, LIMITS);
        for _ in 0..2 {
            outbox.push(nothing()).unwrap();
        }
        outbox.executed(1);
        assert_eq!(sent(&mut outbox, 9), [2, 3]);
        outbox.restart();
        outbox.executed(2);
        outbox.resend_from(2);
        assert_eq!(sent(&mut outbox, 9), [3]);
    }

    #[test]
    fn a_command_too_large_for_the_log_takes_no_number() {
        let mut outbox = Outbox::new(PodId::new(7), SEEN, LIMITS);
        let large = Command {
            kind: Kind::SetConfig { data: vec![0; 100] },
            ..nothing()
        };
        assert!(matches!(
            outbox.push(large),
            Err(NotSent::TooLarge { most: 100, .. })
        ));
        assert_eq!(outbox.push(nothing()), Ok(2));
    }

    #[test]
    fn room_is_bounded_by_commands_and_bytes() {
        let mut outbox = Outbox::new(PodId::new(7), SEEN, LIMITS);
        for _ in 0..3 {
            outbox.push(nothing()).unwrap();
        }
        assert_eq!(outbox.push(nothing()), Err(NotSent::Full));
        outbox.executed(1);
        assert_eq!(outbox.push(nothing()), Ok(5));
        let small = OutboxLimits { bytes: 1, ..LIMITS };
        let mut outbox = Outbox::new(PodId::new(7), SEEN, small);
        assert_eq!(outbox.push(nothing()), Err(NotSent::Full));
        outbox.executed(1);
        assert_eq!(outbox.push(nothing()), Ok(2));
    }
}
