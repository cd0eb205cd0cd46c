//! Tests that our etcd protos describe exactly the same messages and services as etcd's. They are
//! compared with the copy of etcd's protos in the `etcd-client` crate, compiled with the same
//! compiler.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use etcd_client as _; // a dependency so that its sources are on this machine
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const PACKAGES: [&str; 5] = [
    "etcdserverpb",
    "mvccpb",
    "authpb",
    "v3lockpb",
    "v3electionpb",
];

/// Everything visible on the wire and in JSON, one line per item, by full name.
type Surface = BTreeMap<String, String>;

fn surface(descriptors: &FileDescriptorSet) -> Surface {
    let mut surface = Surface::new();
    let files = descriptors.file.iter();
    for file in files.filter(|file| PACKAGES.contains(&file.package())) {
        assert_eq!(file.syntax(), "proto3");
        let package = file.package();
        for message in &file.message_type {
            describe_message(package, message, &mut surface);
        }
        for item in &file.enum_type {
            describe_enum(package, item, &mut surface);
        }
        for service in &file.service {
            for method in &service.method {
                let line = format!(
                    "{}{} -> {}{}",
                    if method.client_streaming() {
                        "stream "
                    } else {
                        ""
                    },
                    method.input_type(),
                    if method.server_streaming() {
                        "stream "
                    } else {
                        ""
                    },
                    method.output_type(),
                );
                surface.insert(
                    format!("/{package}.{}/{}", service.name(), method.name()),
                    line,
                );
            }
        }
    }
    surface
}

fn describe_message(scope: &str, message: &DescriptorProto, surface: &mut Surface) {
    let name = format!("{scope}.{}", message.name());
    surface.insert(name.clone(), "message".to_owned());
    for field in &message.field {
        let oneof = field.oneof_index.map(|index| {
            let index = usize::try_from(index).unwrap();
            message.oneof_decl[index].name().to_owned()
        });
        let line = format!(
            "{} {:?} {:?} {} json {} oneof {oneof:?} optional {} packed {:?}",
            field.number(),
            field.label(),
            field.r#type(),
            field.type_name(),
            field.json_name(),
            field.proto3_optional(),
            field.options.as_ref().and_then(|options| options.packed),
        );
        surface.insert(format!("{name}.{}", field.name()), line);
    }
    for nested in &message.nested_type {
        describe_message(&name, nested, surface);
    }
    for nested in &message.enum_type {
        describe_enum(&name, nested, surface);
    }
}

fn describe_enum(scope: &str, item: &EnumDescriptorProto, surface: &mut Surface) {
    for value in &item.value {
        let name = format!("{scope}.{}.{}", item.name(), value.name());
        surface.insert(name, format!("value {}", value.number()));
    }
}

/// The directory with cargo's sources of the `etcd-client` version that this workspace uses.
fn etcd_client_sources() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata failed: {errors}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages
        .iter()
        .find(|package| package["name"] == "etcd-client");
    let manifest = package.unwrap()["manifest_path"].as_str().unwrap();
    Path::new(manifest).parent().unwrap().to_path_buf()
}

fn theirs() -> FileDescriptorSet {
    let root = etcd_client_sources().join("proto");
    let files = [
        "etcd/api/etcdserverpb/rpc.proto",
        "etcd/api/mvccpb/kv.proto",
        "etcd/api/authpb/auth.proto",
        "etcd/server/etcdserver/api/v3lock/v3lockpb/v3lock.proto",
        "etcd/server/etcdserver/api/v3election/v3electionpb/v3election.proto",
    ];
    protox::compile(files, [root]).unwrap()
}

