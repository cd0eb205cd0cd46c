//! Changes of nodes that keep everything derived up to date, and can be taken back: a multi has all
//! of its effects, or none.

use super::Machine;
use crate::acl::AclId;
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
        self.unlist_end(parent);
        let id = self.tree.insert(parent, body, acl, fields);
        self.note_added(id);
        self.record(Undo::Added(id));
        id
    }

    pub(super) fn remove_node(&mut self, id: NodeId) {
        let node = self.detach(id);
        self.record(Undo::Removed(id, node));
    }

    pub(super) fn edit_node(&mut self, id: NodeId, change: impl FnOnce(&mut Fields)) {
        let mut before = Fields::default();
        self.replace_fields(id, |fields| {
            before = *fields;
            change(fields);
        });
        self.record(Undo::Fields(id, before));
    }

    pub(super) fn set_body(&mut self, id: NodeId, data: Option<&[u8]>) {
        let body = Body::new(self.tree.node(id).body.name(), data);
        let before = self.replace_body(id, body);
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
                    let node = self.detach(id);
                    self.tree.release_acl(node.acl);
                }
                Undo::Removed(id, node) => {
                    if let Some(parent) = node.parent() {
                        self.unlist_end(parent);
                    }
                    self.tree.attach(id, node);
                    self.note_added(id);
                }
                Undo::Fields(id, before) => self.replace_fields(id, |fields| *fields = before),
                Undo::Body(id, body) => {
                    self.replace_body(id, body);
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

    fn replace_fields(&mut self, id: NodeId, change: impl FnOnce(&mut Fields)) {
        self.unlist_end(id);
        change(self.tree.edit(id));
        self.list_end(id);
    }

    fn replace_body(&mut self, id: NodeId, body: Body) -> Body {
        let before = self.tree.replace_body(id, body);
        // With the first limits, there is a quota already.
        if !self.quotas.is_empty() {
            self.note_limits(id);
        }
        before
    }

    /// Takes a node out of the tree.
    fn detach(&mut self, id: NodeId) -> Node {
        self.note_removed(id);
        let node = self.tree.detach(id);
        if let Some(parent) = node.parent() {
            self.list_end(parent);
        }
        node
    }

    /// Updates what is derived from a node that is in the tree now.
    pub(super) fn note_added(&mut self, id: NodeId) {
        if let Owner::Session(session) = self.tree.node(id).fields.owner {
            let bytes = self.tree.path_bytes(id);
            self.sessions.add_ephemeral(session, id, bytes);
        }
        self.list_end(id);
        self.note_limits(id);
    }

    /// Updates what is derived from a node that is still in the tree.
    fn note_removed(&mut self, id: NodeId) {
        if let Owner::Session(session) = self.tree.node(id).fields.owner {
            let bytes = self.tree.path_bytes(id);
            self.sessions.remove_ephemeral(session, id, bytes);
        }
        self.unlist_end(id);
        self.forget_limits(id);
    }
}
