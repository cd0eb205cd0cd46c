//! The watch workload: many watchers of one prefix while clients write under it. It counts received
//! events. The latency is the time from the put's call to the event's arrival.

use std::{cell::RefCell, rc::Rc, time::Instant};

use futures::{StreamExt as _, future, stream::FuturesUnordered};
use prost::Message as _;
use synod_proto::etcd::{
    etcdserverpb::{
        PutRequest, WatchCreateRequest, WatchRequest, WatchResponse, kv_client::KvClient,
        watch_client::WatchClient, watch_request,
    },
    mvccpb::Event,
};
use synod_runtime::clock;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    Shape,
    load::{Window, random_key},
    report::{Report, Samples},
};
use crate::connect::Connection;

/// Watchers that share a stream, as in client libraries.
const WATCHERS_PER_STREAM: u16 = 10;

struct Stream {
    _requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

async fn open(
    shape: &Shape,
    channel: Connection,
    watchers: u16,
    prev_kv: bool,
) -> Result<Stream, Status> {
    let (requests, receiver) = mpsc::channel(usize::from(watchers.max(1)));
    let mut end = shape.prefix.clone().into_bytes();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    for _ in 0..watchers {
        let create = WatchCreateRequest {
            key: shape.prefix.clone().into_bytes().into(),
            range_end: end.clone().into(),
            prev_kv,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(watch_request::RequestUnion::CreateRequest(create)),
        };
        requests
            .send(request)
            .await
            .map_err(|_| Status::cancelled("the stream ended"))?;
    }
    let mut answers = WatchClient::new(channel)
        .max_decoding_message_size(64 << 20)
        .watch(ReceiverStream::new(receiver))
        .await?
        .into_inner();
    let mut created = 0;
    while created < watchers {
        match answers.message().await? {
            Some(answer) if answer.created => created += 1,
            Some(_) => {}
            None => return Err(Status::cancelled("the watch stream ended")),
        }
    }
    Ok(Stream {
        _requests: requests,
        answers,
    })
}

/// Runs `watchers` watchers, which get earlier pairs with `prev_kv`, and `shape.clients` writers.
///
/// # Errors
/// A watch could not be created.
pub(crate) async fn run(
    shape: &Shape,
    channels: Vec<Connection>,
    watchers: u16,
    prev_kv: bool,
) -> anyhow::Result<Report> {
    let mut opening = Vec::new();
    let mut left = watchers;
    while left > 0 {
        let share = left.min(WATCHERS_PER_STREAM);
        left -= share;
        opening.push(open(
            shape,
            channels[opening.len() % channels.len()].clone(),
            share,
            prev_kv,
        ));
    }
    let streams = future::try_join_all(opening).await?;
    let origin = clock::now();
    let window = Window::starting_now(shape);
    let samples = Rc::new(RefCell::new(Samples::new()));
    let readers: FuturesUnordered<_> = streams
        .into_iter()
        .map(|stream| receive(stream, window, origin, Rc::clone(&samples)))
        .collect();
    let writers: FuturesUnordered<_> = (0..shape.clients)
        .map(|number| {
            let channel = channels[usize::from(number) % channels.len()].clone();
            write(shape, channel, window, origin)
        })
        .collect();
    let (_, failures) =
        future::join(readers.collect::<Vec<()>>(), writers.collect::<Vec<_>>()).await;
    let mut samples = Rc::try_unwrap(samples)
        .map(RefCell::into_inner)
        .unwrap_or_else(|_| Samples::new());
    for failure in failures.into_iter().filter_map(Result::err) {
        samples.failed(&failure);
    }
    Ok(samples.report(&format!("watch-{watchers}"), shape.clients, shape.duration))
}

/// A value that starts with the time of its put, in nanoseconds since `origin`.
fn stamped(shape: &Shape, origin: Instant) -> Vec<u8> {
    let since = u64::try_from((clock::now() - origin).as_nanos()).unwrap_or(u64::MAX);
    let mut value = since.to_be_bytes().to_vec();
    value.resize(shape.value_bytes.max(value.len()), 0);
    value
}

async fn write(
    shape: &Shape,
    channel: Connection,
    window: Window,
    origin: Instant,
) -> Result<(), Status> {
    let mut client = KvClient::new(channel);
    while !window.is_over(clock::now()) {
        let request = PutRequest {
            key: random_key(shape).into(),
            value: stamped(shape, origin).into(),
            ..PutRequest::default()
        };
        client.put(request).await?;
    }
    Ok(())
}

async fn receive(
    mut stream: Stream,
    window: Window,
    origin: Instant,
    samples: Rc<RefCell<Samples>>,
) {
    loop {
        let answer = match clock::timeout_at(window.end(), stream.answers.message()).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) | Err(_) => return,
            Ok(Err(status)) => return samples.borrow_mut().failed(&status),
        };
        let now = clock::now();
        if !window.counts(now) {
            continue;
        }
        let mut samples = samples.borrow_mut();
        for event in &answer.events {
            let Ok(event) = Event::decode(event.clone()) else {
                samples.failed(&Status::internal("undecodable event"));
                continue;
            };
            let stamp = event
                .kv
                .and_then(|kv| kv.value.get(..8).and_then(|bytes| bytes.try_into().ok()))
                .map(u64::from_be_bytes);
            if let Some(nanos) = stamp {
                let sent = origin + std::time::Duration::from_nanos(nanos);
                samples.succeeded(now.saturating_duration_since(sent));
            }
        }
    }
}
