//! Data directories that don't belong to this member, or no longer do.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use synod_testkit::{Cluster, Lab, Server, Share, Topology, run};

use super::refuses;

const SYNOD: Server = Server::SYNOD;

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a readable path")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("-a").args([from, to]).status()?;
    ensure!(
        copied.success(),
        "cp -a {} {}",
        from.display(),
        to.display()
    );
    Ok(())
}

#[test]
fn the_directory_of_another_cluster() -> Result<()> {
    run(Share::Small, async |lab| {
        let mut first = Cluster::start(lab, SYNOD, Topology::of(1)).await?;
        first.client(0).await?.put("k", "v", None).await?;
        first.stop(0).await?;
        let mut second = Cluster::prepare(lab, SYNOD, Topology::of(1), "c2").await?;
        let place = second.node(0).spec.data_dir.clone();
        copy(&first.node(0).spec.data_dir, &place)?;
        let words = [text(&place)?, "cluster", "--data-dir"];
        refuses(lab, &mut second, 0, &words).await?;
        // Its owner is not affected.
        first.launch_and_wait(lab, 0).await
    })
}

#[test]
fn the_directory_of_stock_etcd() -> Result<()> {
    run(Share::Small, async |lab| {
        let mut etcd = Cluster::start(lab, Server::Etcd, Topology::of(1)).await?;
        etcd.client(0).await?.put("k", "v", None).await?;
        etcd.stop(0).await?;
        let mut ours = Cluster::prepare(lab, SYNOD, Topology::of(1), "c2").await?;
        let place = etcd.node(0).spec.data_dir.clone();
        ours.node(0).spec.data_dir.clone_from(&place);
        refuses(lab, &mut ours, 0, &[text(&place)?, "etcd", "--data-dir"]).await?;
        // Its content is unchanged.
        etcd.launch_and_wait(lab, 0).await?;
        ensure!(
            etcd.client(0).await?.get("k", None).await?.count() == 1,
            "the key is gone"
        );
        Ok(())
    })
}

#[test]
fn lost_parts() -> Result<()> {
    run(Share::Small, async |lab| {
        let mut cluster = written(lab).await?;
        let place = cluster.node(0).spec.data_dir.clone();
        let good = lab.folder().join("good");
        copy(&place, &good)?;
        for part in ["meta.json", "log", "engine"] {
            let lost = place.join(part);
            fs::rename(&lost, lab.folder().join("aside"))?;
            refuses(lab, &mut cluster, 0, &[text(&place)?, part])
                .await
                .with_context(|| format!("without {part}"))?;
            // What was left is unchanged: restoring the lost part makes it complete again.
            if lost.is_dir() {
                fs::remove_dir_all(&lost)?;
            }
            fs::rename(lab.folder().join("aside"), &lost)?;
            cluster
                .launch_and_wait(lab, 0)
                .await
                .with_context(|| format!("with {part} again"))?;
            cluster.stop(0).await?;
        }
        Ok(())
    })
}

#[test]
fn a_damaged_meta_file() -> Result<()> {
    run(Share::Small, async |lab| {
        let mut cluster = written(lab).await?;
        let place = cluster.node(0).spec.data_dir.clone();
        let file = place.join("meta.json");
        let good = fs::read_to_string(&file)?;
        let newer = good.replacen("\"format\": 1", "\"format\": 99", 1);
        for (bad, word) in [
            (&good[..good.len() / 2], "meta.json"),
            (newer.as_str(), "99"),
        ] {
            fs::write(&file, bad)?;
            refuses(lab, &mut cluster, 0, &[text(&place)?, word]).await?;
        }
        fs::write(&file, &good)?;
        cluster.launch_and_wait(lab, 0).await
    })
}

