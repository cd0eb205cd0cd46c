//! The operations on nodes. Where several errors apply, the order of the checks is ZooKeeper's
//! (`PrepRequestProcessor`).

use std::sync::Arc;

use super::{Context, Machine, Reply};
use crate::acl::{self, Acl, AclList, Perms};
use crate::command::{Op, next_version};
use crate::event::{Event, EventKind};
use crate::limits::{MAX_EPHEMERAL_BYTES, MAX_MULTI_OPS, MAX_PATH_BYTES};
use crate::path::{self, CONFIG_PATH};
use crate::stat::CreateMode;
use crate::tree::{Body, Fields, NodeId};
use crate::{OpError, Refused, SessionId};

impl Machine {
    pub(super) fn write(&mut self, context: Context<'_>, op: &Op) -> Result<Reply, OpError> {
        match op {
            Op::Create {
                path,
                data,
                acl,
                mode,
                ttl_ms,
            } => {
                let new = NewNode {
                    path,
                    data: data.as_deref(),
                    acl,
                    mode: *mode,
                    ttl_ms: *ttl_ms,
                };
                self.create(context, &new)
            }
            Op::Delete { path, version } => self.delete(context, path, *version),
            Op::SetData {
                path,
                data,
                version,
            } => self.set_data(context, path, data.as_deref(), *version),
            Op::SetAcl { path, acl, version } => self.set_acl(context, path, acl, *version),
            Op::Check { path, version } => self.check(context, path, *version),
        }
    }

