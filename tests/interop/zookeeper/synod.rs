//! `synod zk` on the real ZooKeeper and on pods: both answer the same.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use synod_testkit::{Lab, Server, Share, run, synod_binary};

/// The commands.
const WORDS: &str = include_str!("synod.txt");

#[test]
fn synod_zk() -> Result<()> {
    run(Share::Whole, async |lab: &Lab| {
        let running = super::ensemble(lab).await?;
        let expected = transcript(&running.addresses().join(","))?;
        let (_cluster, pods) = super::service(lab, Server::SYNOD).await?;
        let actual = transcript(&pods.addresses().join(","))?;
        ensure!(
            expected == actual,
            "with the real one it prints\n{expected}\nand with Synod\n{actual}"
        );
        for (servers, metric) in [
            (running.address(0), "zk_znode_count"),
            (pods.address(0), "zk_znode_count"),
        ] {
            let (_, said) = output(&servers, "mntr -o json")?;
            ensure!(said.contains(metric), "{said}");
        }
        Ok(())
    })
}

/// What all commands print, and their exit codes, without times and transactions.
fn transcript(servers: &str) -> Result<String> {
    let mut text = String::new();
    for line in WORDS.lines() {
        let (code, said) = output(servers, line)?;
        let same = said
            .lines()
            .filter(|line| !line.contains("zxid") && !line.contains("time"));
        let same: Vec<&str> = same.collect();
        text += &format!("$ {line}\n{}\n{code}\n", same.join("\n"));
    }
    ensure!(text.contains("data_length"), "{text}");
    Ok(text)
}

/// The exit code and all that a command prints.
fn output(servers: &str, line: &str) -> Result<(i32, String)> {
    let output = Command::new(synod_binary()?)
        .args(["zk", "--server", servers])
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text)?;
    Ok((output.status.code().unwrap_or(-1), text))
}
