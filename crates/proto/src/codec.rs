//! The prost codec with buffers that fit small unary messages.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::BufferSettings;
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// The first allocation of a call for what it receives; it grows to the message's size.
pub const DECODE_BUFFER_BYTES: usize = 512;

/// The first allocation of a call for what it sends; it grows to the message's size.
pub const ENCODE_BUFFER_BYTES: usize = 512;

/// How much of a stream's output is gathered before it is handed to HTTP/2.
const YIELD_BYTES: usize = 32 * 1024;

/// tonic's prost codec, except that a call does not start with two buffers of 8 KiB each: most of our
/// messages are a few hundred bytes.
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
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(ENCODE_BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(DECODE_BUFFER_BYTES, YIELD_BYTES))
    }
}
