//! Each cluster has one consensus algorithm: what is refused, and how to move keys from one to the
//! other.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use synod_testkit::{Cluster, Lab, Server, Share, Topology, run, until};

use crate::bad_input::refuses;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn another_engine_on_an_existing_directory() -> Result<()> {
    run(Share::Small, async |lab| {
        for (server, label, own, other) in [
            (Server::SYNOD, "r", "--engine=raft", "multi-paxos"),
            (Server::PAXOS, "p", "--engine=multi-paxos", "raft"),
        ] {
            let mut cluster = Cluster::prepare(lab, server, Topology::of(1), label).await?;
            cluster.launch_and_wait(lab, 0).await?;
            cluster.client(0).await?.put("k", "v", None).await?;
            cluster.stop(0).await?;
            let place = cluster.node(0).spec.data_dir.clone();
            let place = place.to_str().context("a readable path")?;
            cluster.node(0).spec.flags = vec![format!("--engine={other}")];
            let asked = format!("--engine {other} was asked for");
            let made = format!("made by {}", own.replace('=', " "));
            let words = [place, &asked, &made, "operations.md"];
            refuses(lab, &mut cluster, 0, &words)
                .await
                .context(own.to_owned())?;
            // Nothing was changed.
            cluster.node(0).spec.flags = vec![own.to_owned()];
            cluster.launch_and_wait(lab, 0).await?;
            let read = cluster.client(0).await?.get("k", None).await?;
            ensure!(read.count() == 1, "{own}: the key is gone");
            cluster.stop(0).await?;
        }
        Ok(())
    })
}

/// Two members form the cluster. The third runs the other engine by mistake. Both sides report it,
/// and the two continue.
#[test]
fn a_member_of_the_other_engine() -> Result<()> {
    run(Share::Whole, async |lab| {
        let mut cluster = Cluster::prepare(lab, Server::PAXOS, Topology::of(3), "c1").await?;
        cluster.node(2).spec.flags = vec!["--engine=raft".to_owned()];
        for index in 0..3 {
            cluster.launch(lab, index)?;
        }
        for index in 0..2 {
            cluster.node_ready(index).await?;
        }
        cluster.client(0).await?.put("k", "v", None).await?;
        for index in 0..3 {
            let what = format!("member {index} to say whom it refuses");
            let process = cluster.node(index).process()?;
            until(&what, SOON, async || {
                let log = process.log_text();
                let said = log.lines().any(|line| {
                    ["node ", "runs ", "raft", "multi-paxos", "--engine"]
                        .iter()
                        .all(|word| line.contains(word))
                });
                Ok(said.then_some(()))
            })
            .await?;
        }
        let mut alone = cluster.client(2).await?;
        let read = tokio::time::timeout(Duration::from_secs(3), alone.get("k", None)).await;
        ensure!(!matches!(read, Ok(Ok(_))), "it read {read:?}");
        Ok(())
    })
}

/// The procedure in `docs/operations.md` for changing the engine: a snapshot, and a new cluster
/// that starts with it.
#[test]
fn a_snapshot_starts_a_cluster_of_the_other_engine() -> Result<()> {
    run(Share::Whole, async |lab| {
        for (from, to) in [
            (Server::SYNOD, Server::PAXOS),
            (Server::PAXOS, Server::SYNOD),
        ] {
            restore(lab, from, to)
                .await
                .with_context(|| format!("{from:?} to {to:?}"))?;
        }
        Ok(())
    })
}

