//! How a driver carries out the core's requests.
//!
//! Safety depends on the order in [`carry_out`]:
//! 1. publish the lease and the commit index, before any message that reveals them is sent;
//! 2. pass the writes to the log;
//! 3. send the messages that don't depend on the disk, while the log syncs;
//! 4. hold the messages that vouch for the writes until the log reports them as durable;
//! 5. pass committed entries to the apply thread;
//! 6. handle role changes, reads and dropped proposals, and fetch a snapshot.

use std::collections::VecDeque;

use synod_consensus_core::mutants::{Mutant, is_active};
use synod_consensus_core::{
    Consensus, Entry, Input, Install, Message, ReadContext, ReadState, Ready, Rejected, RoleChange,
    Write,
};
use synod_types::{Index, RequestId, Tick, WriteSeq};

/// A driver's actions: everything it does besides deciding.
pub trait Shell {
    /// An error that ends the driver.
    type Error;

    /// The core.
    fn core(&mut self) -> &mut dyn Consensus;

    /// Steps an input whose rejection needs no answer because it had no effect.
    fn step(&mut self, input: Input);

    /// The messages that wait for the log.
    fn outbox(&mut self) -> &mut Outbox;

    /// Publishes the lease: readers outside the driver may serve lease reads until then, and not
    /// after.
    fn publish_lease(&mut self, until: Option<Tick>);

    /// Publishes the commit index for readers outside the driver. It never decreases.
    fn publish_commit(&mut self, commit: Index);

    /// Queues writes for the log, in order. [`persisted`] is called once they are durable.
    ///
    /// # Errors
    /// The log failed.
    fn write(&mut self, seq: WriteSeq, writes: Vec<Write>) -> Result<(), Self::Error>;

    /// Queues a message for a peer. The message may be lost.
    ///
    /// # Errors
    /// An error that ends the driver. A lost message is not one.
    fn send(&mut self, message: Message) -> Result<(), Self::Error>;

    /// Queues entries for the state machine, in order.
    ///
    /// # Errors
    /// An error that ends the driver.
    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), Self::Error>;

    /// Role, leader or ballot changed.
    fn role_changed(&mut self, role: RoleChange);

    /// Handles reads that may be served at an index, and reads that the core gave up. Usually both
    /// are empty.
    ///
    /// # Errors
    /// An error that ends the driver.
    fn answer_reads(
        &mut self,
        confirmed: Vec<ReadState>,
        failed: Vec<(ReadContext, Rejected)>,
    ) -> Result<(), Self::Error>;

    /// Handles requests that were certainly not appended and never will be. Usually there are none.
    ///
    /// # Errors
    /// An error that ends the driver.
    fn dropped(&mut self, dropped: Vec<(RequestId, Rejected)>) -> Result<(), Self::Error>;

    /// Fetches a snapshot and installs it, concurrently with the driver.
    fn install(&mut self, install: Install);
}

/// Messages that wait for the log, oldest first. The core bounds them: one acknowledgement per
/// `Ready`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbox {
    unsent: VecDeque<(WriteSeq, Vec<Message>)>,
    persisted: WriteSeq,
}

impl Outbox {
    /// The next messages whose writes are durable.
    fn due(&mut self) -> Option<Vec<Message>> {
        let (seq, _) = self.unsent.front()?;
        if *seq > self.persisted && !is_active(Mutant::AckNotHeldBack) {
            return None;
        }
        self.unsent.pop_front().map(|(_, messages)| messages)
    }
}

/// Everything up to and including `seq` is durable.
///
/// # Errors
/// An error that ends the driver.
pub fn persisted<S: Shell>(shell: &mut S, seq: WriteSeq) -> Result<(), S::Error> {
    let outbox = shell.outbox();
    outbox.persisted = outbox.persisted.max(seq);
    shell.step(Input::Persisted(seq));
    send_durable(shell)
}

/// Carries out everything that the core requests.
///
/// # Errors
/// An error that ends the driver.
pub fn drain<S: Shell>(shell: &mut S) -> Result<(), S::Error> {
    while let Some(ready) = shell.core().ready() {
        carry_out(shell, ready)?;
    }
    // Heartbeats extend the lease, even if they cause nothing else.
    publish_lease(shell);
    Ok(())
}

