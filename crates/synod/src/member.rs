//! `synod member`: the cluster's members.

use clap::Subcommand;
use etcd_client::MemberAddOptions;
use serde_json::json;
use synod_consensus::JOINING_METADATA;
use synod_proto::etcd::etcdserverpb::{MemberListRequest, cluster_client::ClusterClient};

use crate::{
    connect::Target,
    failure,
    output::{self, Format},
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the members; one that is joining was added as a voter but does not count yet
    #[command(alias = "list")]
    Ls,
    /// Add a member with these peer URLs; start it afterwards
    Add {
        /// Its peer URLs
        #[arg(required = true)]
        peer_urls: Vec<String>,
        /// Add it as a learner: it receives the log but does not vote
        #[arg(long)]
        learner: bool,
    },
    /// Turn a learner that has caught up into a voter
    Promote {
        #[arg(value_parser = member_id)]
        id: u64,
    },
    /// Change a member's peer URLs
    Update {
        #[arg(value_parser = member_id)]
        id: u64,
        #[arg(required = true)]
        peer_urls: Vec<String>,
    },
    /// Remove a member for good
    Remove {
        #[arg(value_parser = member_id)]
        id: u64,
    },
    /// Hand leadership to this member
    MoveLeader {
        #[arg(value_parser = member_id)]
        id: u64,
    },
}

fn member_id(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16)
        .map_err(|_| format!("`{text}` is not a hexadecimal member id; see `synod member ls`"))
}

/// Runs one `member` command.
///
/// # Errors
/// The request failed. [`failure::UnknownOutcome`] if the change may have been done anyway.
pub(crate) async fn run(command: Command, target: &Target, format: Format) -> anyhow::Result<()> {
    let mut client = target.client().await?;
    match command {
        Command::Ls => {}
        Command::Add { peer_urls, learner } => {
            let options = learner.then(|| MemberAddOptions::new().with_is_learner());
            let added = client
                .member_add(peer_urls, options)
                .await
                .map_err(failure::of_write)?;
            let id = added.member().map(|member| format!("{:x}", member.id()));
            return output::result(format, &[("added", json!(id))]);
        }
        Command::Promote { id } => {
            client.member_promote(id).await.map_err(failure::of_write)?;
        }
        Command::Update { id, peer_urls } => {
            client
                .member_update(id, peer_urls)
                .await
                .map_err(failure::of_write)?;
        }
        Command::Remove { id } => {
            client.member_remove(id).await.map_err(failure::of_write)?;
        }
        Command::MoveLeader { id } => return move_leader(target, id, format).await,
    }
    let members = client.member_list().await?;
    let joining = joining(target).await;
    let rows = members
        .members()
        .iter()
        .map(|member| {
            let id = format!("{:x}", member.id());
            let role = role(member.is_learner(), joining.contains(&id));
            vec![
                json!(id),
                json!(member.name()),
                json!(member.peer_urls().join(",")),
                json!(member.client_urls().join(",")),
                json!(role),
            ]
        })
        .collect();
    output::rows(
        format,
        &["id", "name", "peer_urls", "client_urls", "role"],
        rows,
    )
}

/// A member's role in the quorum. A member that was added as a voter is joining, and counts once it
/// has caught up.
fn role(is_learner: bool, joins: bool) -> &'static str {
    match (is_learner, joins) {
        (true, _) => "learner",
        (false, true) => "joining",
        (false, false) => "voter",
    }
}

/// The members that don't count yet, which etcd's messages can't express. Empty if no endpoint
/// reports any, as with stock etcd.
async fn joining(target: &Target) -> Vec<String> {
    for endpoint in &target.endpoints {
        let asking = async {
            let channel = target.channel(endpoint).await.ok()?;
            let request = MemberListRequest { linearizable: true };
            ClusterClient::new(channel).member_list(request).await.ok()
        };
        let Ok(Some(list)) = tokio::time::timeout(target.timeout, asking).await else {
            continue;
        };
        let ids = list.metadata().get(JOINING_METADATA);
        let ids = ids.and_then(|ids| ids.to_str().ok()).unwrap_or_default();
        return ids.split(',').map(str::to_owned).collect();
    }
    Vec::new()
}

/// The request must be sent to the leader, so find it first.
async fn move_leader(target: &Target, id: u64, format: Format) -> anyhow::Result<()> {
    for endpoint in &target.endpoints {
        let mut client = target.client_to(std::slice::from_ref(endpoint)).await?;
        let status = client.status().await?;
        if status
            .header()
            .is_some_and(|header| header.member_id() == status.leader())
        {
            client.move_leader(id).await.map_err(failure::of_write)?;
            return output::result(format, &[("leader", json!(format!("{id:x}")))]);
        }
    }
    anyhow::bail!("the leader is not among the endpoints; name every member with --endpoints")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joining_member_is_not_a_voter_yet() {
        assert_eq!(role(false, false), "voter");
        assert_eq!(role(false, true), "joining");
        assert_eq!(role(true, false), "learner");
    }
}
