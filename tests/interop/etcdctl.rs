//! Every command of etcdctl, on stock etcd and on our server: both must print the same.
//!
//! In the tables, `$ words` is a command, `< text` a line of its stdin, `~ words` a command whose
//! numbers differ between servers (sizes, terms, positions in the log) and whose parts come in any
//! order, and `& 2 words` a command that runs until it is stopped after two lines. `! words` must
//! differ: docs/compatibility.md says why. The outputs are compared, not typed.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use synod_testkit::{Etcdctl, Lab, Server, Topology, peers, until};
use tokio::process::Command;

use crate::clusters::Deployment;
use crate::output::Names;

const KEYS: &str = include_str!("etcdctl/keys.txt");
const CLUSTER: &str = include_str!("etcdctl/cluster.txt");
const LOCKS: &str = include_str!("etcdctl/locks.txt");
const USERS: &str = include_str!("etcdctl/users.txt");

/// Commands that tests below run, since a table can't.
const IN_CODE: [&str; 3] = ["make-mirror", "check perf", "check datascale"];

/// Timeout for expected output.
const SOON: Duration = Duration::from_secs(30);

/// Makes a test of each function for both engines, beside stock etcd.
macro_rules! beside_etcd {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn raft() -> anyhow::Result<()> {
                synod_testkit::run(synod_testkit::Share::Whole, async |lab| {
                    super::$name(lab, synod_testkit::Server::SYNOD).await
                })
            }

            #[test]
            fn multi_paxos() -> anyhow::Result<()> {
                synod_testkit::run(synod_testkit::Share::Whole, async |lab| {
                    super::$name(lab, synod_testkit::Server::PAXOS).await
                })
            }
        }
    )+};
}

beside_etcd!(keys, cluster, locks, users, mirror, load);

async fn keys(lab: &Lab, server: Server) -> Result<()> {
    compare(lab, server, KEYS).await
}

async fn cluster(lab: &Lab, server: Server) -> Result<()> {
    compare(lab, server, CLUSTER).await
}

async fn locks(lab: &Lab, server: Server) -> Result<()> {
    compare(lab, server, LOCKS).await
}

async fn users(lab: &Lab, server: Server) -> Result<()> {
    compare(lab, server, USERS).await
}

/// One server and what its output is called.
struct Side {
    deployment: Deployment,
    etcdctl: Etcdctl,
    names: Names,
    label: &'static str,
}

impl Side {
    async fn start(lab: &Lab, server: Server) -> Result<Self> {
        let label = if server.is_etcd() { "etcd" } else { "ours" };
        let topology = Topology::of(1).flag("--bcrypt-cost=4");
        let deployment = Deployment::labelled(lab, server, topology, label).await?;
        let spec = &deployment.cluster.nodes()[0].spec;
        let folder = lab.folder().join(format!("{label}-files"));
        std::fs::create_dir_all(&folder)?;
        let names = Names::new(vec![
            (spec.client.url(), "URL"),
            (spec.client.address(), "ADDRESS"),
            (spec.peer.url(), "PEER"),
            (folder.display().to_string(), "DIR"),
        ]);
        Ok(Self {
            etcdctl: Etcdctl::new(&deployment.endpoints)?,
            deployment,
            names,
            label,
        })
    }

    async fn run(&mut self, lab: &Lab, step: &Step<'_>, number: usize) -> Result<String> {
        let filled = self.names.fill(step.words);
        let words = split(&filled);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let text = match step.lines {
            Some(lines) => {
                let name = format!("{}-{number}", self.label);
                let session = self.etcdctl.session(lab, &name, &words)?;
                session.prints(|text| text.lines().count() >= lines).await?
            }
            None => {
                let output = self.etcdctl.run_with_input(&words, &step.stdin).await?;
                let verdict = if output.success {
                    "succeeded"
                } else {
                    "failed"
                };
                format!("{}{}{verdict}", output.stdout, output.stderr)
            }
        };
        Ok(self.names.name(&text, step.numbers_differ))
    }
}

/// A row of a table.
struct Step<'a> {
    words: &'a str,
    stdin: String,
    lines: Option<usize>,
    numbers_differ: bool,
    must_differ: bool,
}

fn steps(table: &str) -> Result<Vec<Step<'_>>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for line in table.lines() {
        let (kind, rest) = line.split_at_checked(2).unwrap_or((line, ""));
        if kind.trim_end() == "<" {
            let last = steps.last_mut().context("stdin comes after a command")?;
            last.stdin += rest;
            last.stdin.push('\n');
            continue;
        }
        let (lines, words) = match kind {
            "& " => {
                let (lines, words) = rest.split_once(' ').context("& <lines> <words>")?;
                (Some(lines.parse()?), words)
            }
            _ => (None, rest),
        };
        ensure!(
            ["$ ", "~ ", "& ", "! "].contains(&kind),
            "unknown row {line:?}"
        );
        steps.push(Step {
            words,
            stdin: String::new(),
            lines,
            numbers_differ: kind == "~ ",
            must_differ: kind == "! ",
        });
    }
    Ok(steps)
}

/// Splits at spaces; `""` is an empty word.
fn split(words: &str) -> Vec<String> {
    let strip = |word: &str| {
        if word == "\"\"" {
            String::new()
        } else {
            word.to_owned()
        }
    };
    words.split(' ').map(strip).collect()
}

