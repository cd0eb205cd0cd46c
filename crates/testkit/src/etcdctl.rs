//! Runs the real `etcdctl`, as operators do.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::lab::Lab;
use crate::process::Launch;
use crate::{Process, peers, until};

const RUN_TIMEOUT: Duration = Duration::from_secs(60);

/// An `etcdctl` with fixed endpoints.
#[derive(Clone, Debug)]
pub struct Etcdctl {
    program: PathBuf,
    endpoints: String,
    /// Flags of every command.
    flags: Vec<String>,
}

/// The output of a run of `etcdctl`.
#[derive(Clone, Debug)]
pub struct Output {
    /// Whether the exit status was 0.
    pub success: bool,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl Etcdctl {
    /// `etcdctl --endpoints=<endpoints>`. Installs the peers if they are missing.
    ///
    /// # Errors
    /// The peers can't be installed.
    pub fn new(endpoints: &[String]) -> Result<Self> {
        Ok(Self {
            program: peers::install()?.etcdctl,
            endpoints: endpoints.join(","),
            flags: Vec::new(),
        })
    }

    /// With these flags in every command.
    #[must_use]
    pub fn with_flags(mut self, flags: &[String]) -> Self {
        self.flags.extend_from_slice(flags);
        self
    }

    /// Runs a command, regardless of its exit status.
    ///
    /// # Errors
    /// It can't be started, or takes longer than `RUN_TIMEOUT`.
    pub async fn run(&self, words: &[&str]) -> Result<Output> {
        self.run_with_input(words, "").await
    }

    /// Runs a command with text on its stdin.
    ///
    /// # Errors
    /// It can't be started, or takes longer than `RUN_TIMEOUT`.
    pub async fn run_with_input(&self, words: &[&str], input: &str) -> Result<Output> {
        let mut child = Command::new(&self.program)
            .args(self.args(words))
            .env_remove("ETCDCTL_ENDPOINTS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("stdin is piped")?;
        // A command that reads no input may have exited before the text is written.
        drop(stdin.write_all(input.as_bytes()).await);
        drop(stdin);
        let output = tokio::time::timeout(RUN_TIMEOUT, child.wait_with_output())
            .await
            .with_context(|| format!("etcdctl {words:?} took over {RUN_TIMEOUT:?}"))??;
        Ok(Output {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command that must succeed, and returns its stdout.
    ///
    /// # Errors
    /// It failed; the error shows its stderr.
    pub async fn ok(&self, words: &[&str]) -> Result<String> {
        let output = self.run(words).await?;
        ensure!(
            output.success,
            "etcdctl {} failed: {}",
            words.join(" "),
            output.stderr
        );
        Ok(output.stdout)
    }

    /// Runs a command with `-w json` and returns the JSON.
    ///
    /// # Errors
    /// It failed or printed no JSON.
    pub async fn json(&self, words: &[&str]) -> Result<serde_json::Value> {
        let text = self.ok(&[words, &["-w", "json"]].concat()).await?;
        serde_json::from_str(&text).with_context(|| format!("etcdctl {words:?} printed {text}"))
    }

    /// Runs a command that must fail, and returns the last line of its stderr, which operators see.
    ///
    /// # Errors
    /// It succeeded.
    pub async fn fails(&self, words: &[&str]) -> Result<String> {
        let output = self.run(words).await?;
        ensure!(
            !output.success,
            "etcdctl {} should fail: {}",
            words.join(" "),
            output.stdout
        );
        Ok(output
            .stderr
            .trim()
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned())
    }

    /// Starts a command that runs until it is dropped, such as `watch`.
    ///
    /// # Errors
    /// It can't be started.
    pub fn session(&self, lab: &Lab, name: &str, words: &[&str]) -> Result<CtlSession> {
        let args: Vec<OsString> = self.args(words).into_iter().map(OsString::from).collect();
        let log = lab.log(name);
        Process::start(Launch {
            name,
            program: &self.program,
            args: &args,
            envs: &[],
            log,
            max_file_bytes: None,
        })
        .map(CtlSession)
    }

    fn args(&self, words: &[&str]) -> Vec<String> {
        std::iter::once(format!("--endpoints={}", self.endpoints))
            .chain(self.flags.iter().cloned())
            .chain(words.iter().map(|word| (*word).to_owned()))
            .collect()
    }
}

/// A long-running `etcdctl`.
#[derive(Debug)]
pub struct CtlSession(Process);

impl CtlSession {
    /// The output so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.log_text()
    }

    /// Waits until the output satisfies `enough`, and returns it.
    ///
    /// # Errors
    /// It doesn't within 60 s. The error includes the output.
    pub async fn prints(&self, enough: impl Fn(&str) -> bool) -> Result<String> {
        let look = async || Ok(Some(self.0.log_text()).filter(|text| enough(text)));
        until(
            &format!("{}'s output", self.0.name()),
            Duration::from_secs(60),
            look,
        )
        .await
        .with_context(|| format!("it printed {:?}", self.0.log_text()))
    }
}
