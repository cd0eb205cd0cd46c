//! `synod elect observe`: prints leaders as they change.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::elections_client::ElectionsClient;
use synod_runtime::{clock, random};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::{NameArguments, print};
use crate::connect::Target;
use crate::coordination::{failed, is_transient, no_pod};
use crate::output::Format;

/// The pause before another pod is tried, at most; half of it at least.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Observes through one pod after the other, until it is ended.
///
/// # Errors
/// A refusal, or no pod can be reached.
pub(super) async fn run(
    arguments: NameArguments,
    target: &Target,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let channels = arguments.pods.channels(target)?;
    let mut told = None;
    let mut failures = 0;
    for (url, channel) in channels.iter().cycle() {
        let observed = async {
            let mut leaders = start(channel.clone(), &arguments.name, target.timeout).await?;
            while let Some(response) = leaders.message().await? {
                failures = 0;
                if told.as_ref() != Some(&response) {
                    let printed = print(&arguments.name, response.leader.as_ref(), format);
                    printed.map_err(|error| Status::aborted(format!("{error:#}")))?;
                    told = Some(response);
                }
            }
            Err(Status::unavailable("the pod ended the stream"))
        };
        let observed: Result<(), Status> = observed.await;
        let Err(status) = observed else { continue };
        if !is_transient(&status) {
            return Err(failed(status));
        }
        failures += 1;
        let reason = status.message().to_owned();
        if failures >= 2 * channels.len() && told.is_none() {
            anyhow::bail!("coordination service at {url}: {reason}");
        }
        // If standard error is closed, the warning can't be given.
        let _ = writeln!(
            std::io::stderr(),
            "synod: {url}: {reason}; trying another pod"
        );
        clock::sleep(random::jitter(RETRY_AFTER)).await;
    }
    Err(no_pod())
}

/// A stream of leaders, whose first one comes at once.
async fn start(
    channel: Channel,
    name: &str,
    within: Duration,
) -> Result<Streaming<pb::LeaderResponse>, Status> {
    let request = pb::LeaderRequest {
        name: name.to_owned(),
    };
    let mut elections = ElectionsClient::new(channel);
    match clock::timeout(within, elections.observe(request)).await {
        Ok(observed) => Ok(observed?.into_inner()),
        Err(_) => Err(Status::unavailable(format!("no answer within {within:?}"))),
    }
}
