//! A leader that is stopped (SIGSTOP) and resumes after it was replaced.

use std::time::Duration;

use anyhow::{Result, ensure};
use synod_testkit::{Cluster, Lab, Server, Topology, until};
use tokio::time::{sleep, timeout};

const ROUNDS: usize = 3;
const SOON: Duration = Duration::from_secs(60);

on_all!(Whole => reads_after_resuming);

/// A read that waits in the stopped leader's socket when it resumes must not return stale data: its
/// lease expired while it was stopped.
async fn reads_after_resuming(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Cluster::start(lab, server, Topology::of(3)).await?;
    for round in 1..=ROUNDS {
        let old = cluster.leader().await?;
        let other = (old + 1) % 3;
        let mut waking = cluster.client(old).await?;
        let mut awake = cluster.client(other).await?;
        waking.put("k", format!("before {round}"), None).await?;
        // The connection is open and the leader's lease is fresh when it is stopped.
        waking.get("k", None).await?;
        cluster.node(old).process()?.pause()?;
        let wanted = format!("after {round}");
        until("the others to elect a leader and write", SOON, async || {
            timeout(Duration::from_secs(2), awake.put("k", wanted.clone(), None)).await??;
            Ok(Some(()))
        })
        .await?;
        let read = async {
            let answer = timeout(SOON, waking.get("k", None)).await?;
            anyhow::Ok(answer)
        };
        let wake_up = async {
            // By now the request is in the kernel. The resumed leader sees it first.
            sleep(Duration::from_millis(100)).await;
            cluster.node(old).process()?.resume()
        };
        let (answer, woken) = tokio::join!(read, wake_up);
        woken?;
        // It may refuse, but not return stale data.
        if let Ok(answer) = answer? {
            let seen = answer.kvs()[0].value_str()?;
            ensure!(
                seen == wanted,
                "round {round}: the resumed leader read {seen:?}, not {wanted:?}"
            );
        }
        cluster.ready().await?;
    }
    super::same_hashes(&cluster).await
}
