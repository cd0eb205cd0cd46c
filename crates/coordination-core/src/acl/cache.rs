//! Lists that nodes share, each stored once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Acl, AclList};

/// A list's place in the cache. It is local to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AclId(u32);

impl AclId {
    pub(crate) fn get(self) -> u32 {
        self.0
    }
}

/// The lists of all nodes, with the number of nodes that have each.
#[derive(Debug, Default)]
pub(crate) struct AclCache {
    entries: Vec<Entry>,
    by_list: BTreeMap<AclList, AclId>,
    free: Vec<AclId>,
}

#[derive(Debug)]
struct Entry {
    list: AclList,
    bytes: u32,
    nodes: u32,
}

impl AclCache {
    /// Counts one more node with this list.
    pub(crate) fn acquire(&mut self, list: &[Acl]) -> AclId {
        if let Some(&id) = self.by_list.get(list) {
            self.entry_mut(id).nodes += 1;
            return id;
        }
        let list: AclList = list.into();
        let bytes = list.iter().map(Acl::encoded_bytes).sum::<usize>();
        let entry = Entry {
            list: Arc::clone(&list),
            bytes: u32::try_from(bytes).expect("a list comes in one request"),
            nodes: 1,
        };
        let id = match self.free.pop() {
            Some(id) => {
                *self.entry_mut(id) = entry;
                id
            }
            None => {
                let id = u32::try_from(self.entries.len()).expect("fewer lists than nodes");
                self.entries.push(entry);
                AclId(id)
            }
        };
        self.by_list.insert(list, id);
        id
    }

    /// Counts one node less. The list is forgotten with its last node.
    pub(crate) fn release(&mut self, id: AclId) {
        let entry = self.entry_mut(id);
        entry.nodes -= 1;
        if entry.nodes == 0 {
            let list = std::mem::take(&mut entry.list);
            self.by_list.remove(&list);
            self.free.push(id);
        }
    }

    pub(crate) fn get(&self, id: AclId) -> &AclList {
        &self.entries[id.0 as usize].list
    }

    /// At least the length of the list's encoding.
    pub(crate) fn bytes(&self, id: AclId) -> u32 {
        self.entries[id.0 as usize].bytes
    }

    fn entry_mut(&mut self, id: AclId) -> &mut Entry {
        &mut self.entries[id.0 as usize]
    }

    /// The number of different lists.
    pub(crate) fn len(&self) -> usize {
        self.by_list.len()
    }
}
