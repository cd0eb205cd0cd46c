//! JSON for protobuf messages, by protobuf's JSON mapping as grpc-gateway uses it for etcd.
//!
//! A [`Schema`] is compiled from descriptors once. [`Schema::to_wire`] translates JSON text to an
//! encoded message, and a [`Writer`] translates an encoded message to JSON text. Neither builds a
//! message in memory, so their cost is one pass over the bytes, and no type has to be known when
//! this is compiled.
//!
//! What it guarantees: input that is wrong is an error and never a panic, nesting is limited, and
//! the memory used is proportional to the size of the input.
//!
//! What it never does: I/O, or support for what no contract of ours uses: maps, floating-point
//! numbers, groups, fixed-width and zigzag integers, and protobuf's well-known types. A schema
//! with such a field is an error.

mod number;
mod read;
mod schema;
mod split;
mod wire;
mod write;

pub use read::ReadError;
pub use schema::{MessageId, Method, Schema, SchemaError};
pub use split::{SplitError, Splitter};
pub use wire::WireError;
pub use write::{Writer, write_text};
