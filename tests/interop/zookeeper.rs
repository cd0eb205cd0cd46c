//! ZooKeeper's clients, unmodified, on an ensemble of ZooKeeper and on pods of coordination over
//! each endpoint: the same programs with the same checks.

mod synod;

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use synod_testkit::zookeeper::{self, ZooKeeper};
use synod_testkit::{Cluster, Lab, PodOptions, Pods, Server, Topology};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::clients::{self, Runnable};
use crate::on_all;

/// Timeout for a program.
const RUN_TIMEOUT: Duration = Duration::from_secs(150);

/// Servers of the ensemble, pods, members.
const NODES: usize = 3;

/// MD5 of `ann:zk-sasl-md5:other`.
const ANN: &str = "40d874975e7e04ee6e4f88f3f11b284f";

/// Commands for ZooKeeper's own command line, and what they print must be the same.
const CLI: &str = include_str!("zookeeper/cli.txt");

on_all!(Whole => kazoo, curator, gozk, cli, sasl);

macro_rules! on_zookeeper {
    ($($name:ident),+ $(,)?) => {
        mod on_zookeeper {$(
            #[test]
            fn $name() -> anyhow::Result<()> {
                synod_testkit::run(synod_testkit::Share::Whole, async |lab| {
                    let running = super::ensemble(lab).await?;
                    super::check(&super::clients::$name()?, &running.addresses()).await
                })
            }
        )+}
    };
}

on_zookeeper!(kazoo, curator, gozk);

async fn kazoo(lab: &Lab, endpoint: Server) -> Result<()> {
    on_synod(lab, endpoint, &clients::kazoo()?).await
}

async fn curator(lab: &Lab, endpoint: Server) -> Result<()> {
    on_synod(lab, endpoint, &clients::curator()?).await
}

async fn gozk(lab: &Lab, endpoint: Server) -> Result<()> {
    on_synod(lab, endpoint, &clients::gozk()?).await
}

async fn cli(lab: &Lab, endpoint: Server) -> Result<()> {
    let running = ensemble(lab).await?;
    let expected = session(&running.address(0)).await?;
    let (_cluster, pods) = service(lab, endpoint).await?;
    let actual = session(&pods.address(0)).await?;
    ensure!(
        expected == actual,
        "the real one prints\n{expected}\nand Synod\n{actual}"
    );
    Ok(())
}

/// Logins with SASL, of kazoo. ZooKeeper's Java client, which does not log in, is refused.
async fn sasl(lab: &Lab, endpoint: Server) -> Result<()> {
    let users = lab.folder().join("users");
    std::fs::write(&users, format!("joe:secret\nann:{{HA1}}{ANN}\n"))?;
    let cluster = Cluster::start(lab, endpoint, Topology::of(1)).await?;
    let options = PodOptions {
        flags: vec![
            format!("--sasl-users-file={}", users.display()),
            "--require-sasl".to_owned(),
        ],
        ..PodOptions::default()
    };
    let pods = Pods::start(lab, &cluster.endpoints(), options).await?;
    check(&clients::kazoo_sasl()?, &pods.addresses()).await?;
    let said = run_cli(&pods.address(0), "create /java\n").await?;
    ensure!(said.contains("Session closed"), "{said}");
    Ok(())
}

async fn on_synod(lab: &Lab, endpoint: Server, runnable: &Runnable) -> Result<()> {
    let (_cluster, pods) = service(lab, endpoint).await?;
    check(runnable, &pods.addresses()).await
}

async fn service(lab: &Lab, endpoint: Server) -> Result<(Cluster, Pods)> {
    let cluster = Cluster::start(lab, endpoint, Topology::of(NODES)).await?;
    let options = PodOptions {
        pods: NODES,
        ..PodOptions::default()
    };
    let pods = Pods::start(lab, &cluster.endpoints(), options).await?;
    Ok((cluster, pods))
}

async fn ensemble(lab: &Lab) -> Result<ZooKeeper> {
    let options = zookeeper::Options {
        servers: NODES,
        ..zookeeper::Options::default()
    };
    ZooKeeper::start(lab, options).await
}

/// Runs a program, which fails if one of its checks does.
async fn check(runnable: &Runnable, addresses: &[String]) -> Result<()> {
    let output = Command::new(&runnable.program)
        .args(&runnable.args)
        .arg(addresses.join(","))
        .envs(runnable.envs.iter().cloned())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Ok(output) = timeout(RUN_TIMEOUT, output).await else {
        bail!("{runnable:?} took over {RUN_TIMEOUT:?}");
    };
    let output = output.with_context(|| format!("start {runnable:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.contains("ok "),
        "{}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// What ZooKeeper's command line prints for the commands, without times and transactions, and
/// without one of the client's identities, which come in no order.
async fn session(address: &str) -> Result<String> {
    let said = run_cli(address, CLI).await?;
    let differs = [
        "Zxid = ",
        "time = ",
        "Connecting to ",
        "ephemeralOwner = 0x1",
        "ip: 127.0.0.1",
    ];
    let same = said
        .lines()
        .filter(|line| !differs.iter().any(|word| line.contains(word)));
    let text: String = same.map(|line| format!("{line}\n")).collect();
    ensure!(text.contains("numChildren"), "{text}");
    ensure!(said.contains("ip: 127.0.0.1"), "{said}");
    Ok(text)
}

/// What ZooKeeper's command line prints for the commands, and then what it says of errors.
async fn run_cli(address: &str, commands: &str) -> Result<String> {
    let mut child = Command::new("java")
        .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
        .arg("-cp")
        .arg(zookeeper::install()?.class_path())
        .args(["org.apache.zookeeper.ZooKeeperMain", "-server", address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start java")?;
    let mut input = child.stdin.take().context("stdin is piped")?;
    input.write_all(commands.as_bytes()).await?;
    drop(input);
    let output = timeout(RUN_TIMEOUT, child.wait_with_output()).await??;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    Ok(format!("{said}{errors}"))
}
