//! What the build script generated, one module a protobuf package.
#![allow(
    clippy::all,
    clippy::missing_errors_doc,
    clippy::wildcard_imports,
    clippy::allow_attributes_without_reason,
    clippy::allow_attributes,
    clippy::too_many_lines,
    clippy::clone_on_ref_ptr,
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    rustdoc::all,
    reason = "generated code does not follow our style"
)]

include!(concat!(env!("OUT_DIR"), "/synod_proto.rs"));
