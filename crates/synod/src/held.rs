//! A command that runs while something is held: a lock, or the leadership of an election.

mod child;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use synod_runtime::{clock, random};
use tokio::process::Command;

use self::child::{Signals, end, ended_by, exit_code, pass_on};
use crate::cli::seconds;
use crate::connect::Target;
use crate::coordination::{Pods, Session};

/// A command that lost what it runs under is killed if it does not end within this time, or within
/// a quarter of the session's timeout: a third of the timeout is left when it is given up.
const KILL_AFTER: Duration = Duration::from_secs(1);

/// Whether it is still held is checked after this part of the session's timeout.
const CHECK_PARTS: u32 = 3;

/// The most characters of a description. A lock takes 1024 bytes.
const MAX_DESCRIPTION: usize = 256;

#[derive(Args)]
pub(crate) struct Run {
    /// After how long without contact it may go to another, in seconds
    #[arg(long, default_value = "10", value_parser = seconds)]
    session_timeout: Duration,
    #[command(flatten)]
    pods: Pods,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Run {
    /// Describes the holder to people.
    pub(crate) fn description(&self) -> String {
        let program = self.command.first();
        let program = program.map(|program| program.to_string_lossy());
        let text = format!(
            "process {}: {}",
            std::process::id(),
            program.unwrap_or_default()
        );
        text.chars().take(MAX_DESCRIPTION).collect()
    }
}

/// What a command runs under. All calls name the same request, and are safe to repeat.
pub(crate) trait Claim {
    /// Its name in messages, such as `the lock a`.
    fn name(&self) -> String;

    /// Why it may be lost while the session lives.
    fn taken_by(&self) -> &'static str;

    /// Variables of the command: the name, and the token.
    fn variables(&self, token: u64) -> [(&'static str, String); 2];

    /// Waits for it, and returns its fencing token.
    async fn acquire(&self, session: &Session, request_id: &str) -> anyhow::Result<u64>;

    /// Gives it up, or leaves the queue.
    async fn release(&self, session: &Session, request_id: &str) -> anyhow::Result<()>;

    /// Whether the token is still that of a holder.
    async fn is_held(&self, session: &Session, token: u64) -> anyhow::Result<bool>;
}

/// Runs the command while the claim is held.
///
/// # Errors
/// It was not acquired, or was lost, or the command can't be run.
pub(crate) async fn run(
    claim: &impl Claim,
    arguments: &Run,
    target: &Target,
) -> anyhow::Result<ExitCode> {
    // Before anything is acquired, so that a signal never ends this process without a release.
    let mut signals = Signals::new()?;
    let session = Session::open(target, &arguments.pods, arguments.session_timeout).await?;
    let request_id = format!("{:016x}", random::u64());
    let acquired = tokio::select! {
        biased; // what was acquired is used or released
        acquired = claim.acquire(&session, &request_id) => Ok(acquired),
        signal = signals.next() => Err(signal),
    };
    let outcome = match acquired {
        Ok(Ok(token)) => {
            let outcome = supervise(claim, &session, &arguments.command, token, &mut signals).await;
            // A session that ends without a release may leave a lock delay. If the release fails,
            // the end of the session is tried nevertheless, and says why.
            drop(claim.release(&session, &request_id).await);
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

/// Runs the command until it ends, or the claim is lost.
async fn supervise(
    claim: &impl Claim,
    session: &Session,
    command: &[OsString],
    token: u64,
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    let (program, rest) = command.split_first().context("a command is needed")?;
    let mut child = Command::new(program)
        .args(rest)
        .envs(claim.variables(token))
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", program.to_string_lossy()))?;
    let kill_after = KILL_AFTER.min(session.timeout() / 4);
    let taken = taken(claim, session, token);
    tokio::pin!(taken);
    let reason = loop {
        tokio::select! {
            biased; // a command that has ended needs nothing more
            status = child.wait() => return Ok(exit_code(status?)),
            reason = session.lost() => break reason,
            () = &mut taken => break claim.taken_by().to_owned(),
            signal = signals.next() => pass_on(&child, signal),
        }
    };
    end(&mut child, kill_after).await?;
    let name = claim.name();
    bail!("{name} was lost, and the command was ended: {reason}")
}

/// Resolves when the token is not that of a holder any more.
///
/// # Cancel safety
/// Safe to drop.
async fn taken(claim: &impl Claim, session: &Session, token: u64) {
    loop {
        clock::sleep(session.timeout() / CHECK_PARTS).await;
        // What can't be checked lasts as long as the session.
        if matches!(claim.is_held(session, token).await, Ok(false)) {
            return;
        }
    }
}
