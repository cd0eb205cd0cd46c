//! A tree from the pages of a checkpoint.

use super::Tree;
use super::encoding::{Content, Record};
use super::node::{Links, Node, NodeId};
use crate::page::PageId;
use crate::{DecodeError, LoadError, Zxid};

/// Takes pages in any order, then links their nodes.
#[derive(Debug)]
pub(crate) struct TreeLoader(Tree);

/// No page has a larger number: that many pages have 256 GiB.
pub(super) const MAX_PAGES: u32 = 1 << 22;

impl TreeLoader {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Tree::empty(seed))
    }

    /// Adds the nodes of a page, and returns when it was last modified.
    pub(crate) fn add(&mut self, page: u32, content: &[u8]) -> Result<Zxid, DecodeError> {
        let Content {
            page: id,
            modified,
            acls,
            records,
        } = Content::decode(content)?;
        if id != PageId::Nodes(page) || page >= MAX_PAGES || records.is_empty() {
            return Err(DecodeError::Invalid("page id"));
        }
        self.0.pages.load(page, modified);
        for record in records {
            let acl = acls.get(record.acl).ok_or(DecodeError::Invalid("acl"))?;
            self.add_node(page, &record, acl)?;
        }
        Ok(modified)
    }

    fn add_node(
        &mut self,
        page: u32,
        record: &Record<'_>,
        acl: &[crate::Acl],
    ) -> Result<(), DecodeError> {
        if !self.0.slots.is_free(record.id) {
            return Err(DecodeError::Invalid("node id"));
        }
        if record.name.contains('/') {
            return Err(DecodeError::Invalid("node name"));
        }
        let node = Node {
            fields: record.fields,
            body: record.body(),
            acl: self.0.acls.acquire(acl),
            links: Links::under(record.parent),
            page,
        };
        self.0.slots.put(record.id, node);
        let bytes = self.0.record_bytes(record.id);
        self.0.pages.add(page, record.id, bytes);
        Ok(())
    }

    /// Links the nodes, when all pages have been added.
    pub(crate) fn finish(mut self) -> Result<Tree, LoadError> {
        let tree = &mut self.0;
        let ids: Vec<NodeId> = tree.slots.ids().collect();
        for id in ids {
            let node = tree.node(id);
            let parent = node.links.parent;
            let has_name = !node.body.name_bytes().is_empty();
            if id == NodeId::ROOT && parent == NodeId::NONE && !has_name {
                continue;
            }
            if id == NodeId::ROOT || !has_name || tree.slots.get(parent).is_none() {
                return Err(LoadError::Inconsistent("a node without a parent"));
            }
            if tree
                .index
                .find(&tree.slots, parent, node.body.name_bytes())
                .is_some()
            {
                return Err(LoadError::Inconsistent("two nodes with one path"));
            }
            tree.link(id);
        }
        if tree.slots.get(NodeId::ROOT).is_none() {
            return Err(LoadError::Inconsistent("no root"));
        }
        // The links of parents form cycles beside the tree, or the tree alone.
        if tree.descendants(NodeId::ROOT).count() + 1 != tree.len() as usize {
            return Err(LoadError::Inconsistent("nodes that the root doesn't reach"));
        }
        Ok(self.0)
    }
}