async fn restore(lab: &Lab, from: Server, to: Server) -> Result<()> {
    let label = |side: &str| format!("{side}-{from:?}").replace(['(', ')'], "-");
    let mut old = Cluster::prepare(lab, from, Topology::of(1), &label("saved")).await?;
    old.launch_and_wait(lab, 0).await?;
    let mut writer = old.client(0).await?;
    for number in 0..300 {
        let key = format!("k{number:03}");
        writer.put(key, number.to_string(), None).await?;
    }
    writer.delete("k007", None).await?;
    let file = lab.folder().join(label("snapshot"));
    let place = file.to_str().context("a readable path")?;
    old.etcdctl(0)?.ok(&["snapshot", "save", place]).await?;
    // The `fields` format includes revisions and versions.
    let all = ["get", "", "--prefix", "--write-out=fields"];
    let keys = |text: String| -> String {
        let identity = ["\"ClusterID\"", "\"MemberID\"", "\"RaftTerm\""];
        let lines = text.lines();
        let kept = lines.filter(|line| !identity.iter().any(|name| line.starts_with(name)));
        kept.collect::<Vec<_>>().join("\n")
    };
    let before = keys(old.etcdctl(0)?.ok(&all).await?);
    old.stop(0).await?;

    let mut new = Cluster::prepare(lab, to, Topology::of(3), &label("restored")).await?;
    for index in 0..3 {
        let flag = format!("--restore-snapshot={place}");
        new.node(index).spec.flags.push(flag);
        new.launch(lab, index)?;
    }
    for index in 0..3 {
        new.node_ready(index).await?;
        let after = keys(new.etcdctl(index)?.ok(&all).await?);
        ensure!(before == after, "{before}\nbecame\n{after}");
    }
    new.client(1).await?.put("k007", "again", None).await?;
    // The flag may stay: nothing is restored twice.
    new.stop(0).await?;
    new.launch_and_wait(lab, 0).await?;
    let again = new.client(0).await?.get("k007", None).await?;
    ensure!(again.count() == 1, "what was written since is gone");
    for index in 0..3 {
        new.stop(index).await?;
    }
    Ok(())
}

/// Without stopping the old cluster: `etcdctl make-mirror` copies to a new one, then clients switch
/// over.
#[test]
fn keys_move_to_the_other_engine() -> Result<()> {
    run(Share::Whole, async |lab| {
        for (from, to) in [
            (Server::SYNOD, Server::PAXOS),
            (Server::PAXOS, Server::SYNOD),
        ] {
            mirror(lab, from, to)
                .await
                .with_context(|| format!("{from:?} to {to:?}"))?;
        }
        Ok(())
    })
}

async fn mirror(lab: &Lab, from: Server, to: Server) -> Result<()> {
    let label = |side: &str| format!("{side}-{from:?}").replace(['(', ')'], "-");
    let mut old = Cluster::prepare(lab, from, Topology::of(1), &label("old")).await?;
    let mut new = Cluster::prepare(lab, to, Topology::of(1), &label("new")).await?;
    old.launch_and_wait(lab, 0).await?;
    new.launch_and_wait(lab, 0).await?;
    let mut writer = old.client(0).await?;
    for number in 0..300 {
        let key = format!("k{number:03}");
        writer.put(key, number.to_string(), None).await?;
    }
    writer.delete("k007", None).await?;
    let target = new.endpoint(0);
    let target = target.strip_prefix("http://").context("an address")?;
    let words = ["make-mirror", target];
    let mirror = old.etcdctl(0)?.session(lab, &label("mirror"), &words)?;
    let reader = new.etcdctl(0)?;
    let there = async |key: &str, wanted: &str| {
        until(&format!("{key} in the new cluster"), SOON, async || {
            let text = reader.ok(&["get", key]).await?;
            Ok((text == wanted).then_some(()))
        })
        .await
    };
    there("k299", "k299\n299\n").await?;
    // It follows later writes and deletions.
    writer.put("k299", "later", None).await?;
    writer.delete("k000", None).await?;
    there("k299", "k299\nlater\n").await?;
    there("k000", "").await?;
    drop(mirror);
    let all = ["get", "", "--prefix"];
    let (before, after) = (old.etcdctl(0)?.ok(&all).await?, reader.ok(&all).await?);
    ensure!(before == after, "{before}\nbecame\n{after}");
    old.stop(0).await?;
    new.stop(0).await?;
    Ok(())
}
