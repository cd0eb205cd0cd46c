//! Which node is in which page. Each rule depends on the live nodes alone, so a pod that loaded a
//! checkpoint divides the tree as the others do, and can write the next one.

use std::collections::{BTreeSet, VecDeque};

use super::node::NodeId;
use crate::Zxid;
use crate::page::PageWrite;

/// A page with fewer bytes takes new nodes. A larger record gets a page of its own.
const ROOMY_BYTES: u64 = 64 * 1024;
/// A node that makes its page larger than this by growing moves to another page.
const OVERFULL_BYTES: u64 = 2 * ROOMY_BYTES;

/// The pages, and the checkpoint that is being written.
#[derive(Debug, Default)]
pub(super) struct Pages {
    list: Vec<Page>,
    /// Pages with nodes and with room for more.
    roomy: BTreeSet<u32>,
    /// Pages without nodes.
    unused: BTreeSet<u32>,
    /// Pages that the checkpoint has to write.
    awaited: VecDeque<u32>,
    /// Pages that changed before the checkpoint came to them, as they were.
    aside: VecDeque<PageWrite>,
}

#[derive(Debug, Default)]
struct Page {
    members: Vec<NodeId>,
    bytes: u64,
    /// The transaction that last changed it. It is kept when the page has no nodes any more, so
    /// that the next checkpoint deletes it.
    modified: Zxid,
    hash: Option<u64>,
    is_awaited: bool,
}

impl Pages {
    /// The page for a new record: the first with room, else the first unused one.
    pub(super) fn place(&mut self, bytes: u64) -> u32 {
        if bytes < ROOMY_BYTES
            && let Some(&page) = self.roomy.first()
        {
            return page;
        }
        if let Some(&page) = self.unused.first() {
            return page;
        }
        self.grow()
    }

    fn grow(&mut self) -> u32 {
        let page = u32::try_from(self.list.len()).expect("fewer pages than nodes");
        self.list.push(Page::default());
        self.unused.insert(page);
        page
    }

    pub(super) fn add(&mut self, page: u32, id: NodeId, bytes: u64) {
        let entry = self.get_mut(page);
        entry.members.push(id);
        entry.bytes += bytes;
        self.sort_in(page);
    }

    pub(super) fn remove(&mut self, page: u32, id: NodeId, bytes: u64) {
        let entry = self.get_mut(page);
        let place = entry.members.iter().position(|&member| member == id);
        entry
            .members
            .swap_remove(place.expect("the page has the node"));
        entry.bytes -= bytes;
        self.sort_in(page);
    }

    pub(super) fn resize(&mut self, page: u32, before: u64, after: u64) {
        let entry = self.get_mut(page);
        entry.bytes = entry.bytes - before + after;
        self.sort_in(page);
    }

    /// Whether a node that has just grown must leave the page.
    pub(super) fn is_overfull(&self, page: u32) -> bool {
        let entry = self.get(page);
        entry.bytes > OVERFULL_BYTES && entry.members.len() > 1
    }

    fn sort_in(&mut self, page: u32) {
        let entry = self.get(page);
        let (is_unused, is_roomy) = (entry.members.is_empty(), entry.bytes < ROOMY_BYTES);
        set(&mut self.unused, page, is_unused);
        set(&mut self.roomy, page, is_roomy && !is_unused);
    }

    pub(super) fn touch(&mut self, page: u32, zxid: Zxid) {
        let entry = self.get_mut(page);
        entry.modified = zxid;
        entry.hash = None;
    }

    pub(super) fn modified(&self, page: u32) -> Zxid {
        self.get(page).modified
    }

    pub(super) fn members(&self, page: u32) -> &[NodeId] {
        &self.get(page).members
    }

    pub(super) fn hash(&self, page: u32) -> Option<u64> {
        self.get(page).hash
    }

    pub(super) fn set_hash(&mut self, page: u32, hash: u64) {
        self.get_mut(page).hash = Some(hash);
    }

    /// The pages with nodes, and when each was modified.
    pub(super) fn live(&self) -> impl Iterator<Item = (u32, Zxid)> {
        (0..)
            .zip(&self.list)
            .filter(|(_, page)| !page.members.is_empty())
            .map(|(number, page)| (number, page.modified))
    }

    /// Adds an empty page of a checkpoint. Pages may come in any order.
    pub(super) fn load(&mut self, page: u32, modified: Zxid) {
        while self.list.len() <= page as usize {
            self.grow();
        }
        self.touch(page, modified);
    }

    pub(super) fn start(&mut self, since: Option<Zxid>) {
        for (number, page) in (0..).zip(&mut self.list) {
            let is_needed = match since {
                Some(since) => page.modified > since,
                None => !page.members.is_empty(),
            };
            if is_needed {
                page.is_awaited = true;
                self.awaited.push_back(number);
            }
        }
    }

    pub(super) fn is_awaited(&self, page: u32) -> bool {
        self.list
            .get(page as usize)
            .is_some_and(|page| page.is_awaited)
    }

    pub(super) fn set_aside(&mut self, page: u32, write: PageWrite) {
        self.get_mut(page).is_awaited = false;
        self.aside.push_back(write);
    }

    pub(super) fn take_aside(&mut self) -> Option<PageWrite> {
        self.aside.pop_front()
    }

    pub(super) fn next_awaited(&mut self) -> Option<u32> {
        loop {
            let page = self.awaited.pop_front()?;
            let entry = self.get_mut(page);
            if std::mem::take(&mut entry.is_awaited) {
                return Some(page);
            }
        }
    }

    pub(super) fn end(&mut self) {
        self.aside.clear();
        while self.next_awaited().is_some() {}
    }

    fn get(&self, page: u32) -> &Page {
        &self.list[page as usize]
    }

    fn get_mut(&mut self, page: u32) -> &mut Page {
        &mut self.list[page as usize]
    }
}

fn set(pages: &mut BTreeSet<u32>, page: u32, is_member: bool) {
    if is_member {
        pages.insert(page);
    } else {
        pages.remove(&page);
    }
}
