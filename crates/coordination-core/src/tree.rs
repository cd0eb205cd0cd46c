//! The tree in memory, and its division into pages. It knows nothing of permissions, sessions or
//! quotas.

mod encoding;
mod free;
mod index;
mod load;
mod node;
mod pages;
mod slots;

use index::Index;
pub(crate) use load::TreeLoader;
use node::Links;
pub(crate) use node::{Body, Fields, Node, NodeId};
use pages::Pages;
use slots::Slots;

use crate::acl::{Acl, AclCache, AclId, AclList};
use crate::page::{PageId, PageWrite, Part};
use crate::{OpError, Zxid};

#[derive(Debug)]
pub(crate) struct Tree {
    slots: Slots,
    index: Index,
    acls: AclCache,
    pages: Pages,
    /// The transaction that is being applied. Pages record when they changed.
    zxid: Zxid,
}

impl Tree {
    /// A tree with nothing but the root.
    pub(crate) fn new(seed: u64, root_acl: &[Acl]) -> Self {
        let mut tree = Self::empty(seed);
        let acl = tree.acls.acquire(root_acl);
        let id = tree.insert(
            NodeId::NONE,
            Body::new("", Some(&[])),
            acl,
            Fields::default(),
        );
        assert_eq!(id, NodeId::ROOT, "the first id");
        tree
    }

    /// A tree without a root, for loading.
    fn empty(seed: u64) -> Self {
        Self {
            slots: Slots::new(),
            index: Index::new(seed),
            acls: AclCache::default(),
            pages: Pages::default(),
            zxid: Zxid::default(),
        }
    }

    /// Starts a transaction.
    pub(crate) fn begin(&mut self, zxid: Zxid) {
        self.zxid = zxid;
    }

    /// The number of nodes, with the root.
    pub(crate) fn len(&self) -> u32 {
        self.slots.len()
    }

    /// Whether there is no room for another node.
    pub(crate) fn is_full(&self) -> bool {
        !self.slots.is_free(self.slots.lowest_free())
    }

    #[cfg(test)]
    pub(crate) fn set_limit(&mut self, nodes: u32) {
        self.slots.set_limit(nodes);
    }

    /// Finds a node. As in ZooKeeper, the empty path is an alias of the root.
    pub(crate) fn find(&self, path: &str) -> Result<NodeId, OpError> {
        if path.is_empty() || path == "/" {
            return Ok(NodeId::ROOT);
        }
        let names = path.strip_prefix('/').ok_or(OpError::NoNode)?;
        names.split('/').try_fold(NodeId::ROOT, |parent, name| {
            self.child(parent, name).ok_or(OpError::NoNode)
        })
    }

    pub(crate) fn child(&self, parent: NodeId, name: &str) -> Option<NodeId> {
        self.index.find(&self.slots, parent, name.as_bytes())
    }

