//! Elections: who leads, what leaders proclaim, and what observers see.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{CampaignResponse, LeaderKey, ObserveStream, ProclaimOptions, ResignOptions};
use synod_testkit::{Refused, refused};

use super::lock::{Running, lease, queue, queued};
use super::{Case, shape};
use crate::differences;
use crate::support::proto::{bytes, number};
use crate::support::raw;

const SOON: Duration = Duration::from_secs(60);

fn campaign(case: &Case, value: &str, lease: i64) -> Running<CampaignResponse> {
    let (mut client, name, value) = (case.client.clone(), case.key("e"), value.to_owned());
    Running::start(async move { client.campaign(name, value, lease).await })
}

async fn elected(call: Running<CampaignResponse>) -> Result<LeaderKey> {
    let mut answer = call.answer().await??;
    answer.take_leader().context("a leader's key")
}

async fn proclaim(case: &Case, leader: &LeaderKey, value: &str) -> Result<i64> {
    let options = ProclaimOptions::new().with_leader(leader.clone());
    let mut client = case.client.clone();
    let answer = client.proclaim(value, Some(options)).await?;
    Ok(answer.header().context("a header")?.revision())
}

async fn resign(case: &Case, leader: &LeaderKey) -> Result<i64> {
    let options = ResignOptions::new().with_leader(leader.clone());
    let answer = case.client.clone().resign(Some(options)).await?;
    Ok(answer.header().context("a header")?.revision())
}

/// The leader's value, if there is one.
async fn leader(case: &Case) -> Result<String> {
    let answer = case.client.clone().leader(case.key("e")).await?;
    let kv = answer.kv().context("a key")?;
    Ok(String::from_utf8(kv.value().to_vec())?)
}

/// Stock etcd begins the stream with its first answer.
fn observe(case: &Case) -> Running<ObserveStream> {
    let (mut client, name) = (case.client.clone(), case.key("e"));
    Running::start(async move { client.observe(name).await })
}

/// The next answer: the header's revision and the key's mod revision, from the case's start, and
/// the value.
async fn seen(case: &Case, stream: &mut ObserveStream) -> Result<(i64, i64, String)> {
    let next = tokio::time::timeout(SOON, stream.message()).await;
    let next = next
        .context("nothing in time")??
        .context("the stream ended")?;
    let kv = next.kv().context("a key")?;
    Ok((
        next.header().context("a header")?.revision() - case.base,
        kv.mod_revision() - case.base,
        String::from_utf8(kv.value().to_vec())?,
    ))
}

pub(crate) async fn terms(case: Case) -> Result<()> {
    let (first, second) = (lease(&case).await?, lease(&case).await?);
    let nobody = refused(case.client.clone().leader(case.key("e")).await)?;
    assert_eq!(nobody, Refused::with("Unknown", "election: no leader"));
    let answer = campaign(&case, "one", first).answer().await??;
    assert_eq!(
        answer.header().context("a header")?.revision(),
        case.base + 1
    );
    let one = answer.leader().context("a leader's key")?.clone();
    assert_eq!(one.name(), case.key("e").as_bytes());
    assert_eq!(one.key(), case.key(&format!("e/{first:x}")).as_bytes());
    assert_eq!((one.rev(), one.lease()), (case.base + 1, first));
    assert_eq!(leader(&case).await?, "one");
    let next = campaign(&case, "two", second);
    queued(&case, "e", 2).await?;
    ensure!(!next.is_done(), "one leads");
    assert_eq!(proclaim(&case, &one, "uno").await?, case.base + 3);
    assert_eq!(leader(&case).await?, "uno");
    assert_eq!(resign(&case, &one).await?, case.base + 4);
    let answer = next.answer().await??;
    // The header is that of the transaction that entered the election.
    assert_eq!(
        answer.header().context("a header")?.revision(),
        case.base + 2
    );
    assert_eq!(leader(&case).await?, "two");
    // A former leader can't proclaim, but can resign.
    let options = ProclaimOptions::new().with_leader(one.clone());
    let stale = refused(case.client.clone().proclaim("late", Some(options)).await)?;
    assert_eq!(stale, Refused::with("Unknown", "election: not leader"));
    assert_eq!(resign(&case, &one).await?, case.base + 4);
    let two = answer.leader().context("a leader's key")?.clone();
    let old = two.clone().with_rev(two.rev() - 1);
    let options = ProclaimOptions::new().with_leader(old.clone());
    let stale = refused(case.client.clone().proclaim("late", Some(options)).await)?;
    assert_eq!(stale, Refused::with("Unknown", "election: not leader"));
    resign(&case, &old).await?;
    assert_eq!(leader(&case).await?, "two");
    resign(&case, &two).await?;
    Ok(())
}

