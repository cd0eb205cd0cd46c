//! The body of every response: tonic's, watched for the call's status.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::{Code, Status, body::Body};

use super::flow::{CHUNK_BYTES, Flow};
use crate::hold::Hold;
use crate::metrics::Call;

/// What a body yields; nothing at its end.
type Next = Option<Result<Frame<Bytes>, Status>>;

/// Ends the call's account when the status has passed, or when the client went away and this is
/// dropped.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Body,
    call: Option<Call>,
    held: Option<Box<Held>>,
}

/// A body that holds something until the last byte has left.
#[derive(Debug)]
struct Held {
    flow: Arc<Flow>,
    encoded: bool,
    /// Data that HTTP/2 has not got yet.
    rest: Bytes,
    /// What comes when all data has left.
    end: Option<Next>,
}

impl ResponseBody {
    pub(super) fn plain(body: Body) -> Self {
        Self {
            body,
            call: None,
            held: None,
        }
    }

    /// `headers` may hold the status already (a response without messages).
    pub(super) fn counted(body: Body, mut call: Call, headers: &HeaderMap) -> Self {
        let status = status_code(headers);
        if let Some(code) = status {
            call.set_code(code);
        }
        let call = status.is_none().then_some(call);
        Self {
            body,
            call,
            held: None,
        }
    }

    /// `hold` is kept until the last byte has left.
    pub(super) fn holding(self, hold: Option<Hold>) -> Self {
        let held = hold.map(|hold| {
            Box::new(Held {
                flow: Flow::begin(hold),
                encoded: false,
                rest: Bytes::new(),
                end: None,
            })
        });
        Self { held, ..self }
    }
}

impl Held {
    /// Yields the data in pieces, and the end only when the last piece has left: until then the
    /// stream can be reset.
    fn poll_frame(&mut self, body: &mut Body, context: &mut Context<'_>) -> Poll<Next> {
        if self.rest.is_empty() && self.end.is_none() {
            match ready!(http_body::Body::poll_frame(Pin::new(body), context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => self.end = Some(Some(Ok(frame))),
                },
                end @ (Some(Err(_)) | None) => self.end = Some(end),
            }
            if !std::mem::replace(&mut self.encoded, true) {
                self.flow.encoded();
            }
        }
        if self.end.is_none() {
            let length = self.rest.len().min(CHUNK_BYTES);
            let piece = self.flow.piece(self.rest.split_to(length));
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match self.flow.is_sent(context.waker()) {
            true => Poll::Ready(self.end.take().flatten()),
            false => Poll::Pending,
        }
    }

    fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.end.is_none()
    }
}

fn status_code(headers: &HeaderMap) -> Option<Code> {
    headers
        .get(Status::GRPC_STATUS)
        .map(|value| Code::from_bytes(value.as_bytes()))
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = ready!(match &mut this.held {
            None => Pin::new(&mut this.body).poll_frame(context),
            Some(held) => held.poll_frame(&mut this.body, context),
        });
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
            && let Some(mut call) = this.call.take()
        {
            call.set_code(status_code(trailers).unwrap_or(Code::Unknown));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.held.as_ref().is_none_or(|held| held.is_empty()) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
