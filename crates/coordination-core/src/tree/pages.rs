//! Which node is in which page. Each rule depends on the live nodes alone, so a pod that loaded a
//! checkpoint divides the tree as the others do, and can write the next one.

use std::collections::{BTreeSet, VecDeque};

use super::free::FreeNumbers;
use super::node::NodeId;
use crate::Zxid;
use crate::page::PageWrite;

/// A page with fewer bytes takes new nodes. A larger record gets a page of its own.
const ROOMY_BYTES: u64 = 64 * 1024;
/// A node that makes its page larger than this by growing moves to another page.
const OVERFULL_BYTES: u64 = 2 * ROOMY_BYTES;

/// Pages with nearby numbers are allocated together.
const GROUP: usize = 64;

/// The pages, and the checkpoint that is being written.
#[derive(Debug)]
pub(super) struct Pages {
    /// `None` for groups without a page that ever had nodes.
    groups: Vec<Option<Box<[Page]>>>,
    /// Pages with nodes and with room for more.
    roomy: BTreeSet<u32>,
    /// Pages without nodes.
    unused: FreeNumbers,
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

impl Default for Pages {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            roomy: BTreeSet::new(),
            unused: FreeNumbers::all(),
            awaited: VecDeque::new(),
            aside: VecDeque::new(),
        }
    }
}

impl Pages {
    /// The page for a new record: the first with room, else the first unused one.
    pub(super) fn place(&mut self, bytes: u64) -> u32 {
        if bytes < ROOMY_BYTES
            && let Some(&page) = self.roomy.first()
        {
            return page;
        }
        let page = self.unused.first().expect("fewer pages than nodes");
        self.allocate(page);
        page
    }

    fn allocate(&mut self, page: u32) {
        let (group, _) = place(page);
        if self.groups.len() <= group {
            self.groups.resize_with(group + 1, || None);
        }
        let new = || (0..GROUP).map(|_| Page::default()).collect();
        self.groups[group].get_or_insert_with(new);
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
        if is_unused {
            self.unused.insert(page);
        } else {
            self.unused.remove(page);
        }
        if is_roomy && !is_unused {
            self.roomy.insert(page);
        } else {
            self.roomy.remove(&page);
        }
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
        let groups = self.groups.iter().enumerate();
        let groups = groups.filter_map(|(group, pages)| Some((group, pages.as_deref()?)));
        let pages = groups.flat_map(|(group, pages)| numbers(group).zip(pages));
        pages
            .filter(|(_, page)| !page.members.is_empty())
            .map(|(number, page)| (number, page.modified))
    }

    /// Adds an empty page of a checkpoint. Pages may come in any order.
    pub(super) fn load(&mut self, page: u32, modified: Zxid) {
        self.allocate(page);
        self.touch(page, modified);
    }

    pub(super) fn start(&mut self, since: Option<Zxid>) {
        let groups = self.groups.iter_mut().enumerate();
        let groups = groups.filter_map(|(group, pages)| Some((group, pages.as_deref_mut()?)));
        for (number, page) in groups.flat_map(|(group, pages)| numbers(group).zip(pages)) {
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
        let (group, place) = place(page);
        let group = self.groups.get(group).and_then(Option::as_deref);
        group.is_some_and(|pages| pages[place].is_awaited)
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
        let (group, place) = place(page);
        &self.groups[group].as_ref().expect("the page exists")[place]
    }

    fn get_mut(&mut self, page: u32) -> &mut Page {
        let (group, place) = place(page);
        &mut self.groups[group].as_mut().expect("the page exists")[place]
    }

    /// How many pages take memory.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.groups.iter().flatten().count() * GROUP
    }
}

fn place(page: u32) -> (usize, usize) {
    (page as usize / GROUP, page as usize % GROUP)
}

/// The numbers of a group's pages.
fn numbers(group: usize) -> impl Iterator<Item = u32> {
    let first = u32::try_from(group * GROUP).expect("pages are numbered by 32 bits");
    first..
}
