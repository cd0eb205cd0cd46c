//! The nodes in chunks, so that the memory grows without copying. A new node takes the lowest free
//! id: which one depends on the live nodes alone, so it is the same on a pod that loaded a
//! checkpoint.

use super::free::FreeNumbers;
use super::node::{Node, NodeId};

const CHUNK: u32 = 128;

#[derive(Debug)]
pub(super) struct Slots {
    /// `None` for chunks without nodes.
    chunks: Vec<Option<Box<Chunk>>>,
    /// Chunks with a free slot.
    roomy: FreeNumbers,
    len: u32,
    /// One more than the largest id that can be used.
    limit: u32,
}

#[derive(Debug)]
struct Chunk {
    nodes: [Option<Node>; CHUNK as usize],
    used: u128,
}

impl Slots {
    /// 2^28 nodes take over 64 GiB.
    const LIMIT: u32 = 1 << 28;

    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            roomy: FreeNumbers::all(),
            len: 0,
            limit: Self::LIMIT,
        }
    }

    #[cfg(test)]
    pub(super) fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Whether there is a free slot of this id.
    pub(super) fn is_free(&self, id: NodeId) -> bool {
        id.get() < self.limit && self.get(id).is_none()
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Node> {
        let (chunk, slot) = place(id);
        self.chunks.get(chunk)?.as_ref()?.nodes[slot].as_ref()
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        let (chunk, slot) = place(id);
        self.chunks.get_mut(chunk)?.as_mut()?.nodes[slot].as_mut()
    }

    /// The id that a new node takes.
    pub(super) fn lowest_free(&self) -> NodeId {
        let number = self.roomy.first().expect("the limit is lower");
        let chunk = self.chunks.get(number as usize).and_then(Option::as_ref);
        let slot = chunk.map_or(0, |chunk| chunk.used.trailing_ones());
        NodeId::new(number * CHUNK + slot)
    }

    /// Puts a node in a free slot.
    pub(super) fn put(&mut self, id: NodeId, node: Node) {
        assert!(self.is_free(id), "the slot is free");
        let (index, slot) = place(id);
        if self.chunks.len() <= index {
            self.chunks.resize_with(index + 1, || None);
        }
        let chunk = self.chunks[index].get_or_insert_with(|| {
            Box::new(Chunk {
                nodes: [const { None }; CHUNK as usize],
                used: 0,
            })
        });
        chunk.nodes[slot] = Some(node);
        chunk.used |= 1 << slot;
        if chunk.used == u128::MAX {
            self.roomy.remove(id.get() / CHUNK);
        }
        self.len += 1;
    }

    /// Takes a node out. The memory of a chunk is freed with its last node.
    pub(super) fn take(&mut self, id: NodeId) -> Option<Node> {
        let (index, slot) = place(id);
        let place = self.chunks.get_mut(index)?;
        let chunk = place.as_mut()?;
        let node = chunk.nodes[slot].take()?;
        chunk.used &= !(1 << slot);
        if chunk.used == 0 {
            *place = None;
        }
        self.roomy.insert(id.get() / CHUNK);
        self.len -= 1;
        Some(node)
    }

    /// The ids of all nodes, in ascending order.
    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> {
        let chunks = (0..).zip(&self.chunks);
        let chunks = chunks.filter_map(|(index, chunk)| Some((index, chunk.as_ref()?)));
        chunks.flat_map(|(index, chunk)| {
            (0..CHUNK)
                .filter(|slot| chunk.used >> slot & 1 == 1)
                .map(move |slot| NodeId::new(index * CHUNK + slot))
        })
    }
}

fn place(id: NodeId) -> (usize, usize) {
    ((id.get() / CHUNK) as usize, (id.get() % CHUNK) as usize)
}