    /// A node that exists.
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        self.slots.get(id).expect("the node exists")
    }

    pub(crate) fn acl(&self, id: NodeId) -> &AclList {
        self.acls.get(self.node(id).acl)
    }

    /// The number of different access control lists.
    pub(crate) fn acl_count(&self) -> usize {
        self.acls.len()
    }

    pub(crate) fn path(&self, id: NodeId) -> String {
        let mut names = Vec::new();
        let mut next = id;
        while let Some(parent) = self.node(next).parent() {
            names.push(self.node(next).body.name());
            next = parent;
        }
        if names.is_empty() {
            return "/".to_owned();
        }
        let len = names.iter().map(|name| name.len() + 1).sum();
        let mut path = String::with_capacity(len);
        for name in names.iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        path
    }

    /// The length of a node's path.
    pub(crate) fn path_bytes(&self, id: NodeId) -> u64 {
        let above = |id: &NodeId| self.node(*id).parent();
        let nodes = std::iter::successors(Some(id), above).filter(|id| *id != NodeId::ROOT);
        let bytes = nodes.map(|id| 1 + self.node(id).body.name().len() as u64);
        bytes.sum::<u64>().max(1)
    }

    /// A node's children, the latest first, in no order that clients can rely on.
    pub(crate) fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        let mut next = self.node(id).links.first_child;
        std::iter::from_fn(move || {
            let child = next.some()?;
            next = self.node(child).links.next;
            Some(child)
        })
    }

    /// All nodes below this one: parents before their children.
    pub(crate) fn descendants(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        let mut waiting = vec![self.node(id).links.first_child];
        std::iter::from_fn(move || {
            loop {
                let Some(node) = waiting.pop()?.some() else {
                    continue;
                };
                let links = &self.node(node).links;
                waiting.push(links.next);
                waiting.push(links.first_child);
                return Some(node);
            }
        })
    }

    /// The ids of all nodes, in ascending order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.slots.ids()
    }

    pub(crate) fn acquire_acl(&mut self, list: &[Acl]) -> AclId {
        self.acls.acquire(list)
    }

    pub(crate) fn release_acl(&mut self, acl: AclId) {
        self.acls.release(acl);
    }

    /// Adds a node under an existing parent that has no child of this name.
    pub(crate) fn insert(
        &mut self,
        parent: NodeId,
        body: Body,
        acl: AclId,
        fields: Fields,
    ) -> NodeId {
        let id = self.slots.lowest_free();
        let node = Node {
            fields,
            body,
            acl,
            links: Links::under(parent),
            page: 0,
        };
        self.attach(id, node);
        id
    }

    /// Puts a node without children into a free slot, and links it to its parent.
    pub(crate) fn attach(&mut self, id: NodeId, node: Node) {
        self.slots.put(id, node);
        self.link(id);
        self.join_page(id);
    }

    fn link(&mut self, id: NodeId) {
        let parent = self.node(id).links.parent;
        if parent == NodeId::NONE {
            return;
        }
        self.index.insert(&self.slots, id);
        let links = &mut self.raw(parent).links;
        let first = std::mem::replace(&mut links.first_child, id);
        links.children += 1;
        if first != NodeId::NONE {
            self.raw(first).links.previous = id;
        }
        self.raw(id).links.next = first;
    }

    /// Takes a node without children out of the tree. Its ACL stays acquired.
    pub(crate) fn detach(&mut self, id: NodeId) -> Node {
        self.leave_page(id);
        self.index.remove(&self.slots, id);
        let mut node = self.slots.take(id).expect("the node exists");
        assert_eq!(node.links.children, 0, "the node has no children");
        let Links {
            parent,
            previous,
            next,
            ..
        } = node.links;
        self.raw(parent).links.children -= 1;
        if previous == NodeId::NONE {
            self.raw(parent).links.first_child = next;
        } else {
            self.raw(previous).links.next = next;
        }
        if next != NodeId::NONE {
            self.raw(next).links.previous = previous;
        }
        node.links = Links::under(parent);
        node
    }

    /// A node's fields, to be changed.
    pub(crate) fn edit(&mut self, id: NodeId) -> &mut Fields {
        self.touch(self.node(id).page);
        &mut self.raw(id).fields
    }

    /// Sets a node's body, with the same name, and returns the old one.
    pub(crate) fn replace_body(&mut self, id: NodeId, body: Body) -> Body {
        self.resize(id, |node| std::mem::replace(&mut node.body, body))
    }

    /// Sets a node's ACL, which is acquired already. The old one stays acquired.
    pub(crate) fn replace_acl(&mut self, id: NodeId, acl: AclId) -> AclId {
        self.resize(id, |node| std::mem::replace(&mut node.acl, acl))
    }

    /// Changes a node in a way that may change the size of its record.
    fn resize<T>(&mut self, id: NodeId, change: impl FnOnce(&mut Node) -> T) -> T {
        let page = self.node(id).page;
        self.touch(page);
        let before = self.record_bytes(id);
        let old = change(self.raw(id));
        let after = self.record_bytes(id);
        self.pages.resize(page, before, after);
        if self.pages.is_overfull(page) {
            self.leave_page(id);
            self.join_page(id);
        }
        old
    }

    fn join_page(&mut self, id: NodeId) {
        let bytes = self.record_bytes(id);
        let page = self.pages.place(bytes);
        self.touch(page);
        self.pages.add(page, id, bytes);
        self.raw(id).page = page;
    }

    fn leave_page(&mut self, id: NodeId) {
        let page = self.node(id).page;
        self.touch(page);
        self.pages.remove(page, id, self.record_bytes(id));
    }

    /// At least the length of the node's record in its page.
    fn record_bytes(&self, id: NodeId) -> u64 {
        let node = self.node(id);
        encoding::RECORD_BYTES + node.body.len() as u64 + u64::from(self.acls.bytes(node.acl))
    }

    /// Must precede every change to a page: if a checkpoint still needs the page as it is, it is
    /// encoded first.
    fn touch(&mut self, page: u32) {
        if self.pages.is_awaited(page) {
            let write = self.write_page(page);
            self.pages.set_aside(page, write);
        }
        self.pages.touch(page, self.zxid);
    }

    fn raw(&mut self, id: NodeId) -> &mut Node {
        self.slots.get_mut(id).expect("the node exists")
    }

    /// Starts to write the pages that changed after `since`.
    pub(crate) fn start_checkpoint(&mut self, since: Option<Zxid>) {
        self.pages.start(since);
    }

    /// The next page of the checkpoint, as it was when the checkpoint started.
    pub(crate) fn next_page(&mut self) -> Option<PageWrite> {
        if let Some(write) = self.pages.take_aside() {
            return Some(write);
        }
        let page = self.pages.next_awaited()?;
        Some(self.write_page(page))
    }

    pub(crate) fn end_checkpoint(&mut self) {
        self.pages.end();
    }

    /// The pages that have nodes, with the transaction that last changed each.
    pub(crate) fn directory(&self) -> impl Iterator<Item = (PageId, Zxid)> {
        let pages = self.pages.live();
        pages.map(|(page, zxid)| (PageId::Nodes(page), zxid))
    }

    /// The hashes of the pages that have nodes, in ascending order of the pages. Only those that
    /// changed since the last call are computed.
    pub(crate) fn page_hashes(&mut self) -> Vec<(PageId, u64)> {
        let pages: Vec<u32> = self.pages.live().map(|(page, _)| page).collect();
        let mut hashes = Vec::with_capacity(pages.len());
        for page in pages {
            let hash = match self.pages.hash(page) {
                Some(hash) => hash,
                None => {
                    let hash = Part::hash(&self.encode_page(page));
                    self.pages.set_hash(page, hash);
                    hash
                }
            };
            hashes.push((PageId::Nodes(page), hash));
        }
        hashes
    }

    fn write_page(&self, page: u32) -> PageWrite {
        let parts = if self.pages.members(page).is_empty() {
            Vec::new()
        } else {
            Part::split(&self.encode_page(page))
        };
        PageWrite {
            page: PageId::Nodes(page),
            modified: self.pages.modified(page),
            parts,
        }
    }
}

#[cfg(test)]
mod tests;
