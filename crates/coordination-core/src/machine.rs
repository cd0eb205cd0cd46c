//! The state machine: applies commands.

mod checkpoint;
mod pods;
mod quota;
mod read;
mod reap;
mod session;
mod undo;
mod write;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use checkpoint::{Directory, Loader};
use pods::Pods;
pub use pods::{MAX_PODS, POD_IDLE_MS};
pub use read::SessionInfo;
use undo::Undo;

use crate::acl::{Acl, Perms};
use crate::command::{Batch, Command, Kind};
use crate::event::Event;
use crate::limits::check_identities;
use crate::page::PageWrite;
use crate::path::{CONFIG_PATH, QUOTA_PATH, SYSTEM_PATH};
use crate::quota::Quotas;
use crate::sessions::Sessions;
use crate::stat::Stat;
use crate::tree::{Body, Fields, NodeId, Tree};
use crate::{BatchOutOfOrder, Id, PodId, Refused, SessionId, Zxid};

/// The tree and the sessions. It changes by commands alone, and equally on every pod.
#[derive(Debug)]
pub struct Machine {
    tree: Tree,
    sessions: Sessions,
    pods: Pods,
    last: Zxid,
    time_ms: i64,
    /// Derived from the tree.
    quotas: Quotas,
    /// The nodes that may be reaped, with the time from which on. Derived from the tree.
    ends: BTreeSet<(i64, NodeId)>,
    /// What the current multi has changed.
    undo: Option<Vec<Undo>>,
    /// What the current command has caused.
    events: Vec<Event>,
    over_quota: BTreeSet<String>,
    /// How many nodes the current command has counted for quotas.
    recounted: usize,
    /// The path of the last event of the current command about children.
    parent_path: Option<Arc<str>>,
    /// Pages of the current checkpoint that don't come from the tree.
    writes: Vec<PageWrite>,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The command's transaction.
    pub zxid: Zxid,
    /// The answer to the client, or why the command had no effect.
    pub reply: Result<Reply, Refused>,
    /// What watches are told, in this order.
    pub events: Vec<Event>,
    /// The paths whose soft limits are exceeded by what the command added. ZooKeeper logs them.
    pub over_quota: Vec<String>,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The node was created.
    Created {
        /// Its path, with its number if it is sequential.
        path: String,
        /// The new node.
        stat: Stat,
    },
    /// The node's data was set.
    DataSet(Stat),
    /// The node's access control list was set.
    AclSet(Stat),
    /// The node was deleted.
    Deleted,
    /// The node has the expected version.
    Checked,
    /// The answers to the operations of a multi.
    Multi(Vec<Self>),
    /// The session was opened or moved, or the pod registered or forgotten, or there was nothing to
    /// do.
    Done,
}

/// On whose behalf an operation is done, and when.
#[derive(Clone, Copy, Debug)]
struct Context<'a> {
    session: SessionId,
    pod: PodId,
    caller: &'a [Id],
}

