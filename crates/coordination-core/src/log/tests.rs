//! Several pods, a store that behaves as an etcd v3 endpoint, and an adversary that delays, loses
//! and repeats: no command is lost or doubled, and all pods agree.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::{
    Acl, Batch, Command, CreateMode, Kind, Machine, Op, POD_IDLE_MS, Password, PodId, Refused,
    SessionId, Zxid,
};

const PODS: usize = 3;

/// The endpoint: the log's keys, and the leadership key's create revision.
#[derive(Default)]
struct Store {
    log: BTreeMap<LogNumber, Vec<u8>>,
    leader: u64,
    /// Transactions that were sent and have not arrived.
    late: Vec<Txn>,
}

#[derive(Clone)]
struct Txn {
    leader: u64,
    number: LogNumber,
    batch: Vec<u8>,
}

impl Store {
    fn execute(&mut self, txn: Txn) -> Outcome {
        if txn.leader != self.leader || self.log.contains_key(&txn.number) {
            return self.read(txn.leader, txn.number);
        }
        let last = self.log.last_key_value().map(|(&last, _)| last);
        let expected = last.unwrap_or_default().next();
        assert_eq!(txn.number, expected, "the log has no gaps");
        self.log.insert(txn.number, txn.batch);
        Outcome::Appended
    }

    fn read(&self, leader: u64, number: LogNumber) -> Outcome {
        Outcome::Found(Found {
            batch: self.log.get(&number).cloned(),
            leads: leader == self.leader,
        })
    }
}

struct Pod {
    outbox: Outbox,
    reader: LogReader,
    machine: Machine,
    created: u64,
    session: Option<SessionId>,
    /// Its commands that are not executed.
    unexecuted: VecDeque<Command>,
    /// With the create revision of its leadership key.
    sequencer: Option<(u64, Sequencer)>,
}

struct World {
    store: Store,
    pods: Vec<Pod>,
    /// All commands that were sent.
    sent: Vec<Command>,
    /// The last id of a pod or a session.
    last_id: u64,
    last_leader: u64,
    now_ms: i64,
}

/// What the adversary does with a transaction.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Answered,
    AnswerLost,
    RequestLost,
    Late,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write(usize),
    /// The pod closes its session.
    Close(usize),
    /// So much time passes that unused pods are forgotten.
    Wait,
    /// The pod forgets unused pods if it is the sequencer.
    Forget(usize),
    /// Copies of all commands of a pod reach a pod that may be the sequencer.
    Repeat(usize, usize),
    /// The pod reads a batch from its watch.
    Follow(usize),
    Elect(usize),
    /// The pod sends commands to a pod that it takes for the sequencer.
    Send(usize, usize),
    Reconnect(usize),
    Sequence(usize, Fate),
    Arrive(usize),
}

fn command(session: SessionId, kind: Kind) -> Command {
    Command {
        origin: None,
        session,
        caller: Vec::new(),
        kind,
    }
}

fn limits() -> OutboxLimits {
    OutboxLimits {
        commands: 100,
        bytes: 1 << 20,
        command_bytes: 1 << 10,
    }
}

impl World {
    fn new() -> Self {
        let pod = |number: usize| Pod {
            outbox: Outbox::new(PodId::new(number as u64 + 1), Zxid::default(), limits()),
            reader: LogReader::new(LogNumber::default()),
            machine: Machine::new(number as u64),
            created: 0,
            session: None,
            unexecuted: VecDeque::new(),
            sequencer: None,
        };
        Self {
            store: Store::default(),
            pods: (0..PODS).map(pod).collect(),
            sent: Vec::new(),
            last_id: PODS as u64,
            last_leader: 0,
            now_ms: 0,
        }
    }

