//! The operations, by topic.

mod acl;
mod checkpoint;
mod events;
mod multi;
mod nodes;
mod quota;
mod reap;
mod session;

use super::*;
use crate::OpError;
use crate::command::{Op, Origin, Password};
use crate::event::EventKind;
use crate::stat::CreateMode;

/// A machine that is driven command by command, one transaction and one second each.
struct World {
    machine: Machine,
    session: SessionId,
    caller: Vec<Id>,
    applied: Vec<Applied>,
    /// How much later it is than the transactions say.
    later_ms: i64,
}

const ALICE: SessionId = SessionId::new(0xa);
const BOB: SessionId = SessionId::new(0xb);
const PASSWORD: Password = Password::new([1; 16]);
const TIMEOUT_MS: u32 = 4000;
const REGISTER: Kind = Kind::RegisterPod { seen: Zxid::new(0) };

impl World {
    /// With two sessions, of which Alice's is used.
    fn new() -> Self {
        let mut world = Self {
            machine: Machine::new(0),
            session: ALICE,
            caller: Vec::new(),
            applied: Vec::new(),
            later_ms: 0,
        };
        for session in [BOB, ALICE] {
            world.session = session;
            world.open_session().unwrap();
        }
        world
    }

    fn open_session(&mut self) -> Result<Reply, Refused> {
        self.run(Kind::CreateSession {
            timeout_ms: TIMEOUT_MS,
            password: PASSWORD,
        })
    }

    fn next_zxid(&self) -> Zxid {
        self.machine.last_zxid().plus(1)
    }

    fn run(&mut self, kind: Kind) -> Result<Reply, Refused> {
        self.run_from(None, kind)
    }

    fn run_from(&mut self, origin: Option<Origin>, kind: Kind) -> Result<Reply, Refused> {
        let command = Command {
            origin,
            session: self.session,
            caller: self.caller.clone(),
            kind,
        };
        let zxid = self.next_zxid();
        let time_ms = zxid.get() * 1000 + self.later_ms;
        let applied = self.machine.apply(&command, zxid, time_ms);
        self.applied.push(applied.clone());
        applied.reply
    }

    fn op(&mut self, op: Op) -> Result<Reply, OpError> {
        match self.run(Kind::Write(op)) {
            Ok(reply) => Ok(reply),
            Err(Refused::Op(error)) => Err(error),
            Err(other) => panic!("{other}"),
        }
    }

    fn create(&mut self, path: &str, data: &str) -> Result<String, OpError> {
        self.create_as(path, data, CreateMode::Persistent)
    }

    fn create_as(&mut self, path: &str, data: &str, mode: CreateMode) -> Result<String, OpError> {
        self.create_with(path, data, mode, &Acl::open(), -1)
    }

    fn create_with(
        &mut self,
        path: &str,
        data: &str,
        mode: CreateMode,
        acl: &[Acl],
        ttl_ms: i64,
    ) -> Result<String, OpError> {
        let reply = self.op(new(path, data, mode, acl, ttl_ms))?;
        let Reply::Created { path, stat } = reply else {
            panic!("{reply:?}");
        };
        let data_length = i32::try_from(data.len()).unwrap();
        assert_eq!(stat.data_length, data_length);
        let now = self.stat(&path);
        assert_eq!(stat, Stat { data_length, ..now });
        Ok(path)
    }

    fn delete(&mut self, path: &str, version: i32) -> Result<(), OpError> {
        self.op(delete(path, version)).map(drop)
    }

    fn set(&mut self, path: &str, data: &str, version: i32) -> Result<Stat, OpError> {
        let reply = self.op(set(path, data, version))?;
        let Reply::DataSet(stat) = reply else {
            panic!("{reply:?}");
        };
        Ok(stat)
    }

    fn stat(&self, path: &str) -> Stat {
        self.machine.stat(path).unwrap()
    }

    fn data(&self, path: &str) -> &str {
        let (data, _) = self.machine.get(path, &[Id::new("super", "")]).unwrap();
        std::str::from_utf8(data.unwrap()).unwrap()
    }

    fn names(&self, path: &str) -> Vec<String> {
        let (names, _) = self.machine.children(path, &self.caller).unwrap();
        let mut names: Vec<_> = names.map(str::to_owned).collect();
        names.sort();
        names
    }

    /// The last command's events.
    fn events(&self) -> Vec<(EventKind, &str)> {
        let events = &self.applied.last().unwrap().events;
        events
            .iter()
            .map(|event| (event.kind, &*event.path))
            .collect()
    }
}

fn new(path: &str, data: &str, mode: CreateMode, acl: &[Acl], ttl_ms: i64) -> Op {
    Op::Create {
        path: path.to_owned(),
        data: Some(data.as_bytes().to_vec()),
        acl: acl.to_vec(),
        mode,
        ttl_ms,
    }
}

fn create(path: &str) -> Op {
    new(path, "", CreateMode::Persistent, &Acl::open(), -1)
}

fn delete(path: &str, version: i32) -> Op {
    Op::Delete {
        path: path.to_owned(),
        version,
    }
}

fn set(path: &str, data: &str, version: i32) -> Op {
    Op::SetData {
        path: path.to_owned(),
        data: Some(data.as_bytes().to_vec()),
        version,
    }
}

fn check(path: &str, version: i32) -> Op {
    Op::Check {
        path: path.to_owned(),
        version,
    }
}
