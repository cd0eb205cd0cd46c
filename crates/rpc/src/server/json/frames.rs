//! The messages of a gRPC response.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use tonic::{Code, Status};

use super::deadline::Deadline;
use super::request::FRAME_HEAD_BYTES;
use crate::server::body::ResponseBody;

/// Cuts a body into messages, and finds the status at its end.
pub(super) struct Frames {
    body: ResponseBody,
    buffer: Bytes,
    /// A response without messages has its status in its head.
    status: Option<Status>,
    deadline: Deadline,
}

/// What comes next in a response.
#[derive(Debug)]
pub(super) enum Next {
    Message(Bytes),
    /// Nothing comes after it.
    End(Result<(), Status>),
}

impl Frames {
    pub(super) fn new(body: ResponseBody, headers: &HeaderMap, deadline: Deadline) -> Self {
        Self {
            body,
            buffer: Bytes::new(),
            status: Status::from_header_map(headers),
            deadline,
        }
    }

    /// # Errors
    /// The call's deadline has passed.
    pub(super) fn check_deadline(&self) -> Result<(), Status> {
        self.deadline.check()
    }

    pub(super) async fn next(&mut self) -> Next {
        poll_fn(|context| self.poll_next(context)).await
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        if let Some(status) = self.status.take() {
            return Poll::Ready(Next::End(success(status)));
        }
        loop {
            match self.message() {
                Ok(Some(message)) => return Poll::Ready(Next::Message(message)),
                Ok(None) => {}
                Err(status) => return Poll::Ready(Next::End(Err(status))),
            }
            let polled = http_body::Body::poll_frame(Pin::new(&mut self.body), context);
            let Poll::Ready(polled) = polled else {
                let passed = ready!(self.deadline.poll_passed(context));
                return Poll::Ready(Next::End(Err(passed)));
            };
            let end = match polled {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.append(data);
                        continue;
                    }
                    Err(frame) => frame.trailers_ref().and_then(Status::from_header_map),
                },
                Some(Err(status)) => Some(status),
                None => None,
            };
            let without = || {
                Status::unknown(
                    "the call ended without a status: the request may have taken effect, so read before you repeat it",
                )
            };
            return Poll::Ready(Next::End(success(end.unwrap_or_else(without))));
        }
    }

    fn append(&mut self, data: Bytes) {
        if self.buffer.is_empty() {
            self.buffer = data;
            return;
        }
        let mut joined = BytesMut::with_capacity(self.buffer.len() + data.len());
        joined.extend_from_slice(&self.buffer);
        joined.extend_from_slice(&data);
        self.buffer = joined.freeze();
    }

    /// The first message in the buffer.
    fn message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((head, rest)) = self.buffer.split_first_chunk::<FRAME_HEAD_BYTES>() else {
            return Ok(None);
        };
        let [flag, length @ ..] = *head;
        // We did not say that we understand any compression.
        if flag != 0 {
            return Err(Status::internal("the service sent a compressed response"));
        }
        let length = u32::from_be_bytes(length) as usize;
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEAD_BYTES);
        Ok(Some(self.buffer.split_to(length)))
    }
}

fn success(status: Status) -> Result<(), Status> {
    match status.code() == Code::Ok {
        true => Ok(()),
        false => Err(status),
    }
}
