//! Variable-length integers, and a cursor that detects truncated input.

use bytes::{BufMut, Bytes, BytesMut};

/// Appends `value` as a protobuf varint.
pub(crate) fn put_varint(buffer: &mut BytesMut, value: u64) {
    prost::encoding::encode_varint(value, buffer);
}

/// Length of `value` as a varint, in bytes.
pub(crate) fn varint_len(value: u64) -> usize {
    prost::encoding::encoded_len_varint(value)
}

/// Appends `bytes`, preceded by their length.
pub(crate) fn put_bytes(buffer: &mut BytesMut, bytes: &[u8]) {
    put_varint(buffer, bytes.len() as u64);
    buffer.put_slice(bytes);
}

/// Reads fields from the front of a row. `None` means that the row is truncated.
pub(crate) struct Cursor {
    rest: Bytes,
}

impl Cursor {
    pub(crate) fn new(rest: Bytes) -> Self {
        Self { rest }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        let byte = *self.rest.first()?;
        bytes::Buf::advance(&mut self.rest, 1);
        Some(byte)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let bytes = self.take(8)?;
        Some(u64::from_be_bytes(<[u8; 8]>::try_from(&*bytes).ok()?))
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.u64().map(u64::cast_signed)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        prost::encoding::decode_varint(&mut self.rest).ok()
    }

    pub(crate) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    pub(crate) fn bytes(&mut self) -> Option<Bytes> {
        let length = self.length()?;
        self.take(length)
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.rest.len()).then(|| self.rest.split_to(length))
    }
}