#[test]
fn our_protos_and_etcds_describe_the_same_surface() {
    let ours = surface(&FileDescriptorSet::decode(synod_proto::FILE_DESCRIPTOR_SET).unwrap());
    let theirs = surface(&theirs());
    let names: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let differences: Vec<_> = names
        .into_iter()
        .filter(|name| ours.get(*name) != theirs.get(*name))
        .map(|name| {
            format!(
                "{name}\n  ours:   {:?}\n  theirs: {:?}",
                ours.get(name),
                theirs.get(name)
            )
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));

    // Checks that the comparison covered what it should.
    let methods = ours.keys().filter(|name| name.starts_with('/')).count();
    assert_eq!(methods, 6 + 1 + 5 + 5 + 8 + 17 + 2 + 5);
    assert_eq!(
        ours["/etcdserverpb.KV/RangeStream"],
        ".etcdserverpb.RangeRequest -> stream .etcdserverpb.RangeStreamResponse"
    );
    assert!(ours["etcdserverpb.Compare.range_end"].starts_with("64 "));
    assert!(ours["etcdserverpb.WatchResponse.events"].starts_with("11 Repeated Message"));
}

/// The exported set is the original one, although the code is generated from a patched one.
#[test]
fn reflection_shows_messages_not_bytes() {
    let descriptors = FileDescriptorSet::decode(synod_proto::FILE_DESCRIPTOR_SET).unwrap();
    let field = |message: &str, name: &str| {
        let messages = descriptors.file.iter().flat_map(|file| &file.message_type);
        let mut found = messages.filter(|found| found.name() == message);
        let field = found
            .next()
            .unwrap()
            .field
            .iter()
            .find(|field| field.name() == name);
        let field = field.unwrap();
        (field.label(), field.r#type())
    };
    assert_eq!(
        field("RangeResponse", "kvs"),
        (Label::Repeated, Type::Message)
    );
    assert_eq!(
        field("PutResponse", "prev_kv"),
        (Label::Optional, Type::Message)
    );
    assert_eq!(
        field("DeleteRangeResponse", "prev_kvs"),
        (Label::Repeated, Type::Message)
    );
    assert_eq!(
        field("WatchResponse", "events"),
        (Label::Repeated, Type::Message)
    );
    assert_eq!(field("Member", "peerURLs"), (Label::Repeated, Type::String));
}

/// The path of each method that has one in etcd's annotations, and the method's path in gRPC.
fn annotated() -> BTreeSet<(String, String)> {
    let root = etcd_client_sources().join("proto/etcd");
    let files = [
        "api/etcdserverpb/rpc.proto",
        "server/etcdserver/api/v3lock/v3lockpb/v3lock.proto",
        "server/etcdserver/api/v3election/v3electionpb/v3election.proto",
    ];
    let mut found = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let (mut package, mut service, mut method) = ("", "", "");
        for line in text.lines() {
            let mut words = line.split(|c: char| c.is_whitespace() || "();{".contains(c));
            let mut words = words.by_ref().filter(|word| !word.is_empty());
            match words.next() {
                Some("package") => package = words.next().unwrap(),
                Some("service") => service = words.next().unwrap(),
                Some("rpc") => method = words.next().unwrap(),
                _ => {}
            }
            let path = line.split_once("post: \"/v3/").map(|(_, rest)| rest);
            if let Some((path, _)) = path.and_then(|rest| rest.split_once('"')) {
                let grpc = format!("/{package}.{service}/{method}");
                found.insert((path.to_owned(), grpc));
            }
        }
    }
    found
}

#[test]
fn methods_have_etcds_paths_for_json() {
    let pair = |(http, grpc): &(&str, &str)| ((*http).to_owned(), (*grpc).to_owned());
    let ours: BTreeSet<_> = synod_proto::http::PATHS.iter().map(pair).collect();
    assert_eq!(ours, annotated());
    assert_eq!(ours.len(), synod_proto::http::PATHS.len());
    let paths: BTreeSet<_> = ours.iter().map(|(http, _)| http).collect();
    assert_eq!(paths.len(), ours.len(), "a path stands for one method");
    // Every method but one can be called.
    let methods = surface(&FileDescriptorSet::decode(synod_proto::FILE_DESCRIPTOR_SET).unwrap());
    let mapped: BTreeSet<_> = ours.iter().map(|(_, grpc)| grpc).collect();
    let unmapped: Vec<_> = methods
        .keys()
        .filter(|name| name.starts_with('/') && !mapped.contains(name))
        .collect();
    assert_eq!(unmapped, ["/etcdserverpb.KV/RangeStream"]);
}
