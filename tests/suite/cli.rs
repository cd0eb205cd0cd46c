//! The `synod` command: a durable development cluster, and the commands that a new user tries.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use synod_jute::{Acl, CreateRequest, GetDataRequest, Request};
use synod_testkit::zookeeper::ZkClient;
use synod_testkit::{Lab, Port, Share, run, synod_binary};

/// A running `synod dev`. Dropping it kills it.
struct Dev {
    child: Child,
    ready: String,
    /// Kept open, because the process may print more.
    _said: Lines<BufReader<ChildStdout>>,
}

impl Dev {
    fn start(program: &Path, folder: &Path, ports: &Ports) -> Result<Self> {
        Self::spawn(&mut command(program, folder, ports, "1"))
    }

    fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let stdout = child.stdout.take().context("a pipe")?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = lines.next().context("it ended before it was ready")??;
        Ok(Self {
            child,
            ready,
            _said: lines,
        })
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may already have exited.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The ports of `synod dev`.
struct Ports {
    client: Port,
    peer: Port,
    zookeeper: Port,
    coordination: Port,
}

impl Ports {
    fn reserve() -> Result<Self> {
        Ok(Self {
            client: Port::reserve()?,
            peer: Port::reserve()?,
            zookeeper: Port::reserve()?,
            coordination: Port::reserve()?,
        })
    }
}

fn command(program: &Path, folder: &Path, ports: &Ports, nodes: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["dev", "--nodes", nodes, "--data-dir"])
        .arg(folder);
    for (flag, port) in [
        ("--client-port", &ports.client),
        ("--peer-port", &ports.peer),
        ("--zookeeper-port", &ports.zookeeper),
        ("--coordination-port", &ports.coordination),
    ] {
        command.args([flag, &port.number().to_string()]);
    }
    command.stdin(Stdio::null());
    command
}

fn synod(program: &Path, client: &Port, words: &[&str]) -> Result<Output> {
    Ok(Command::new(program)
        .args(words)
        .env("SYNOD_ENDPOINTS", client.address())
        .stdin(Stdio::null())
        .output()?)
}

/// Runs a command that must succeed, and returns its JSON lines.
fn json(program: &Path, client: &Port, words: &[&str]) -> Result<Vec<Value>> {
    let words: Vec<&str> = words.iter().copied().chain(["-o", "json"]).collect();
    let output = synod(program, client, &words)?;
    let text = String::from_utf8(output.stdout)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words:?}: {said}");
    text.lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Creates a node as a client of ZooKeeper.
async fn create_node(port: &Port) -> Result<()> {
    let mut client = ZkClient::open(&port.address()).await?;
    let create = Request::Create(CreateRequest {
        path: "/greeting".into(),
        data: Some("hello".into()),
        acl: Some(vec![Acl::new(31, "world", "anyone")]),
        flags: 0,
    });
    let (_, reply) = client.call(&create).await?;
    ensure!(reply.outcome.is_ok(), "{reply:?}");
    Ok(())
}

async fn read_node(port: &Port) -> Result<()> {
    let mut client = ZkClient::open(&port.address()).await?;
    let get = Request::GetData(GetDataRequest {
        path: "/greeting".into(),
        watch: false,
    });
    let (_, reply) = client.call(&get).await?;
    let text = format!("{reply:?}");
    ensure!(text.contains("hello"), "{text}");
    Ok(())
}

