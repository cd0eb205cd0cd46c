//! The body of a call, from the JSON of its request.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use synod_json::{MessageId, Schema, Splitter};
use tonic::Status;

use super::error::Refusal;

/// A flag and four bytes of length before each message.
pub(super) const FRAME_HEAD_BYTES: usize = 5;

/// Where a call's messages come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// gRPC, over HTTP/2.
    Grpc(Incoming),
    /// JSON: the one message, with its head.
    One(Option<Bytes>),
    /// JSON: several objects.
    Many(Box<Requests>),
}

/// Reads the whole body.
///
/// # Errors
/// It is too large, or the client is gone.
pub(super) async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, Refusal> {
    if body.size_hint().lower() > limit as u64 {
        return Err(Refusal::too_large());
    }
    // One buffer: a list of frames would take many times their size if they are tiny.
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let early = |error| Status::cancelled(format!("the request ended early: {error}"));
        // Trailers are ignored.
        let Ok(data) = frame.map_err(early)?.into_data() else {
            continue;
        };
        if data.len() > limit - whole.len() {
            return Err(Refusal::too_large());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// Translates an object to a message with its head.
///
/// # Errors
/// `INVALID_ARGUMENT`: it isn't the message.
pub(super) fn frame(schema: &Schema, input: MessageId, json: &[u8]) -> Result<Bytes, Status> {
    // Base64 makes most of the text, so this is about as much as is needed.
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + json.len() * 3 / 4);
    frame.resize(FRAME_HEAD_BYTES, 0);
    let invalid = |why: String| Status::invalid_argument(why);
    schema
        .to_wire(input, json, &mut frame)
        .map_err(|error| invalid(error.to_string()))?;
    let length = u32::try_from(frame.len() - FRAME_HEAD_BYTES)
        .map_err(|_| invalid("the request is larger than 4 GiB".to_owned()))?;
    frame[1..FRAME_HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(frame.into())
}

/// The error that ended a stream of requests, if any. The service learns only that the stream
/// ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Failure(Arc<OnceLock<Status>>);

impl Failure {
    pub(super) fn get(&self) -> Option<Status> {
        self.0.get().cloned()
    }
}

/// The objects of a body, translated as they arrive.
#[derive(Debug)]
pub(crate) struct Requests {
    body: Incoming,
    schema: Arc<Schema>,
    input: MessageId,
    limit: usize,
    buffer: BytesMut,
    splitter: Splitter,
    has_ended: bool,
    failure: Failure,
}

impl Requests {
    pub(super) fn new(
        body: Incoming,
        schema: Arc<Schema>,
        input: MessageId,
        limit: usize,
        failure: Failure,
    ) -> Self {
        Self {
            body,
            schema,
            input,
            limit,
            buffer: BytesMut::new(),
            splitter: Splitter::default(),
            has_ended: false,
            failure,
        }
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            let found = self.splitter.find(&self.buffer);
            let found = found.map_err(|error| Status::invalid_argument(error.to_string()))?;
            if let Some(length) = found {
                let object = self.buffer.split_to(length);
                let message = frame(&self.schema, self.input, &object)?;
                return Poll::Ready(Ok(Some(message)));
            }
            if self.buffer.len() > self.limit {
                return Poll::Ready(Err(Status::invalid_argument(
                    "etcdserver: request is too large",
                )));
            }
            if self.has_ended {
                let is_cut_off = self.splitter.is_inside();
                return Poll::Ready(match is_cut_off {
                    true => Err(Status::invalid_argument("unexpected end of the JSON text")),
                    false => Ok(None),
                });
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(next)) => {
                    if let Ok(data) = next.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    let why = format!("the request ended early: {error}");
                    return Poll::Ready(Err(Status::cancelled(why)));
                }
                None => self.has_ended = true,
            }
        }
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Grpc(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Self::One(message) => Poll::Ready(message.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Many(requests) => {
                if requests.failure.get().is_some() {
                    return Poll::Ready(None);
                }
                Poll::Ready(match ready!(requests.poll_message(context)) {
                    Ok(message) => message.map(|bytes| Ok(Frame::data(bytes))),
                    Err(status) => {
                        // Nothing else sets it.
                        let _first = requests.failure.0.set(status.clone());
                        Some(Err(status.into()))
                    }
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Grpc(body) => body.is_end_stream(),
            Self::One(message) => message.is_none(),
            Self::Many(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Grpc(body) => body.size_hint(),
            Self::One(message) => {
                SizeHint::with_exact(message.as_ref().map_or(0, |bytes| bytes.remaining() as u64))
            }
            Self::Many(_) => SizeHint::default(),
        }
    }
}
