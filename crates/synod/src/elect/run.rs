//! `synod elect run`: a command that runs while its candidate leads.

use std::process::ExitCode;

use clap::Args;
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::elections_client::ElectionsClient;

use crate::connect::Target;
use crate::coordination::Session;
use crate::held::{self, Claim};

const HELP: &str = "\
Waits until it leads, and runs the command. When the command ends, the leadership does. The exit code
is that of the command, or 128 and the number of the signal that ended it. It is 1 if the leadership
was lost: then the command is ended as `synod lock run` does. The command has the fencing token in
SYNOD_ELECTION_TOKEN: pass it to what the leader writes to.";

#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// The election
    name: String,
    /// What observers see of the leader, such as its address; by default process and command
    #[arg(long)]
    value: Option<String>,
    #[command(flatten)]
    run: held::Run,
}

/// Runs the command while its candidate leads.
///
/// # Errors
/// The leadership was lost, or the command can't be run.
pub(super) async fn run(arguments: Arguments, target: &Target) -> anyhow::Result<ExitCode> {
    held::run(&arguments, &arguments.run, target).await
}

impl Claim for Arguments {
    fn name(&self) -> String {
        format!("the leadership of {}", self.name)
    }

    fn taken_by(&self) -> &'static str {
        "somebody removed the leader from the election"
    }

    fn variables(&self, token: u64) -> [(&'static str, String); 2] {
        [
            ("SYNOD_ELECTION_NAME", self.name.clone()),
            ("SYNOD_ELECTION_TOKEN", token.to_string()),
        ]
    }

    async fn acquire(&self, session: &Session, request_id: &str) -> anyhow::Result<u64> {
        let value = self.value.clone();
        let request = pb::CampaignRequest {
            session: Some(session.reference()),
            name: self.name.clone(),
            request_id: request_id.to_owned(),
            value: value.unwrap_or_else(|| self.run.description()).into(),
        };
        let elected = session.call(async |channel| {
            let mut elections = ElectionsClient::new(channel);
            Ok(elections.campaign(request.clone()).await?.into_inner())
        });
        Ok(elected.await?.token)
    }

    async fn release(&self, session: &Session, request_id: &str) -> anyhow::Result<()> {
        let request = pb::ResignRequest {
            session: Some(session.reference()),
            name: self.name.clone(),
            request_id: request_id.to_owned(),
        };
        let resigned = session.call(async |channel| {
            let mut elections = ElectionsClient::new(channel);
            Ok(elections.resign(request.clone()).await?.into_inner())
        });
        resigned.await.map(drop)
    }

    async fn is_held(&self, session: &Session, token: u64) -> anyhow::Result<bool> {
        let request = pb::LeaderRequest {
            name: self.name.clone(),
        };
        let looked = session.call(async |channel| {
            let mut elections = ElectionsClient::new(channel);
            Ok(elections.leader(request.clone()).await?.into_inner())
        });
        let leader = looked.await?.leader;
        Ok(leader.is_some_and(|leader| leader.token == token))
    }
}