    fn step(&mut self, step: Step) {
        self.now_ms += 1;
        match step {
            Step::Write(pod) => self.write(pod),
            Step::Close(pod) => self.pods[pod].close_session(),
            Step::Wait => self.now_ms += POD_IDLE_MS,
            Step::Forget(pod) => self.forget(pod),
            Step::Repeat(pod, to) => self.repeat(pod, to),
            Step::Follow(pod) => self.follow(pod, 1),
            Step::Elect(pod) => self.elect(pod),
            Step::Send(from, to) => self.send(from, to),
            Step::Reconnect(pod) => self.pods[pod].outbox.restart(),
            Step::Sequence(pod, fate) => self.sequence(pod, fate),
            Step::Arrive(at) => {
                if !self.store.late.is_empty() {
                    let late = self.store.late.len();
                    let txn = self.store.late.swap_remove(at % late);
                    self.store.execute(txn);
                }
            }
        }
    }

    /// Creates a node whose name is new.
    fn write(&mut self, number: usize) {
        self.last_id += 1;
        let pod = &mut self.pods[number];
        let session = pod.open_session(self.last_id);
        let create = Op::Create {
            path: format!("/{number}-{}", pod.created),
            data: None,
            acl: Acl::open(),
            mode: CreateMode::Persistent,
            ttl_ms: -1,
        };
        if pod.push(command(session, Kind::Write(create))) {
            pod.created += 1;
        }
    }

    fn forget(&mut self, number: usize) {
        let now = at(self.now_ms);
        let pod = &mut self.pods[number];
        let Some((_, sequencer)) = &mut pod.sequencer else {
            return;
        };
        for (pod, last) in pod.machine.idle_pods(sequencer.time_ms(now)) {
            let forget = command(SessionId::default(), Kind::ForgetPod { pod, last });
            // Without room, it is tried again.
            let _ = sequencer.submit(forget);
        }
    }

    /// The copies were on their way for long: what the pod was told of them does not reach it.
    fn repeat(&mut self, at: usize, to: usize) {
        let Some(one) = self.sent.get(at % self.sent.len().max(1)) else {
            return;
        };
        let pod = one.origin.unwrap().pod;
        if let Some((_, sequencer)) = &mut self.pods[to].sequencer {
            let copies = self.sent.iter();
            for copy in copies.filter(|command| command.origin.unwrap().pod == pod) {
                let _ = sequencer.submit(copy.clone());
            }
        }
    }

    fn follow(&mut self, pod: usize, most: usize) {
        let pod = &mut self.pods[pod];
        let after = pod.reader.applied().next();
        let batches: Vec<_> = self.store.log.range(after..).take(most).collect();
        for (&number, batch) in batches {
            pod.apply(number, batch, &mut self.last_id);
        }
    }

    fn elect(&mut self, number: usize) {
        self.last_leader += 1;
        self.store.leader = self.last_leader;
        // After the election, as nobody else can append from then on.
        self.follow(number, usize::MAX);
        let pod = &mut self.pods[number];
        let start = Start {
            applied: pod.reader.applied(),
            last: pod.machine.last_zxid(),
            time_ms: pod.machine.time_ms(),
            applied_ms: None,
            pods: pod.machine.pods().collect(),
            forgotten: pod.machine.last_forgotten(),
        };
        let limits = SequencerLimits {
            batch_commands: 3,
            batch_bytes: 300,
            waiting_commands: 5,
            waiting_bytes: 1_000,
        };
        pod.sequencer = Some((self.last_leader, Sequencer::new(start, limits)));
    }

    fn send(&mut self, from: usize, to: usize) {
        let commands: Vec<Command> = self.pods[from].outbox.send(2).cloned().collect();
        self.sent.extend(commands.iter().cloned());
        let Some((_, sequencer)) = &mut self.pods[to].sequencer else {
            return self.pods[from].outbox.restart();
        };
        for command in commands {
            let number = command.origin.unwrap().number;
            match sequencer.submit(command) {
                Ok(()) => {}
                Err(Unsequenced::Gap { expected }) => {
                    return self.pods[from].outbox.resend_from(expected);
                }
                Err(Unsequenced::Full) => return self.pods[from].outbox.resend_from(number),
                // If the pod is forgotten, it learns that from the log.
                Err(Unsequenced::UnknownPod(_)) if number == 1 => {
                    return self.pods[from].renew(&mut self.last_id);
                }
                Err(
                    Unsequenced::Stopped(_) | Unsequenced::UnknownPod(_) | Unsequenced::TooManyPods,
                ) => {
                    return self.pods[from].outbox.restart();
                }
            }
        }
    }

