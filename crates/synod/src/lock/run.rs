//! `synod lock run`: a command that runs while a lock is held.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use synod_proto::coordination::v1 as pb;
use synod_runtime::{clock, random};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};

use super::seconds;
use crate::connect::Target;
use crate::coordination::{Pods, Session};

/// A command that lost its lock is killed if it does not end within this time, or within a quarter
/// of the session's timeout: a third of the timeout is left when the lock is given up.
const KILL_AFTER: Duration = Duration::from_secs(1);

/// The lock is checked after this part of the session's timeout.
const CHECK_PARTS: u32 = 3;

/// Added to a signal's number, as shells do.
const SIGNAL_EXIT: i32 = 128;

const HELP: &str = "\
The exit code is that of the command, or 128 and the number of the signal that ended it. It is 1 if
the lock was not acquired, or was lost or broken: then the command is ended with SIGTERM, and with
SIGKILL after a second, or a quarter of the session's timeout if that is less. The command has the
fencing token in SYNOD_LOCK_TOKEN: pass it to what the lock protects. Signals are passed on to the
command alone: a shell script does well to `exec` what it runs.";

#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// The lock
    name: String,
    /// Several holders at a time, but none without --shared
    #[arg(long)]
    shared: bool,
    /// How long to wait for the lock, in seconds; 0: not at all; by default without end
    #[arg(long, value_parser = wait)]
    wait: Option<Duration>,
    /// After how long without contact the lock may go to another, in seconds
    #[arg(long, default_value = "10", value_parser = seconds)]
    session_timeout: Duration,
    /// After a failure, nobody gets the lock for this long, in seconds (at most 60)
    #[arg(long, value_parser = wait)]
    lock_delay: Option<Duration>,
    #[command(flatten)]
    pods: Pods,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Like [`seconds`], or zero.
fn wait(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        text => seconds(text),
    }
}

/// Runs the command while the lock is held.
///
/// # Errors
/// The lock was not acquired, or was lost, or the command can't be run.
pub(super) async fn run(arguments: Arguments, target: &Target) -> anyhow::Result<ExitCode> {
    // Before the lock is acquired, so that a signal never ends this process without a release.
    let mut signals = Signals::new()?;
    let session = Session::open(target, &arguments.pods, arguments.session_timeout).await?;
    let request_id = format!("{:016x}", random::u64());
    let acquired = tokio::select! {
        biased; // a lock that was acquired is used or released
        acquired = acquire(&session, &arguments, &request_id) => Ok(acquired),
        signal = signals.next() => Err(signal),
    };
    let outcome = match acquired {
        Ok(Ok(token)) => {
            let outcome = supervise(&session, &arguments, token, &mut signals).await;
            // A session that ends without a release may leave a lock delay. If the release fails,
            // the end of the session is tried nevertheless, and says why.
            drop(release(&session, &arguments, &request_id).await);
            outcome
        }
        Ok(Err(error)) => Err(error),
        Err(signal) => Ok(ended_by(signal.as_raw())),
    };
    let closed = session.close().await;
    let code = outcome?;
    if let Err(error) = closed {
        // If standard error is closed, the warning can't be given.
        let _ = writeln!(std::io::stderr(), "synod: warning: {error:#}");
    }
    Ok(code)
}

async fn acquire(
    session: &Session,
    arguments: &Arguments,
    request_id: &str,
) -> anyhow::Result<u64> {
    let mode = match arguments.shared {
        true => pb::LockMode::Shared,
        false => pb::LockMode::Exclusive,
    };
    let delay = arguments.lock_delay.unwrap_or_default();
    let program = arguments
        .command
        .first()
        .map(|program| program.to_string_lossy());
    let began = clock::now();
    let request = pb::AcquireRequest {
        session: Some(session.reference()),
        name: arguments.name.clone(),
        mode: mode.into(),
        request_id: request_id.to_owned(),
        lock_delay_ms: millis(delay),
        owner: format!(
            "process {}: {}",
            std::process::id(),
            program.unwrap_or_default()
        )
        .chars()
        .take(256)
        .collect(),
        wait_ms: None,
    };
    let response = session.call(async |mut locks| {
        let mut request = request.clone();
        // What is left, if the call is repeated.
        let left = arguments
            .wait
            .map(|wait| wait.saturating_sub(began.elapsed()));
        request.wait_ms = left.map(millis);
        Ok(locks.acquire(request).await?.into_inner())
    });
    let response = response.await?;
    if !response.acquired {
        bail!(
            "the lock {} was not free in time; `synod lock ls {}` shows who has it",
            arguments.name,
            arguments.name
        );
    }
    Ok(response.token)
}

