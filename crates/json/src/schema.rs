//! The content of descriptors, in the form that the translation needs.

use std::collections::{BTreeMap, HashMap};

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use thiserror::Error;

/// The maximum number of fields of a message: the set of the fields that were read is a 64-bit
/// mask.
const MAX_FIELDS: usize = 64;

/// Why there is no schema.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// The descriptors are not protobuf.
    #[error("the descriptors are broken: {0}")]
    Broken(#[from] prost::DecodeError),
    /// A method, message or enum that the descriptors do not have.
    #[error("the descriptors have no {0}")]
    Missing(String),
    /// A field of a type that has no JSON here.
    #[error("{field} has a type without a JSON mapping: {why}")]
    Unsupported {
        /// Its full name.
        field: String,
        /// What is not supported.
        why: &'static str,
    },
}

/// A message type of a [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId(pub(crate) usize);

/// A method of a gRPC service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// The type of its requests.
    pub input: MessageId,
    /// The type of its responses.
    pub output: MessageId,
    /// Whether it takes several requests.
    pub streams_requests: bool,
    /// Whether it answers with several responses.
    pub streams_responses: bool,
}

/// The messages that some methods use.
#[derive(Debug)]
pub struct Schema {
    methods: HashMap<String, Method>,
    messages: Vec<Message>,
    enums: Vec<Enum>,
}

/// Its fields are ordered by number.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    /// The name in the .proto file, which is also the name in JSON that is written.
    pub(crate) name: String,
    /// The name in lowerCamelCase, which is accepted too.
    json_name: String,
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) is_repeated: bool,
    /// Whether the field's absence and its default differ.
    pub(crate) has_presence: bool,
    /// The number of its oneof within the message.
    pub(crate) oneof: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Enum(usize),
    String,
    Bytes,
    Message(MessageId),
}

impl Kind {
    /// Whether a value is a varint. Lists of such values are packed.
    pub(crate) fn is_varint(self) -> bool {
        match self {
            Self::Bool
            | Self::Int32
            | Self::Int64
            | Self::Uint32
            | Self::Uint64
            | Self::Enum(_) => true,
            Self::String | Self::Bytes | Self::Message(_) => false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Enum {
    values: Vec<(String, i32)>,
}

impl Schema {
    /// Compiles what the methods of `paths` use, for instance `/etcdserverpb.KV/Put`.
    /// `descriptors` is an encoded `google.protobuf.FileDescriptorSet`.
    ///
    /// # Errors
    /// [`SchemaError`].
    pub fn new<'a>(
        descriptors: &[u8],
        paths: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, SchemaError> {
        let set = FileDescriptorSet::decode(descriptors)?;
        let index = Index::new(&set);
        let mut compiler = Compiler {
            index: &index,
            schema: Self {
                methods: HashMap::new(),
                messages: Vec::new(),
                enums: Vec::new(),
            },
            messages: HashMap::new(),
            enums: HashMap::new(),
        };
        for path in paths {
            compiler.method(path)?;
        }
        Ok(compiler.schema)
    }

    /// The method with this path, if it was compiled.
    #[must_use]
    pub fn method(&self, path: &str) -> Option<Method> {
        self.methods.get(path).copied()
    }

    pub(crate) fn message(&self, id: MessageId) -> &Message {
        &self.messages[id.0]
    }

    pub(crate) fn value_name(&self, kind: usize, number: i32) -> Option<&str> {
        let values = &self.enums[kind].values;
        let found = values.iter().find(|(_, value)| *value == number);
        found.map(|(name, _)| name.as_str())
    }

    pub(crate) fn value_number(&self, kind: usize, name: &str) -> Option<i32> {
        let values = &self.enums[kind].values;
        let found = values.iter().find(|(value, _)| value == name);
        found.map(|(_, number)| *number)
    }
}

impl Message {
    /// The position of the field with this name. Messages are small: a scan beats a hash.
    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        self.fields
            .iter()
            .position(|field| field.json_name == name || field.name == name)
    }

    pub(crate) fn numbered(&self, number: u32) -> Option<usize> {
        self.fields
            .binary_search_by_key(&number, |field| field.number)
            .ok()
    }
}

/// Everything in the descriptors, by full name.
struct Index<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
    methods: BTreeMap<String, &'a MethodDescriptorProto>,
}

impl<'a> Index<'a> {
    fn new(set: &'a FileDescriptorSet) -> Self {
        let mut index = Self {
            messages: BTreeMap::new(),
            enums: BTreeMap::new(),
            methods: BTreeMap::new(),
        };
        for file in &set.file {
            let package = format!(".{}", file.package());
            index.add(&package, &file.message_type, &file.enum_type);
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    index.methods.insert(path, method);
                }
            }
        }
        index
    }

    fn add(
        &mut self,
        scope: &str,
        messages: &'a [DescriptorProto],
        enums: &'a [EnumDescriptorProto],
    ) {
        for item in enums {
            self.enums.insert(format!("{scope}.{}", item.name()), item);
        }
        for message in messages {
            let name = format!("{scope}.{}", message.name());
            self.add(&name, &message.nested_type, &message.enum_type);
            self.messages.insert(name, message);
        }
    }
}

