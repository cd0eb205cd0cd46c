//! Runs curl.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long anything may take that should happen soon.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) version: String,
    pub(super) status: u16,
    headers: String,
    pub(super) body: String,
}

impl Answer {
    /// The beginning of a stream, whose head was not looked at.
    pub(super) fn of_lines(lines: &[String]) -> Self {
        Self {
            version: String::new(),
            status: 200,
            headers: String::new(),
            body: lines.join("\n"),
        }
    }

    /// A header's value; nothing if it isn't there.
    pub(super) fn header(&self, name: &str) -> &str {
        let lines = self
            .headers
            .lines()
            .filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        found.next().map_or("", |(_, value)| value)
    }
}

async fn start(args: &[&str], body: &str) -> Result<Child> {
    let mut child = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60"])
        // Without this header curl asks before it sends a large body.
        .args(["-H", "Expect:"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start curl, which this test needs: install it")?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    stdin.write_all(body.as_bytes()).await?;
    Ok(child)
}

/// Runs curl to its end. `body` is its input.
pub(super) async fn curl(args: &[&str], body: &str) -> Result<Answer> {
    let args = [&["--include"], args].concat();
    let child = start(&args, body).await?;
    let output = timeout(SOON, child.wait_with_output()).await??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "curl {args:?}: {said}");
    let text = String::from_utf8(output.stdout)?;
    let (head, body) = text.split_once("\r\n\r\n").context("a head")?;
    let (first, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let mut words = first.split(' ');
    let version = words.next().and_then(|word| word.strip_prefix("HTTP/"));
    Ok(Answer {
        version: version.context("a version")?.to_owned(),
        status: words.next().context("a status")?.parse()?,
        headers: headers.to_owned(),
        body: body.to_owned(),
    })
}

/// The first lines of a response that goes on.
pub(super) async fn lines(args: &[&str], count: usize) -> Result<Vec<String>> {
    let mut child = start(args, "").await?;
    let mut reader = BufReader::new(child.stdout.take().context("a pipe")?).lines();
    let mut lines = Vec::new();
    while lines.len() < count {
        let line = timeout(SOON, reader.next_line()).await;
        let line = line.with_context(|| format!("line {} of {args:?}", lines.len() + 1))??;
        lines.push(line.with_context(|| format!("{args:?} ended after {lines:?}"))?);
    }
    Ok(lines)
}
