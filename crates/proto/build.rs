//! Compiles every .proto file below /proto.
//!
//! The result is two descriptor sets. The original one is written to a file, for reflection and for
//! the test of wire identity. Code is generated from a patched copy, in which message fields that
//! the server passes through in encoded form are declared as `bytes`. Both have the same wire type,
//! so peers can't tell the difference, and values are not decoded and encoded again between the
//! disk and the socket.

use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

use prost::Message as _;
use prost_types::{
    DescriptorProto, FileDescriptorSet, OneofDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

/// Package, message and field of each message field that is handled in encoded form.
const PRE_ENCODED: &[(&str, &str, &str)] = &[
    ("etcdserverpb", "RangeResponse", "kvs"),
    ("etcdserverpb", "PutResponse", "prev_kv"),
    ("etcdserverpb", "DeleteRangeResponse", "prev_kvs"),
    ("etcdserverpb", "WatchResponse", "events"),
];

/// Field names that would become unreadable Rust names (`peer_ur_ls`). Names aren't sent on the
/// wire.
const RENAMED: &[(&str, &str)] = &[("peerURLs", "peer_urls"), ("clientURLs", "client_urls")];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("not run by cargo")?)
        .join("../../proto");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("not run by cargo")?);
    // Cargo watches a directory with all its content, so it notices new files too.
    println!("cargo:rerun-if-changed={}", root.display());
    println!("cargo:rerun-if-changed=build.rs");

    let mut files = Vec::new();
    find_protos(&root, &mut files)?;
    files.sort();
    let mut compiler = protox::Compiler::new([&root])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(&files)?;
    let descriptors = compiler.file_descriptor_set();

    let mut bare = descriptors.clone();
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    fs::write(out.join("synod.fds"), bare.encode_to_vec())?;

    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::Codec")
        .include_file("synod_proto.rs")
        .emit_rerun_if_changed(false)
        .compile_fds(patched(descriptors)?)?;
    Ok(())
}

fn find_protos(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_protos(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path);
        }
    }
    Ok(())
}

fn patched(mut descriptors: FileDescriptorSet) -> Result<FileDescriptorSet, String> {
    for (package, message, field) in PRE_ENCODED {
        let descriptor = descriptors
            .file
            .iter_mut()
            .filter(|file| file.package() == *package)
            .flat_map(|file| &mut file.message_type)
            .find(|descriptor| descriptor.name() == *message)
            .ok_or_else(|| format!("no message {package}.{message} to patch"))?;
        make_bytes(descriptor, field)?;
    }
    let messages = descriptors
        .file
        .iter_mut()
        .filter(|file| file.package() == "etcdserverpb")
        .flat_map(|file| &mut file.message_type);
    for field in messages.flat_map(|message| &mut message.field) {
        if let Some((_, new)) = RENAMED.iter().find(|(old, _)| *old == field.name()) {
            field.name = Some((*new).to_owned());
        }
    }
    Ok(descriptors)
}

/// Turns a message field into a `bytes` field with the same number. A single field becomes
/// `optional`, since an absent message and an empty one differ.
fn make_bytes(message: &mut DescriptorProto, name: &str) -> Result<(), String> {
    let oneof = i32::try_from(message.oneof_decl.len()).map_err(|error| error.to_string())?;
    let field = message
        .field
        .iter_mut()
        .find(|field| field.name() == name && field.r#type() == Type::Message)
        .ok_or_else(|| format!("no message field {name} to patch"))?;
    field.set_type(Type::Bytes);
    field.type_name = None;
    if field.label() != Label::Repeated {
        field.proto3_optional = Some(true);
        field.oneof_index = Some(oneof);
        message.oneof_decl.push(OneofDescriptorProto {
            name: Some(format!("_{name}")),
            options: None,
        });
    }
    Ok(())
}
