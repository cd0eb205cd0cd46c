//! Protobuf's wire format: tags, varints and lengths.

use thiserror::Error;

/// The most bytes of a varint.
const MAX_VARINT_BYTES: usize = 10;

/// Why bytes are not a valid message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// It ends in the middle of something.
    #[error("the message is cut off")]
    CutOff,
    /// A varint that is longer than one of 64 bits.
    #[error("the message has a varint of more than 64 bits")]
    LongVarint,
    /// A tag that no field can have, or one of a group.
    #[error("the message has the invalid tag {0}")]
    Tag(u64),
    /// A field whose wire type is not that of its type.
    #[error("field {0} has another wire type than its type")]
    WireType(u32),
    /// Messages within messages.
    #[error("the message is nested too deep")]
    TooDeep,
    /// A field in several places of its message, or a single one with several values.
    #[error("field {0} comes twice")]
    Again(u32),
    /// Text that isn't UTF-8.
    #[error("field {0} is not UTF-8")]
    NotText(u32),
}

/// What a field's value is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
    Fixed32 = 5,
}

pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

fn low_bits(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

pub(crate) fn put_tag(field: u32, shape: Shape, out: &mut Vec<u8>) {
    put_varint(u64::from(field) << 3 | shape as u64, out);
}

/// Puts the length of what was written since `start` before it.
pub(crate) fn put_length_before(start: usize, out: &mut Vec<u8>) {
    let length = out.len() - start;
    put_varint(length as u64, out);
    let prefix = out.len() - start - length;
    out[start..].rotate_right(prefix);
}

/// Reads a message from its front. Positions count from the message's first byte.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A field that was found: where its value is, without the length before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) number: u32,
    pub(crate) shape: Shape,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Begins at a position that another reader of the bytes had.
    pub(crate) fn at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for index in 0..MAX_VARINT_BYTES {
            let byte = *self.bytes.get(self.at).ok_or(WireError::CutOff)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                // The tenth byte has room for one bit.
                let fits = index + 1 < MAX_VARINT_BYTES || byte <= 1;
                return fits.then_some(value).ok_or(WireError::LongVarint);
            }
        }
        Err(WireError::LongVarint)
    }

    pub(crate) fn field(&mut self) -> Result<Option<Found>, WireError> {
        if self.is_at_end() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let invalid = || WireError::Tag(tag);
        let number = u32::try_from(tag >> 3).map_err(|_| invalid())?;
        let shape = match tag & 7 {
            0 => Shape::Varint,
            1 => Shape::Fixed64,
            2 => Shape::Length,
            5 => Shape::Fixed32,
            _ => return Err(invalid()),
        };
        if number == 0 {
            return Err(invalid());
        }
        let start = self.at;
        let (start, length) = match shape {
            Shape::Varint => {
                self.varint()?;
                (start, self.at - start)
            }
            Shape::Fixed64 => (start, 8),
            Shape::Fixed32 => (start, 4),
            Shape::Length => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| WireError::CutOff)?;
                (self.at, length)
            }
        };
        let end = start.checked_add(length).ok_or(WireError::CutOff)?;
        if end > self.bytes.len() {
            return Err(WireError::CutOff);
        }
        self.at = end;
        Ok(Some(Found {
            number,
            shape,
            start,
            end,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_protobufs() {
        for (value, bytes) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (
                u64::MAX,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            ),
        ] {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(Reader::new(bytes).varint(), Ok(value));
        }
        assert_eq!(Reader::new(&[0x80]).varint(), Err(WireError::CutOff));
        let eleven = [0xff; 11];
        assert_eq!(Reader::new(&eleven).varint(), Err(WireError::LongVarint));
        let mut too_large = [0xff; 10];
        too_large[9] = 2;
        assert_eq!(Reader::new(&too_large).varint(), Err(WireError::LongVarint));
    }

    #[test]
    fn a_length_goes_before_what_was_written() {
        for length in [0, 1, 127, 128, 20_000] {
            let mut out = b"before".to_vec();
            out.resize(6 + length, b'x');
            put_length_before(6, &mut out);
            let mut expected = b"before".to_vec();
            put_varint(length as u64, &mut expected);
            expected.resize(expected.len() + length, b'x');
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn broken_messages_are_errors() {
        for (bytes, error) in [
            (&[0x0a][..], WireError::CutOff),
            (&[0x0a, 2, 0], WireError::CutOff),
            (&[0x08], WireError::CutOff),
            (&[0x09, 1, 2], WireError::CutOff),
            (&[0x0d, 1], WireError::CutOff),
            (&[0x0b], WireError::Tag(0x0b)),
            (&[0x00, 0x00], WireError::Tag(0)),
            (
                &[
                    0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
                ],
                WireError::CutOff,
            ),
        ] {
            assert_eq!(Reader::new(bytes).field(), Err(error), "{bytes:?}");
        }
        assert_eq!(Reader::new(&[]).field(), Ok(None));
    }
}
