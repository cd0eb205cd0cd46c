//! A response in JSON, from the messages of a call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::Full;
use synod_json::{MessageId, Schema, WireError, Writer};
use tonic::{Status, body::Body};

use super::error::{self, Refusal};
use super::frames::{Frames, Next};
use super::request::Failure;

/// A longer response is sent in pieces of about this size, so that its JSON is never in memory as
/// a whole.
const PIECE_BYTES: usize = 64 << 10;

/// Translates the responses of a method.
#[derive(Debug, Clone)]
pub(super) struct Translate {
    pub(super) schema: Arc<Schema>,
    pub(super) output: MessageId,
}

impl Translate {
    /// The response of a method that has one.
    ///
    /// # Errors
    /// The call failed.
    pub(super) async fn one(
        self,
        mut frames: Frames,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Refusal> {
        let message = match frames.next().await {
            Next::Message(message) => message,
            Next::End(Err(status)) => return Err(status.into()),
            Next::End(Ok(())) => return Err(defect("reported success without a response")),
        };
        match frames.next().await {
            Next::End(Ok(())) => {}
            Next::End(Err(status)) => return Err(status.into()),
            Next::Message(_) => return Err(defect("sent two responses to one request")),
        }
        let mut writer = Writer::new(self.output, message);
        let mut text = Vec::new();
        let is_complete = writer.write(&self.schema, PIECE_BYTES, &mut text);
        let first = Bytes::from(text);
        let body = match is_complete.map_err(|error| broken(&error))? {
            true => Body::new(Full::new(first)),
            false => Body::new(Pieces {
                schema: self.schema,
                rest: Some(writer),
                first: Some(first),
            }),
        };
        let mut response = error::json(StatusCode::OK, body);
        show_metadata(headers, response.headers_mut());
        Ok(response)
    }

    /// The response of a streaming method: a line for each message. As in grpc-gateway, the head is
    /// sent with the first message, so that its status can report an earlier error.
    pub(super) async fn many(
        self,
        mut frames: Frames,
        headers: &HeaderMap,
        failure: Failure,
    ) -> Response<Body> {
        let first = frames.next().await;
        let is_empty = matches!(first, Next::End(Ok(())));
        let status = match &first {
            Next::End(Err(status)) => {
                let status = failure.get().unwrap_or_else(|| status.clone());
                error::http_status(status.code())
            }
            Next::Message(_) | Next::End(Ok(())) => StatusCode::OK,
        };
        let lines = Lines {
            translate: self,
            frames,
            first: Some(first),
            failure,
            has_ended: false,
        };
        let mut response = error::json(status, Body::new(lines));
        if is_empty {
            response.headers_mut().remove(header::CONTENT_TYPE);
        }
        if status == StatusCode::OK {
            show_metadata(headers, response.headers_mut());
        }
        response
    }

    fn line(&self, message: Bytes) -> Result<Bytes, Status> {
        let mut line = Vec::with_capacity(message.len() * 3 / 2);
        line.extend_from_slice(b"{\"result\":");
        let mut writer = Writer::new(self.output, message);
        let written = writer.write(&self.schema, usize::MAX, &mut line);
        written.map_err(|error| broken(&error))?;
        line.extend_from_slice(b"}\n");
        Ok(line.into())
    }
}

/// The metadata of a response has names with a prefix, as in grpc-gateway.
fn show_metadata(metadata: &HeaderMap, headers: &mut HeaderMap) {
    for (name, value) in metadata {
        if let Ok(name) = HeaderName::try_from(format!("grpc-metadata-{name}")) {
            headers.append(name, value.clone());
        }
    }
}

/// A response that no service of this process makes, as far as we know.
fn defect(what: &str) -> Refusal {
    let text = format!(
        "the server {what}, which is a defect of it: the request may have taken effect, so read before you repeat it"
    );
    Status::internal(text).into()
}

/// The services of this process encode their responses, so this does not happen.
fn broken(error: &WireError) -> Status {
    Status::internal(format!("the response can't be translated to JSON: {error}"))
}

fn error_line(status: &Status) -> Bytes {
    let mut line = b"{\"error\":".to_vec();
    error::write(status, &mut line);
    line.extend_from_slice(b"}\n");
    line.into()
}

/// A large response.
struct Pieces {
    schema: Arc<Schema>,
    first: Option<Bytes>,
    /// `None`: the message is complete.
    rest: Option<Writer>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(mut writer) = self.rest.take() else {
            return Poll::Ready(None);
        };
        let mut text = Vec::with_capacity(PIECE_BYTES);
        let is_complete = writer.write(&self.schema, PIECE_BYTES, &mut text);
        Poll::Ready(Some(match is_complete {
            Ok(is_complete) => {
                self.rest = (!is_complete).then_some(writer);
                Ok(Frame::data(text.into()))
            }
            Err(error) => Err(broken(&error)),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }
}

/// One message a line.
struct Lines {
    translate: Translate,
    frames: Frames,
    first: Option<Next>,
    failure: Failure,
    has_ended: bool,
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.has_ended {
            return Poll::Ready(None);
        }
        let next = match this.first.take() {
            Some(first) => first,
            // A stream that always has a message never waits for its deadline.
            None => match this.frames.check_deadline() {
                Ok(()) => ready!(this.frames.poll_next(context)),
                Err(passed) => Next::End(Err(passed)),
            },
        };
        let line = match next {
            Next::Message(message) => this.translate.line(message),
            Next::End(ended) => {
                this.has_ended = true;
                // An error in the requests explains more than the status of the service.
                match this.failure.get().map_or(ended, Err) {
                    Ok(()) => return Poll::Ready(None),
                    Err(status) => Err(status),
                }
            }
        };
        let line = line.unwrap_or_else(|status| {
            this.has_ended = true;
            error_line(&status)
        });
        Poll::Ready(Some(Ok(Frame::data(line))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}
