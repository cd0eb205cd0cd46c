//! The HTTP pages for probes and scrapers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use synod_testkit::{http_get, until};

use super::Case;

const SOON: Duration = Duration::from_secs(60);

pub(crate) async fn pages(case: Case) -> Result<()> {
    let address = case
        .endpoint
        .strip_prefix("http://")
        .context("an address")?
        .to_owned();
    let health = http_get(&address, "/health").await?;
    let body: Value = serde_json::from_str(&health.body)?;
    assert_eq!(
        (health.status, &body["health"], &body["reason"]),
        (200, &"true".into(), &"".into())
    );

    // The cluster's version is decided some time after the start.
    until("/version to be decided", SOON, async || {
        let version = http_get(&address, "/version").await?;
        let body: Value = serde_json::from_str(&version.body)?;
        for name in ["etcdserver", "etcdcluster", "storage"] {
            let told = body[name].as_str().unwrap_or_default();
            ensure!(told.starts_with("3."), "{name}: {body}");
        }
        Ok(Some(()))
    })
    .await?;
    for page in ["/livez", "/readyz"] {
        let plain = http_get(&address, page).await?;
        assert_eq!((plain.status, plain.body.as_str()), (200, "ok\n"), "{page}");
    }
    let verbose = http_get(&address, "/readyz?verbose").await?;
    for check in [
        "data_corruption",
        "serializable_read",
        "linearizable_read",
        "non_learner",
    ] {
        let line = format!("[+]{check} ok");
        ensure!(
            verbose.body.contains(&line),
            "no {line:?} in {}",
            verbose.body
        );
        let one = http_get(&address, &format!("/readyz/{check}")).await?;
        assert_eq!(one.status, 200, "{check}: {}", one.body);
    }
    let without = http_get(&address, "/readyz?verbose&exclude=linearizable_read").await?;
    ensure!(
        !without.body.contains("[+]linearizable_read"),
        "{}",
        without.body
    );
    let metrics = http_get(&address, "/metrics").await?;
    ensure!(
        metrics.status == 200 && metrics.body.contains("# TYPE "),
        "{}",
        metrics.status
    );
    assert_eq!(http_get(&address, "/no-such-page").await?.status, 404);
    Ok(())
}