async fn release(session: &Session, arguments: &Arguments, request_id: &str) -> anyhow::Result<()> {
    let request = pb::ReleaseRequest {
        session: Some(session.reference()),
        name: arguments.name.clone(),
        request_id: request_id.to_owned(),
    };
    session
        .call(async |mut locks| Ok(locks.release(request.clone()).await?.into_inner()))
        .await
        .map(drop)
}

/// Resolves when the token is not that of a holder any more: somebody broke the lock.
///
/// # Cancel safety
/// Safe to drop.
async fn broken(session: &Session, arguments: &Arguments, token: u64) {
    let request = pb::CheckRequest {
        name: arguments.name.clone(),
        token,
    };
    loop {
        clock::sleep(session.timeout() / CHECK_PARTS).await;
        let checked = session
            .call(async |mut locks| Ok(locks.check(request.clone()).await?.into_inner().holds));
        // What can't be checked lasts as long as the session.
        if matches!(checked.await, Ok(false)) {
            return;
        }
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Runs the command until it ends, or the lock is lost.
async fn supervise(
    session: &Session,
    arguments: &Arguments,
    token: u64,
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    let (program, rest) = arguments
        .command
        .split_first()
        .context("a command is needed")?;
    let mut child = Command::new(program)
        .args(rest)
        .env("SYNOD_LOCK_NAME", &arguments.name)
        .env("SYNOD_LOCK_TOKEN", token.to_string())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", program.to_string_lossy()))?;
    let kill_after = KILL_AFTER.min(session.timeout() / 4);
    let broken = broken(session, arguments, token);
    tokio::pin!(broken);
    loop {
        tokio::select! {
            biased; // a command that has ended needs nothing more
            status = child.wait() => return Ok(exit_code(status?)),
            reason = session.lost() => {
                end(&mut child, kill_after).await?;
                bail!("the lock {} was lost, and the command was ended: {reason}", arguments.name);
            }
            () = &mut broken => {
                end(&mut child, kill_after).await?;
                bail!(
                    "the lock {} was lost, and the command was ended: somebody broke the lock",
                    arguments.name
                );
            }
            signal = signals.next() => pass_on(&child, signal),
        }
    }
}

/// A terminal sends some signals to all its programs, and so to the command, too.
fn pass_on(child: &Child, signal: Signal) {
    let is_terminals = matches!(signal, Signal::INT | Signal::QUIT);
    if is_terminals && std::io::stdin().is_terminal() {
        return;
    }
    if let Some(pid) = pid(child) {
        // The command may have ended at this moment.
        let _gone = kill_process(pid, signal);
    }
}

fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

async fn end(child: &mut Child, kill_after: Duration) -> anyhow::Result<()> {
    pass_on(child, Signal::TERM);
    if clock::timeout(kill_after, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}

fn exit_code(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, Some(signal)) => ended_by(signal),
        (None, None) => ExitCode::FAILURE,
    }
}

fn ended_by(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(SIGNAL_EXIT + signal).unwrap_or(u8::MAX))
}

/// The signals that are passed on.
struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let kinds = [
            (Signal::TERM, SignalKind::terminate()),
            (Signal::INT, SignalKind::interrupt()),
            (Signal::QUIT, SignalKind::quit()),
            (Signal::HUP, SignalKind::hangup()),
            (Signal::USR1, SignalKind::user_defined1()),
            (Signal::USR2, SignalKind::user_defined2()),
        ];
        let signals = kinds.into_iter();
        let signals = signals.map(|(signal, kind)| Ok((signal, unix::signal(kind)?)));
        Ok(Self(signals.collect::<anyhow::Result<_>>()?))
    }

    /// The next signal.
    ///
    /// # Cancel safety
    /// Safe to drop.
    async fn next(&mut self) -> Signal {
        let received = std::future::poll_fn(|context| {
            for (signal, stream) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*signal);
                }
            }
            std::task::Poll::Pending
        });
        received.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_reaches_the_command() {
        let script = "trap 'exit 9' USR1; echo ready; while true; do sleep 0.05; done";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        let mut out = child.stdout.take().unwrap();
        tokio::io::AsyncReadExt::read_exact(&mut out, &mut ready)
            .await
            .unwrap();
        pass_on(&child, Signal::USR1);
        assert_eq!(child.wait().await.unwrap().code(), Some(9));
    }

    #[tokio::test]
    async fn a_command_that_ignores_the_end_is_killed() {
        let script = "trap '' TERM; echo ready; while true; do sleep 0.05; done";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        let mut out = child.stdout.take().unwrap();
        tokio::io::AsyncReadExt::read_exact(&mut out, &mut ready)
            .await
            .unwrap();
        end(&mut child, KILL_AFTER).await.unwrap();
        let signal = child.wait().await.unwrap().signal();
        assert_eq!(signal, Some(Signal::KILL.as_raw()));
    }
}