/// Carries out a `Ready` in the order given in the module's documentation.
fn carry_out<S: Shell>(shell: &mut S, ready: Ready) -> Result<(), S::Error> {
    publish_lease(shell);
    let commit = shell.core().commit();
    shell.publish_commit(commit);
    if !ready.writes.is_empty() {
        shell.write(ready.seq, ready.writes)?;
    }
    for message in ready.messages {
        shell.send(message)?;
    }
    if !ready.messages_after_persist.is_empty() {
        let held = (ready.seq, ready.messages_after_persist);
        shell.outbox().unsent.push_back(held);
        send_durable(shell)?;
    }
    if !ready.committed.is_empty() {
        shell.apply(ready.committed)?;
    }
    if let Some(role) = ready.role {
        shell.role_changed(role);
    }
    shell.answer_reads(ready.reads, ready.failed_reads)?;
    shell.dropped(ready.dropped)?;
    if let Some(install) = ready.install {
        shell.install(*install);
    }
    Ok(())
}

fn publish_lease<S: Shell>(shell: &mut S) {
    let until = shell.core().lease_until();
    shell.publish_lease(until);
}

/// Sends the messages whose writes are durable now.
fn send_durable<S: Shell>(shell: &mut S) -> Result<(), S::Error> {
    while let Some(messages) = shell.outbox().due() {
        for message in messages {
            shell.send(message)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use synod_consensus_core::{
        Body, CommonBody, EntryFields, EntryKind, HardState, Membership, Role, SnapshotMeta, Status,
    };
    use synod_types::{Ballot, LogPosition, NodeId};

    use super::*;

    const BALLOT: Ballot = Ballot::term(1);
    const ME: NodeId = NodeId::new(1);
    const PEER: NodeId = NodeId::new(2);

    /// A core that returns scripted results.
    #[derive(Default)]
    struct Script {
        readies: VecDeque<Ready>,
        lease: Option<Tick>,
    }

    impl Consensus for Script {
        fn step(&mut self, _now: Tick, _input: Input) -> Result<(), Rejected> {
            Ok(())
        }

        fn ready(&mut self) -> Option<Ready> {
            self.readies.pop_front()
        }

        fn status(&self) -> Status {
            panic!("no test asks for it")
        }

        fn deadline(&self) -> Tick {
            Tick::MAX
        }

        fn commit(&self) -> Index {
            Index::new(7)
        }

        fn lease_until(&self) -> Option<Tick> {
            self.lease
        }
    }

    /// A shell that records its calls.
    #[derive(Default)]
    struct Notes {
        core: Script,
        outbox: Outbox,
        done: Vec<String>,
    }

    impl Notes {
        fn note(&mut self, what: impl Into<String>) {
            self.done.push(what.into());
        }

        fn take(&mut self) -> Vec<String> {
            std::mem::take(&mut self.done)
        }
    }

    impl Shell for Notes {
        type Error = ();

        fn core(&mut self) -> &mut dyn Consensus {
            &mut self.core
        }

        fn step(&mut self, input: Input) {
            self.note(format!("step {input:?}"));
        }

        fn outbox(&mut self) -> &mut Outbox {
            &mut self.outbox
        }

        fn publish_lease(&mut self, until: Option<Tick>) {
            self.note(format!("lease {:?}", until.map(Tick::get)));
        }

        fn publish_commit(&mut self, commit: Index) {
            self.note(format!("commit {commit}"));
        }

        fn write(&mut self, seq: WriteSeq, writes: Vec<Write>) -> Result<(), ()> {
            self.note(format!("write {} as {}", writes.len(), seq.get()));
            Ok(())
        }

        fn send(&mut self, message: Message) -> Result<(), ()> {
            let Body::Common(CommonBody::HeartbeatReply { round }) = message.body else {
                panic!("only these are sent here: {message:?}")
            };
            self.note(format!("send {round}"));
            Ok(())
        }

        fn apply(&mut self, entries: Vec<Entry>) -> Result<(), ()> {
            self.note(format!("apply {}", entries.len()));
            Ok(())
        }

        fn role_changed(&mut self, _role: RoleChange) {
            self.note("role");
        }

        fn answer_reads(
            &mut self,
            confirmed: Vec<ReadState>,
            failed: Vec<(ReadContext, Rejected)>,
        ) -> Result<(), ()> {
            if confirmed.len() + failed.len() > 0 {
                self.note(format!("reads {} {}", confirmed.len(), failed.len()));
            }
            Ok(())
        }

        fn dropped(&mut self, dropped: Vec<(RequestId, Rejected)>) -> Result<(), ()> {
            if !dropped.is_empty() {
                self.note(format!("dropped {}", dropped.len()));
            }
            Ok(())
        }

        fn install(&mut self, _install: Install) {
            self.note("install");
        }
    }

    fn message(round: u64) -> Message {
        Message {
            from: ME,
            to: PEER,
            ballot: BALLOT,
            body: Body::Common(CommonBody::HeartbeatReply { round }),
        }
    }

    fn with_write(seq: u64, after: u64) -> Ready {
        Ready {
            seq: WriteSeq::new(seq),
            writes: vec![Write::HardState(HardState::default())],
            messages_after_persist: vec![message(after)],
            ..Ready::default()
        }
    }

    #[test]
    fn requests_are_carried_out_in_the_order_that_safety_needs() {
        let index = Index::new(7);
        let entry = Entry::from(EntryFields {
            index,
            ballot: BALLOT,
            id: RequestId::NONE,
            kind: EntryKind::Normal,
            data: Bytes::new(),
        });
        let role = RoleChange {
            role: Role::Leader,
            leader: Some(ME),
            ballot: BALLOT,
        };
        let install = Install {
            from: PEER,
            meta: SnapshotMeta {
                last: LogPosition {
                    ballot: BALLOT,
                    index,
                },
                membership: Membership::default(),
            },
        };
        let ctx = ReadContext(1);
        let mut shell = Notes::default();
        shell.core.lease = Some(Tick::new(9));
        shell.core.readies.push_back(Ready {
            messages: vec![message(1), message(2)],
            committed: vec![entry],
            reads: vec![ReadState { ctx, index }],
            failed_reads: vec![(ctx, Rejected::NoLeader)],
            install: Some(Box::new(install)),
            dropped: vec![(RequestId::NONE, Rejected::NoLeader)],
            role: Some(role),
            ..with_write(1, 3)
        });
        drain(&mut shell).unwrap();
        assert_eq!(
            shell.take(),
            [
                "lease Some(9)",
                "commit 7",
                "write 1 as 1",
                "send 1",
                "send 2",
                "apply 1",
                "role",
                "reads 1 1",
                "dropped 1",
                "install",
                "lease Some(9)",
            ]
        );
        persisted(&mut shell, WriteSeq::new(1)).unwrap();
        assert_eq!(shell.take(), ["step Persisted(WriteSeq(1))", "send 3"]);
    }

    #[test]
    fn messages_wait_for_all_writes_that_they_vouch_for() {
        let mut shell = Notes::default();
        shell
            .core
            .readies
            .extend([with_write(1, 1), with_write(2, 2)]);
        // It writes nothing itself, but vouches for an earlier write.
        shell.core.readies.push_back(Ready {
            writes: Vec::new(),
            ..with_write(2, 3)
        });
        let sent = |shell: &mut Notes| {
            let done = shell.take().into_iter();
            let sent = done.filter(|what| what.starts_with("send"));
            sent.collect::<Vec<_>>()
        };
        drain(&mut shell).unwrap();
        assert_eq!(sent(&mut shell), [""; 0]);
        persisted(&mut shell, WriteSeq::new(1)).unwrap();
        assert_eq!(sent(&mut shell), ["send 1"]);
        persisted(&mut shell, WriteSeq::new(2)).unwrap();
        assert_eq!(sent(&mut shell), ["send 2", "send 3"]);
        // The write was durable before the core asked, so the message is sent at once.
        shell.core.readies.push_back(Ready {
            writes: Vec::new(),
            ..with_write(2, 4)
        });
        drain(&mut shell).unwrap();
        assert_eq!(sent(&mut shell), ["send 4"]);
    }
}
