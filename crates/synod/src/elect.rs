//! `synod elect`: elections of the coordination service.

mod observe;
mod run;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::elections_client::ElectionsClient;

use crate::connect::Target;
use crate::coordination::Pods;
use crate::failure::Missing;
use crate::output::{self, Format, json_bytes, printable};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a command while leading
    Run(run::Arguments),
    /// Print the leader
    Leader(NameArguments),
    /// Print the leader now, and each time when it or its value changes
    Observe(NameArguments),
}

#[derive(Args)]
pub(crate) struct NameArguments {
    /// The election
    name: String,
    #[command(flatten)]
    pods: Pods,
}

/// Runs one `elect` command.
///
/// # Errors
/// The request failed, nobody leads, or the leadership was lost.
pub(crate) async fn run(
    command: Command,
    target: &Target,
    format: Format,
) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(arguments) => run::run(arguments, target).await,
        Command::Leader(arguments) => leader(arguments, target, format).await,
        Command::Observe(arguments) => observe::run(arguments, target, format).await,
    }
}

async fn leader(
    arguments: NameArguments,
    target: &Target,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let request = pb::LeaderRequest {
        name: arguments.name.clone(),
    };
    let answered = arguments.pods.ask(target, async |channel| {
        let mut elections = ElectionsClient::new(channel);
        Ok(elections.leader(request.clone()).await?.into_inner())
    });
    let Some(leader) = answered.await?.leader else {
        return Err(Missing(format!("nobody leads the election {}", arguments.name)).into());
    };
    print(&arguments.name, Some(&leader), format)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a leader, or that there is none.
fn print(election: &str, leader: Option<&pb::Leader>, format: Format) -> anyhow::Result<()> {
    if format == Format::Table {
        return Ok(output::line(&match leader {
            Some(leader) => format!("{} {}", leader.token, printable(&leader.value)),
            None => "nobody".to_owned(),
        })?);
    }
    let leader = leader.map_or(Value::Null, |leader| {
        json!({
            "token": leader.token,
            "value": json_bytes(&leader.value),
            "session": format!("{:x}", leader.session_id),
        })
    });
    output::json(&json!({"election": election, "leader": leader}))
}

#[cfg(test)]
mod tests;