    fn sequence(&mut self, number: usize, fate: Fate) {
        let now_ms = self.now_ms;
        let pod = &mut self.pods[number];
        let Some((leader, sequencer)) = &mut pod.sequencer else {
            return;
        };
        let Some(action) = sequencer.next_action(at(now_ms)) else {
            return;
        };
        let leader = *leader;
        let outcome = match action {
            Action::Append { number, batch } => {
                let txn = Txn {
                    leader,
                    number,
                    batch,
                };
                match fate {
                    Fate::Answered => self.store.execute(txn),
                    Fate::AnswerLost => {
                        self.store.execute(txn);
                        Outcome::Unknown
                    }
                    Fate::RequestLost => Outcome::Unknown,
                    Fate::Late => {
                        self.store.late.push(txn);
                        Outcome::Unknown
                    }
                }
            }
            Action::Read { number } => match fate {
                Fate::Answered | Fate::Late => self.store.read(leader, number),
                Fate::AnswerLost | Fate::RequestLost => Outcome::Unknown,
            },
        };
        if let Some((at, batch)) = sequencer.appended(outcome) {
            assert_eq!(self.store.log.get(&at), Some(&batch), "it is in the log");
            pod.apply(at, &batch, &mut self.last_id);
        }
        if pod
            .sequencer
            .as_ref()
            .is_some_and(|(_, sequencer)| sequencer.stopped().is_some())
        {
            pod.sequencer = None;
        }
    }

    /// The adversary rests until every command is executed everywhere.
    fn heal(&mut self) {
        self.elect(0);
        for pod in &mut self.pods {
            pod.outbox.restart();
        }
        let mut rounds = 0;
        while self.pods.iter().any(|pod| !pod.outbox.is_empty()) {
            for number in 0..PODS {
                self.send(number, 0);
                self.sequence(0, Fate::Answered);
                self.follow(number, usize::MAX);
            }
            rounds += 1;
            assert!(rounds < 10_000, "it gets on");
        }
        for number in 0..PODS {
            self.follow(number, usize::MAX);
        }
    }
}

impl Pod {
    /// The session that the pod has, or a new one.
    fn open_session(&mut self, new_id: u64) -> SessionId {
        if let Some(session) = self.session {
            return session;
        }
        let session = SessionId::new(new_id.cast_signed());
        let open = Kind::CreateSession {
            timeout_ms: 1_000,
            password: Password::new([7; 16]),
        };
        if self.push(command(session, open)) {
            self.session = Some(session);
        }
        session
    }

    fn close_session(&mut self) {
        if let Some(session) = self.session
            && self.push(command(session, Kind::CloseSession))
        {
            self.session = None;
        }
    }

    fn push(&mut self, command: Command) -> bool {
        let is_added = self.outbox.push(command.clone()).is_ok();
        if is_added {
            self.unexecuted.push_back(command);
        }
        is_added
    }

    /// The pod takes a new id. What was not executed never will be under the old one.
    fn renew(&mut self, last_id: &mut u64) {
        *last_id += 1;
        self.outbox = Outbox::new(PodId::new(*last_id), self.machine.last_zxid(), limits());
        for command in &self.unexecuted {
            self.outbox.push(command.clone()).unwrap();
        }
    }

