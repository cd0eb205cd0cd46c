//! Records: structs whose fields follow each other on the wire.

/// Declares a record. Its fields are encoded in the order in which they are declared.
macro_rules! record {
    ($(
        $(#[$attribute:meta])*
        $name:ident { $($(#[$field_attribute:meta])* $field:ident: $type:ty,)+ }
    )+) => {$(
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_attribute])* pub $field: $type,)+
        }

        impl $crate::wire::Encode for $name {
            fn encode(&self, out: &mut ::bytes::BytesMut) {
                $($crate::wire::Encode::encode(&self.$field, out);)+
            }

            fn encoded_len(&self) -> usize {
                0 $(+ $crate::wire::Encode::encoded_len(&self.$field))+
            }
        }

        impl $crate::wire::Decode for $name {
            const MIN_LEN: usize = 0 $(+ <$type as $crate::wire::Decode>::MIN_LEN)+;

            fn decode(from: &mut ::bytes::Bytes) -> Result<Self, $crate::error::DecodeError> {
                Ok(Self { $($field: $crate::wire::Decode::decode(from)?,)+ })
            }
        }
    )+};
}

/// Declares an enum of messages by operation: those with a body, then those without.
macro_rules! messages {
    (
        $(#[$attribute:meta])*
        $name:ident {
            $($(#[$with_attribute:meta])* $with:ident($body:ty),)+
        }
        empty {
            $($(#[$without_attribute:meta])* $without:ident,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$with_attribute])* $with($body),)+
            $($(#[$without_attribute])* $without,)+
        }

        impl $name {
            /// The operation that this message belongs to.
            #[must_use]
            pub fn op(&self) -> $crate::codes::OpCode {
                match self {
                    $(Self::$with(_) => $crate::codes::OpCode::$with,)+
                    $(Self::$without => $crate::codes::OpCode::$without,)+
                }
            }

            /// Reads the body of a message of the operation `op`. Bytes behind it are ignored, as
            /// ZooKeeper does.
            ///
            /// # Errors
            /// The bytes are not such a body.
            pub fn decode(
                op: $crate::codes::OpCode,
                from: &mut ::bytes::Bytes,
            ) -> Result<Self, $crate::error::DecodeError> {
                Ok(match op {
                    $($crate::codes::OpCode::$with => {
                        Self::$with($crate::wire::Decode::decode(from)?)
                    })+
                    $($crate::codes::OpCode::$without => Self::$without,)+
                })
            }
        }

        impl $crate::wire::Encode for $name {
            fn encode(&self, out: &mut ::bytes::BytesMut) {
                match self {
                    $(Self::$with(body) => $crate::wire::Encode::encode(body, out),)+
                    $(Self::$without)|+ => {}
                }
            }

            fn encoded_len(&self) -> usize {
                match self {
                    $(Self::$with(body) => $crate::wire::Encode::encoded_len(body),)+
                    $(Self::$without)|+ => 0,
                }
            }
        }
    };
}
