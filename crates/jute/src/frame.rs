//! Frames: a length of four bytes, then as many bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::FrameError;
use crate::message::RequestHeader;
use crate::word::FourLetterWord;

/// The largest frame that ZooKeeper accepts unless `jute.maxbuffer` is set.
pub const DEFAULT_MAX_FRAME: usize = 0xf_ffff;

/// The length of a frame's length.
const LENGTH_LEN: usize = 4;

/// The length of the header that is shown of a frame that is too large.
const HEADER_LEN: usize = 8;

/// A frame of at most so many times the limit is skipped.
const SKIPPED_LIMITS: usize = 64;

/// Finds frames in the bytes of a connection as they arrive.
///
/// It keeps the bytes of the current frame, and reserves nothing for those that have not arrived.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    limit: usize,
    /// The bytes to drop before the next frame.
    skip: usize,
}

impl FrameDecoder {
    /// A decoder at the start of a connection. `limit` is the largest frame in bytes, without its
    /// length; values over 31 bits have no effect.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            limit,
            skip: 0,
        }
    }

    /// The buffer to append received bytes to. Don't remove any.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The four-letter word at the start of the connection, if there is one. To be called before
    /// the first frame is taken: later the same bytes are a length.
    #[must_use]
    pub fn leading_word(&self) -> Option<FourLetterWord> {
        let word = self.buffer.first_chunk::<LENGTH_LEN>()?;
        FourLetterWord::from_bytes(*word)
    }

    /// Takes the next frame, without its length. `None` if it hasn't arrived completely.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] once the first bytes of such a frame have arrived; the next call
    /// goes on behind that frame. [`FrameError::FarTooLarge`] and [`FrameError::NegativeLength`],
    /// after which nothing can be read.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let dropped = self.skip.min(self.buffer.len());
        self.buffer.advance(dropped);
        self.skip -= dropped;
        let Some(prefix) = self.buffer.first_chunk::<LENGTH_LEN>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*prefix);
        let length = usize::try_from(length).map_err(|_| FrameError::NegativeLength(length))?;
        if length > self.limit {
            return self.refuse(length);
        }
        if self.buffer.len() - LENGTH_LEN < length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_LEN);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Refuses a frame that is too large as soon as its header can be shown.
    fn refuse(&mut self, length: usize) -> Result<Option<Bytes>, FrameError> {
        let limit = self.limit;
        if length / SKIPPED_LIMITS > limit {
            return Err(FrameError::FarTooLarge { length, limit });
        }
        let shown = HEADER_LEN.min(length);
        if self.buffer.len() < LENGTH_LEN + shown {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_LEN);
        let mut start = [0; HEADER_LEN];
        start[..shown].copy_from_slice(&self.buffer[..shown]);
        self.skip = length;
        Err(FrameError::TooLarge {
            length,
            limit,
            header: RequestHeader::from_bytes(start),
        })
    }
}

/// Appends a frame with what `fill` writes.
///
/// # Errors
/// The frame is too long for its length field; `out` is then as before.
pub fn frame(out: &mut BytesMut, fill: impl FnOnce(&mut BytesMut)) -> Result<(), FrameError> {
    let start = out.len();
    out.put_i32(0);
    fill(out);
    let length = out.len() - start - LENGTH_LEN;
    let Ok(field) = i32::try_from(length) else {
        out.truncate(start);
        return Err(FrameError::Unencodable(length));
    };
    out[start..start + LENGTH_LEN].copy_from_slice(&field.to_be_bytes());
    Ok(())
}