#[test]
fn the_first_five_minutes() -> Result<()> {
    run(Share::Small, async |lab: &Lab| {
        let program = synod_binary()?;
        let ports = Ports::reserve()?;
        let client = &ports.client;
        let folder = lab.folder().join("dev");
        let dev = Dev::start(&program, &folder, &ports)?;
        let peer = ports.peer.address();
        for word in ["ready:", &client.address(), &peer, "durable"] {
            ensure!(dev.ready.contains(word), "{word} is missing: {}", dev.ready);
        }
        create_node(&ports.zookeeper).await?;

        let put = json(&program, client, &["kv", "put", "greeting", "hello"])?;
        ensure!(put[0]["revision"].as_i64() > Some(1), "{put:?}");
        let got = json(&program, client, &["kv", "get", "greeting"])?;
        assert_eq!(got[0]["value"], "hello");
        let guarded = [
            "kv",
            "txn",
            "--if",
            "version(lock) = 0",
            "--then",
            "put lock me",
        ];
        let guarded: Vec<&str> = guarded.into_iter().chain(["--else", "get lock"]).collect();
        assert_eq!(json(&program, client, &guarded)?[0]["succeeded"], true);
        let again = json(&program, client, &guarded)?;
        assert_eq!(again[0]["succeeded"], false);
        assert_eq!(again[1]["value"], "me");
        let status = json(&program, client, &["status"])?;
        assert_eq!(status[0]["role"], "leader");
        let members = json(&program, client, &["member", "ls"])?;
        assert_eq!(members.len(), 1);
        let load = [
            "bench",
            "put",
            "--clients",
            "4",
            "--duration",
            "0.3",
            "--warmup",
            "0.1",
        ];
        let bench = json(&program, client, &load)?;
        ensure!(bench[0]["operations"].as_u64() > Some(0), "{bench:?}");
        assert_eq!(bench[0]["failures"], 0);

        let missing = synod(&program, client, &["kv", "get", "nothing"])?;
        assert_eq!(missing.status.code(), Some(4), "{}", stderr(&missing));
        let busy = command(&program, &lab.folder().join("other"), &ports, "1").output()?;
        assert_eq!(busy.status.code(), Some(1));
        ensure!(
            stderr(&busy).contains("already in use"),
            "{}",
            stderr(&busy)
        );

        // SIGKILL: acknowledged data is still there.
        drop(dev);
        let gone = synod(&program, client, &["kv", "get", "greeting"])?;
        assert_eq!(gone.status.code(), Some(1));
        ensure!(stderr(&gone).contains("hint:"), "{}", stderr(&gone));
        let other = command(&program, &folder, &ports, "3").output()?;
        ensure!(stderr(&other).contains("--nodes 1"), "{}", stderr(&other));
        let _dev = Dev::start(&program, &folder, &ports)?;
        let got = json(&program, client, &["kv", "get", "greeting"])?;
        assert_eq!(got[0]["value"], "hello");
        read_node(&ports.zookeeper).await
    })
}

#[test]
fn the_data_keeps_its_engine() -> Result<()> {
    run(Share::Small, async |lab: &Lab| {
        let program = synod_binary()?;
        let ports = Ports::reserve()?;
        let client = &ports.client;
        let folder = lab.folder().join("dev");
        let dev = |engine: &[&str]| {
            let mut command = command(&program, &folder, &ports, "1");
            command.args(engine);
            command
        };
        let first = Dev::spawn(&mut dev(&["--engine", "multi-paxos"]))?;
        json(&program, client, &["kv", "put", "greeting", "hello"])?;
        assert_eq!(
            json(&program, client, &["status"])?[0]["engine"],
            "multi-paxos"
        );
        drop(first);

        let other = dev(&["--engine", "raft"]).output()?;
        assert_eq!(other.status.code(), Some(1));
        for word in ["multi-paxos", "operations.md"] {
            ensure!(stderr(&other).contains(word), "{word}: {}", stderr(&other));
        }
        let unknown = dev(&["--engine", "chain"]).output()?;
        assert_eq!(unknown.status.code(), Some(2));
        ensure!(stderr(&unknown).contains("raft"), "{}", stderr(&unknown));

        // Without the flag, the data's engine is used.
        let _again = Dev::spawn(&mut dev(&[]))?;
        assert_eq!(
            json(&program, client, &["status"])?[0]["engine"],
            "multi-paxos"
        );
        let got = json(&program, client, &["kv", "get", "greeting"])?;
        assert_eq!(got[0]["value"], "hello");
        Ok(())
    })
}
