use std::time::Duration;

use anyhow::{Context, Result, ensure};
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::keep_request::Request as Asked;
use synod_proto::status::OUTCOME_UNKNOWN;
use synod_runtime::clock;
use synod_testkit::{Cluster, Fault, Proxy, Server, Share, Topology, run_within};
use tonic::Code;

use crate::service::{
    LONG_MS, SHORT_MS, SOON, Session, contenders, failure, holds, start, with_pods,
};

#[test]
fn a_session_lives_by_its_keep_alives() -> Result<()> {
    with_pods(1, async |pods| {
        let mut session = Session::open(&pods[0], SHORT_MS).await?;
        let token = session.acquire(session.request("a", "1")).await?;
        let began = clock::now();
        while began.elapsed() < Duration::from_millis((2 * SHORT_MS).into()) {
            ensure!(session.alive().await? == pb::SessionState::Safe);
            tokio::time::sleep(Duration::from_millis((SHORT_MS / 8).into())).await;
        }
        ensure!(holds(&pods[0], "a", token).await?);
        let silent = clock::now();
        ensure!(session.next().await? == Some((pb::SessionState::Expired, None)));
        ensure!(silent.elapsed() >= Duration::from_millis((SHORT_MS / 2).into()));
        ensure!(session.next().await?.is_none(), "the stream ends");
        ensure!(!holds(&pods[0], "a", token).await?);
        Ok(())
    })
}

#[test]
fn a_closed_session_is_gone_at_once() -> Result<()> {
    with_pods(1, async |pods| {
        let mut session = Session::open(&pods[0], LONG_MS).await?;
        session.acquire(session.request("a", "1")).await?;
        session.ask(Asked::Close(pb::CloseSession {})).await?;
        ensure!(session.next().await? == Some((pb::SessionState::Closed, None)));
        ensure!(contenders(&pods[0], "a").await?.is_empty());
        let resumed = Session::resume(&pods[0], &session.reference).await;
        ensure!(failure(resumed.map(drop))? == (Code::FailedPrecondition, None));
        Ok(())
    })
}

#[test]
fn a_session_moves_with_its_locks_to_any_pod() -> Result<()> {
    with_pods(2, async |pods| {
        let first = Session::open(&pods[0], LONG_MS).await?;
        let token = first.acquire(first.request("a", "1")).await?;
        let kept = first.leave().await?;
        let mut second = Session::resume(&pods[1], &kept).await?;
        ensure!(second.reference == kept);
        // The same request is answered with the same token.
        ensure!(second.acquire(second.request("a", "1")).await? == token);
        ensure!(contenders(&pods[0], "a").await?.len() == 1);
        // To the first pod again, while the stream is open.
        let third = Session::resume(&pods[0], &kept).await?;
        ensure!(failure(second.next().await)?.0 == Code::Aborted);
        let refused = second.acquire(second.request("b", "2")).await;
        ensure!(failure(refused)? == (Code::FailedPrecondition, None));
        ensure!(third.release("a", "1").await?);
        // On the same pod.
        let fourth = Session::resume(&pods[0], &kept).await?;
        let mut third = third;
        ensure!(failure(third.next().await)?.0 == Code::Aborted);
        fourth.acquire(fourth.request("b", "2")).await?;
        Ok(())
    })
}

#[test]
fn who_does_not_know_the_secret_can_not_use_the_session() -> Result<()> {
    with_pods(1, async |pods| {
        let session = Session::open(&pods[0], LONG_MS).await?;
        let mut wrong = session.reference.clone();
        wrong.secret = vec![0; 16].into();
        let mut request = session.request("a", "1");
        request.session = Some(wrong.clone());
        let refused = session.acquire(request).await;
        ensure!(failure(refused)?.0 == Code::PermissionDenied);
        for secret in [vec![0; 16], vec![], vec![0; 17]] {
            wrong.secret = secret.into();
            let resumed = Session::resume(&pods[0], &wrong).await;
            ensure!(failure(resumed.map(drop))?.0 == Code::FailedPrecondition);
        }
        wrong.id = 0;
        let resumed = Session::resume(&pods[0], &wrong).await;
        ensure!(failure(resumed.map(drop))?.0 == Code::FailedPrecondition);
        session.acquire(session.request("a", "1")).await?;
        Ok(())
    })
}

