//! A plain HTTP/1.1 GET, sufficient for health and metrics pages.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const GET_TIMEOUT: Duration = Duration::from_secs(20);

/// The response to a GET.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// The HTTP status, for example 200.
    pub status: u16,
    /// The header lines after the status line.
    pub headers: String,
    /// The body, with chunked encoding decoded.
    pub body: String,
}

/// Sends `GET <path>` to `address` (`127.0.0.1:2379`), within `GET_TIMEOUT`.
///
/// # Errors
/// Nothing answers there, or not with HTTP.
pub async fn http_get(address: &str, path: &str) -> Result<HttpAnswer> {
    timeout(GET_TIMEOUT, get(address, path))
        .await
        .with_context(|| format!("http://{address}{path} did not answer in {GET_TIMEOUT:?}"))?
}

async fn get(address: &str, path: &str) -> Result<HttpAnswer> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).await?;
    let text = String::from_utf8_lossy(&raw);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("the response has no header")?;
    let (status_line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = status_line
        .split(' ')
        .nth(1)
        .context("the response has no status")?
        .parse()?;
    let chunked = headers
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    let body = if chunked {
        without_chunks(body)
    } else {
        body.to_owned()
    };
    Ok(HttpAnswer {
        status,
        headers: headers.to_owned(),
        body,
    })
}

fn without_chunks(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(..size).filter(|chunk| !chunk.is_empty()) else {
            break;
        };
        whole.push_str(chunk);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
