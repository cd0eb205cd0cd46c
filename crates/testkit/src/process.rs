//! A child process with its log and signals, which never outlives its test.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::lab::Lab;
use crate::until;

/// The number of log lines shown for a failed test.
const SHOWN_LOG_LINES: usize = 60;

/// A child process, running or ended, whose output goes to a file. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) name: &'a str,
    pub(crate) program: &'a Path,
    pub(crate) args: &'a [OsString],
    pub(crate) envs: &'a [(String, String)],
    pub(crate) log: PathBuf,
    /// The largest file the process may write, in bytes (`RLIMIT_FSIZE`).
    pub(crate) max_file_bytes: Option<u64>,
}

impl Process {
    pub(crate) fn start(launch: Launch<'_>) -> Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&launch.log)?;
        let mut command = command_that_dies_with_us(launch.program, launch.max_file_bytes);
        command
            .args(launch.args)
            .envs(launch.envs.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self {
            name: launch.name.to_owned(),
            child,
            log: launch.log,
        })
    }

    /// Starts a program of the test's own choice; its output goes to a log of the lab.
    ///
    /// # Errors
    /// It can't be started.
    pub fn run(lab: &Lab, name: &str, program: &Path, args: &[&str]) -> Result<Self> {
        let args: Vec<_> = args.iter().map(OsString::from).collect();
        Self::start(Launch {
            name,
            program,
            args: &args,
            envs: &[],
            log: lab.log(name),
            max_file_bytes: None,
        })
    }

    /// The name under which its log is shown.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operating system's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process is running.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends SIGKILL and waits until the process is gone.
    ///
    /// # Errors
    /// Waiting for the process failed.
    pub fn kill(&mut self) -> Result<()> {
        // An error here means that the process has already ended.
        drop(self.child.kill());
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGSTOP. The process keeps its sockets but doesn't answer.
    ///
    /// # Errors
    /// The process is gone.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Sends SIGCONT, after [`Process::pause`].
    ///
    /// # Errors
    /// The process is gone.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Sends SIGTERM and waits for the exit status.
    ///
    /// # Errors
    /// It is still running after `within`.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.ended(within).await
    }

    /// Waits for the exit status.
    ///
    /// # Errors
    /// It is still running after `within`.
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {} (log: {})", self.name, self.log_tail());
        until(&what, within, async || Ok(self.child.try_wait()?)).await
    }

    /// Everything that the process has written to stdout and stderr.
    #[must_use]
    pub fn log_text(&self) -> String {
        fs::read(&self.log)
            .map(|raw| String::from_utf8_lossy(&raw).into_owned())
            .unwrap_or_default()
    }

    /// The last lines of its log.
    fn log_tail(&self) -> String {
        tail(&self.log)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a child has a pid")?, signal)
            .with_context(|| format!("send {signal:?} to {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

/// The last lines of a log file.
pub(crate) fn tail(log: &Path) -> String {
    let raw = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&raw);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..].join("\n")
}

/// `setpriv --pdeathsig` makes the kernel kill the child when the thread that started it dies, even
/// if the test runner was killed without running destructors. It uses exec, so the pid stays the
/// same.
fn command_that_dies_with_us(program: &Path, max_file_bytes: Option<u64>) -> Command {
    let mut words: Vec<OsString> = Vec::new();
    let tool = |name: &str| Path::new("/usr/bin").join(name).is_file();
    if tool("setpriv") {
        words.extend(["setpriv", "--pdeathsig", "KILL", "--"].map(OsString::from));
    }
    if let Some(bytes) = max_file_bytes {
        words.extend([
            OsString::from("prlimit"),
            format!("--fsize={bytes}").into(),
            "--".into(),
        ]);
    }
    words.push(program.into());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}
