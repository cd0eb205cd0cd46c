//! Leases: grant, keep-alive, time to live, revoke, expiry.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{GetOptions, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions};
use synod_testkit::{Refused, refused, until};
use tokio::time::Instant;

use super::{Case, names};
use crate::support::{proto, raw};

fn not_found() -> Refused {
    Refused::with("NotFound", "etcdserver: requested lease not found")
}

pub(crate) async fn grants(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let own = client.lease_grant(60, None).await?;
    assert!(
        own.id() > 0 && own.ttl() == 60 && own.error().is_empty(),
        "{own:?}"
    );
    // A grant uses no revision.
    assert_eq!(own.header().context("a header")?.revision(), case.base);
    let named = LeaseGrantOptions::new().with_id(4242);
    assert_eq!(
        client.lease_grant(60, Some(named.clone())).await?.id(),
        4242
    );
    assert_eq!(
        refused(client.lease_grant(60, Some(named)).await)?,
        Refused::with("FailedPrecondition", "etcdserver: lease already exists")
    );
    // The shortest TTL is one and a half election timeouts, rounded up.
    let mut short = Vec::new();
    for ttl in [1, 0, -5] {
        let lease = client.lease_grant(ttl, None).await?;
        assert_eq!(lease.ttl(), 2, "for {ttl}");
        short.push(lease.id());
    }
    assert_eq!(
        client.lease_grant(9_000_000_000, None).await?.ttl(),
        9_000_000_000
    );
    assert_eq!(
        refused(client.lease_grant(9_000_000_001, None).await)?,
        Refused::with("OutOfRange", "etcdserver: too large lease TTL")
    );
    let all: Vec<i64> = client
        .leases()
        .await?
        .leases()
        .iter()
        .map(|lease| lease.id())
        .collect();
    ensure!(all.contains(&4242) && all.contains(&own.id()), "{all:?}");
    for lease in all {
        // The short ones may have expired.
        drop(client.lease_revoke(lease).await);
    }
    Ok(())
}

pub(crate) async fn time_to_live(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let lease = client.lease_grant(100, None).await?.id();
    for name in ["b", "a"] {
        let options = PutOptions::new().with_lease(lease);
        client.put(case.key(name), "", Some(options)).await?;
    }
    let left = client.lease_time_to_live(lease, None).await?;
    assert_eq!(
        (left.id(), left.granted_ttl(), left.keys().len()),
        (lease, 100, 0)
    );
    ensure!((95..=100).contains(&left.ttl()), "{left:?}");
    let with_keys = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(lease, Some(with_keys)).await?;
    let mut keys = left.keys().to_vec();
    keys.sort();
    assert_eq!(
        keys,
        [case.key("a").into_bytes(), case.key("b").into_bytes()]
    );
    let missing = client.lease_time_to_live(77, None).await?;
    assert_eq!(
        (missing.id(), missing.ttl(), missing.granted_ttl()),
        (77, -1, 0)
    );
    client.lease_revoke(lease).await?;
    assert_eq!(client.lease_time_to_live(lease, None).await?.ttl(), -1);
    Ok(())
}

pub(crate) async fn attachment(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let first = client.lease_grant(100, None).await?.id();
    let second = client.lease_grant(100, None).await?.id();
    let with = |lease| Some(PutOptions::new().with_lease(lease));
    client.put(case.key("moved"), "", with(first)).await?;
    client.put(case.key("moved"), "", with(second)).await?;
    client.put(case.key("detached"), "", with(first)).await?;
    client.put(case.key("detached"), "", None).await?;
    client.put(case.key("deleted"), "", with(first)).await?;
    client.delete(case.key("deleted"), None).await?;
    client.put(case.key("deleted"), "", None).await?;
    client.put(case.key("kept"), "", with(first)).await?;
    let keys = client
        .lease_time_to_live(first, Some(LeaseTimeToLiveOptions::new().with_keys()))
        .await?;
    assert_eq!(keys.keys(), [case.key("kept").into_bytes()]);
    client.lease_revoke(first).await?;
    let left = client
        .get(case.prefix.clone(), Some(GetOptions::new().with_prefix()))
        .await?;
    assert_eq!(names(left.kvs(), &case)?, ["deleted", "detached", "moved"]);
    client.lease_revoke(second).await?;
    let left = client
        .get(case.prefix.clone(), Some(GetOptions::new().with_prefix()))
        .await?;
    assert_eq!(names(left.kvs(), &case)?, ["deleted", "detached"]);
    Ok(())
}

pub(crate) async fn revocation(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let lease = client.lease_grant(100, None).await?.id();
    for name in ["a", "b"] {
        let options = PutOptions::new().with_lease(lease);
        client.put(case.key(name), "", Some(options)).await?;
    }
    // Both keys are deleted in one revision.
    let revoked = client.lease_revoke(lease).await?;
    assert_eq!(
        revoked.header().context("a header")?.revision(),
        case.base + 3
    );
    assert_eq!(refused(client.lease_revoke(lease).await)?, not_found());
    // Revoking a lease without keys uses no revision.
    let empty = client.lease_grant(100, None).await?.id();
    let revoked = client.lease_revoke(empty).await?;
    assert_eq!(
        revoked.header().context("a header")?.revision(),
        case.base + 3
    );
    Ok(())
}

pub(crate) async fn keep_alive_of_missing(case: Case) -> Result<()> {
    // The answer is a TTL of 0, not an error, and the stream stays open.
    let lease = case.client.clone().lease_grant(100, None).await?.id();
    let method = "/etcdserverpb.Lease/LeaseKeepAlive";
    let asked = vec![proto::number(1, 77), proto::number(1, lease)];
    let answers = raw::exchange(&case.endpoint, method, asked).await?;
    let told: Vec<(i64, i64)> = answers
        .iter()
        .map(|answer| (proto::number_of(answer, 2), proto::number_of(answer, 3)))
        .collect();
    assert_eq!(told, [(77, 0), (lease, 100)]);
    case.client.clone().lease_revoke(lease).await?;
    Ok(())
}

pub(crate) async fn expiry(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let began = Instant::now();
    let lease = client.lease_grant(2, None).await?.id();
    let options = PutOptions::new().with_lease(lease);
    client.put(case.key("k"), "", Some(options)).await?;
    let gone = until("the key to expire", Duration::from_secs(60), async || {
        let read = client.get(case.key("k"), None).await?;
        Ok(read.kvs().is_empty().then(|| began.elapsed()))
    })
    .await?;
    ensure!(
        gone >= Duration::from_secs(2),
        "it expired early, after {gone:?}"
    );
    assert_eq!(client.lease_time_to_live(lease, None).await?.ttl(), -1);
    // The deletion is an ordinary revision.
    let header = client
        .get("none", None)
        .await?
        .take_header()
        .context("a header")?;
    assert_eq!(header.revision(), case.base + 2);
    Ok(())
}

pub(crate) async fn keep_alive(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let lease = client.lease_grant(3, None).await?.id();
    let options = PutOptions::new().with_lease(lease);
    client.put(case.key("k"), "", Some(options)).await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(4500) {
        keeper.keep_alive().await?;
        let answer = answers.message().await?.context("an answer")?;
        assert_eq!((answer.id(), answer.ttl()), (lease, 3));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(
        client.get(case.key("k"), None).await?.kvs().len(),
        1,
        "it was kept alive"
    );
    client.lease_revoke(lease).await?;
    keeper.keep_alive().await?;
    let answer = answers.message().await?.context("an answer")?;
    assert_eq!((answer.id(), answer.ttl()), (lease, 0));
    Ok(())
}
