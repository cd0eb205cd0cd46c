//! From an encoded message to JSON text.
//!
//! As Go's protojson writes it for etcd: names are those of the .proto file, absent fields and
//! defaults are left out, 64-bit integers are text, bytes are Base64, enums are names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::schema::{Field, Kind, MessageId, Schema};
use crate::wire::{Found, Reader, Shape, WireError};

/// As deep as prost decodes messages within messages.
const MAX_DEPTH: usize = 100;

/// Translates a message piece by piece, so that the JSON of a large one is never in memory as a
/// whole. A piece has at least one of the message's fields.
#[derive(Clone, Debug)]
pub struct Writer {
    id: MessageId,
    wire: Bytes,
    progress: Progress,
}

/// How far a message is written.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// How many bytes of the message were read.
    at: usize,
    /// The fields that were written.
    seen: u64,
    /// The repeated field whose array is not closed.
    open: Option<usize>,
    has_begun: bool,
    has_fields: bool,
}

impl Writer {
    /// Writes `wire`, an encoded message of type `id`.
    #[must_use]
    pub fn new(id: MessageId, wire: Bytes) -> Self {
        Self {
            id,
            wire,
            progress: Progress::default(),
        }
    }

    /// Appends text until `out` has `enough` bytes or more. Returns whether the message is
    /// complete.
    ///
    /// # Errors
    /// [`WireError`]. A message whose encoder writes a field in several places is one too.
    pub fn write(
        &mut self,
        schema: &Schema,
        enough: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, WireError> {
        let Self { id, wire, progress } = self;
        while progress.step(schema, *id, wire, MAX_DEPTH, out)? {
            if out.len() >= enough {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Appends a JSON string.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    // Writing to memory does not fail, and text has no error.
    let _never_fails = serde_json::to_writer(out, text);
}

impl Progress {
    /// Writes the next field. `false`: the message is complete.
    fn step(
        &mut self,
        schema: &Schema,
        id: MessageId,
        wire: &[u8],
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, WireError> {
        if !self.has_begun {
            self.has_begun = true;
            out.push(b'{');
        }
        let message = schema.message(id);
        let mut reader = Reader::at(wire, self.at);
        let Some(found) = reader.field()? else {
            self.close_array(out);
            out.push(b'}');
            return Ok(false);
        };
        self.at = reader.position();
        let Some(index) = message.numbered(found.number) else {
            return Ok(true);
        };
        let field = &message.fields[index];
        let value = Value {
            schema,
            field,
            found,
            bytes: &wire[found.start..found.end],
            depth,
        };
        if value.is_left_out()? {
            return Ok(true);
        }
        if self.open == Some(index) {
            out.push(b',');
        } else {
            self.begin(index, field, out)?;
        }
        value.write(out)?;
        Ok(true)
    }

    /// Writes the field's name.
    fn begin(&mut self, index: usize, field: &Field, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.close_array(out);
        if self.seen & (1 << index) != 0 {
            return Err(WireError::Again(field.number));
        }
        self.seen |= 1 << index;
        if std::mem::replace(&mut self.has_fields, true) {
            out.push(b',');
        }
        // Names of fields have nothing to escape.
        out.push(b'"');
        out.extend_from_slice(field.name.as_bytes());
        out.extend_from_slice(b"\":");
        if field.is_repeated {
            out.push(b'[');
            self.open = Some(index);
        }
        Ok(())
    }

    fn close_array(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            out.push(b']');
        }
    }
}

/// A value of a field, or several of a packed list.
struct Value<'a> {
    schema: &'a Schema,
    field: &'a Field,
    found: Found,
    bytes: &'a [u8],
    /// How deep messages may be below this one.
    depth: usize,
}

impl Value<'_> {
    /// Whether the value is a default, which an absent field has too, or an empty packed list.
    fn is_left_out(&self) -> Result<bool, WireError> {
        Ok(match self.found.shape {
            _ if self.field.has_presence => false,
            Shape::Varint => !self.field.is_repeated && Reader::new(self.bytes).varint()? == 0,
            Shape::Length => self.bytes.is_empty() && (!self.field.is_repeated || self.is_packed()),
            Shape::Fixed32 | Shape::Fixed64 => false,
        })
    }

    fn is_packed(&self) -> bool {
        self.field.is_repeated && self.field.kind.is_varint() && self.found.shape == Shape::Length
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let number = self.field.number;
        let expected = match self.field.kind.is_varint() && !self.is_packed() {
            true => Shape::Varint,
            false => Shape::Length,
        };
        if self.found.shape != expected {
            return Err(WireError::WireType(number));
        }
        match self.field.kind {
            Kind::Bytes => write_base64(self.bytes, out),
            Kind::String => {
                let text = std::str::from_utf8(self.bytes);
                write_text(text.map_err(|_| WireError::NotText(number))?, out);
            }
            Kind::Message(id) => {
                let depth = self.depth.checked_sub(1).ok_or(WireError::TooDeep)?;
                let mut progress = Progress::default();
                while progress.step(self.schema, id, self.bytes, depth, out)? {}
            }
            Kind::Bool
            | Kind::Int32
            | Kind::Int64
            | Kind::Uint32
            | Kind::Uint64
            | Kind::Enum(_) => {
                let mut reader = Reader::new(self.bytes);
                self.write_varint(reader.varint()?, out);
                while !reader.is_at_end() {
                    out.push(b',');
                    self.write_varint(reader.varint()?, out);
                }
            }
        }
        Ok(())
    }

    fn write_varint(&self, varint: u64, out: &mut Vec<u8>) {
        // As in C++ and Go, a 32-bit value is the lower half of the varint.
        let [a, b, c, d, ..] = varint.to_le_bytes();
        let half = [a, b, c, d];
        match self.field.kind {
            Kind::Bool => put(out, format_args!("{}", varint != 0)),
            Kind::Int32 => put(out, format_args!("{}", i32::from_le_bytes(half))),
            Kind::Uint32 => put(out, format_args!("{}", u32::from_le_bytes(half))),
            Kind::Int64 => {
                let value = i64::from_le_bytes(varint.to_le_bytes());
                put(out, format_args!("\"{value}\""));
            }
            Kind::Uint64 => put(out, format_args!("\"{varint}\"")),
            Kind::Enum(kind) => {
                let value = i32::from_le_bytes(half);
                match self.schema.value_name(kind, value) {
                    Some(name) => put(out, format_args!("\"{name}\"")),
                    None => put(out, format_args!("{value}")),
                }
            }
            Kind::String | Kind::Bytes | Kind::Message(_) => {}
        }
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _never_fails = std::io::Write::write_fmt(out, text);
}

fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The room is exactly what it needs.
    let _never_fails = STANDARD.encode_slice(bytes, &mut out[start..]);
    out.push(b'"');
}