/// Runs a table on both servers and reports every difference.
async fn compare(lab: &Lab, server: Server, table: &str) -> Result<()> {
    let mut stock = Side::start(lab, Server::Etcd).await?;
    let mut ours = Side::start(lab, server).await?;
    let mut differences = Vec::new();
    for (number, step) in steps(table)?.iter().enumerate() {
        let want = stock.run(lab, step, number).await;
        let want = want.with_context(|| format!("stock: {}", step.words))?;
        let got = ours
            .run(lab, step, number)
            .await
            .unwrap_or_else(|error| format!("{error:#}"));
        if (got != want) != step.must_differ {
            differences.push(format!("$ {}\n- {want}\n+ {got}", step.words));
        }
    }
    ensure!(
        differences.is_empty(),
        "stock etcd (-) and ours (+) differ:\n{}",
        differences.join("\n")
    );
    Ok(())
}

/// Mirrors ours to stock etcd and back: keys that were there, and those written later.
async fn mirror(lab: &Lab, server: Server) -> Result<()> {
    let stock = Side::start(lab, Server::Etcd).await?;
    let ours = Side::start(lab, server).await?;
    for (from, to, prefix) in [(&ours, &stock, "out/"), (&stock, &ours, "back/")] {
        let before = format!("{prefix}before");
        from.etcdctl.ok(&["put", &before, "1"]).await?;
        let target = to.deployment.endpoints[0]
            .trim_start_matches("http://")
            .to_owned();
        let words = ["make-mirror", "--prefix", prefix, &target];
        let name = format!("mirror-{}", from.label);
        let _mirror = from.etcdctl.session(lab, &name, &words)?;
        arrives(&to.etcdctl, &before, "1").await?;
        let later = format!("{prefix}later");
        from.etcdctl.ok(&["put", &later, "2"]).await?;
        arrives(&to.etcdctl, &later, "2").await?;
    }
    Ok(())
}

async fn arrives(etcdctl: &Etcdctl, key: &str, value: &str) -> Result<()> {
    until(&format!("{key} to be mirrored"), SOON, async || {
        let got = etcdctl.ok(&["get", key, "--print-value-only"]).await?;
        Ok((got.trim_end() == value).then_some(()))
    })
    .await
}

/// The load checks end with the same kinds of lines; the figures are the machine's.
async fn load(lab: &Lab, server: Server) -> Result<()> {
    let stock = Side::start(lab, Server::Etcd).await?;
    let ours = Side::start(lab, server).await?;
    let (want, got) = tokio::try_join!(loaded(&stock), loaded(&ours))?;
    ensure!(got == want, "stock etcd: {want:#?}, ours: {got:#?}");
    Ok(())
}

async fn loaded(side: &Side) -> Result<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    for what in ["perf", "datascale"] {
        // `check perf` takes a minute, more than other commands may.
        let output = Command::new(peers::install()?.etcdctl)
            .arg(format!("--endpoints={}", side.deployment.endpoints[0]))
            .args(["check", what, "--load=s"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(120), output).await??;
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        let words = text
            .split(['\n', '\r'])
            .filter_map(|line| line.split_once(": "))
            .filter(|(verdict, _)| ["PASS", "FAIL", "Error"].contains(verdict))
            .map(|(_, rest)| {
                rest.split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            });
        lines.extend(words.map(|word| format!("{what}: {word}")));
    }
    ensure!(!lines.is_empty(), "no verdicts");
    Ok(lines)
}

/// Each command of `etcdctl help` has a row.
#[test]
fn every_command_has_a_row() -> Result<()> {
    let mut missing = Vec::new();
    let mut rows: Vec<String> = IN_CODE.iter().map(|row| (*row).to_owned()).collect();
    for table in [KEYS, CLUSTER, LOCKS, USERS] {
        for step in steps(table)? {
            let words = step
                .words
                .split(' ')
                .filter(|word| !word.starts_with("--user") && !word.starts_with("--password"));
            rows.push(words.collect::<Vec<_>>().join(" "));
        }
    }
    let commands = commands(&[])?;
    ensure!(
        commands.len() > 40,
        "too few commands were found: {commands:?}"
    );
    for command in commands {
        let has_row = |row: &String| *row == command || row.starts_with(&format!("{command} "));
        if !rows.iter().any(has_row) {
            missing.push(command);
        }
    }
    ensure!(
        missing.is_empty(),
        "etcdctl has commands without a row: {missing:?}"
    );
    Ok(())
}

/// The commands without subcommands, as `etcdctl help` lists them.
fn commands(parents: &[&str]) -> Result<Vec<String>> {
    let output = std::process::Command::new(peers::install()?.etcdctl)
        .args(parents)
        .arg("--help")
        .output()?;
    let help = String::from_utf8(output.stdout)?;
    let mut found = Vec::new();
    let mut is_list = false;
    for line in help.lines() {
        let heading = line.to_lowercase();
        is_list = match line.is_empty() {
            true => false,
            false => is_list || heading.ends_with(" commands") || heading == "available commands:",
        };
        let name = line.strip_prefix("  ").filter(|_| is_list);
        let Some(name) = name
            .and_then(|rest| rest.split(' ').next())
            .filter(|name| !name.is_empty())
        else {
            continue;
        };
        let path = [parents, &[name]].concat();
        // `completion` has a subcommand for each shell, which doesn't reach a server.
        let inner = match name {
            "completion" | "help" => Vec::new(),
            _ => commands(&path)?,
        };
        if inner.is_empty() {
            found.push(path.join(" "));
        }
        found.extend(inner);
    }
    Ok(found)
}
