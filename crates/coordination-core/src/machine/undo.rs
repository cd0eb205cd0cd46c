//! Changes of nodes that keep everything derived up to date, and can be taken back: a multi has all
//! of its effects, or none.

use super::Machine;
use crate::acl::AclId;
use crate::quota::QuotaNode;
use crate::stat::Owner;
use crate::tree::{Body, Fields, Node, NodeId};

/// What a change replaced.
#[derive(Debug)]
pub(super) enum Undo {
    Added(NodeId),
    Removed(NodeId, Node),
    Fields(NodeId, Fields),
    Body(NodeId, Body),
    Acl(NodeId, AclId),
}

impl Machine {
    pub(super) fn add_node(
        &mut self,
        parent: NodeId,
        body: Body,
        acl: AclId,
        fields: Fields,
    ) -> NodeId {
        let id = self.tree.insert(parent, body, acl, fields);
        self.note_added(id);
        self.record(Undo::Added(id));
        id
    }

    pub(super) fn remove_node(&mut self, id: NodeId) {
        self.note_removed(id);
        let node = self.tree.detach(id);
        self.record(Undo::Removed(id, node));
    }

    pub(super) fn edit_node(&mut self, id: NodeId, change: impl FnOnce(&mut Fields)) {
        let fields = self.tree.edit(id);
        let before = *fields;
        change(fields);
        self.record(Undo::Fields(id, before));
    }

    pub(super) fn set_body(&mut self, id: NodeId, data: Option<&[u8]>) {
        let body = Body::new(self.tree.node(id).body.name(), data);
        let before = self.tree.replace_body(id, body);
        self.record(Undo::Body(id, before));
    }

    pub(super) fn set_acl_of(&mut self, id: NodeId, acl: AclId) {
        let before = self.tree.replace_acl(id, acl);
        self.record(Undo::Acl(id, before));
    }

    fn record(&mut self, undo: Undo) {
        match &mut self.undo {
            Some(list) => list.push(undo),
            None => self.settle(undo),
        }
    }

    /// The change stands: what it replaced is not needed any more.
    fn settle(&mut self, undo: Undo) {
        match undo {
            Undo::Removed(_, node) => self.tree.release_acl(node.acl),
            Undo::Acl(_, acl) => self.tree.release_acl(acl),
            Undo::Added(_) | Undo::Fields(..) | Undo::Body(..) => {}
        }
    }

    pub(super) fn start_undoable(&mut self) {
        self.undo = Some(Vec::new());
    }

    pub(super) fn commit(&mut self) {
        for undo in self.undo.take().unwrap_or_default() {
            self.settle(undo);
        }
    }

    pub(super) fn roll_back(&mut self) {
        for undo in self.undo.take().unwrap_or_default().into_iter().rev() {
            match undo {
                Undo::Added(id) => {
                    self.note_removed(id);
                    let node = self.tree.detach(id);
                    self.tree.release_acl(node.acl);
                }
                Undo::Removed(id, node) => {
                    self.tree.attach(id, node);
                    self.note_added(id);
                }
                Undo::Fields(id, fields) => *self.tree.edit(id) = fields,
                Undo::Body(id, body) => {
                    self.tree.replace_body(id, body);
                }
                Undo::Acl(id, acl) => {
                    let acl = self.tree.replace_acl(id, acl);
                    self.tree.release_acl(acl);
                }
            }
        }
        self.events.clear();
        self.over_quota.clear();
    }

    /// Updates what is derived from a node that is in the tree now.
    pub(super) fn note_added(&mut self, id: NodeId) {
        match self.tree.node(id).fields.owner {
            Owner::None => {}
            Owner::Session(session) => {
                if let Some(ephemerals) = self.sessions.ephemerals(session) {
                    ephemerals.insert(id);
                }
            }
            Owner::Container | Owner::Ttl { .. } => {
                self.reapable.insert(id);
            }
        }
        if let Some(path) = self.quota_node(id)
            && let Some(QuotaNode::Limits(target)) = QuotaNode::of(&path)
        {
            self.quotas.insert(target);
        }
    }

    /// Updates what is derived from a node that is still in the tree.
    fn note_removed(&mut self, id: NodeId) {
        match self.tree.node(id).fields.owner {
            Owner::None => {}
            Owner::Session(session) => {
                if let Some(ephemerals) = self.sessions.ephemerals(session) {
                    ephemerals.remove(&id);
                }
            }
            Owner::Container | Owner::Ttl { .. } => {
                self.reapable.remove(&id);
            }
        }
        if let Some(path) = self.quota_node(id)
            && let Some(QuotaNode::Limits(target)) = QuotaNode::of(&path)
        {
            self.quotas.remove(target);
        }
    }

    /// The path of a node that may be one with limits, by its name.
    fn quota_node(&self, id: NodeId) -> Option<String> {
        let is_named_so = self.tree.node(id).body.name() == crate::quota::LIMITS;
        is_named_so.then(|| self.tree.path(id))
    }
}
