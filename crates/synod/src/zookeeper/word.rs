//! Four-letter words: commands with an answer in plain text.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use synod_jute::FourLetterWord;
use synod_runtime::clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The longest answer that is read.
const MAX_ANSWER: u64 = 16 << 20;

/// A server's answer to a word.
///
/// # Errors
/// The server can't be reached, does not answer in time, or does not answer this word.
pub(crate) async fn ask(
    address: &str,
    word: FourLetterWord,
    within: Duration,
) -> anyhow::Result<String> {
    let letters = word.letters();
    let asked = async {
        let mut stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.write_all(letters.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    let answer: anyhow::Result<Vec<u8>> = match clock::timeout(within, asked).await {
        Ok(answer) => answer,
        Err(_) => bail!("{address} does not answer {letters} within {within:?}"),
    };
    let answer = String::from_utf8(answer?)
        .with_context(|| format!("the answer of {address} to {letters} is not text"))?;
    ensure!(
        !answer.contains("is not in the whitelist"),
        "{address} does not allow {letters}: start it with --4lw-whitelist={letters} \
         (ZooKeeper: 4lw.commands.whitelist)"
    );
    ensure!(
        !answer.is_empty(),
        "{address} closed the connection without an answer to {letters}"
    );
    Ok(answer)
}
