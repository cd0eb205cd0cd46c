//! Implements the generated service traits: decode, one domain call, encode.

pub(crate) mod pods;
