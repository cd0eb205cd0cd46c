//! `synod elect observe`, and how it outlives a pod.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use synod_testkit::{Cluster, Lab, PodOptions, Pods, Server, Share, Topology, run, synod_binary};

/// A running `synod elect`. Dropping it kills it.
struct Elect {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Elect {
    fn start(urls: &str, words: &[&str]) -> Result<Self> {
        let mut child = Command::new(synod_binary()?)
            .arg("elect")
            .args(words)
            .env("SYNOD_COORDINATION", urls)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("a pipe")?;
        let lines = BufReader::new(stdout).lines();
        Ok(Self { child, lines })
    }

    fn line(&mut self) -> Result<String> {
        self.lines.next().context("it ended")?.map_err(Into::into)
    }

    /// The leader in the next line.
    fn leader(&mut self) -> Result<Value> {
        let line: Value = serde_json::from_str(&self.line()?)?;
        ensure!(line["election"] == "e", "{line}");
        Ok(line["leader"].clone())
    }
}

impl Drop for Elect {
    fn drop(&mut self) {
        // It may already have exited.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn an_observer_sees_each_leader_through_any_pod() -> Result<()> {
    run(Share::Small, async |lab: &Lab| {
        let cluster = Cluster::start(lab, Server::SYNOD, Topology::of(1)).await?;
        let options = PodOptions {
            pods: 2,
            ..PodOptions::default()
        };
        let mut pods = Pods::start(lab, &cluster.endpoints(), options).await?;
        let urls = format!("{},{}", pods.url(0), pods.url(1));
        let mut observer = Elect::start(&urls, &["observe", "e", "-o", "json"])?;
        assert_eq!(observer.leader()?, Value::Null);
        // It leads until its standard input ends.
        let words = ["run", "e", "--value=one", "--", "sh", "-c"];
        let script = "echo $SYNOD_ELECTION_TOKEN; exec cat";
        let mut leading = Elect::start(&pods.url(1), &[&words[..], &[script]].concat())?;
        let token: u64 = leading.line()?.parse()?;
        let leader = observer.leader()?;
        assert_eq!(
            (&leader["value"], &leader["token"]),
            (&json!("one"), &json!(token))
        );
        pods.kill(0)?;
        drop(leading.child.stdin.take());
        ensure!(leading.child.wait()?.success(), "the code of the command");
        // The leader, which has not changed, is not told again by the second pod.
        assert_eq!(observer.leader()?, Value::Null);
        let mut nobody = Elect::start(&urls, &["leader", "e"])?;
        assert_eq!(nobody.child.wait()?.code(), Some(4));
        Ok(())
    })
}
