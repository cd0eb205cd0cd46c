//! The JSON workload: puts by HTTP/1.1 POST, as a program without a gRPC library makes them. Each
//! client has a connection of its own, since HTTP/1.1 answers one request after the other.

use std::{cell::RefCell, rc::Rc};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::future;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use synod_runtime::task;
use tokio::net::TcpStream;
use tonic::Status;

use super::{
    Shape,
    load::{closed_loop, random_key, value},
    report::Report,
};
use crate::connect::Target;

struct Connection {
    host: String,
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Connection {
    async fn open(endpoint: &str) -> anyhow::Result<Self> {
        let host = endpoint.strip_prefix("http://").unwrap_or(endpoint);
        ensure!(
            !host.contains("://"),
            "{endpoint}: the JSON workload works without TLS only; use an http:// endpoint"
        );
        let stream = TcpStream::connect(host)
            .await
            .with_context(|| format!("connect to {host}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the sender, or when the server closes the connection; then requests fail.
        task::spawn("bench-json", async move {
            let _ended = connection.await;
        });
        Ok(Self {
            host: host.to_owned(),
            sender,
        })
    }

    async fn put(&mut self, shape: &Shape) -> Result<(), Status> {
        let body = serde_json::json!({
            "key": STANDARD.encode(random_key(shape)),
            "value": STANDARD.encode(value(shape)),
        });
        let request = Request::post("/v3/kv/put")
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| Status::internal(error.to_string()))?;
        let lost = |error: hyper::Error| Status::unavailable(error.to_string());
        self.sender.ready().await.map_err(lost)?;
        let response = self.sender.send_request(request).await.map_err(lost)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(lost)?;
        match status.is_success() {
            true => Ok(()),
            false => Err(Status::unknown(format!(
                "{status}: {}",
                String::from_utf8_lossy(&body.to_bytes())
            ))),
        }
    }
}

/// Puts of random keys.
///
/// # Errors
/// An endpoint can't be reached, or isn't `http://`.
pub(crate) async fn put(shape: &Shape, target: &Target) -> anyhow::Result<Report> {
    let open = (0..usize::from(shape.clients))
        .map(|number| Connection::open(&target.endpoints[number % target.endpoints.len()]));
    let connections = future::try_join_all(open).await?;
    let connections: Vec<_> = connections
        .into_iter()
        .map(|connection| Rc::new(RefCell::new(Some(connection))))
        .collect();
    let (samples, elapsed) = closed_loop(shape, |number| {
        let place = Rc::clone(&connections[usize::from(number)]);
        move || {
            let place = Rc::clone(&place);
            async move {
                // Taken out during the request, so that no borrow is held across it.
                let taken = place.borrow_mut().take();
                let mut connection =
                    taken.ok_or_else(|| Status::unavailable("the connection was closed"))?;
                let answer = connection.put(shape).await;
                if !connection.sender.is_closed() {
                    place.borrow_mut().replace(connection);
                }
                answer
            }
        }
    })
    .await;
    Ok(samples.report("json-put", shape.clients, elapsed))
}
