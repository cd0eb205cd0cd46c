//! Fuzzes every request at and beyond the limits of its fields, made from the contract's
//! descriptors. Nothing that a client sends may stop a member, at once or after a restart.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, WatchOptions};
use futures::FutureExt as _;
use prost::Message as _;
use prost::encoding::encode_varint;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use synod_consensus::{Algorithm, Node};
use synod_runtime::clock;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::support::{SOON, again, client, config, eventually};

/// How many requests a run makes.
const REQUESTS: usize = 5_000;
/// After so many requests the member must still write and read.
const CHECK_EVERY: usize = 250;
/// Deeper than the server allows, but not too deep for protobuf's decoders.
const MAX_DEPTH: usize = 40;
/// Down to this depth a message has several fields.
const BROAD_DEPTH: usize = 2;
/// How long to wait for an answer. Some requests get none, such as an empty watch.
const PATIENCE: Duration = Duration::from_millis(50);

/// A method of a service that the server has.
struct Method {
    path: PathAndQuery,
    input: String,
}

/// The contract.
struct Contract {
    messages: HashMap<String, DescriptorProto>,
    methods: Vec<Method>,
}

impl Contract {
    fn load() -> Self {
        let set = FileDescriptorSet::decode(synod_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut contract = Self {
            messages: HashMap::new(),
            methods: Vec::new(),
        };
        for file in set.file {
            let package = file.package().to_owned();
            for message in &file.message_type {
                contract.add(&format!(".{package}"), message);
            }
            // The contract between peers is not for clients.
            for service in file.service.iter().filter(|_| package == "etcdserverpb") {
                for method in &service.method {
                    let path = format!("/{package}.{}/{}", service.name(), method.name());
                    contract.methods.push(Method {
                        path: path.parse().unwrap(),
                        input: method.input_type().to_owned(),
                    });
                }
            }
        }
        contract
    }

    fn add(&mut self, prefix: &str, message: &DescriptorProto) {
        let name = format!("{prefix}.{}", message.name());
        for nested in &message.nested_type {
            self.add(&name, nested);
        }
        self.messages.insert(name, message.clone());
    }

    /// A message with some of its fields, each at a limit.
    fn message(&self, name: &str, depth: usize, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let mut out = Vec::new();
        for field in &self.messages[name].field {
            let is_message = field.r#type() == Type::Message;
            let count = match field.label() {
                // Keeps messages from growing with every level.
                _ if is_message && depth > BROAD_DEPTH => usize::from(rng.random_bool(0.2)),
                Label::Repeated => rng.random_range(0..4),
                Label::Optional | Label::Required => usize::from(rng.random_bool(0.6)),
            };
            for _ in 0..count {
                let number = u64::try_from(field.number()).unwrap();
                let kind = field.r#type();
                if is_message {
                    if depth < MAX_DEPTH {
                        let inner = self.message(field.type_name(), depth + 1, rng);
                        delimited(&mut out, number, &inner);
                    }
                } else if matches!(kind, Type::Bytes | Type::String) {
                    delimited(&mut out, number, &text(rng));
                } else if kind == Type::Fixed64 {
                    encode_varint(number << 3 | 1, &mut out);
                    out.put_u64_le(integer(rng));
                } else {
                    encode_varint(number << 3, &mut out);
                    encode_varint(integer(rng), &mut out);
                }
            }
        }
        out
    }
}

/// Transactions nested so many levels deep.
fn nested(levels: usize) -> Vec<u8> {
    (0..levels).fold(Vec::new(), |child, _| {
        let mut op = Vec::new();
        delimited(&mut op, 4, &child);
        let mut txn = Vec::new();
        delimited(&mut txn, 2, &op);
        txn
    })
}

fn delimited(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    encode_varint(field << 3 | 2, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn integer(rng: &mut ChaCha8Rng) -> u64 {
    let borders = [
        0,
        1,
        2,
        3,
        5,
        100,
        127,
        128,
        1 << 31,
        (1 << 31) - 1,
        u64::from(u32::MAX),
        1 << 62,
        i64::MAX.cast_unsigned(),
        i64::MIN.cast_unsigned(),
        u64::MAX,
        u64::MAX - 1,
    ];
    match rng.random_range(0..20) {
        at @ 0..16 => borders[at],
        _ => rng.random_range(0..200),
    }
}

fn text(rng: &mut ChaCha8Rng) -> Vec<u8> {
    match rng.random_range(0..14) {
        0 => Vec::new(),
        1 => vec![0],
        2 => vec![0xff],
        3 => vec![0xff; 3],
        4 => b"http://127.0.0.1:1".to_vec(),
        5 => vec![b'k'; rng.random_range(32_766..32_771)],
        6 => vec![b'v'; 70_000],
        7 => (0..5).map(|_| rng.random()).collect(),
        _ => vec![b"abcd"[rng.random_range(0..4)]],
    }
}

/// A codec that passes bytes through.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining()).to_vec()))
    }
}

/// Sends requests as a stream, which on the wire is the same as a call with one message. Reads a
/// few answers.
async fn call(channel: Channel, path: PathAndQuery, requests: Vec<Vec<u8>>) {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let requests = Request::new(tokio_stream::iter(requests));
    // Any answer will do.
    if let Ok(answers) = grpc.streaming(requests, path, Raw).await {
        let mut answers = answers.into_inner();
        for _ in 0..3 {
            if !matches!(answers.message().await, Ok(Some(_))) {
                break;
            }
        }
    }
}

/// Checks that the member writes and reads. Earlier requests may have raised an alarm, which is
/// disarmed.
async fn still_works(node: &Node, done: usize) {
    assert!(
        node.ended().now_or_never().is_none(),
        "the member ended after {done} requests"
    );
    let client = client(node).await;
    eventually("a write", || async {
        let mut client = client.clone();
        let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None);
        for alarm in alarms.await.ok()?.alarms() {
            let mut options = AlarmOptions::new();
            options.with_member(alarm.member_id());
            let kind = alarm.alarm();
            let disarm = client.alarm(AlarmAction::Deactivate, kind, Some(options));
            disarm.await.ok()?;
        }
        client.put("works", done.to_string(), None).await.ok()
    })
    .await;
    let got = client.clone().get("works", None).await.unwrap();
    assert_eq!(got.kvs()[0].value_str().unwrap(), done.to_string());
}

