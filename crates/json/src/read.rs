//! From JSON text to an encoded message.
//!
//! As in Go's protojson: names are those of the .proto file or in lowerCamelCase; unknown names and
//! unknown names of enum values are skipped; `null` is an absent field; integers of 64 and of 32
//! bits may be text; bytes are Base64 with either alphabet, with or without padding. Text after the
//! first JSON value is ignored.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize as _;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::number;
use crate::schema::{Field, Kind, Message, MessageId, Schema};
use crate::wire::{Shape, put_length_before, put_tag, put_varint};

/// An error shows this much of a wrong value.
const SHOWN_CHARS: usize = 40;

/// Why JSON text is not a valid message.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The text ends in the middle of a value.
    #[error("unexpected end of the JSON text")]
    CutOff,
    /// It isn't JSON, or a field has a value of another type.
    #[error(transparent)]
    Invalid(serde_json::Error),
}

impl From<serde_json::Error> for ReadError {
    fn from(error: serde_json::Error) -> Self {
        match error.is_eof() {
            true => Self::CutOff,
            false => Self::Invalid(error),
        }
    }
}

impl Schema {
    /// Appends the message in `json`, encoded. Text of nothing but space is a message without
    /// fields.
    ///
    /// # Errors
    /// [`ReadError`]; `out` holds a part of the message then.
    pub fn to_wire(&self, id: MessageId, json: &[u8], out: &mut Vec<u8>) -> Result<(), ReadError> {
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        if json.iter().all(is_space) {
            return Ok(());
        }
        let mut reader = serde_json::Deserializer::from_slice(json);
        let message = MessageSeed {
            schema: self,
            id,
            out,
        };
        Ok(message.deserialize(&mut reader)?)
    }
}

/// Reads an object as a message.
struct MessageSeed<'a> {
    schema: &'a Schema,
    id: MessageId,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { schema, id, out } = self;
        let message = schema.message(id);
        let (mut seen, mut oneofs) = (0_u64, 0_u64);
        while let Some(found) = map.next_key_seed(Name(message))? {
            let Some(index) = found else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let field = &message.fields[index];
            if seen & (1 << index) != 0 {
                return Err(A::Error::custom(format_args!(
                    "duplicate field {:?}",
                    field.name
                )));
            }
            seen |= 1 << index;
            map.next_value_seed(FieldSeed {
                schema,
                field,
                oneofs: &mut oneofs,
                out: &mut *out,
            })?;
        }
        Ok(())
    }
}

/// Finds the field that a name stands for.
struct Name<'a>(&'a Message);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.named(name))
    }
}

/// Reads a field's value.
struct FieldSeed<'a> {
    schema: &'a Schema,
    field: &'a Field,
    /// The oneofs of its message that have a value.
    oneofs: &'a mut u64,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a value for field {}", self.field.name)
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self {
            schema,
            field,
            oneofs,
            out,
        } = self;
        if let Some(oneof) = field
            .oneof
            .and_then(|oneof| 1_u64.checked_shl(oneof.into()))
        {
            if *oneofs & oneof != 0 {
                return Err(D::Error::custom(format_args!(
                    "field {:?} is one of several, and another one is set",
                    field.name
                )));
            }
            *oneofs |= oneof;
        }
        let value = ValueSeed { schema, field, out };
        match (field.is_repeated, field.kind.is_varint()) {
            (false, _) => value.deserialize(deserializer),
            (true, false) => deserializer.deserialize_seq(ListVisitor(value)),
            (true, true) => {
                put_tag(field.number, Shape::Length, value.out);
                let start = value.out.len();
                let value = ValueSeed {
                    out: &mut *value.out,
                    ..value
                };
                deserializer.deserialize_seq(ListVisitor(value))?;
                put_length_before(start, out);
                Ok(())
            }
        }
    }
}

struct ListVisitor<'a>(ValueSeed<'a>);

impl<'de> Visitor<'de> for ListVisitor<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an array for field {}", self.0.field.name)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let ValueSeed { schema, field, out } = self.0;
        loop {
            let out = &mut *out;
            let item = ValueSeed { schema, field, out };
            if items.next_element_seed(item)?.is_none() {
                return Ok(());
            }
        }
    }
}

/// Reads one value of a field, and writes it with its tag; without, if it is one of a packed list.
struct ValueSeed<'a> {
    schema: &'a Schema,
    field: &'a Field,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { schema, field, out } = self;
        if let Kind::Message(id) = field.kind {
            put_tag(field.number, Shape::Length, out);
            let start = out.len();
            let out_of_message = &mut *out;
            MessageSeed {
                schema,
                id,
                out: out_of_message,
            }
            .deserialize(deserializer)?;
            put_length_before(start, out);
            return Ok(());
        }
        // The value's text: a number has to be read with all its digits.
        let text = <&RawValue>::deserialize(deserializer)?.get();
        schema.put_scalar(field, text, out).ok_or_else(|| {
            let shown: String = text.chars().take(SHOWN_CHARS).collect();
            D::Error::custom(format_args!(
                "invalid value for field {:?}: {shown}",
                field.name
            ))
        })
    }
}