    fn apply(&mut self, number: LogNumber, batch: &[u8], last_id: &mut u64) {
        if !self.reader.take(number).unwrap() {
            return;
        }
        let batch = Batch::decode(batch).unwrap();
        let time_ms = self.machine.time_ms();
        let applied = self.machine.apply_batch(&batch).unwrap();
        assert!(self.machine.time_ms() >= time_ms);
        for (command, applied) in batch.commands.iter().zip(applied) {
            // A new node of a session that is open: the write succeeds unless it is executed twice,
            // or before its predecessors.
            assert!(applied.reply.is_ok(), "{command:?}: {:?}", applied.reply);
            let is_executed = !matches!(
                applied.reply,
                Err(Refused::Duplicate | Refused::Gap { .. } | Refused::UnknownPod(_))
            );
            if let Some(origin) = command.origin
                && origin.pod == self.outbox.pod()
                && is_executed
            {
                self.outbox.executed(origin.number);
                if origin.number > 1 {
                    self.unexecuted.pop_front().unwrap();
                }
            }
            let own = self.outbox.pod();
            if matches!(command.kind, Kind::ForgetPod { pod, .. } if pod == own) {
                self.renew(last_id);
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pod = || 0..PODS;
    let fate = prop_oneof![
        4 => Just(Fate::Answered),
        2 => Just(Fate::AnswerLost),
        1 => Just(Fate::RequestLost),
        2 => Just(Fate::Late),
    ];
    let step = prop_oneof![
        6 => pod().prop_map(Step::Write),
        2 => pod().prop_map(Step::Close),
        1 => Just(Step::Wait),
        2 => pod().prop_map(Step::Forget),
        1 => (0_usize..1_000, pod()).prop_map(|(pod, to)| Step::Repeat(pod, to)),
        6 => pod().prop_map(Step::Follow),
        1 => pod().prop_map(Step::Elect),
        10 => (pod(), pod()).prop_map(|(from, to)| Step::Send(from, to)),
        1 => pod().prop_map(Step::Reconnect),
        10 => (pod(), fate).prop_map(|(pod, fate)| Step::Sequence(pod, fate)),
        2 => (0_usize..8).prop_map(Step::Arrive),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_command_is_lost_or_doubled(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.heal();
        let late = std::mem::take(&mut world.store.late);
        for txn in late {
            let outcome = world.store.execute(txn);
            prop_assert_ne!(outcome, Outcome::Appended);
        }
        let hashes: Vec<u64> = world.pods.iter_mut().map(|pod| pod.machine.state_hash()).collect();
        prop_assert!(hashes.iter().all(|hash| *hash == hashes[0]));
        for (number, pod) in world.pods.iter().enumerate() {
            for created in 0..pod.created {
                let path = format!("/{number}-{created}");
                prop_assert!(pod.machine.exists(&path, &[]).is_ok());
            }
        }
    }
}

fn started(pods: Vec<(PodId, u64)>) -> Sequencer {
    let start = Start {
        applied: LogNumber::new(9),
        last: Zxid::new((3 << 32) + 77),
        time_ms: 1_000,
        applied_ms: None,
        pods,
        forgotten: Zxid::default(),
    };
    let limits = SequencerLimits {
        batch_commands: 2,
        batch_bytes: 1_000,
        waiting_commands: 3,
        waiting_bytes: 1_000,
    };
    Sequencer::new(start, limits)
}

fn numbered(pod: u64, number: u64) -> Command {
    let kind = match number {
        1 => Kind::RegisterPod {
            seen: Zxid::default(),
        },
        _ => Kind::Nothing,
    };
    Command {
        origin: Some(crate::Origin {
            pod: PodId::new(pod),
            number,
        }),
        ..command(SessionId::default(), kind)
    }
}

/// Both clocks show this time.
fn at(now_ms: i64) -> Now {
    Now {
        wall_ms: now_ms,
        monotonic_ms: now_ms.unsigned_abs(),
    }
}

fn forget(pod: u64, last: u64) -> Command {
    let pod = PodId::new(pod);
    command(SessionId::default(), Kind::ForgetPod { pod, last })
}

fn append(sequencer: &mut Sequencer, now_ms: i64) -> (LogNumber, Batch) {
    let Some(Action::Append { number, batch }) = sequencer.next_action(at(now_ms)) else {
        panic!("nothing to append");
    };
    (number, Batch::decode(&batch).unwrap())
}

#[test]
fn commands_of_a_pod_are_taken_in_order_and_once() {
    let mut sequencer = started(vec![(PodId::new(7), 4)]);
    assert_eq!(sequencer.submit(numbered(7, 4)), Ok(()));
    assert_eq!(
        sequencer.submit(numbered(7, 6)),
        Err(Unsequenced::Gap { expected: 5 })
    );
    let unknown = PodId::new(8);
    assert_eq!(
        sequencer.submit(numbered(8, 2)),
        Err(Unsequenced::UnknownPod(unknown))
    );
    for command in [numbered(7, 5), numbered(8, 1), numbered(8, 2)] {
        assert_eq!(sequencer.submit(command), Ok(()));
    }
    assert_eq!(sequencer.submit(numbered(7, 6)), Err(Unsequenced::Full));
    assert_eq!(sequencer.submit(numbered(8, 2)), Ok(()), "taken before");
    let (_, batch) = append(&mut sequencer, 0);
    assert_eq!(batch.commands, [numbered(7, 5), numbered(8, 1)]);
    assert_eq!(sequencer.submit(forget(8, 2)), Ok(()));
    assert_eq!(
        sequencer.submit(numbered(8, 3)),
        Err(Unsequenced::UnknownPod(unknown))
    );
}

#[test]
fn batches_have_an_epoch_of_their_own_and_time_never_goes_back() {
    let mut sequencer = started(vec![(PodId::new(7), 1)]);
    for number in 2..=4 {
        sequencer.submit(numbered(7, number)).unwrap();
    }
    let (number, first) = append(&mut sequencer, 900);
    assert_eq!(number, LogNumber::new(10));
    assert_eq!(first.first.get(), (4 << 32) + 1);
    assert_eq!(first.time_ms, 1_000);
    let next = sequencer.next_action(at(0));
    assert_eq!(next, None, "one append is in flight");
    let appended = sequencer.appended(Outcome::Appended).unwrap();
    assert_eq!(appended, (number, first.encode()));
    let (number, second) = append(&mut sequencer, 1_500);
    assert_eq!(number, LogNumber::new(11));
    assert_eq!(second.first, first.first.plus(2));
    assert_eq!(second.time_ms, 1_525, "the clocks say 600 ms later");
}

#[test]
fn an_unknown_outcome_is_settled_by_a_read() {
    for (found, leads, expected) in [
        (Some(true), true, None),
        (Some(true), false, None),
        (
            Some(false),
            true,
            Some(Stopped::Overtaken(LogNumber::new(10))),
        ),
        (None, false, Some(Stopped::NotLeading)),
    ] {
        let mut sequencer = started(vec![(PodId::new(7), 1)]);
        sequencer.submit(numbered(7, 2)).unwrap();
        let (number, batch) = append(&mut sequencer, 0);
        assert_eq!(sequencer.appended(Outcome::Unknown), None);
        assert_eq!(sequencer.next_action(at(0)), Some(Action::Read { number }));
        let batch = found.map(|mine| if mine { batch.encode() } else { vec![1] });
        let settled = sequencer.appended(Outcome::Found(Found { batch, leads }));
        assert_eq!(settled.is_some(), expected.is_none());
        assert_eq!(sequencer.stopped(), expected);
        if let Some(stopped) = expected {
            let refused = Err(Unsequenced::Stopped(stopped));
            assert_eq!(sequencer.submit(numbered(7, 3)), refused);
            assert_eq!(sequencer.next_action(at(0)), None);
        }
    }
}

#[test]
fn a_batch_that_was_not_found_is_sent_again_unchanged() {
    let mut sequencer = started(vec![(PodId::new(7), 1)]);
    sequencer.submit(numbered(7, 2)).unwrap();
    let sent = sequencer.next_action(at(0));
    sequencer.appended(Outcome::Unknown);
    sequencer.submit(numbered(7, 3)).unwrap();
    assert!(matches!(
        sequencer.next_action(at(5)),
        Some(Action::Read { .. })
    ));
    sequencer.appended(Outcome::Unknown);
    assert!(matches!(
        sequencer.next_action(at(5)),
        Some(Action::Read { .. })
    ));
    sequencer.appended(Outcome::Found(Found {
        batch: None,
        leads: true,
    }));
    assert_eq!(sequencer.next_action(at(9)), sent);
}

#[test]
fn a_batch_that_is_too_large_is_divided() {
    let mut sequencer = started(vec![(PodId::new(7), 1)]);
    for number in 2..=3 {
        sequencer.submit(numbered(7, number)).unwrap();
    }
    let (number, both) = append(&mut sequencer, 0);
    assert_eq!(both.commands.len(), 2);
    assert_eq!(sequencer.appended(Outcome::TooLarge), None);
    let (at, first) = append(&mut sequencer, 0);
    assert_eq!((at, &first.commands[..]), (number, &both.commands[..1]));
    sequencer.appended(Outcome::Appended).unwrap();
    let (_, second) = append(&mut sequencer, 0);
    assert_eq!(second.commands, both.commands[1..]);
}

#[test]
fn a_command_that_is_too_large_does_nothing() {
    let mut sequencer = started(vec![(PodId::new(7), 1)]);
    let large = Kind::SetConfig { data: vec![7; 900] };
    let large = Command {
        kind: large,
        ..numbered(7, 2)
    };
    sequencer.submit(large).unwrap();
    append(&mut sequencer, 0);
    assert_eq!(sequencer.appended(Outcome::TooLarge), None);
    let (_, batch) = append(&mut sequencer, 0);
    assert_eq!(batch.commands, [numbered(7, 2)], "it keeps its number");
}

#[test]
fn a_pod_that_has_sent_more_is_not_forgotten() {
    let mut sequencer = started(vec![(PodId::new(7), 4)]);
    sequencer.submit(numbered(7, 5)).unwrap();
    assert_eq!(sequencer.submit(forget(7, 4)), Ok(()), "it is dropped");
    assert_eq!(sequencer.submit(numbered(7, 6)), Ok(()));
    let (_, batch) = append(&mut sequencer, 0);
    assert_eq!(batch.commands, [numbered(7, 5), numbered(7, 6)]);
    assert_eq!(sequencer.submit(forget(7, 6)), Ok(()));
    let unknown = Unsequenced::UnknownPod(PodId::new(7));
    assert_eq!(sequencer.submit(numbered(7, 7)), Err(unknown));
}

#[test]
fn no_more_pods_are_taken_than_the_machine_registers() {
    let most = u64::try_from(crate::MAX_PODS).unwrap();
    let mut sequencer = started((1..=most).map(|pod| (PodId::new(pod), 1)).collect());
    let register = || numbered(most + 1, 1);
    assert_eq!(sequencer.submit(register()), Err(Unsequenced::TooManyPods));
    let unknown = Unsequenced::UnknownPod(PodId::new(most + 1));
    assert_eq!(sequencer.submit(numbered(most + 1, 2)), Err(unknown));
    assert_eq!(sequencer.submit(numbered(1, 2)), Ok(()), "others go on");
    sequencer.submit(forget(2, 1)).unwrap();
    append(&mut sequencer, 0);
    let (_, batch) = sequencer.appended(Outcome::Appended).unwrap();
    let batch = Batch::decode(&batch).unwrap();
    let seen = batch.first.plus(batch.commands.len() - 1);
    let register = |seen| Command {
        kind: Kind::RegisterPod { seen },
        ..numbered(most + 1, 1)
    };
    assert_eq!(sequencer.submit(register(seen)), Ok(()));
}

#[test]
fn who_registers_has_seen_the_last_forgotten_pod() {
    let mut sequencer = started(vec![(PodId::new(7), 1)]);
    let register = |pod, seen| Command {
        kind: Kind::RegisterPod { seen },
        ..numbered(pod, 1)
    };
    let last = Zxid::new((3 << 32) + 77);
    sequencer.submit(register(8, last)).unwrap();
    sequencer.submit(forget(7, 1)).unwrap();
    let unknown = |pod| Err(Unsequenced::UnknownPod(PodId::new(pod)));
    assert_eq!(sequencer.submit(register(7, last)), unknown(7));
    let (_, batch) = append(&mut sequencer, 0);
    // The transaction of the second command forgets the pod.
    let before = batch.first;
    assert_eq!(sequencer.submit(register(9, before)), unknown(9));
    sequencer.appended(Outcome::Appended).unwrap();
    assert_eq!(sequencer.submit(register(9, before)), unknown(9));
    assert_eq!(sequencer.submit(register(9, before.plus(1))), Ok(()));
    sequencer.submit(forget(8, 1)).unwrap();
    assert_eq!(sequencer.submit(register(10, before.plus(1))), unknown(10));
}

#[test]
fn the_last_of_several_forgotten_pods_counts() {
    let mut sequencer = started((7..=9).map(|pod| (PodId::new(pod), 1)).collect());
    let register = |seen| Command {
        kind: Kind::RegisterPod { seen },
        ..numbered(10, 1)
    };
    let unknown = Err(Unsequenced::UnknownPod(PodId::new(10)));
    for pod in 7..=9 {
        sequencer.submit(forget(pod, 1)).unwrap();
    }
    // The third one does not fit the batch.
    let (_, batch) = append(&mut sequencer, 0);
    assert_eq!(batch.commands.len(), 2);
    let second = batch.first.plus(1);
    assert_eq!(sequencer.submit(register(second)), unknown);
    sequencer.appended(Outcome::Appended).unwrap();
    let (_, batch) = append(&mut sequencer, 0);
    assert_eq!(sequencer.submit(register(second)), unknown);
    assert_eq!(sequencer.submit(register(batch.first)), Ok(()));

    let mut sequencer = started((7..=8).map(|pod| (PodId::new(pod), 1)).collect());
    for pod in 7..=8 {
        sequencer.submit(forget(pod, 1)).unwrap();
    }
    let (_, batch) = append(&mut sequencer, 0);
    assert_eq!(sequencer.submit(register(batch.first)), unknown);
    assert_eq!(sequencer.submit(register(batch.first.plus(1))), Ok(()));
}

#[test]
fn a_successor_continues_the_time_of_the_log() {
    let start = Start {
        applied: LogNumber::new(9),
        last: Zxid::new(77),
        time_ms: 1_000,
        applied_ms: Some(500),
        pods: vec![(PodId::new(7), 1)],
        forgotten: Zxid::default(),
    };
    let limits = SequencerLimits {
        batch_commands: 2,
        batch_bytes: 1_000,
        waiting_commands: 3,
        waiting_bytes: 1_000,
    };
    let mut sequencer = Sequencer::new(start, limits);
    sequencer.submit(numbered(7, 2)).unwrap();
    let now = Now {
        wall_ms: i64::MAX,
        monotonic_ms: 580,
    };
    assert_eq!(sequencer.time_ms(now), 1_090);
    let Some(Action::Append { batch, .. }) = sequencer.next_action(now) else {
        panic!("nothing to append");
    };
    assert_eq!(Batch::decode(&batch).unwrap().time_ms, 1_090);
}

#[test]
fn an_epoch_ends_before_its_counter_does() {
    let last = Zxid::new((4 << 32) + i64::from(u32::MAX) - 1);
    assert!(last.has_room_for(2) && !last.has_room_for(3));
    assert_eq!(last.next_epoch().get(), (5 << 32) + 1);
}
