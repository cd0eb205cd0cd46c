//! `synod status`: the status of each endpoint.

use serde_json::{Value, json};
use synod_consensus::ALGORITHM_METADATA;
use synod_proto::etcd::etcdserverpb::{StatusRequest, maintenance_client::MaintenanceClient};

use crate::{
    connect::Target,
    output::{self, Format},
};

/// Prints one row per endpoint. The row of an endpoint that doesn't answer shows its error.
///
/// # Errors
/// No endpoint answered, or standard output is closed.
pub(crate) async fn run(target: &Target, format: Format) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let mut last_error = None;
    let mut answered = false;
    for endpoint in &target.endpoints {
        match row(target, endpoint).await {
            Ok(row) => {
                answered = true;
                rows.push(row);
            }
            Err(error) => {
                rows.push(failed(endpoint, &error));
                last_error = Some(error);
            }
        }
    }
    let headings = [
        "endpoint", "member", "version", "engine", "role", "term", "index", "applied", "revision",
        "size", "errors",
    ];
    match last_error {
        Some(error) if !answered => Err(error),
        _ => output::rows(format, &headings, rows),
    }
}

async fn row(target: &Target, endpoint: &String) -> anyhow::Result<Vec<Value>> {
    let mut client = target.client_to(std::slice::from_ref(endpoint)).await?;
    let status = client.status().await?;
    let member = status.header().map_or(0, |header| header.member_id());
    let revision = status.header().map_or(0, |header| header.revision());
    let role = if status.is_learner() {
        "learner"
    } else if status.leader() == member {
        "leader"
    } else if status.leader() == 0 {
        "no leader"
    } else {
        "follower"
    };
    Ok(vec![
        json!(endpoint),
        json!(format!("{member:x}")),
        json!(status.version()),
        json!(algorithm(target, endpoint).await),
        json!(role),
        json!(status.raft_term()),
        json!(status.raft_index()),
        json!(status.raft_applied_index()),
        json!(revision),
        json!(status.db_size()),
        json!(status.errors().join("; ")),
    ])
}

/// The consensus algorithm, which etcd's messages can't express; `None` if the endpoint does not
/// report it, as with stock etcd.
async fn algorithm(target: &Target, endpoint: &str) -> Option<String> {
    let asking = async {
        let channel = target.channel(endpoint).await.ok()?;
        let mut client = MaintenanceClient::new(channel);
        let status = client.status(StatusRequest {}).await.ok()?;
        let name = status.metadata().get(ALGORITHM_METADATA)?;
        Some(name.to_str().ok()?.to_owned())
    };
    tokio::time::timeout(target.timeout, asking).await.ok()?
}

fn failed(endpoint: &str, error: &anyhow::Error) -> Vec<Value> {
    let mut row = vec![json!(endpoint)];
    row.resize(10, Value::Null);
    row.push(json!(format!("{error:#}")));
    row
}
