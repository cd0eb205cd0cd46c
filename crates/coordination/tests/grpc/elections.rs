use anyhow::{Context, Result, ensure};
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::elections_client::ElectionsClient;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::service::{LONG_MS, SHORT_MS, SOON, Session, channel, failure, with_pods};

fn campaign(session: &Session, request_id: &str) -> pb::CampaignRequest {
    pb::CampaignRequest {
        session: Some(session.reference.clone()),
        name: "e".to_owned(),
        request_id: request_id.to_owned(),
        value: format!("value of {request_id}").into(),
    }
}

fn proclaim(session: &Session, request_id: &str, value: &'static str) -> pb::ProclaimRequest {
    pb::ProclaimRequest {
        session: Some(session.reference.clone()),
        name: "e".to_owned(),
        request_id: request_id.to_owned(),
        value: value.into(),
    }
}

fn named() -> pb::LeaderRequest {
    pb::LeaderRequest {
        name: "e".to_owned(),
    }
}

async fn value(elections: &mut ElectionsClient<Channel>) -> Result<Option<String>> {
    let leader = elections.leader(named()).await?.into_inner().leader;
    Ok(leader.map(|leader| String::from_utf8_lossy(&leader.value).into_owned()))
}

async fn next(stream: &mut Streaming<pb::LeaderResponse>) -> Result<Option<pb::Leader>> {
    let told = timeout(SOON, stream.message()).await??;
    Ok(told.context("the stream goes on")?.leader)
}

#[test]
fn candidates_lead_one_after_the_other() -> Result<()> {
    with_pods(2, async |pods| {
        let first = Session::open(&pods[0], SHORT_MS).await?;
        let second = Session::open(&pods[1], LONG_MS).await?;
        let mut here = ElectionsClient::new(channel(&pods[0])?);
        let mut there = ElectionsClient::new(channel(&pods[1])?);
        // From before the election's node exists.
        let mut observed = here.observe(named()).await?.into_inner();
        ensure!(next(&mut observed).await?.is_none());
        ensure!(value(&mut there).await?.is_none());
        let token = here
            .campaign(campaign(&first, "1"))
            .await?
            .into_inner()
            .token;
        let leader = next(&mut observed).await?.context("a leader")?;
        ensure!(leader.token == token && leader.value == "value of 1");
        ensure!(leader.session_id == first.reference.id);
        here.proclaim(proclaim(&first, "1", "other")).await?;
        ensure!(next(&mut observed).await?.context("a leader")?.value == "other");
        let mut waiting = there.clone();
        let waits = campaign(&second, "2");
        let campaigning =
            synod_runtime::task::spawn("call", async move { waiting.campaign(waits).await });
        // Who does not lead can't proclaim.
        let refused = there.proclaim(proclaim(&second, "2", "no")).await;
        ensure!(failure(refused)? == (Code::FailedPrecondition, None));
        ensure!(value(&mut there).await?.as_deref() == Some("other"));
        ensure!(!campaigning.is_finished());
        // The first candidate dies.
        drop(first);
        let answer: Result<_, Status> = timeout(SOON, campaigning).await??;
        let later = answer?.into_inner().token;
        ensure!(later > token);
        let leader = loop {
            // Nobody leads for a moment if the death came first.
            if let Some(leader) = next(&mut observed).await? {
                break leader;
            }
        };
        ensure!(leader.token == later && leader.value == "value of 2");
        let resign = pb::ResignRequest {
            session: Some(second.reference.clone()),
            name: "e".to_owned(),
            request_id: "2".to_owned(),
        };
        ensure!(there.resign(resign.clone()).await?.into_inner().resigned);
        ensure!(!there.resign(resign).await?.into_inner().resigned);
        ensure!(next(&mut observed).await?.is_none());
        ensure!(value(&mut here).await?.is_none());
        Ok(())
    })
}
