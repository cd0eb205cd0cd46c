//! Batches of row changes that are applied atomically.

use bytes::Bytes;

use crate::Space;

/// One change of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchOp {
    /// The row's space.
    pub space: Space,
    /// The row's key; never empty.
    pub key: Bytes,
    /// The new value; `None` deletes the row.
    pub value: Option<Bytes>,
}

/// Changes that become visible and durable together, across spaces. If a batch changes a row twice,
/// the later change wins.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    ops: Vec<BatchOp>,
    bytes: usize,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `ops` changes.
    #[must_use]
    pub fn with_capacity(ops: usize) -> Self {
        Self {
            ops: Vec::with_capacity(ops),
            bytes: 0,
        }
    }

    /// Writes a row. The engine keeps the buffers, so they should not be slices of much larger
    /// ones.
    pub fn put(&mut self, space: Space, key: Bytes, value: Bytes) {
        self.bytes += key.len() + value.len();
        self.ops.push(BatchOp {
            space,
            key,
            value: Some(value),
        });
    }

    /// Deletes a row. Deleting a row that doesn't exist is not an error.
    pub fn delete(&mut self, space: Space, key: Bytes) {
        self.bytes += key.len();
        self.ops.push(BatchOp {
            space,
            key,
            value: None,
        });
    }

    /// The number of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether the batch has no changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The size of all keys and values, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The changes in order.
    #[must_use]
    pub fn into_ops(self) -> Vec<BatchOp> {
        self.ops
    }

    /// The changes in order.
    #[must_use]
    pub fn ops(&self) -> &[BatchOp] {
        &self.ops
    }
}
