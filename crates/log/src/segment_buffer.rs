//! The buffer for a segment during recovery.

use std::io;
use std::ops::Deref;

use memmap2::MmapMut;

/// A zeroed buffer outside the heap, so that its memory returns to the system at once. An allocator
/// would keep it, and a small member holds nothing else as large as a segment.
#[derive(Debug, Default)]
pub(crate) struct SegmentBuffer(Option<MmapMut>);

impl SegmentBuffer {
    /// Allocates a buffer of `len` bytes.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        match len {
            // The system can't map an empty range.
            0 => Ok(Self::default()),
            len => Ok(Self(Some(MmapMut::map_anon(len)?))),
        }
    }

    /// The writable bytes.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
}

impl Deref for SegmentBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}
