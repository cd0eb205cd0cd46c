//! `synod lock run`: a command that runs while a lock is held.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::locks_client::LocksClient;
use synod_runtime::clock;

use super::seconds;
use crate::connect::Target;
use crate::coordination::Session;
use crate::held::{self, Claim};

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
    /// After a failure, nobody gets the lock for this long, in seconds (at most 60)
    #[arg(long, value_parser = wait)]
    lock_delay: Option<Duration>,
    #[command(flatten)]
    run: held::Run,
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
    held::run(&arguments, &arguments.run, target).await
}

impl Claim for Arguments {
    fn name(&self) -> String {
        format!("the lock {}", self.name)
    }

    fn taken_by(&self) -> &'static str {
        "somebody broke the lock"
    }

    fn variables(&self, token: u64) -> [(&'static str, String); 2] {
        [
            ("SYNOD_LOCK_NAME", self.name.clone()),
            ("SYNOD_LOCK_TOKEN", token.to_string()),
        ]
    }

    async fn acquire(&self, session: &Session, request_id: &str) -> anyhow::Result<u64> {
        let mode = match self.shared {
            true => pb::LockMode::Shared,
            false => pb::LockMode::Exclusive,
        };
        let began = clock::now();
        let request = pb::AcquireRequest {
            session: Some(session.reference()),
            name: self.name.clone(),
            mode: mode.into(),
            request_id: request_id.to_owned(),
            lock_delay_ms: millis(self.lock_delay.unwrap_or_default()),
            owner: self.run.description(),
            wait_ms: None,
        };
        let response = session.call(async |channel| {
            let mut request = request.clone();
            // What is left, if the call is repeated.
            let left = self.wait.map(|wait| wait.saturating_sub(began.elapsed()));
            request.wait_ms = left.map(millis);
            let mut locks = LocksClient::new(channel);
            Ok(locks.acquire(request).await?.into_inner())
        });
        let response = response.await?;
        if !response.acquired {
            bail!(
                "the lock {} was not free in time; `synod lock ls {}` shows who has it",
                self.name,
                self.name
            );
        }
        Ok(response.token)
    }

    async fn release(&self, session: &Session, request_id: &str) -> anyhow::Result<()> {
        let request = pb::ReleaseRequest {
            session: Some(session.reference()),
            name: self.name.clone(),
            request_id: request_id.to_owned(),
        };
        let released = session.call(async |channel| {
            let mut locks = LocksClient::new(channel);
            Ok(locks.release(request.clone()).await?.into_inner())
        });
        released.await.map(drop)
    }

    async fn is_held(&self, session: &Session, token: u64) -> anyhow::Result<bool> {
        let request = pb::CheckRequest {
            name: self.name.clone(),
            token,
        };
        let checked = session.call(async |channel| {
            let mut locks = LocksClient::new(channel);
            Ok(locks.check(request.clone()).await?.into_inner().holds)
        });
        checked.await
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
