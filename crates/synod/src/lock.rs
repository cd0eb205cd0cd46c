//! `synod lock`: locks of the coordination service.

mod run;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::locks_client::LocksClient;

use crate::cli::seconds;
use crate::connect::Target;
use crate::coordination::{Pods, Session};
use crate::output::{self, Format};

/// Locks in a page.
const PAGE: u32 = 1_000;

/// A session that does no more than one call.
const SHORT_SESSION: Duration = Duration::from_secs(10);

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a command while holding a lock
    Run(run::Arguments),
    /// List locks with their holders and waiters
    #[command(alias = "list")]
    Ls(ListArguments),
    /// Take a lock away from its holder, or a waiter out of the queue
    Break(BreakArguments),
}

#[derive(Args)]
pub(crate) struct ListArguments {
    /// Only this lock
    name: Option<String>,
    #[command(flatten)]
    pods: Pods,
}

#[derive(Args)]
pub(crate) struct BreakArguments {
    name: String,
    /// The token of the holder or waiter; see `synod lock ls`
    token: u64,
    #[command(flatten)]
    pods: Pods,
}

/// Runs one `lock` command.
///
/// # Errors
/// The request failed, or the lock was not acquired or was lost.
pub(crate) async fn run(
    command: Command,
    target: &Target,
    format: Format,
) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(arguments) => run::run(arguments, target).await,
        Command::Ls(arguments) => list(arguments, target, format).await,
        Command::Break(arguments) => break_lock(arguments, target).await,
    }
}

async fn list(
    arguments: ListArguments,
    target: &Target,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let mut rows = Vec::new();
    let mut request = pb::ListLocksRequest {
        name: arguments.name.unwrap_or_default(),
        after: String::new(),
        limit: PAGE,
    };
    loop {
        let asked = &request;
        let page = arguments.pods.ask(target, async |channel| {
            let mut locks = LocksClient::new(channel);
            Ok(locks.list(asked.clone()).await?.into_inner())
        });
        let page = page.await?;
        request.after = page
            .locks
            .last()
            .map(|lock| lock.name.clone())
            .unwrap_or_default();
        rows.extend(page.locks.iter().flat_map(row));
        if !page.more {
            break;
        }
    }
    let headings = [
        "lock", "token", "mode", "state", "session", "owner", "since_ms",
    ];
    output::rows(format, &headings, rows)?;
    Ok(ExitCode::SUCCESS)
}

/// One for each holder and waiter, and one for a lock that is delayed.
fn row(lock: &pb::LockInfo) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    if lock.delayed {
        let state = "delayed: its holder's session expired";
        rows.push(vec![
            json!(lock.name),
            Value::Null,
            Value::Null,
            json!(state),
            Value::Null,
            Value::Null,
            Value::Null,
        ]);
    }
    for contender in &lock.contenders {
        let mode = match contender.mode() {
            pb::LockMode::Shared => "shared",
            pb::LockMode::Exclusive | pb::LockMode::Unspecified => "exclusive",
        };
        rows.push(vec![
            json!(lock.name),
            json!(contender.token),
            json!(mode),
            json!(if contender.holds { "holds" } else { "waits" }),
            json!(format!("{:x}", contender.session_id)),
            json!(contender.owner),
            json!(contender.since_ms),
        ]);
    }
    rows
}

async fn break_lock(arguments: BreakArguments, target: &Target) -> anyhow::Result<ExitCode> {
    let session = Session::open(target, &arguments.pods, SHORT_SESSION).await?;
    let request = pb::BreakRequest {
        session: Some(session.reference()),
        name: arguments.name.clone(),
        token: arguments.token,
    };
    // Safe to repeat: a token is never given twice.
    let broken = session.call(async |channel| {
        let mut locks = LocksClient::new(channel);
        Ok(locks.r#break(request.clone()).await?.into_inner().broken)
    });
    let broken = broken.await?;
    session.close().await?;
    anyhow::ensure!(
        broken,
        "nobody has the token {} in the queue of the lock {}; see `synod lock ls`",
        arguments.token,
        arguments.name
    );
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
