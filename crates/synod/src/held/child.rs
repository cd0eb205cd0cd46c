//! The command that runs: its signals, its end, its exit code.

use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use synod_runtime::clock;
use tokio::process::Child;
use tokio::signal::unix::{self, SignalKind};

/// Added to a signal's number, as shells do.
const SIGNAL_EXIT: i32 = 128;

/// A terminal sends some signals to all its programs, and so to the command, too.
pub(super) fn pass_on(child: &Child, signal: Signal) {
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

/// Ends the command: kindly at first.
pub(super) async fn end(child: &mut Child, kill_after: Duration) -> anyhow::Result<()> {
    pass_on(child, Signal::TERM);
    if clock::timeout(kill_after, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}

/// That of the command, as shells give it.
pub(super) fn exit_code(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, Some(signal)) => ended_by(signal),
        (None, None) => ExitCode::FAILURE,
    }
}

/// The exit code of a program that a signal has ended.
pub(super) fn ended_by(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(SIGNAL_EXIT + signal).unwrap_or(u8::MAX))
}

/// The signals that are passed on.
pub(super) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
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
    pub(super) async fn next(&mut self) -> Signal {
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
    use tokio::process::Command;

    use super::*;

    const KILL_AFTER: Duration = Duration::from_millis(100);

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
