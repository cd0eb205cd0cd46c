//! Runs a program that checks a server. On stdout it reports (`passed: <scenario>`,
//! `failed: <scenario>: <why>`) and asks (`ask: kill 0`); the answer on its stdin is `done`.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use synod_testkit::Lab;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::clients::Runnable;
use crate::clusters::Deployment;

/// Timeout for a program; on a busy machine the longest takes 40 s.
const RUN_TIMEOUT: Duration = Duration::from_secs(200);

/// Runs the scenarios of a program, all of which must pass.
pub(crate) async fn check(
    lab: &Lab,
    deployment: &mut Deployment,
    runnable: &Runnable,
    scenarios: &[&str],
) -> Result<()> {
    let mut command = Command::new(&runnable.program);
    command
        .args(&runnable.args)
        .args(scenarios)
        .envs(runnable.envs.iter().cloned())
        // Python's client would trust these instead of what it is told.
        .env_remove("REQUESTS_CA_BUNDLE")
        .env_remove("CURL_CA_BUNDLE")
        .env("ENDPOINTS", deployment.endpoints.join(","))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(certificates) = &deployment.certificates {
        command.envs(certificates.envs());
    }
    let mut child = command
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    let mut input = child.stdin.take().context("stdin is piped")?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
    let mut stderr = child.stderr.take().context("stderr is piped")?;
    let mut errors = Vec::new();
    let mut said = Vec::new();
    let talk = async {
        while let Some(line) = lines.next_line().await? {
            said.push(line.clone());
            if let Some(request) = line.strip_prefix("ask: ") {
                deployment.serve(lab, request).await?;
                input.write_all(b"done\n").await?;
            }
        }
        Ok::<_, anyhow::Error>(child.wait().await?)
    };
    let listen = async { Ok(stderr.read_to_end(&mut errors).await?) };
    let both = async { tokio::try_join!(talk, listen) };
    let status = match timeout(RUN_TIMEOUT, both).await {
        Ok(ended) => ended?.0,
        Err(_) => bail!("{scenarios:?} took over {RUN_TIMEOUT:?}; it said {said:#?}"),
    };
    let passed: Vec<&str> = said
        .iter()
        .filter_map(|line| line.strip_prefix("passed: "))
        .collect();
    ensure!(
        status.success() && passed == scenarios,
        "{scenarios:?}: {status}\n{}\n{}",
        said.join("\n"),
        String::from_utf8_lossy(&errors)
    );
    Ok(())
}
