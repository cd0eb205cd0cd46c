//! A full disk: acknowledged data stays, and the server reports what is wrong.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use synod_testkit::{Cluster, Lab, Server, Share, Topology, run, until};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(60);

/// A small in-memory file system. Dropping it unmounts it.
struct Disk(PathBuf);

impl Disk {
    /// `None` if this user may not mount.
    fn mount(at: &Path, size: &str) -> Result<Option<Self>> {
        std::fs::create_dir_all(at)?;
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at)
            .output();
        Ok(mounted
            .is_ok_and(|output| output.status.success())
            .then(|| Self(at.to_owned())))
    }

    fn resize(&self, size: &str) -> Result<()> {
        let options = format!("remount,size={size}");
        let status = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status()?;
        ensure!(status.success(), "remount {}", self.0.display());
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[test]
fn too_small_to_start() -> Result<()> {
    run(Share::Small, async |lab| {
        let mut cluster = Cluster::prepare(lab, Server::SYNOD, Topology::of(1), "c1").await?;
        let place = cluster.node(0).spec.data_dir.clone();
        let Some(_disk) = Disk::mount(&place, "1m")? else {
            return limited_file_size(lab).await;
        };
        let text = place.to_str().context("a readable path")?;
        super::refuses(lab, &mut cluster, 0, &["space", text]).await?;
        Ok(())
    })
}

#[test]
fn full_while_writing() -> Result<()> {
    run(Share::Whole, async |lab| {
        let mut cluster = Cluster::prepare(lab, Server::SYNOD, Topology::of(1), "c1").await?;
        let place = cluster.node(0).spec.data_dir.clone();
        let Some(disk) = Disk::mount(&place, "160m")? else {
            return limited_file_size(lab).await;
        };
        cluster.launch_and_wait(lab, 0).await?;
        let mut client = cluster.client(0).await?;
        let mut acknowledged = 0;
        let refused = loop {
            ensure!(acknowledged < 400, "400 MiB went onto a disk of 160");
            let put = client.put(format!("k{acknowledged:03}"), value(acknowledged), None);
            match timeout(SOON, put).await? {
                Ok(_) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        println!("{acknowledged} MiB, then {refused}");
        ensure!(acknowledged > 10, "only {acknowledged} MiB fitted");
        // It stops and reports why.
        let process = cluster.node(0).process()?;
        let status = process.ended(SOON).await?;
        let said = process.log_text();
        // The engine's threads may still log errors while it stops.
        let is_verdict = |line: &&str| line.starts_with("synod-consensus:");
        let last = said.lines().rfind(is_verdict).unwrap_or_default();
        ensure!(!status.success(), "{status}: {said}");
        for word in [
            "o space left",
            place.to_str().context("a readable path")?,
            "free",
        ] {
            ensure!(last.contains(word), "{word:?} is missing in {last:?}");
        }
        cluster.kill(0)?;

        disk.resize("600m")?;
        cluster.launch_and_wait(lab, 0).await?;
        let mut client = cluster.client(0).await?;
        for number in 0..acknowledged {
            let read = client.get(format!("k{number:03}"), None).await?;
            let right = read
                .kvs()
                .first()
                .is_some_and(|kv| kv.value() == value(number));
            ensure!(right, "the acknowledged k{number:03} is lost");
        }
        client.put("after", "v", None).await?;
        Ok(())
    })
}

fn value(number: usize) -> Vec<u8> {
    // Not compressible, so that the engine's copies count too.
    let mut state = number as u64 + 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next)
        .take(128 * 1024)
        .flatten()
        .collect()
}

/// If mounting is not allowed: files that can't grow.
async fn limited_file_size(lab: &Lab) -> Result<()> {
    let topology = Topology {
        max_file_bytes: Some(1024 * 1024),
        ..Topology::of(1)
    };
    let mut cluster = Cluster::prepare(lab, Server::SYNOD, topology, "small-files").await?;
    cluster.launch(lab, 0)?;
    let process = cluster.node(0).process()?;
    until("the server to give up", SOON, async || {
        Ok((!process.is_running()).then_some(()))
    })
    .await
}
