//! The bytes of a segment while the log is being recovered.

use std::io;
use std::ops::Deref;

use memmap2::MmapMut;

/// Zero bytes at first. They lie outside the heap, so that they go back to the system at once: an
/// allocator keeps what it has been given, and nothing else that a small member holds is as large
/// as a segment.
#[derive(Debug, Default)]
pub(crate) struct SegmentBuffer(Option<MmapMut>);

impl SegmentBuffer {
    /// A buffer of `len` bytes.
    ///
    /// # Errors
    /// There is no memory.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        match len {
            // The system maps no empty ranges.
            0 => Ok(Self::default()),
            len => Ok(Self(Some(MmapMut::map_anon(len)?))),
        }
    }

    /// The bytes, to be filled.
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
