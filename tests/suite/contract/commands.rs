//! All commands that operators use, on one node and on three.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use synod_testkit::{Cluster, Etcdctl, Lab, Server, Topology, until};

use super::transcript::replay;

const SOON: Duration = Duration::from_secs(60);

on_all!(Small => keys_on_one, txn_on_one, leases_on_one, maintenance_on_one, watch_on_one);
on_all!(Small => users_on_one);
on_all!(Whole => users_on_three);
on_all!(Whole => keys_on_three, txn_on_three, leases_on_three, maintenance_on_three);
on_all!(Whole => watch_on_three, cluster_commands_on_three);
on_all!(Small => cluster_commands_on_one);

async fn keys_on_one(lab: &Lab, server: Server) -> Result<()> {
    transcript(lab, server, 1, include_str!("keys.txt")).await
}

async fn keys_on_three(lab: &Lab, server: Server) -> Result<()> {
    transcript(lab, server, 3, include_str!("keys.txt")).await
}

async fn txn_on_one(lab: &Lab, server: Server) -> Result<()> {
    transcript(lab, server, 1, include_str!("txn.txt")).await
}

async fn txn_on_three(lab: &Lab, server: Server) -> Result<()> {
    transcript(lab, server, 3, include_str!("txn.txt")).await
}

async fn leases_on_one(lab: &Lab, server: Server) -> Result<()> {
    transcript(lab, server, 1, include_str!("leases.txt")).await
}

async fn leases_on_three(lab: &Lab, server: Server) -> Result<()> {
    transcript(lab, server, 3, include_str!("leases.txt")).await
}

async fn users_on_one(lab: &Lab, server: Server) -> Result<()> {
    transcript(lab, server, 1, include_str!("auth.txt")).await
}

async fn users_on_three(lab: &Lab, server: Server) -> Result<()> {
    transcript(lab, server, 3, include_str!("auth.txt")).await
}

async fn maintenance_on_one(lab: &Lab, server: Server) -> Result<()> {
    transcript(lab, server, 1, include_str!("maintenance.txt")).await
}

async fn maintenance_on_three(lab: &Lab, server: Server) -> Result<()> {
    transcript(lab, server, 3, include_str!("maintenance.txt")).await
}

/// Replays through a follower if there is one: its answers must equal the leader's.
async fn transcript(lab: &Lab, server: Server, nodes: usize, text: &str) -> Result<()> {
    let cluster = Cluster::start(lab, server, Topology::of(nodes)).await?;
    let through = if nodes > 1 {
        cluster.follower().await?
    } else {
        0
    };
    replay(&cluster.etcdctl(through)?, text).await?;
    Ok(())
}

async fn watch_on_one(lab: &Lab, server: Server) -> Result<()> {
    watch(lab, server, 1).await
}

async fn watch_on_three(lab: &Lab, server: Server) -> Result<()> {
    watch(lab, server, 3).await
}

/// Writes go through the last member, watches through the first.
async fn watch(lab: &Lab, server: Server, nodes: usize) -> Result<()> {
    let cluster = Cluster::start(lab, server, Topology::of(nodes)).await?;
    let (writer, watcher) = (cluster.etcdctl(nodes - 1)?, cluster.etcdctl(0)?);
    for words in [
        ["put", "w/a", "1"],
        ["put", "w/a", "2"],
        ["put", "w/b", "1"],
    ] {
        writer.ok(&words).await?;
    }
    writer.ok(&["del", "w/a"]).await?;
    let history = watcher.session(
        lab,
        "watch-history",
        &["watch", "w/", "--prefix", "--rev=2"],
    )?;
    let all = "PUT\nw/a\n1\nPUT\nw/a\n2\nPUT\nw/b\n1\nDELETE\nw/a\n\n";
    history.prints(|text| text == all).await?;
    let words = ["watch", "w/b", "--prev-kv", "--progress-notify"];
    let live = watcher.session(lab, "watch-live", &words)?;
    // A watch without a revision starts some time after the command, so write until it prints an
    // event.
    let mut tries = 1;
    until("the first event of a new watch", SOON, async || {
        tries += 1;
        writer.ok(&["put", "w/b", &tries.to_string()]).await?;
        Ok(live.text().contains("PUT").then_some(()))
    })
    .await?;
    writer.ok(&["del", "w/b"]).await?;
    let end = format!("DELETE\nw/b\n{tries}\nw/b\n\n");
    let printed = live.prints(|text| text.ends_with(&end)).await?;
    ensure!(
        printed.starts_with("PUT\nw/b\n"),
        "the first event is a put: {printed}"
    );
    Ok(())
}

async fn cluster_commands_on_one(lab: &Lab, server: Server) -> Result<()> {
    let cluster = Cluster::start(lab, server, Topology::of(1)).await?;
    cluster_commands(lab, &cluster, 1).await
}

async fn cluster_commands_on_three(lab: &Lab, server: Server) -> Result<()> {
    let cluster = Cluster::start(lab, server, Topology::of(3)).await?;
    cluster_commands(lab, &cluster, 3).await?;
    move_leader(&cluster).await
}

