//! The workloads of single requests: put, get, txn, range.

use std::{cell::Cell, rc::Rc};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use synod_proto::etcd::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, kv_client::KvClient,
    request_op,
};
use synod_runtime::clock;
use tonic::Status;

use super::{
    Shape,
    load::{closed_loop, key, random_key, value},
    report::{Report, Samples},
};
use crate::connect::Connection;

fn client(channels: &[Connection], number: u16) -> KvClient<Connection> {
    KvClient::new(channels[usize::from(number) % channels.len()].clone())
        .max_decoding_message_size(64 << 20)
}

/// Writes every key once, with as many requests in flight as there are clients.
///
/// # Errors
/// A write failed.
pub(crate) async fn fill(shape: &Shape, channels: Vec<Connection>) -> anyhow::Result<Report> {
    let mut samples = Samples::new();
    let begin = clock::now();
    let mut writes = stream::iter(0..shape.keys)
        .map(|number| {
            let mut client = client(&channels, u16::try_from(number % 1024).unwrap_or(0));
            let request = PutRequest {
                key: key(shape, number).into(),
                value: value(shape),
                ..PutRequest::default()
            };
            async move {
                let sent = clock::now();
                client.put(request).await.map(|_| clock::now() - sent)
            }
        })
        .buffer_unordered(usize::from(shape.clients));
    while let Some(written) = writes.next().await {
        samples.succeeded(written?);
    }
    drop(writes);
    Ok(samples.report("fill", shape.clients, clock::now() - begin))
}

/// Puts of random keys.
pub(crate) async fn put(shape: &Shape, channels: Vec<Connection>) -> Report {
    let (samples, elapsed) = closed_loop(shape, |number| {
        let client = client(&channels, number);
        move || {
            let mut client = client.clone();
            let request = PutRequest {
                key: random_key(shape).into(),
                value: value(shape),
                ..PutRequest::default()
            };
            async move { client.put(request).await.map(drop) }
        }
    })
    .await;
    samples.report("put", shape.clients, elapsed)
}

/// Gets of random keys.
pub(crate) async fn get(shape: &Shape, channels: Vec<Connection>, serializable: bool) -> Report {
    let (samples, elapsed) = closed_loop(shape, |number| {
        let client = client(&channels, number);
        move || {
            let mut client = client.clone();
            let request = RangeRequest {
                key: random_key(shape).into(),
                serializable,
                ..RangeRequest::default()
            };
            async move { client.range(request).await.map(drop) }
        }
    })
    .await;
    let name = if serializable {
        "get-serializable"
    } else {
        "get"
    };
    samples.report(name, shape.clients, elapsed)
}

/// Reads the first `limit` keys under the prefix, starting with a random key.
pub(crate) async fn range(shape: &Shape, channels: Vec<Connection>, limit: i64) -> Report {
    let mut end = shape.prefix.clone().into_bytes();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    let end = Bytes::from(end);
    let (samples, elapsed) = closed_loop(shape, |number| {
        let client = client(&channels, number);
        let end = end.clone();
        move || {
            let mut client = client.clone();
            let request = RangeRequest {
                key: random_key(shape).into(),
                range_end: end.clone(),
                limit,
                ..RangeRequest::default()
            };
            async move { client.range(request).await.map(drop) }
        }
    })
    .await;
    samples.report(&format!("range-{limit}"), shape.clients, elapsed)
}

/// `if mod_revision(key) == seen then put else get`. Each client uses its own keys, in turn.
pub(crate) async fn txn(shape: &Shape, channels: Vec<Connection>) -> Report {
    let (samples, elapsed) = closed_loop(shape, |number| {
        let client = client(&channels, number);
        let key = Bytes::from(key(shape, u32::from(number)));
        let seen = Rc::new(Cell::new(0_i64));
        move || {
            let mut client = client.clone();
            let request = guarded_put(&key, value(shape), seen.get());
            let seen = Rc::clone(&seen);
            async move {
                let response = client.txn(request).await?.into_inner();
                let revision = response.header.map_or(0, |header| header.revision);
                seen.set(if response.succeeded {
                    revision
                } else {
                    found(&response)?
                });
                Ok(())
            }
        }
    })
    .await;
    samples.report("txn", shape.clients, elapsed)
}

fn guarded_put(key: &Bytes, body: Bytes, seen: i64) -> TxnRequest {
    let op = |request| RequestOp {
        request: Some(request),
    };
    TxnRequest {
        compare: vec![Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(compare::TargetUnion::ModRevision(seen)),
            ..Compare::default()
        }],
        success: vec![op(request_op::Request::RequestPut(PutRequest {
            key: key.clone(),
            value: body,
            ..PutRequest::default()
        }))],
        failure: vec![op(request_op::Request::RequestRange(RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        }))],
    }
}

/// The mod revision returned by the `else` branch.
fn found(response: &synod_proto::etcd::etcdserverpb::TxnResponse) -> Result<i64, Status> {
    use prost::Message as _;
    use synod_proto::etcd::{etcdserverpb::response_op::Response, mvccpb::KeyValue};
    let range = match response
        .responses
        .first()
        .and_then(|op| op.response.as_ref())
    {
        Some(Response::ResponseRange(range)) => range,
        _ => {
            return Err(Status::internal(
                "the else branch did not answer with a range",
            ));
        }
    };
    let Some(kv) = range.kvs.first() else {
        return Ok(0);
    };
    let kv = KeyValue::decode(kv.clone())
        .map_err(|error| Status::internal(format!("undecodable key-value pair: {error}")))?;
    Ok(kv.mod_revision)
}