pub(crate) async fn campaigns_again(case: Case) -> Result<()> {
    let own = lease(&case).await?;
    let one = elected(campaign(&case, "one", own)).await?;
    let again = elected(campaign(&case, "again", own)).await?;
    assert_eq!((again.key(), again.rev()), (one.key(), one.rev()));
    let kvs = queue(&case, "e").await?;
    let base = case.base;
    assert_eq!(shape(&kvs[0]), (base + 1, base + 2, 2, own, &b"again"[..]));
    // With the same value nothing changes for observers.
    elected(campaign(&case, "again", own)).await?;
    let kvs = queue(&case, "e").await?;
    let version = differences::LOCK_AGAIN.expect(case.server, 2, 3);
    assert_eq!((kvs[0].version(), kvs[0].value()), (version, &b"again"[..]));
    resign(&case, &one).await?;
    Ok(())
}

pub(crate) async fn refusals(case: Case) -> Result<()> {
    let missing = Refused::with("Unknown", "\"leader\" field must be provided");
    for method in [
        "/v3electionpb.Election/Proclaim",
        "/v3electionpb.Election/Resign",
    ] {
        let answer = raw::call(&case.endpoint, method, bytes(2, b"value")).await?;
        assert_eq!(answer.err(), Some(missing.clone()), "{method}");
    }
    let refusal = refused(campaign(&case, "v", 4711).answer().await?)?;
    let code = differences::LOCK_CODES.expect(case.server, "Unknown", "NotFound");
    assert_eq!(
        refusal,
        Refused::with(code, "etcdserver: requested lease not found")
    );
    let empty = bytes(1, &number(4, lease(&case).await?));
    let code = differences::LOCK_CODES.expect(case.server, "Unknown", "InvalidArgument");
    for method in [
        "/v3electionpb.Election/Proclaim",
        "/v3electionpb.Election/Resign",
    ] {
        let answer = raw::call(&case.endpoint, method, empty.clone()).await?;
        let no_key = Refused::with(code, "etcdserver: key is not provided");
        assert_eq!(answer.err(), Some(no_key), "{method}");
    }
    Ok(())
}

/// Without a lease the key gets one of 60 s.
pub(crate) async fn own_leases(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let one = elected(campaign(&case, "one", 0)).await?;
    let left = client.lease_time_to_live(one.lease(), None).await?;
    assert_eq!(left.granted_ttl(), 60);
    proclaim(&case, &one.clone().with_lease(0), "uno").await?;
    let kvs = queue(&case, "e").await?;
    ensure!(kvs[0].lease() != 0 && kvs[0].lease() != one.lease());
    for lease in [one.lease(), kvs[0].lease()] {
        client.lease_revoke(lease).await?;
    }
    Ok(())
}

pub(crate) async fn observers(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let (first, second) = (lease(&case).await?, lease(&case).await?);
    let early = observe(&case);
    let one = elected(campaign(&case, "one", first)).await?;
    let mut early = early.answer().await??;
    assert_eq!(seen(&case, &mut early).await?, (1, 1, "one".into()));
    for (at, value) in [(2, "uno"), (3, "un"), (4, "eins")] {
        proclaim(&case, &one, value).await?;
        assert_eq!(seen(&case, &mut early).await?, (at, at, value.into()));
    }
    // A candidate's key is nothing to observe.
    let next = campaign(&case, "two", second);
    queued(&case, "e", 2).await?;
    let mut late = observe(&case).answer().await??;
    assert_eq!(seen(&case, &mut late).await?, (5, 4, "eins".into()));
    client.lease_revoke(first).await?;
    let two = elected(next).await?;
    for stream in [&mut early, &mut late] {
        let (_, modified, value) = seen(&case, stream).await?;
        assert_eq!((modified, value), (5, "two".into()));
    }
    resign(&case, &two).await?;
    let three = elected(campaign(&case, "three", second)).await?;
    for stream in [&mut early, &mut late] {
        assert_eq!(seen(&case, stream).await?, (8, 8, "three".into()));
    }
    resign(&case, &three).await?;
    Ok(())
}

/// A candidate whose lease ends is not elected.
pub(crate) async fn a_candidate_whose_lease_ends(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let (first, second) = (lease(&case).await?, lease(&case).await?);
    let one = elected(campaign(&case, "one", first)).await?;
    let candidate = campaign(&case, "two", second);
    queued(&case, "e", 2).await?;
    client.lease_revoke(second).await?;
    resign(&case, &one).await?;
    let answer = candidate.answer().await?;
    if differences::CAMPAIGN_LEASE_ENDS.expect(case.server, true, false) {
        ensure!(answer.is_ok(), "stock etcd has learned it");
    } else {
        let expired = Refused::with("Unknown", "election: session is expired");
        assert_eq!(refused(answer)?, expired);
    }
    Ok(())
}

pub(crate) async fn a_candidate_that_gives_up(case: Case) -> Result<()> {
    let (first, second) = (lease(&case).await?, lease(&case).await?);
    let one = elected(campaign(&case, "one", first)).await?;
    let candidate = campaign(&case, "two", second);
    queued(&case, "e", 2).await?;
    drop(candidate);
    queued(&case, "e", 1).await?;
    assert_eq!(leader(&case).await?, "one");
    resign(&case, &one).await?;
    Ok(())
}
