//! Flags, ports and directories that can't be used.

use std::net::TcpListener;

use anyhow::{Context, Result};
use synod_testkit::{Cluster, Server, Share, Topology, run};

use super::refuses;

const SYNOD: Server = Server::SYNOD;

#[test]
fn unknown_flag() -> Result<()> {
    run(Share::Small, async |lab| {
        let topology = Topology::of(1).flag("--quota-backend-byte=7");
        let mut cluster = Cluster::prepare(lab, SYNOD, topology, "c1").await?;
        // It names the flag that was probably meant.
        refuses(
            lab,
            &mut cluster,
            0,
            &["--quota-backend-byte", "--quota-backend-bytes"],
        )
        .await?;
        Ok(())
    })
}

#[test]
fn malformed_values() -> Result<()> {
    run(Share::Small, async |lab| {
        let bad = [
            (
                "--quota-backend-bytes=lots",
                ["--quota-backend-bytes", "lots"],
            ),
            (
                "--listen-client-urls=127.0.0.1",
                ["--listen-client-urls", "127.0.0.1"],
            ),
            (
                "--initial-cluster-state=old",
                ["--initial-cluster-state", "old"],
            ),
            ("--election-timeout=1", ["--election-timeout", "1"]),
        ];
        for (number, (flag, words)) in bad.into_iter().enumerate() {
            let label = format!("c{number}");
            let topology = Topology::of(1).flag(flag);
            let mut cluster = Cluster::prepare(lab, SYNOD, topology, &label).await?;
            refuses(lab, &mut cluster, 0, &words)
                .await
                .with_context(|| flag.to_owned())?;
        }
        Ok(())
    })
}

#[test]
fn the_members_own_name_is_not_in_the_cluster() -> Result<()> {
    run(Share::Small, async |lab| {
        let mut cluster = Cluster::prepare(lab, SYNOD, Topology::of(1), "c1").await?;
        cluster.node(0).spec.initial_cluster = "other=http://127.0.0.1:1".to_owned();
        refuses(lab, &mut cluster, 0, &["n1", "--initial-cluster"]).await?;
        Ok(())
    })
}

#[test]
fn busy_ports() -> Result<()> {
    run(Share::Small, async |lab| {
        let mut cluster = Cluster::prepare(lab, SYNOD, Topology::of(1), "c1").await?;
        let addresses = {
            let spec = &cluster.node(0).spec;
            [spec.client.address(), spec.peer.address()]
        };
        for address in addresses {
            let holder = TcpListener::bind(&address)?;
            let words = [address.as_str(), "in use"];
            refuses(lab, &mut cluster, 0, &words).await?;
            drop(holder);
        }
        // Nothing left behind prevents a correct start.
        cluster.launch_and_wait(lab, 0).await
    })
}

#[test]
fn unwritable_directories() -> Result<()> {
    run(Share::Small, async |lab| {
        let mut cluster = Cluster::prepare(lab, SYNOD, Topology::of(1), "c1").await?;
        let file = lab.folder().join("a-file");
        std::fs::write(&file, "")?;
        // No user may write below /proc, not even root.
        for place in [
            file.clone(),
            file.join("below"),
            "/proc/synod-test/data".into(),
        ] {
            cluster.node(0).spec.data_dir.clone_from(&place);
            let text = place.to_str().context("a readable path")?;
            refuses(lab, &mut cluster, 0, &[text, "--data-dir"])
                .await
                .context(text.to_owned())?;
        }
        Ok(())
    })
}

#[test]
fn a_directory_in_use() -> Result<()> {
    run(Share::Small, async |lab| {
        let mut first = Cluster::start(lab, SYNOD, Topology::of(1)).await?;
        let mut second = Cluster::prepare(lab, SYNOD, Topology::of(1), "c2").await?;
        let place = first.node(0).spec.data_dir.clone();
        second.node(0).spec.data_dir.clone_from(&place);
        let text = place.to_str().context("a readable path")?;
        refuses(lab, &mut second, 0, &[text, "in use"]).await?;
        first.node_ready(0).await
    })
}
