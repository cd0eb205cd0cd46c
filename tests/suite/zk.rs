//! `synod zk` on pods of coordination.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use synod_testkit::{Cluster, Lab, PodOptions, Pods, Server, Share, Topology, run, synod_binary};

/// The command, and the pods that it uses.
struct Zk {
    program: std::path::PathBuf,
    servers: String,
}

impl Zk {
    fn output(&self, words: &[&str]) -> Result<Output> {
        Ok(Command::new(&self.program)
            .arg("zk")
            .args(words)
            .env("SYNOD_ZOOKEEPER", &self.servers)
            .stdin(Stdio::null())
            .output()?)
    }

    /// What a command prints that must succeed.
    fn text(&self, words: &[&str]) -> Result<String> {
        let output = self.output(words)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{words:?}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn json(&self, words: &[&str]) -> Result<Value> {
        let text = self.text(&[words, &["-o", "json"]].concat())?;
        let lines: Vec<Value> = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        lines.into_iter().next().context("a line")
    }

    /// What a command says that must fail with this exit code.
    fn refused(&self, code: i32, words: &[&str]) -> Result<String> {
        let output = self.output(words)?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(code), "{words:?}: {said}");
        Ok(said)
    }
}

#[test]
fn nodes_are_read_and_written() -> Result<()> {
    run(Share::Small, async |lab: &Lab| {
        let cluster = Cluster::start(lab, Server::SYNOD, Topology::of(1)).await?;
        let options = PodOptions {
            pods: 2,
            ..PodOptions::default()
        };
        let pods = Pods::start(lab, &cluster.endpoints(), options).await?;
        // The pods take turns: what one wrote is read through the other.
        let through = |index: usize, chroot: &str| -> Result<Zk> {
            Ok(Zk {
                program: synod_binary()?,
                servers: format!("{}{chroot}", pods.address(index)),
            })
        };
        let (one, two) = (through(0, "")?, through(1, "")?);
        reads_and_writes(&one, &two)?;
        lists_and_removes(&one, &two)?;
        access(&one, &two)?;
        below_a_chroot(&through(0, "/app")?, &two)?;
        let metrics = one.json(&["mntr"])?;
        ensure!(metrics["zk_znode_count"].as_i64() > Some(3), "{metrics}");
        // Its sessions are closed, not left to expire.
        assert_eq!(metrics["zk_global_sessions"], 0, "{metrics}");
        Ok(())
    })
}

fn reads_and_writes(one: &Zk, two: &Zk) -> Result<()> {
    assert_eq!(one.text(&["create", "/a", "hello"])?, "/a\n");
    assert_eq!(two.text(&["get", "/a"])?, "hello\n");
    one.text(&["set", "--version", "0", "/a", "-1"])?;
    let got = two.json(&["get", "/a"])?;
    assert_eq!((&got["data"], &got["version"]), (&json!("-1"), &json!(1)));
    let stale = one.refused(1, &["set", "--version", "0", "/a", "x"])?;
    ensure!(stale.contains("another version"), "{stale}");
    let stale = one.refused(1, &["rm", "--version", "0", "/a"])?;
    ensure!(stale.contains("another version"), "{stale}");
    let stat = two.json(&["stat", "/a"])?;
    assert_eq!(
        (&stat["path"], &stat["data_length"]),
        (&json!("/a"), &json!(2))
    );
    let exists = one.refused(1, &["create", "/a"])?;
    ensure!(exists.contains("exists already"), "{exists}");
    // Of the node, and of a new node's parent.
    let missing = one.refused(4, &["get", "/none"])?;
    ensure!(
        missing.contains("the node /none does not exist"),
        "{missing}"
    );
    let missing = one.refused(4, &["create", "/none/x"])?;
    ensure!(
        missing.contains("the node /none does not exist"),
        "{missing}"
    );
    Ok(())
}

fn lists_and_removes(one: &Zk, two: &Zk) -> Result<()> {
    assert_eq!(one.text(&["create", "-s", "/a/n-"])?, "/a/n-0000000000\n");
    assert_eq!(two.text(&["create", "-s", "/a/"])?, "/a/0000000001\n");
    one.text(&["create", "--container", "/a/c"])?;
    one.text(&["create", "--ttl", "3600", "-s", "/a/c/t-"])?;
    assert_eq!(two.text(&["ls", "/a"])?, "0000000001\nc\nn-0000000000\n");
    let all = "/a\n/a/0000000001\n/a/c\n/a/c/t-0000000000\n/a/n-0000000000\n";
    assert_eq!(one.text(&["ls", "-R", "/a"])?, all);
    let listed = one.json(&["ls", "/a"])?;
    assert_eq!(
        listed,
        json!({"path": "/a/0000000001", "name": "0000000001"})
    );
    let refused = one.refused(1, &["rm", "/a"])?;
    ensure!(refused.contains("rm -r"), "{refused}");
    assert_eq!(two.json(&["rm", "-r", "/a"])?, json!({"deleted": 5}));
    one.refused(4, &["ls", "/a"])?;
    one.refused(4, &["rm", "-r", "/a"])?;
    Ok(())
}

fn access(one: &Zk, two: &Zk) -> Result<()> {
    let joe = "--auth=digest:joe:secret";
    one.text(&["create", joe, "/b", "--acl", "auth::cdrwa"])?;
    let list = two.text(&["getacl", joe, "/b"])?;
    ensure!(
        list.starts_with("digest:joe:") && list.ends_with(":cdrwa\n"),
        "{list}"
    );
    let refused = two.refused(1, &["get", "/b"])?;
    ensure!(refused.contains("--auth"), "{refused}");
    two.text(&["get", joe, "/b"])?;
    one.text(&["setacl", joe, "/b", "world:anyone:r", "--version", "0"])?;
    assert_eq!(two.text(&["getacl", "/b"])?, "world:anyone:r\n");
    one.text(&["rm", "/b"]).map(drop)
}

fn below_a_chroot(app: &Zk, two: &Zk) -> Result<()> {
    app.refused(4, &["create", "/x"])?;
    two.text(&["create", "/app"])?;
    assert_eq!(app.text(&["create", "-s", "/x"])?, "/x0000000000\n");
    assert_eq!(two.text(&["ls", "/app"])?, "x0000000000\n");
    assert_eq!(app.text(&["ls", "-R"])?, "/\n/x0000000000\n");
    app.text(&["rm", "/x0000000000"]).map(drop)
}
