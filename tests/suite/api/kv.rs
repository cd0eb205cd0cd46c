//! Put and DeleteRange.

use anyhow::{Context, Result};
use etcd_client::{DeleteOptions, PutOptions};
use synod_testkit::{Refused, refused};

use super::{Case, names, shape};

pub(crate) async fn puts_and_versions(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let (key, base) = (case.key("k"), case.base);
    let first = client.put(key.clone(), "1", None).await?;
    let header = first.header().context("a header")?;
    assert_eq!(
        (header.revision(), first.prev_key().is_some()),
        (base + 1, false)
    );
    assert!(header.cluster_id() != 0 && header.member_id() != 0 && header.raft_term() > 0);

    let options = PutOptions::new().with_prev_key();
    let second = client.put(key.clone(), "2", Some(options)).await?;
    let previous = second.prev_key().context("the previous value")?;
    assert_eq!(shape(previous), (base + 1, base + 1, 1, 0, &b"1"[..]));

    let read = client.get(key, None).await?;
    assert_eq!(shape(&read.kvs()[0]), (base + 1, base + 2, 2, 0, &b"2"[..]));
    assert_eq!((read.count(), read.more()), (1, false));
    assert_eq!(read.header().context("a header")?.revision(), base + 2);

    // An empty value is a value.
    client.put(case.key("empty"), "", None).await?;
    let read = client.get(case.key("empty"), None).await?;
    assert_eq!(shape(&read.kvs()[0]), (base + 3, base + 3, 1, 0, &b""[..]));
    Ok(())
}

pub(crate) async fn put_refusals(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let missing = case.key("missing");
    let invalid = |message| Refused::with("InvalidArgument", message);
    let no_key = invalid("etcdserver: key is not provided");
    assert_eq!(refused(client.put("", "v", None).await)?, no_key);
    assert_eq!(refused(client.get("", None).await)?, no_key);
    assert_eq!(refused(client.delete("", None).await)?, no_key);

    let put = async |value: &str, options| {
        let mut client = client.clone();
        refused(client.put(missing.clone(), value, Some(options)).await)
    };
    let options = PutOptions::new();
    assert_eq!(
        put("v", options.clone().with_ignore_value()).await?,
        invalid("etcdserver: value is provided")
    );
    assert_eq!(
        put("v", options.clone().with_ignore_lease().with_lease(7)).await?,
        invalid("etcdserver: lease is provided")
    );
    let not_found = invalid("etcdserver: key not found");
    assert_eq!(
        put("", options.clone().with_ignore_value()).await?,
        not_found
    );
    assert_eq!(
        put("v", options.clone().with_ignore_lease()).await?,
        not_found
    );
    assert_eq!(
        put("v", options.with_lease(7)).await?,
        Refused::with("NotFound", "etcdserver: requested lease not found")
    );
    // None of them used a revision.
    let header = client
        .get(missing, None)
        .await?
        .take_header()
        .context("a header")?;
    assert_eq!(header.revision(), case.base);
    Ok(())
}

pub(crate) async fn ignored_fields(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let key = case.key("k");
    let lease = client.lease_grant(100, None).await?.id();
    client
        .put(
            key.clone(),
            "old",
            Some(PutOptions::new().with_lease(lease)),
        )
        .await?;

    let keep_lease = PutOptions::new().with_ignore_lease();
    client.put(key.clone(), "new", Some(keep_lease)).await?;
    let read = client.get(key.clone(), None).await?;
    assert_eq!(
        (read.kvs()[0].lease(), read.kvs()[0].value()),
        (lease, &b"new"[..])
    );

    // Keeping the value without naming a lease detaches the lease.
    let keep_value = PutOptions::new().with_ignore_value().with_prev_key();
    let put = client.put(key.clone(), "", Some(keep_value)).await?;
    assert_eq!(put.prev_key().context("the previous value")?.lease(), lease);
    let read = client.get(key, None).await?;
    assert_eq!(
        (read.kvs()[0].lease(), read.kvs()[0].value()),
        (0, &b"new"[..])
    );
    assert_eq!(read.kvs()[0].version(), 3);
    client.lease_revoke(lease).await?;
    Ok(())
}

pub(crate) async fn deletes(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    case.fill(&["a", "b", "c", "d"]).await?;
    let base = case.base + 4;

    let none = client.delete(case.key("missing"), None).await?;
    assert_eq!(
        (
            none.deleted(),
            none.header().context("a header")?.revision()
        ),
        (0, base)
    );

    // The end of a range is exclusive. All deletions have the same revision.
    let options = DeleteOptions::new()
        .with_range(case.key("c"))
        .with_prev_key();
    let two = client.delete(case.key("a"), Some(options)).await?;
    assert_eq!(
        (two.deleted(), two.header().context("a header")?.revision()),
        (2, base + 1)
    );
    assert_eq!(names(two.prev_kvs(), &case)?, ["a", "b"]);
    assert_eq!(
        shape(&two.prev_kvs()[1]),
        (case.base + 2, case.base + 2, 1, 0, &b"b"[..])
    );

    let one = client.delete(case.key("c"), None).await?;
    assert_eq!((one.deleted(), one.prev_kvs().len()), (1, 0));

    // A key that is created again starts at version 1.
    client.put(case.key("a"), "again", None).await?;
    let read = client.get(case.key("a"), None).await?;
    assert_eq!(
        shape(&read.kvs()[0]),
        (base + 3, base + 3, 1, 0, &b"again"[..])
    );

    let rest = client
        .delete(
            case.prefix.clone(),
            Some(DeleteOptions::new().with_prefix()),
        )
        .await?;
    assert_eq!(rest.deleted(), 2);
    // An end before the key is an empty range.
    let options = DeleteOptions::new().with_range(case.key("a"));
    assert_eq!(
        client.delete(case.key("b"), Some(options)).await?.deleted(),
        0
    );
    Ok(())
}

pub(crate) async fn large_requests(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    // The limit of 1.5 MiB applies to the whole request, not to the value.
    let limit = 1_536 * 1024;
    client
        .put(case.key("fits"), vec![b'v'; limit - 1024], None)
        .await?;
    let read = client.get(case.key("fits"), None).await?;
    assert_eq!(read.kvs()[0].value().len(), limit - 1024);
    assert_eq!(
        refused(
            client
                .put(case.key("large"), vec![b'v'; limit + 1024], None)
                .await
        )?,
        Refused::with("InvalidArgument", "etcdserver: request is too large")
    );
    // Above 2 MiB, stock etcd's transport refuses before it reads the request.
    let huge = refused(
        client
            .put(case.key("huge"), vec![b'v'; 2 * 1024 * 1024], None)
            .await,
    )?;
    assert_eq!(
        huge.code,
        crate::differences::MESSAGE_LIMIT.expect(
            case.server,
            "ResourceExhausted",
            "InvalidArgument"
        ),
        "{huge:?}"
    );
    // A request of any size is refused, and the server keeps running.
    let enormous = client
        .put(case.key("enormous"), vec![b'v'; 64 * 1024 * 1024], None)
        .await;
    assert!(enormous.is_err());
    client.delete(case.key("fits"), None).await?;
    Ok(())
}