async fn cluster_commands(lab: &Lab, cluster: &Cluster, nodes: usize) -> Result<()> {
    let all = Etcdctl::new(&cluster.endpoints())?;
    all.ok(&["put", "k", "v"]).await?;
    members_are_listed(cluster, &all, nodes).await?;
    statuses_agree(cluster, &all, nodes).await?;

    let health = all.run(&["endpoint", "health"]).await?;
    let healthy = "is healthy: successfully committed proposal: took = ";
    ensure!(health.success, "{}", health.stderr);
    assert_eq!(
        health.stdout.matches(healthy).count(),
        nodes,
        "{}",
        health.stdout
    );

    hashes_agree(&all, nodes).await?;

    // The file: whole pages of 512 bytes, then a SHA-256.
    let file = lab.folder().join("saved.db");
    let file = file.to_str().context("a readable path")?;
    let words = ["snapshot", "save", file];
    let saved = cluster.etcdctl(0)?.ok(&words).await?;
    ensure!(
        saved.starts_with(&format!("Snapshot saved at {file}")),
        "{saved}"
    );
    let length = std::fs::metadata(file)?.len();
    assert_eq!(length % 512, 32, "size {length}");
    Ok(())
}

async fn members_are_listed(cluster: &Cluster, all: &Etcdctl, nodes: usize) -> Result<()> {
    let text = all.ok(&["member", "list"]).await?;
    let mut told: Vec<String> = text
        .lines()
        .map(|line| {
            line.split_once(", ")
                .map(|(_, rest)| rest.to_owned())
                .unwrap_or_default()
        })
        .collect();
    told.sort();
    let mut wanted: Vec<String> = cluster
        .nodes()
        .iter()
        .map(|node| {
            let (name, peer, client) = (&node.spec.name, node.peer_url(), node.spec.client.url());
            format!("started, {name}, {peer}, {client}, false")
        })
        .collect();
    wanted.sort();
    assert_eq!(told, wanted);
    let json = all.json(&["member", "list"]).await?;
    let members = json["members"].as_array().context("members")?;
    assert_eq!(members.len(), nodes);
    for member in members {
        ensure!(member["ID"].as_u64().is_some_and(|id| id != 0), "{member}");
    }
    Ok(())
}

async fn statuses_agree(cluster: &Cluster, all: &Etcdctl, nodes: usize) -> Result<()> {
    // A follower may be slightly behind.
    until(
        "all members to report the same revision and leader",
        SOON,
        async || {
            let json = all.json(&["endpoint", "status"]).await?;
            let list = json.as_array().context("a list")?;
            assert_eq!(list.len(), nodes);
            let leaders: Vec<_> = list.iter().map(|one| &one["Status"]["leader"]).collect();
            let revisions: Vec<_> = list
                .iter()
                .map(|one| &one["Status"]["header"]["revision"])
                .collect();
            let agree = leaders.iter().all(|leader| *leader == leaders[0])
                && revisions.iter().all(|revision| *revision == revisions[0]);
            Ok(agree.then_some(()))
        },
    )
    .await?;
    let json = all.json(&["endpoint", "status"]).await?;
    for one in json.as_array().context("a list")? {
        let status = &one["Status"];
        let version = status["version"].as_str().context("a version")?;
        // The API server compares it as semver: RangeStream needs 3.7.0.
        let parts: Vec<u64> = version
            .split('.')
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        ensure!(
            parts.len() == 3 && (parts[0], parts[1]) >= (3, 7),
            "version {version}"
        );
        for positive in [
            "dbSize",
            "raftTerm",
            "raftIndex",
            "raftAppliedIndex",
            "dbSizeInUse",
        ] {
            ensure!(
                status[positive].as_u64().is_some_and(|value| value > 0),
                "{positive}: {one}"
            );
        }
        assert_eq!(
            status["dbSizeQuota"], 2_147_483_648_u64,
            "the default quota is 2 GiB: {one}"
        );
    }
    let line = cluster.etcdctl(0)?.ok(&["endpoint", "status"]).await?;
    assert_eq!(line.trim_end().split(", ").count(), 16, "{line}");
    Ok(())
}

async fn hashes_agree(all: &Etcdctl, nodes: usize) -> Result<()> {
    until("all members to have the same hash", SOON, async || {
        let text = all.ok(&["endpoint", "hashkv"]).await?;
        let hashes: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once(", ").map(|(_, rest)| rest))
            .collect();
        ensure!(hashes.len() == nodes, "{text}");
        Ok(hashes.iter().all(|hash| *hash == hashes[0]).then_some(()))
    })
    .await
}

async fn move_leader(cluster: &Cluster) -> Result<()> {
    let old = cluster.leader().await?;
    let target = cluster.follower().await?;
    let status = cluster.status(target).await?;
    let id = status.header().context("a header")?.member_id();
    let id = format!("{id:x}");
    let through_follower = cluster
        .etcdctl(target)?
        .fails(&["move-leader", &id])
        .await?;
    ensure!(
        through_follower.starts_with("Error: no leader endpoint given at"),
        "{through_follower}"
    );
    let said = cluster.etcdctl(old)?.ok(&["move-leader", &id]).await?;
    let old_id = cluster
        .status(old)
        .await?
        .header()
        .context("a header")?
        .member_id();
    assert_eq!(
        said,
        format!("Leadership transferred from {old_id:x} to {id}\n")
    );
    until("the target to lead", SOON, async || {
        Ok((cluster.leader().await? == target).then_some(()))
    })
    .await
}
