//! What can be read. Reads change nothing, and see all commands that were applied.

use super::Machine;
use crate::acl::{self, Acl, Perms};
use crate::command::Password;
use crate::sessions::Session;
use crate::stat::Stat;
use crate::tree::NodeId;
use crate::{Id, OpError, PodId, SessionId, Zxid};

/// A session, as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id.
    pub id: SessionId,
    /// After how long without a sign of life it may be closed.
    pub timeout_ms: u32,
    /// The pod that its client is connected to.
    pub pod: PodId,
    /// The transaction that opened or last attached it.
    pub attached: Zxid,
    /// The number of its ephemeral nodes.
    pub ephemerals: usize,
}

impl Machine {
    /// A node's data and stat. No data differs from empty data.
    ///
    /// # Errors
    /// [`OpError::NoNode`]; [`OpError::NoAuth`] without READ.
    pub fn get(&self, path: &str, caller: &[Id]) -> Result<(Option<&[u8]>, Stat), OpError> {
        let node = self.tree.node(self.readable(path, caller)?);
        Ok((node.body.data(), node.stat()))
    }

    /// A node's stat.
    ///
    /// # Errors
    /// [`OpError::NoNode`], with which ZooKeeper registers a watch nevertheless;
    /// [`OpError::NoAuth`] without READ; [`OpError::BadArguments`] for a path with a NUL character.
    pub fn exists(&self, path: &str, caller: &[Id]) -> Result<Stat, OpError> {
        if path.contains('\0') {
            return Err(OpError::BadArguments);
        }
        Ok(self.tree.node(self.readable(path, caller)?).stat())
    }

    /// The names of a node's children, in no particular order, and its stat.
    ///
    /// # Errors
    /// [`OpError::NoNode`]; [`OpError::NoAuth`] without READ.
    pub fn children(
        &self,
        path: &str,
        caller: &[Id],
    ) -> Result<(impl Iterator<Item = &str>, Stat), OpError> {
        let id = self.readable(path, caller)?;
        let children = self.tree.children(id);
        let names = children.map(|child| self.tree.node(child).body.name());
        Ok((names, self.tree.node(id).stat()))
    }

    /// The number of nodes below a node. It visits all of them.
    ///
    /// # Errors
    /// [`OpError::NoNode`]; [`OpError::NoAuth`] without READ.
    pub fn all_children_number(&self, path: &str, caller: &[Id]) -> Result<usize, OpError> {
        let id = self.readable(path, caller)?;
        if id == NodeId::ROOT {
            // ZooKeeper counts the root itself if it is named by its alias, the empty path.
            return Ok(self.node_count() - usize::from(!path.is_empty()));
        }
        Ok(self.tree.descendants(id).count())
    }

    /// A node's access control list and stat. Who may not set the list doesn't see the hashes of
    /// passwords in it.
    ///
    /// # Errors
    /// [`OpError::NoNode`]; [`OpError::NoAuth`] without READ or ADMIN.
    pub fn acl(&self, path: &str, caller: &[Id]) -> Result<(Vec<Acl>, Stat), OpError> {
        let id = self.tree.find(path)?;
        let list = acl::visible(self.tree.acl(id), caller)?;
        Ok((list, self.tree.node(id).stat()))
    }

    /// The paths of a session's ephemeral nodes that start with `prefix`, in no particular order.
    /// Nothing but space, or the root, is any path.
    #[must_use]
    pub fn ephemerals(&self, session: SessionId, prefix: &str) -> Vec<String> {
        let is_any = matches!(prefix.trim(), "" | "/");
        let nodes = self
            .sessions
            .get(session)
            .map(|session| &session.ephemerals);
        let paths = nodes.into_iter().flatten().map(|&id| self.tree.path(id));
        paths
            .filter(|path| is_any || path.starts_with(prefix))
            .collect()
    }

    /// A session.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<SessionInfo> {
        self.sessions.get(id).map(|session| info(id, session))
    }

    /// Whether this is the session's password; `None` if there is no such session.
    #[must_use]
    pub fn is_password(&self, id: SessionId, shown: &Password) -> Option<bool> {
        let session = self.sessions.get(id)?;
        Some(session.password == *shown)
    }

    /// All sessions, in no particular order.
    pub fn sessions(&self) -> impl Iterator<Item = SessionInfo> {
        self.sessions.iter().map(|(id, session)| info(id, session))
    }

    /// The pods that are registered, and the number of each one's last command.
    pub fn pods(&self) -> impl Iterator<Item = (PodId, u64)> {
        self.pods.iter()
    }

    /// The transaction that last forgot a pod; zero if none did.
    #[must_use]
    pub fn last_forgotten(&self) -> Zxid {
        self.pods.forgotten()
    }

    /// The pods that [`ForgetPod`](crate::Kind::ForgetPod) would forget at this time of the log:
    /// they have no sessions, and have sent no command for [`POD_IDLE_MS`](crate::POD_IDLE_MS).
    /// With each comes the number of its last command.
    pub fn idle_pods(&self, time_ms: i64) -> impl Iterator<Item = (PodId, u64)> {
        let unused = self.pods.unused(time_ms);
        unused.filter(|&(pod, _)| !self.sessions.has_any(pod))
    }

    /// The paths of up to `limit` nodes that [`Reap`](crate::Kind::Reap) would delete at this time
    /// of the log. It visits no others.
    #[must_use]
    pub fn due(&self, time_ms: i64, limit: usize) -> Vec<String> {
        let due = self
            .ends
            .iter()
            .take_while(|(end_ms, _)| *end_ms <= time_ms);
        due.take(limit).map(|&(_, id)| self.tree.path(id)).collect()
    }

    /// The number of nodes, with the root and ZooKeeper's own.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.tree.len() as usize
    }

    /// The number of sessions.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The number of different access control lists.
    #[must_use]
    pub fn acl_count(&self) -> usize {
        self.tree.acl_count()
    }

    /// A node's stat, whoever may read it.
    pub fn stat(&self, path: &str) -> Option<Stat> {
        let id = self.tree.find(path).ok()?;
        Some(self.tree.node(id).stat())
    }

    fn readable(&self, path: &str, caller: &[Id]) -> Result<NodeId, OpError> {
        let id = self.tree.find(path)?;
        acl::check(self.tree.acl(id), Perms::READ, caller)?;
        Ok(id)
    }
}

fn info(id: SessionId, session: &Session) -> SessionInfo {
    SessionInfo {
        id,
        timeout_ms: session.timeout_ms,
        pod: session.pod,
        attached: session.attached,
        ephemerals: session.ephemerals.len(),
    }
}