impl Machine {
    /// The state before the first command: the root, and ZooKeeper's own nodes. The seed is a
    /// number that clients can't guess, so that they can't choose names that collide in the index.
    /// It may differ between pods.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut machine = Self::with(Tree::new(seed, &Acl::open()), Sessions::default());
        let open = Acl::open();
        machine.add_own_node(SYSTEM_PATH, &open);
        machine.add_own_node(QUOTA_PATH, &open);
        let config = machine.add_own_node(CONFIG_PATH, &[Acl::world(Perms::READ)]);
        // As in ZooKeeper, whose server sets this list with version -1.
        machine.tree.edit(config).aversion = -1;
        machine
    }

    /// As ZooKeeper's, these nodes are not counted as created by their parents.
    fn add_own_node(&mut self, path: &str, acl: &[Acl]) -> NodeId {
        let (parent, name) = path.rsplit_once('/').expect("a path");
        let parent = self.tree.find(parent).expect("parents come first");
        let acl = self.tree.acquire_acl(acl);
        let body = Body::new(name, Some(&[]));
        self.tree.insert(parent, body, acl, Fields::default())
    }

    fn with(tree: Tree, sessions: Sessions) -> Self {
        Self {
            tree,
            sessions,
            pods: Pods::default(),
            last: Zxid::default(),
            time_ms: 0,
            quotas: Quotas::default(),
            ends: BTreeSet::new(),
            undo: None,
            events: Vec::new(),
            over_quota: BTreeSet::new(),
            recounted: 0,
            parent_path: None,
            writes: Vec::new(),
        }
    }

    /// Applies a batch: its commands have the transactions from its first one on.
    ///
    /// # Errors
    /// [`BatchOutOfOrder`] if the batch, or a later one, is applied already. Nothing has changed.
    pub fn apply_batch(&mut self, batch: &Batch) -> Result<Vec<Applied>, BatchOutOfOrder> {
        if batch.first <= self.last {
            return Err(BatchOutOfOrder {
                first: batch.first,
                applied: self.last,
            });
        }
        let apply = |(index, command)| self.apply(command, batch.first.plus(index), batch.time_ms);
        Ok(batch.commands.iter().enumerate().map(apply).collect())
    }

    /// Applies a command as the transaction `zxid`.
    ///
    /// # Panics
    /// If `zxid` is not later than all before.
    pub fn apply(&mut self, command: &Command, zxid: Zxid, time_ms: i64) -> Applied {
        assert!(zxid > self.last, "transactions are applied in order");
        self.last = zxid;
        self.time_ms = self.time_ms.max(time_ms);
        self.tree.begin(zxid);
        let reply = self.execute(command);
        self.recounted = 0;
        self.parent_path = None;
        Applied {
            zxid,
            reply,
            events: std::mem::take(&mut self.events),
            over_quota: std::mem::take(&mut self.over_quota).into_iter().collect(),
        }
    }

    fn execute(&mut self, command: &Command) -> Result<Reply, Refused> {
        self.pods.admit(command, self.time_ms)?;
        let context = Context {
            session: command.session,
            pod: command.origin.map(|origin| origin.pod).unwrap_or_default(),
            caller: &command.caller,
        };
        check_identities(&command.caller)?;
        let reply = match &command.kind {
            Kind::Write(op) => self.write(context, op)?,
            Kind::Multi(ops) => return self.multi(context, ops),
            Kind::CreateSession {
                timeout_ms,
                password,
            } => self.create_session(context, *timeout_ms, *password)?,
            Kind::AttachSession {
                timeout_ms,
                password,
            } => self.attach_session(context, *timeout_ms, password)?,
            Kind::CloseSession => self.close_session(context.session),
            Kind::ExpireSession { attached } => self.expire_session(context.session, *attached)?,
            Kind::Reap { path } => self.reap(path)?,
            Kind::SetConfig { data } => self.set_config(data)?,
            Kind::ForgetPod { pod, last } => self.forget_pod(*pod, *last)?,
            Kind::RegisterPod { .. } | Kind::Nothing => Reply::Done,
        };
        Ok(reply)
    }

    /// The pod may have sent commands after the sequencer had decided: it stays then.
    fn forget_pod(&mut self, pod: PodId, last: u64) -> Result<Reply, Refused> {
        if self.pods.last(pod).is_none() {
            return Ok(Reply::Done);
        }
        let is_idle = self.idle_pods(self.time_ms).any(|idle| idle == (pod, last));
        if !is_idle {
            return Err(Refused::PodInUse(pod));
        }
        self.pods.forget(pod, self.last);
        Ok(Reply::Done)
    }

    /// The last transaction that was applied.
    #[must_use]
    pub fn last_zxid(&self) -> Zxid {
        self.last
    }

    /// The time of the last batch, in milliseconds since 1970.
    #[must_use]
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }
}

#[cfg(test)]
mod tests;