impl Schema {
    /// `None` if the text is not a value of the field's type.
    fn put_scalar(&self, field: &Field, text: &str, out: &mut Vec<u8>) -> Option<()> {
        let varint = match field.kind {
            Kind::Bytes => return put_bytes(field, &Text::of(text)?, out),
            Kind::String => {
                let text = Text::of(text)?;
                let text = text.as_str().as_bytes();
                if !text.is_empty() || field.has_presence || field.is_repeated {
                    put_tag(field.number, Shape::Length, out);
                    put_varint(text.len() as u64, out);
                    out.extend_from_slice(text);
                }
                return Some(());
            }
            Kind::Message(_) => return None,
            Kind::Bool => match text {
                "true" => 1,
                "false" => 0,
                _ => return None,
            },
            Kind::Int32 => signed(i32::try_from(integer(text)?).ok()?.into()),
            Kind::Int64 => signed(integer(text)?.try_into().ok()?),
            Kind::Uint32 => u32::try_from(integer(text)?).ok()?.into(),
            Kind::Uint64 => integer(text)?.try_into().ok()?,
            Kind::Enum(kind) => match Text::of(text) {
                None => signed(i32::try_from(number::whole(text)?).ok()?.into()),
                Some(name) => match self.value_number(kind, name.as_str()) {
                    Some(number) => signed(number.into()),
                    None => return Some(()),
                },
            },
        };
        if field.is_repeated {
            put_varint(varint, out);
        } else if varint != 0 || field.has_presence {
            put_tag(field.number, Shape::Varint, out);
            put_varint(varint, out);
        }
        Some(())
    }
}

/// A negative number has ten bytes on the wire, even one of 32 bits.
fn signed(value: i64) -> u64 {
    u64::from_ne_bytes(value.to_ne_bytes())
}

/// A number, or text that is one.
fn integer(text: &str) -> Option<i128> {
    match Text::of(text) {
        Some(quoted) => number::whole(quoted.as_str()),
        None => number::whole(text),
    }
}

/// A JSON string's content.
enum Text<'a> {
    AsItIs(&'a str),
    Unescaped(String),
}

impl<'a> Text<'a> {
    /// `None` if the value is not a string, or has an unpaired surrogate escape.
    fn of(value: &'a str) -> Option<Self> {
        let content = value.strip_prefix('"')?.strip_suffix('"')?;
        match content.contains('\\') {
            false => Some(Self::AsItIs(content)),
            true => serde_json::from_str(value).ok().map(Self::Unescaped),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::AsItIs(text) => text,
            Self::Unescaped(text) => text,
        }
    }
}

const fn base64(alphabet: &alphabet::Alphabet, padding: DecodePaddingMode) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(padding);
    GeneralPurpose::new(alphabet, config)
}

const STANDARD: GeneralPurpose = base64(&alphabet::STANDARD, DecodePaddingMode::RequireCanonical);
const STANDARD_BARE: GeneralPurpose = base64(&alphabet::STANDARD, DecodePaddingMode::RequireNone);
const URL_SAFE: GeneralPurpose = base64(&alphabet::URL_SAFE, DecodePaddingMode::RequireCanonical);
const URL_SAFE_BARE: GeneralPurpose = base64(&alphabet::URL_SAFE, DecodePaddingMode::RequireNone);

/// Decodes Base64 directly into the message. As in Go, line breaks are skipped, but they count in
/// the length that decides whether padding is expected.
fn put_bytes(field: &Field, text: &Text<'_>, out: &mut Vec<u8>) -> Option<()> {
    let text = text.as_str();
    let engine = match (text.contains(['-', '_']), text.len() % 4) {
        (false, 0) => &STANDARD,
        (false, _) => &STANDARD_BARE,
        (true, 0) => &URL_SAFE,
        (true, _) => &URL_SAFE_BARE,
    };
    let unbroken: String;
    let text = match text.contains(['\r', '\n']) {
        false => text,
        true => {
            unbroken = text.replace(['\r', '\n'], "");
            &unbroken
        }
    };
    let length = text.trim_end_matches('=').len() * 3 / 4;
    if length == 0 && text.is_empty() && !field.has_presence && !field.is_repeated {
        return Some(());
    }
    put_tag(field.number, Shape::Length, out);
    put_varint(length as u64, out);
    let start = out.len();
    out.resize(start + length, 0);
    let written = engine.decode_slice(text, &mut out[start..]).ok()?;
    (written == length).then_some(())
}
