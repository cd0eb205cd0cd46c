//! The body of every response: tonic's, watched for the call's status.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::{Code, Status, body::Body};

use crate::hold::Hold;
use crate::metrics::Call;

/// Ends the call's account when the status has passed, or when the client went away and this is
/// dropped.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Body,
    call: Option<Call>,
    hold: Option<Hold>,
}

impl ResponseBody {
    pub(super) fn plain(body: Body) -> Self {
        Self {
            body,
            call: None,
            hold: None,
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
            hold: None,
        }
    }

    /// `hold` is kept until the last byte has left.
    pub(super) fn holding(self, hold: Option<Hold>) -> Self {
        Self { hold, ..self }
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
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(hold) = &self.hold {
            frame = frame.map(|frame| frame.map(|frame| frame.map_data(|data| hold.attach(data))));
        }
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
            && let Some(mut call) = self.call.take()
        {
            call.set_code(status_code(trailers).unwrap_or(Code::Unknown));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
