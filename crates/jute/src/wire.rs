//! The primitives of the encoding: numbers are big-endian; strings, buffers and vectors follow
//! their length, and null has the length -1.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use crate::error::DecodeError;

/// What a decoded element may occupy in memory, as a multiple of its least encoded length. This
/// bounds what a frame can make us allocate.
const MAX_EXPANSION: usize = 8;

/// The length that stands for null.
const NULL: i32 = -1;

/// A value that can be written.
pub trait Encode {
    /// Appends the value.
    fn encode(&self, out: &mut BytesMut);

    /// The number of bytes that [`Encode::encode`] appends.
    fn encoded_len(&self) -> usize;
}

/// A value that can be read.
pub trait Decode: Sized {
    /// The least number of bytes that a value occupies.
    const MIN_LEN: usize;

    /// Takes the value from the front of `from`. Strings and buffers share its memory.
    ///
    /// # Errors
    /// The bytes are not such a value. How many bytes were taken is then unspecified.
    fn decode(from: &mut Bytes) -> Result<Self, DecodeError>;
}

/// Fails unless `needed` bytes are left.
fn require(from: &Bytes, needed: usize) -> Result<(), DecodeError> {
    let left = from.len();
    if left < needed {
        return Err(DecodeError::Truncated { needed, left });
    }
    Ok(())
}

/// Reads a length; `None` for null.
fn decode_len(from: &mut Bytes) -> Result<Option<usize>, DecodeError> {
    match i32::decode(from)? {
        NULL => Ok(None),
        length => usize::try_from(length)
            .map(Some)
            .map_err(|_| DecodeError::NegativeLength(length)),
    }
}

/// Writes a length. A length over 31 bits is cut; [`crate::frame`] refuses the frame that contains
/// it.
fn encode_len(len: usize, out: &mut BytesMut) {
    out.put_i32(i32::try_from(len).unwrap_or(i32::MAX));
}

/// Numbers of a fixed width.
macro_rules! number {
    ($type:ty, $len:literal, $get:ident, $put:ident) => {
        impl Encode for $type {
            fn encode(&self, out: &mut BytesMut) {
                out.$put(*self);
            }

            fn encoded_len(&self) -> usize {
                $len
            }
        }

        impl Decode for $type {
            const MIN_LEN: usize = $len;

            fn decode(from: &mut Bytes) -> Result<Self, DecodeError> {
                require(from, $len)?;
                Ok(from.$get())
            }
        }
    };
}

number!(i32, 4, get_i32, put_i32);
number!(i64, 8, get_i64, put_i64);

impl Encode for bool {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }

    fn encoded_len(&self) -> usize {
        1
    }
}

impl Decode for bool {
    const MIN_LEN: usize = 1;

    /// Any byte but zero is true, as in Java's data streams.
    fn decode(from: &mut Bytes) -> Result<Self, DecodeError> {
        require(from, 1)?;
        Ok(from.get_u8() != 0)
    }
}

/// Types that can be null. As a field they must not be; as an `Option` they may.
macro_rules! nullable {
    ($({$($generic:ident)?} $type:ty),+) => {$(
        impl $(<$generic: Encode>)? Encode for Option<$type> {
            fn encode(&self, out: &mut BytesMut) {
                match self {
                    Some(value) => value.encode(out),
                    None => out.put_i32(NULL),
                }
            }

            fn encoded_len(&self) -> usize {
                self.as_ref().map_or(4, Encode::encoded_len)
            }
        }

        impl $(<$generic: Decode>)? Decode for $type {
            const MIN_LEN: usize = 4;

            fn decode(from: &mut Bytes) -> Result<Self, DecodeError> {
                Option::<Self>::decode(from)?.ok_or(DecodeError::Null)
            }
        }
    )+};
}

nullable!({} Bytes, {} ByteString, {T} Vec<T>);

impl Encode for Bytes {
    fn encode(&self, out: &mut BytesMut) {
        encode_len(self.len(), out);
        out.put_slice(self);
    }

    fn encoded_len(&self) -> usize {
        4 + self.len()
    }
}

impl Decode for Option<Bytes> {
    const MIN_LEN: usize = 4;

    fn decode(from: &mut Bytes) -> Result<Self, DecodeError> {
        let Some(len) = decode_len(from)? else {
            return Ok(None);
        };
        require(from, len)?;
        Ok(Some(from.split_to(len)))
    }
}

impl Encode for ByteString {
    fn encode(&self, out: &mut BytesMut) {
        encode_len(self.len(), out);
        out.put_slice(self.as_bytes());
    }

    fn encoded_len(&self) -> usize {
        4 + self.len()
    }
}

impl Decode for Option<ByteString> {
    const MIN_LEN: usize = 4;

    fn decode(from: &mut Bytes) -> Result<Self, DecodeError> {
        let Some(bytes) = Option::<Bytes>::decode(from)? else {
            return Ok(None);
        };
        let text = ByteString::try_from(bytes).map_err(|_| DecodeError::NotUtf8)?;
        Ok(Some(text))
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut BytesMut) {
        encode_len(self.len(), out);
        for element in self {
            element.encode(out);
        }
    }

    fn encoded_len(&self) -> usize {
        4 + self.iter().map(Encode::encoded_len).sum::<usize>()
    }
}

impl<T: Decode> Decode for Option<Vec<T>> {
    const MIN_LEN: usize = 4;

    /// The claimed number of elements is checked against the bytes left before memory is reserved.
    fn decode(from: &mut Bytes) -> Result<Self, DecodeError> {
        const { assert!(size_of::<T>() <= MAX_EXPANSION * T::MIN_LEN) }
        let Some(len) = decode_len(from)? else {
            return Ok(None);
        };
        require(from, len.saturating_mul(T::MIN_LEN))?;
        let mut elements = Vec::with_capacity(len);
        for _ in 0..len {
            elements.push(T::decode(from)?);
        }
        Ok(Some(elements))
    }
}
