//! gRPC calls with hand-made bytes, without a client library in between.

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes};
use synod_testkit::Refused;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::tokio_stream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Sends one message, and returns the answer's bytes or the refusal.
pub(crate) async fn call(
    endpoint: &str,
    method: &'static str,
    message: Vec<u8>,
) -> Result<Result<Vec<u8>, Refused>> {
    call_as(endpoint, None, method, message).await
}

/// [`call`] with a token.
pub(crate) async fn call_as(
    endpoint: &str,
    token: Option<&str>,
    method: &'static str,
    message: Vec<u8>,
) -> Result<Result<Vec<u8>, Refused>> {
    let mut grpc = connect(endpoint).await?;
    let path = PathAndQuery::from_static(method);
    let answer = grpc.unary(with(token, message)?, path, BytesCodec).await;
    Ok(answer
        .map(tonic::Response::into_inner)
        .map_err(|status| refusal(&status)))
}

/// Sends one message on a stream, and returns the first answer's bytes or the refusal.
pub(crate) async fn first_as(
    endpoint: &str,
    token: Option<&str>,
    method: &'static str,
    message: Vec<u8>,
) -> Result<Result<Vec<u8>, Refused>> {
    let mut grpc = connect(endpoint).await?;
    // The stream stays open: closing it would race with the answer.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(message).await?;
    let path = PathAndQuery::from_static(method);
    let request = with(token, ReceiverStream(receiver))?;
    let first = async {
        let mut answers = grpc.streaming(request, path, BytesCodec).await?;
        let first = answers.get_mut().message().await?;
        first.ok_or_else(|| Status::unknown("the stream ended without an answer"))
    };
    Ok(first.await.map_err(|status| refusal(&status)))
}

/// Sends one message, and returns the first of the answers or the refusal.
pub(crate) async fn download_as(
    endpoint: &str,
    token: Option<&str>,
    method: &'static str,
    message: Vec<u8>,
) -> Result<Result<Vec<u8>, Refused>> {
    let mut grpc = connect(endpoint).await?;
    let path = PathAndQuery::from_static(method);
    let request = with(token, message)?;
    let first = async {
        let mut answers = grpc.server_streaming(request, path, BytesCodec).await?;
        let first = answers.get_mut().message().await?;
        first.ok_or_else(|| Status::unknown("the stream ended without an answer"))
    };
    Ok(first.await.map_err(|status| refusal(&status)))
}

fn with<T>(token: Option<&str>, message: T) -> Result<Request<T>> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.parse()?);
    }
    Ok(request)
}

/// Sends messages on one stream, and returns as many answers.
pub(crate) async fn exchange(
    endpoint: &str,
    method: &'static str,
    messages: Vec<Vec<u8>>,
) -> Result<Vec<Vec<u8>>> {
    let mut grpc = connect(endpoint).await?;
    let wanted = messages.len();
    // The stream stays open: closing it would race with the answers.
    let (sender, receiver) = tokio::sync::mpsc::channel(wanted.max(1));
    for message in messages {
        sender.send(message).await?;
    }
    let requests = tokio_stream::StreamExt::take(ReceiverStream(receiver), usize::MAX);
    let mut answers = grpc
        .streaming(
            Request::new(requests),
            PathAndQuery::from_static(method),
            BytesCodec,
        )
        .await?
        .into_inner();
    let mut received = Vec::new();
    while received.len() < wanted {
        received.push(answers.message().await?.context("the stream ended")?);
    }
    Ok(received)
}

async fn connect(endpoint: &str) -> Result<Grpc<Channel>> {
    let channel = Endpoint::from_shared(endpoint.to_owned())?
        .connect()
        .await?;
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    Ok(grpc)
}

fn refusal(status: &Status) -> Refused {
    Refused::with(&format!("{:?}", status.code()), status.message())
}

struct ReceiverStream(tokio::sync::mpsc::Receiver<Vec<u8>>);

impl tokio_stream::Stream for ReceiverStream {
    type Item = Vec<u8>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put_slice(&message);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let whole: Bytes = source.copy_to_bytes(source.remaining());
        Ok(Some(whole.to_vec()))
    }
}