#[test]
fn a_flipped_bit_in_the_log() -> Result<()> {
    run(Share::Small, async |lab| {
        let mut cluster = written(lab).await?;
        let (segment, used) = newest_segment(&cluster.node(0).spec.data_dir)?;
        let at = used / 2;
        flip(&segment, at)?;
        let name = segment
            .file_name()
            .and_then(|name| name.to_str())
            .context("a name")?;
        let said = refuses(
            lab,
            &mut cluster,
            0,
            &[name, "corrupt", "add it again with an empty data directory"],
        )
        .await?;
        // The reported offset is that of the damaged record.
        let offset = said
            .split("at byte ")
            .nth(1)
            .and_then(|rest| rest.split(':').next());
        let offset: u64 = offset
            .with_context(|| format!("no offset in {said}"))?
            .parse()?;
        ensure!(
            offset <= at && at - offset < 64 * 1024,
            "damage at {at}, told {offset}"
        );
        // It was refused, not repaired: after restoring the bit, all data is there.
        flip(&segment, at)?;
        cluster.launch_and_wait(lab, 0).await?;
        ensure!(
            cluster.client(0).await?.get("k199", None).await?.count() == 1,
            "the last key"
        );
        Ok(())
    })
}

#[test]
fn a_truncated_segment() -> Result<()> {
    run(Share::Small, async |lab| {
        let mut cluster = written(lab).await?;
        let (segment, used) = newest_segment(&cluster.node(0).spec.data_dir)?;
        let name = segment
            .file_name()
            .and_then(|name| name.to_str())
            .context("a name")?
            .to_owned();
        let whole = fs::read(&segment)?;
        for length in [used / 2, 100, 0] {
            OpenOptions::new()
                .write(true)
                .open(&segment)?
                .set_len(length)?;
            refuses(
                lab,
                &mut cluster,
                0,
                &[&name, "add it again with an empty data directory"],
            )
            .await
            .with_context(|| format!("cut to {length} of {used} bytes"))?;
        }
        fs::write(&segment, &whole)?;
        cluster.launch_and_wait(lab, 0).await
    })
}

#[test]
fn a_torn_tail_is_not_damage() -> Result<()> {
    run(Share::Small, async |lab| {
        // What a power loss leaves: the last record half written and never acknowledged.
        let mut cluster = written(lab).await?;
        let (segment, used) = newest_segment(&cluster.node(0).spec.data_dir)?;
        let mut file = OpenOptions::new().write(true).open(&segment)?;
        file.seek(SeekFrom::Start(used))?;
        file.write_all(&[0xa5; 7])?;
        drop(file);
        cluster.launch_and_wait(lab, 0).await?;
        ensure!(
            cluster.client(0).await?.get("k199", None).await?.count() == 1,
            "the last key"
        );
        Ok(())
    })
}

/// A stopped node with two hundred keys in its log.
async fn written(lab: &Lab) -> Result<Cluster> {
    let mut cluster = Cluster::start(lab, SYNOD, Topology::of(1)).await?;
    let mut client = cluster.client(0).await?;
    for number in 0..200 {
        client
            .put(format!("k{number:03}"), vec![b'v'; 500], None)
            .await?;
    }
    cluster.kill(0)?;
    Ok(cluster)
}

/// The newest segment, and the used length of the preallocated file.
fn newest_segment(data_dir: &Path) -> Result<(PathBuf, u64)> {
    let mut segments: Vec<PathBuf> = fs::read_dir(data_dir.join("log"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    segments.sort();
    let newest = segments.pop().context("a segment")?;
    let mut raw = Vec::new();
    File::open(&newest)?.read_to_end(&mut raw)?;
    let used = raw
        .iter()
        .rposition(|byte| *byte != 0)
        .context("an empty segment")?
        + 1;
    ensure!(
        used > 100_000,
        "200 records of 500 bytes, but {used} are used"
    );
    Ok((newest, u64::try_from(used)?))
}

fn flip(file: &Path, at: u64) -> Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(file)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&[byte[0] ^ 1])?;
    Ok(())
}