#[test]
fn the_first_request_opens_and_no_later_one_does() -> Result<()> {
    with_pods(1, async |pods| {
        let alive = Asked::KeepAlive(pb::KeepAlive { number: 1 });
        let refused = Session::start(&pods[0], alive).await;
        ensure!(failure(refused.map(drop))?.0 == Code::InvalidArgument);
        let mut session = Session::open(&pods[0], LONG_MS).await?;
        session.ask(Asked::Open(pb::OpenSession::default())).await?;
        ensure!(failure(session.next().await)?.0 == Code::InvalidArgument);
        Ok(())
    })
}

#[test]
fn digests_are_limited() -> Result<()> {
    with_pods(1, async |pods| {
        let open = |digests| {
            Asked::Open(pb::OpenSession {
                timeout_ms: LONG_MS,
                digests,
            })
        };
        let named = |count: usize| (0..count).map(|n| format!("user{n}:secret")).collect();
        Session::start(&pods[0], open(named(16))).await?;
        let long = format!("a:{}", "x".repeat(255));
        for wrong in [named(17), vec![long]] {
            let refused = Session::start(&pods[0], open(wrong)).await;
            ensure!(failure(refused.map(drop))? == (Code::InvalidArgument, None));
        }
        Ok(())
    })
}

/// The first pod leads; the other one is cut off the log.
#[test]
fn a_session_is_in_jeopardy_while_its_pod_has_no_contact() -> Result<()> {
    run_within(Share::Small, 4 * SOON, async |lab| {
        let cluster = Cluster::start(lab, Server::SYNOD, Topology::of(1)).await?;
        let proxy = Proxy::start(cluster.nodes()[0].spec.client.address()).await?;
        let leading = start(&cluster.endpoints()).await?;
        let pod = start(&[proxy.port().url()]).await?;
        let mut living = Session::open(&pod, LONG_MS).await?;
        let mut dying = Session::open(&pod, SHORT_MS).await?;
        let token = living.acquire(living.request("a", "1")).await?;
        dying.acquire(dying.request("b", "1")).await?;
        let waiting = dying.acquiring(dying.request("a", "2"));
        crate::service::until_contenders(&leading, "a", 2).await?;
        proxy.set(Fault::Cut);
        for session in [&mut living, &mut dying] {
            let told = session.next().await?.context("the stream goes on")?;
            ensure!(told == (pb::SessionState::Jeopardy, None), "{told:?}");
            ensure!(session.alive().await? == pb::SessionState::Jeopardy);
        }
        // Who waits asks again: it may get the lock meanwhile.
        let lost = failure(waiting.token().await)?;
        ensure!(lost == (Code::Unavailable, Some(OUTCOME_UNKNOWN.to_owned())));
        synod_testkit::until("the short session to expire", SOON, async || {
            Ok(contenders(&leading, "b").await?.is_empty().then_some(()))
        })
        .await?;
        proxy.heal();
        // The pod asks whether the client is still there, and gives up nothing before it is.
        ensure!(living.alive_again().await? == pb::SessionState::Safe);
        ensure!(living.alive().await? == pb::SessionState::Safe);
        let mut told = dying.next().await?;
        if told == Some((pb::SessionState::Jeopardy, None)) {
            told = dying.next().await?;
        }
        ensure!(told == Some((pb::SessionState::Expired, None)), "{told:?}");
        ensure!(living.acquire(living.request("a", "1")).await? == token);
        leading.shutdown().await;
        pod.shutdown().await;
        Ok(())
    })
}

#[test]
fn a_pod_that_stops_sends_its_sessions_elsewhere() -> Result<()> {
    run_within(Share::Small, 3 * SOON, async |lab| {
        let cluster = Cluster::start(lab, Server::SYNOD, Topology::of(1)).await?;
        let first = start(&cluster.endpoints()).await?;
        let second = start(&cluster.endpoints()).await?;
        let mut session = Session::open(&first, LONG_MS).await?;
        let token = session.acquire(session.request("a", "1")).await?;
        first.shutdown().await;
        ensure!(failure(session.next().await)?.0 == Code::Unavailable);
        let resumed = Session::resume(&second, &session.reference).await?;
        ensure!(resumed.acquire(resumed.request("a", "1")).await? == token);
        // The tokens rise over the change of the leading pod.
        ensure!(resumed.release("a", "1").await?);
        ensure!(resumed.acquire(resumed.request("a", "2")).await? > token);
        second.shutdown().await;
        Ok(())
    })
}
