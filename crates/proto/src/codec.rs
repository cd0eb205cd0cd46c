//! A prost codec whose buffers fit the messages.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, EncodeBuf};
use tonic_prost::{ProstCodec, ProstDecoder};

/// The initial receive buffer of a call. It grows to the message's size.
const DECODE_BUFFER_BYTES: usize = 512;

/// The initial send buffer of a call. A larger message gets a buffer of its size at once.
const ENCODE_BUFFER_BYTES: usize = 512;

/// How much of a stream's output is collected before it is passed to HTTP/2.
const YIELD_BYTES: usize = 32 * 1024;

/// Like tonic's prost codec, with two differences. A call does not start with two buffers of 8 KiB
/// each, since most of our messages have a few hundred bytes. A large message is encoded into one
/// buffer of its size instead of one that is doubled and copied repeatedly.
#[derive(Debug, Clone, Copy)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Encoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        Encoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(DECODE_BUFFER_BYTES, YIELD_BYTES))
    }
}

/// Encodes into a buffer of the message's size.
#[derive(Debug, Clone, Copy)]
pub struct Encoder<T>(PhantomData<T>);

impl<T: Message> tonic::codec::Encoder for Encoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.reserve(item.encoded_len());
        item.encode(buf)
            .map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ENCODE_BUFFER_BYTES, YIELD_BYTES)
    }
}