    /// Applies all operations, or none. Each sees the effects of those before it.
    pub(super) fn multi(&mut self, context: Context<'_>, ops: &[Op]) -> Result<Reply, Refused> {
        if ops.is_empty() {
            self.sessions.check(context.session, context.pod)?;
        }
        if ops.len() > MAX_MULTI_OPS {
            return Err(Refused::Multi {
                index: MAX_MULTI_OPS,
                error: OpError::BadArguments,
            });
        }
        self.start_undoable();
        let mut replies = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            match self.write(context, op) {
                Ok(reply) => replies.push(reply),
                Err(error) => {
                    self.roll_back();
                    return Err(Refused::Multi { index, error });
                }
            }
        }
        self.commit();
        Ok(Reply::Multi(replies))
    }

    fn create(&mut self, context: Context<'_>, new: &NewNode<'_>) -> Result<Reply, OpError> {
        let owner = new.mode.owner(context.session, new.ttl_ms)?;
        self.sessions.check(context.session, context.pod)?;
        let (parent_path, _) = path::split(new.path)?;
        let acl = acl::expand(new.acl, context.caller)?;
        let parent = self.tree.find(parent_path)?;
        acl::check(self.tree.acl(parent), Perms::CREATE, context.caller)?;
        let counter = self.tree.node(parent).fields.counter;
        let path = if new.mode.is_sequential() {
            format!("{}{counter:010}", new.path)
        } else {
            new.path.to_owned()
        };
        path::validate(&path)?;
        if path.len() > MAX_PATH_BYTES {
            return Err(OpError::BadArguments);
        }
        let name = &path[parent_path.len() + 1..];
        // Without a name, the path is that of the root.
        if name.is_empty() || self.tree.child(parent, name).is_some() {
            return Err(OpError::NodeExists);
        }
        if self.tree.node(parent).fields.owner.session().is_some() {
            return Err(OpError::NoChildrenForEphemerals);
        }
        let bytes = length(new.data);
        self.check_quota(&path, 1, bytes)?;
        self.check_recount(&path)?;
        let has_room = owner.session().is_none_or(|id| self.has_room(id, &path));
        if !has_room || self.tree.is_full() {
            return Err(OpError::QuotaExceeded);
        }

        let fields = Fields {
            czxid: self.last,
            mzxid: self.last,
            pzxid: self.last,
            ctime_ms: self.time_ms,
            mtime_ms: self.time_ms,
            owner,
            ..Fields::default()
        };
        let acl = self.tree.acquire_acl(&acl);
        let id = self.add_node(parent, Body::new(name, new.data), acl, fields);
        let zxid = self.last;
        self.edit_node(parent, |fields| {
            fields.counter = counter.wrapping_add(1);
            fields.pzxid = zxid;
        });
        // As in ZooKeeper, the reply has the data's length before a quota's use is counted.
        let stat = self.tree.node(id).stat();
        self.recount(id, &path);
        self.use_quota(&path, 1, bytes);
        self.tell(EventKind::Created, path.as_str().into(), id);
        self.tell_parent(parent_path, parent);
        Ok(Reply::Created { path, stat })
    }

    /// Whether a session may have another ephemeral node.
    fn has_room(&self, session: SessionId, path: &str) -> bool {
        let session = self.sessions.get(session);
        session.is_none_or(|session| {
            session.ephemeral_bytes + path.len() as u64 <= MAX_EPHEMERAL_BYTES
        })
    }

    fn delete(&mut self, context: Context<'_>, path: &str, version: i32) -> Result<Reply, OpError> {
        self.sessions.check(context.session, context.pod)?;
        let (parent_path, name) = split_deletable(path)?;
        let parent = self.tree.find(parent_path)?;
        acl::check(self.tree.acl(parent), Perms::DELETE, context.caller)?;
        let id = self.child(parent_path, parent, name)?;
        let node = self.tree.node(id);
        next_version(node.fields.version, version)?;
        if node.children() > 0 {
            return Err(OpError::NotEmpty);
        }
        self.remove(id, path);
        Ok(Reply::Deleted)
    }

    /// The child that is to be deleted. The root's path as a parent is empty. In `//a` it is not:
    /// ZooKeeper finds the parent then, but no node of this path.
    pub(super) fn child(
        &self,
        parent_path: &str,
        parent: NodeId,
        name: &str,
    ) -> Result<NodeId, OpError> {
        let child = self.tree.child(parent, name);
        child.filter(|_| parent_path != "/").ok_or(OpError::NoNode)
    }

    /// Deletes a node without children.
    pub(super) fn remove(&mut self, id: NodeId, path: &str) {
        let node = self.tree.node(id);
        let bytes = length(node.body.data());
        let parent = node.parent().expect("the root is not deleted");
        let acl = AclList::clone(self.tree.acl(id));
        self.remove_node(id);
        let zxid = self.last;
        self.edit_node(parent, |fields| fields.pzxid = zxid);
        self.use_quota(path, -1, -bytes);
        let (parent_path, _) = path.rsplit_once('/').expect("a path");
        self.events.push(Event {
            zxid,
            kind: EventKind::Deleted,
            path: path.into(),
            acl,
        });
        self.tell_parent(parent_path, parent);
    }

    fn set_data(
        &mut self,
        context: Context<'_>,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
    ) -> Result<Reply, OpError> {
        self.sessions.check(context.session, context.pod)?;
        path::validate(path)?;
        let id = self.tree.find(path)?;
        acl::check(self.tree.acl(id), Perms::WRITE, context.caller)?;
        let node = self.tree.node(id);
        let more = length(data) - length(node.body.data());
        self.check_quota(path, 0, more)?;
        let version = next_version(node.fields.version, version)?;
        self.replace_data(id, path, data, version);
        Ok(Reply::DataSet(self.tree.node(id).stat()))
    }

    fn replace_data(&mut self, id: NodeId, path: &str, data: Option<&[u8]>, version: i32) {
        let more = length(data) - length(self.tree.node(id).body.data());
        let (zxid, time_ms) = (self.last, self.time_ms);
        self.set_body(id, data);
        self.edit_node(id, |fields| {
            fields.version = version;
            fields.mzxid = zxid;
            fields.mtime_ms = time_ms;
        });
        self.use_quota(path, 0, more);
        self.tell(EventKind::DataChanged, path.into(), id);
    }

    pub(super) fn set_config(&mut self, data: &[u8]) -> Result<Reply, OpError> {
        let id = self.tree.find(CONFIG_PATH)?;
        let version = self.tree.node(id).fields.version.wrapping_add(1);
        self.replace_data(id, CONFIG_PATH, Some(data), version);
        Ok(Reply::DataSet(self.tree.node(id).stat()))
    }

    fn set_acl(
        &mut self,
        context: Context<'_>,
        path: &str,
        acl: &[Acl],
        version: i32,
    ) -> Result<Reply, OpError> {
        self.sessions.check(context.session, context.pod)?;
        path::validate(path)?;
        let acl = acl::expand(acl, context.caller)?;
        let id = self.tree.find(path)?;
        acl::check(self.tree.acl(id), Perms::ADMIN, context.caller)?;
        let aversion = next_version(self.tree.node(id).fields.aversion, version)?;
        let acl = self.tree.acquire_acl(&acl);
        self.set_acl_of(id, acl);
        self.edit_node(id, |fields| fields.aversion = aversion);
        Ok(Reply::AclSet(self.tree.node(id).stat()))
    }

    fn check(&self, context: Context<'_>, path: &str, version: i32) -> Result<Reply, OpError> {
        self.sessions.check(context.session, context.pod)?;
        path::validate(path)?;
        let id = self.tree.find(path)?;
        acl::check(self.tree.acl(id), Perms::READ, context.caller)?;
        next_version(self.tree.node(id).fields.version, version)?;
        Ok(Reply::Checked)
    }

    /// Tells that a node's children have changed. Many changes in a row have one parent, whose path
    /// is kept once.
    fn tell_parent(&mut self, path: &str, id: NodeId) {
        let path = if path.is_empty() { "/" } else { path };
        let path = match &self.parent_path {
            Some(last) if **last == *path => Arc::clone(last),
            _ => path.into(),
        };
        self.parent_path = Some(Arc::clone(&path));
        self.tell(EventKind::ChildrenChanged, path, id);
    }

    fn tell(&mut self, kind: EventKind, path: Arc<str>, id: NodeId) {
        self.events.push(Event {
            zxid: self.last,
            kind,
            path,
            acl: AclList::clone(self.tree.acl(id)),
        });
    }
}

/// A node to be created.
struct NewNode<'a> {
    path: &'a str,
    data: Option<&'a [u8]>,
    acl: &'a [Acl],
    mode: CreateMode,
    ttl_ms: i64,
}

pub(super) fn split_deletable(path: &str) -> Result<(&str, &str), OpError> {
    if path::is_permanent(path) {
        return Err(OpError::BadArguments);
    }
    path::split(path)
}

pub(super) fn length(data: Option<&[u8]>) -> i64 {
    i64::try_from(data.map_or(0, <[u8]>::len)).expect("data fits memory")
}