async fn fuzz(algorithm: Algorithm, seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut first = config("a", dir.path());
    first.algorithm = Some(algorithm);
    let next = again(&first);
    let node = Node::start(first).await.unwrap();
    node.ready(SOON).await.unwrap();
    let contract = Contract::load();
    let endpoint = Endpoint::from_shared(node.client_urls()[0].clone()).unwrap();
    let channel = endpoint.connect_lazy();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for number in 0..REQUESTS {
        let method = &contract.methods[rng.random_range(0..contract.methods.len())];
        let mut requests: Vec<_> = (0..rng.random_range(1..4))
            .map(|_| contract.message(&method.input, 0, &mut rng))
            .collect();
        let request = &mut requests[0];
        match rng.random_range(0..20) {
            0 => request.truncate(request.len() / 2),
            1 if !request.is_empty() => {
                let at = rng.random_range(0..request.len());
                request[at] ^= 1 << rng.random_range(0..8);
            }
            2 if method.input.ends_with("TxnRequest") => {
                *request = nested(rng.random_range(1..60));
            }
            _ => {}
        }
        if !method.path.path().ends_with("Watch") && !method.path.path().ends_with("KeepAlive") {
            requests.truncate(1);
        }
        // Late answers are ignored.
        let _late = clock::timeout(
            PATIENCE,
            call(channel.clone(), method.path.clone(), requests),
        )
        .await;
        if (number + 1) % CHECK_EVERY == 0 {
            still_works(&node, number).await;
        }
    }
    let mut before = client(&node).await;
    let hash = before.hash_kv(0).await.unwrap();
    let revision = hash.header().unwrap().revision();
    node.shutdown().await;

    let node = Node::start(next).await.unwrap();
    node.ready(SOON).await.unwrap();
    still_works(&node, REQUESTS).await;
    let mut after = client(&node).await;
    let again = after.hash_kv(revision).await.unwrap();
    assert_eq!(again.hash(), hash.hash(), "the same data after a restart");
    // The state can be watched and saved.
    let options = WatchOptions::new()
        .with_all_keys()
        .with_start_revision(hash.compact_version().max(0) + 1);
    let mut watching = after.watch("", Some(options)).await.unwrap();
    loop {
        let response = clock::timeout(SOON, watching.message()).await.unwrap();
        let response = response.unwrap().unwrap();
        assert!(!response.canceled(), "{}", response.cancel_reason());
        let last = response.events().last().and_then(|event| event.kv());
        if last.is_some_and(|kv| kv.mod_revision() > revision) {
            break;
        }
    }
    let mut backup = after.snapshot().await.unwrap();
    while backup.message().await.unwrap().is_some() {}
    node.shutdown().await;
}

#[tokio::test]
async fn no_request_stops_a_member_raft() {
    Box::pin(fuzz(Algorithm::Raft, 1)).await;
}

#[tokio::test]
async fn no_request_stops_a_member_multi_paxos() {
    Box::pin(fuzz(Algorithm::MultiPaxos, 2)).await;
}
