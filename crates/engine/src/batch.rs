//! Rows that are written together.

use bytes::Bytes;

use crate::Space;

/// One change of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchOp {
    /// Where the row lives.
    pub space: Space,
    /// The row's key; never empty.
    pub key: Bytes,
    /// The new value, or nothing: the row goes away.
    pub value: Option<Bytes>,
}

/// Changes that become visible and durable together, across spaces. Of two changes to one row the
/// later wins.
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

    /// Writes a row. The buffers are kept by the engine as they are, so they should not be slices
    /// of something much larger.
    pub fn put(&mut self, space: Space, key: Bytes, value: Bytes) {
        self.bytes += key.len() + value.len();
        self.ops.push(BatchOp {
            space,
            key,
            value: Some(value),
        });
    }

    /// Removes a row; one that doesn't exist is no error.
    pub fn delete(&mut self, space: Space, key: Bytes) {
        self.bytes += key.len();
        self.ops.push(BatchOp {
            space,
            key,
            value: None,
        });
    }

    /// How many changes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is no change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of keys and values.
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