struct Compiler<'a> {
    index: &'a Index<'a>,
    schema: Schema,
    messages: HashMap<String, MessageId>,
    enums: HashMap<String, usize>,
}

impl Compiler<'_> {
    fn method(&mut self, path: &str) -> Result<(), SchemaError> {
        let missing = || SchemaError::Missing(format!("method {path}"));
        let method = *self.index.methods.get(path).ok_or_else(missing)?;
        let compiled = Method {
            input: self.message(method.input_type())?,
            output: self.message(method.output_type())?,
            streams_requests: method.client_streaming(),
            streams_responses: method.server_streaming(),
        };
        self.schema.methods.insert(path.to_owned(), compiled);
        Ok(())
    }

    fn message(&mut self, name: &str) -> Result<MessageId, SchemaError> {
        if let Some(id) = self.messages.get(name) {
            return Ok(*id);
        }
        let missing = || SchemaError::Missing(format!("message {name}"));
        let descriptor = *self.index.messages.get(name).ok_or_else(missing)?;
        // A message may contain itself, so it has its id before its fields are known.
        let id = MessageId(self.schema.messages.len());
        self.schema.messages.push(Message::default());
        self.messages.insert(name.to_owned(), id);
        let mut fields = Vec::with_capacity(descriptor.field.len());
        for field in &descriptor.field {
            fields.push(self.field(name, field)?);
        }
        if fields.len() > MAX_FIELDS {
            return Err(SchemaError::Unsupported {
                field: name.to_owned(),
                why: "it has more than 64 fields",
            });
        }
        fields.sort_by_key(|field| field.number);
        self.schema.messages[id.0].fields = fields;
        Ok(id)
    }

    fn field(&mut self, scope: &str, field: &FieldDescriptorProto) -> Result<Field, SchemaError> {
        let unsupported = |why| SchemaError::Unsupported {
            field: format!("{scope}.{}", field.name()),
            why,
        };
        let kind = match field.r#type() {
            Type::Bool => Kind::Bool,
            Type::Int32 => Kind::Int32,
            Type::Int64 => Kind::Int64,
            Type::Uint32 => Kind::Uint32,
            Type::Uint64 => Kind::Uint64,
            Type::String => Kind::String,
            Type::Bytes => Kind::Bytes,
            Type::Enum => Kind::Enum(self.enumeration(field.type_name())?),
            Type::Message => {
                let name = field.type_name();
                let descriptor = self.index.messages.get(name);
                let options = descriptor.and_then(|message| message.options.as_ref());
                if options.is_some_and(prost_types::MessageOptions::map_entry) {
                    return Err(unsupported("a map"));
                }
                if name.starts_with(".google.protobuf.") {
                    return Err(unsupported("a well-known type"));
                }
                Kind::Message(self.message(name)?)
            }
            Type::Group => return Err(unsupported("a group")),
            Type::Double | Type::Float => return Err(unsupported("a floating-point number")),
            Type::Fixed32
            | Type::Fixed64
            | Type::Sfixed32
            | Type::Sfixed64
            | Type::Sint32
            | Type::Sint64 => return Err(unsupported("an integer that is no plain varint")),
        };
        let number = u32::try_from(field.number()).map_err(|_| unsupported("a bad number"))?;
        let is_repeated = field.label() == Label::Repeated;
        let oneof = field.oneof_index.map(u8::try_from);
        let oneof = oneof.transpose().map_err(|_| unsupported("a bad oneof"))?;
        Ok(Field {
            name: field.name().to_owned(),
            json_name: field.json_name().to_owned(),
            number,
            kind,
            is_repeated,
            has_presence: !is_repeated && (oneof.is_some() || matches!(kind, Kind::Message(_))),
            oneof,
        })
    }

    fn enumeration(&mut self, name: &str) -> Result<usize, SchemaError> {
        if let Some(id) = self.enums.get(name) {
            return Ok(*id);
        }
        let missing = || SchemaError::Missing(format!("enum {name}"));
        let descriptor = *self.index.enums.get(name).ok_or_else(missing)?;
        let values = descriptor.value.iter();
        let id = self.schema.enums.len();
        self.schema.enums.push(Enum {
            values: values
                .map(|value| (value.name().to_owned(), value.number()))
                .collect(),
        });
        self.enums.insert(name.to_owned(), id);
        Ok(id)
    }
}
