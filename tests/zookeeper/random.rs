//! Random scenarios, replayed against the real ZooKeeper and against a pod: the answers are equal.
//! `SYNOD_SEED` chooses the first scenario, and `SYNOD_SCENARIOS` how many there are.

use std::collections::HashSet;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use synod_testkit::zookeeper::ZooKeeper;
use synod_testkit::{Server as Endpoint, Share};

use crate::replay::replay;
use crate::server::Server;

/// Commands in a scenario.
const COMMANDS: usize = 400;

/// Scenarios of a run, unless `SYNOD_SCENARIOS` says otherwise.
const SCENARIOS: u64 = 10;

/// Lines of the scenario that are shown before the first difference.
const CONTEXT_LINES: usize = 12;

/// Clients of a scenario.
const CLIENTS: [&str; 3] = ["a", "b", "c"];

#[test]
#[ignore = "needs Java and Maven: cargo xtask interop"]
fn synod_answers_as_zookeeper() -> Result<()> {
    compare(Endpoint::SYNOD)
}

#[test]
#[ignore = "needs Java and Maven: cargo xtask interop"]
fn synod_on_etcd_answers_as_zookeeper() -> Result<()> {
    compare(Endpoint::Etcd)
}

fn compare(endpoint: Endpoint) -> Result<()> {
    let number = |name, default| match std::env::var_os(name) {
        Some(text) => {
            let number = text.to_str().and_then(|text| text.parse().ok());
            number.with_context(|| format!("{name} is no number"))
        }
        None => Ok(default),
    };
    let first: u64 = number("SYNOD_SEED", rand::random_range(0..1 << 32))?;
    let count = number("SYNOD_SCENARIOS", SCENARIOS)?;
    (first..first + count).try_for_each(|seed| {
        let scenario = scenario(&mut ChaCha8Rng::seed_from_u64(seed));
        synod_testkit::run(Share::Small, async |lab| {
            let mut options = crate::options();
            // When empty containers are deleted depends on the time.
            options.jvm_flags = vec!["-Dznode.container.checkIntervalMs=3600000".to_owned()];
            let real = ZooKeeper::start(lab, options).await?;
            let expected = replay(&mut Server::zookeeper(real, lab), &scenario).await?;
            let flags = vec![format!("--super-digest={}", crate::SUPER_DIGEST)];
            let (pods, cluster) = crate::pod(lab, endpoint, flags).await?;
            let actual = replay(&mut Server::synod(pods, cluster, lab), &scenario).await?;
            same(&sorted(&expected), &sorted(&actual))
        })
        .with_context(|| format!("SYNOD_SEED={seed}"))
    })
}

/// The ephemeral nodes of a session that is closed are deleted together, in no order. So the events
/// that tell of it are sorted.
fn sorted(replayed: &str) -> String {
    let mut lines: Vec<&str> = replayed.lines().collect();
    let mut closes = HashSet::new();
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with("$ ") && line.ends_with(" closeSession") {
            let is_reply = |line: &&&str| !line.starts_with("event ");
            let reply = lines[at + 1..].iter().find(is_reply);
            closes.extend(reply.and_then(|reply| reply.split(' ').next()));
        }
    }
    // The zxid of an event of a close.
    let close = |line: &str| {
        let zxid = line.strip_prefix("event ")?.split(' ').next()?;
        closes.get(zxid).copied()
    };
    for run in lines.chunk_by_mut(|one, next| close(one).is_some() && close(one) == close(next)) {
        run.sort_unstable();
    }
    lines.join("\n")
}

fn same(expected: &str, actual: &str) -> Result<()> {
    let mut lines = expected.lines().zip(actual.lines());
    if let Some(at) = lines.position(|(expected, actual)| expected != actual) {
        let from = at.saturating_sub(CONTEXT_LINES);
        let line = |text: &str| text.lines().nth(at).unwrap_or_default().to_owned();
        let before: Vec<&str> = expected.lines().skip(from).take(at - from).collect();
        anyhow::bail!(
            "line {at} differs:\n{}\nZooKeeper: {}\nSynod:     {}",
            before.join("\n"),
            line(expected),
            line(actual)
        );
    }
    ensure!(
        expected.lines().count() == actual.lines().count(),
        "one says more than the other"
    );
    Ok(())
}

/// A scenario for [`replay`].
fn scenario(random: &mut ChaCha8Rng) -> String {
    let mut text = String::new();
    let mut line = |words: String| writeln!(text, "$ {words}").unwrap_or_default();
    for client in CLIENTS {
        line(format!("{client} connect"));
    }
    for _ in 0..COMMANDS {
        let client = pick(random, &CLIENTS);
        match random.random_range(0..60) {
            0 => {
                line(format!("{client} closeSession"));
                line(format!("{client} connect"));
            }
            1 => {
                line(format!("{client} drop"));
                line(format!("{client} connect session={client}"));
                let zxid = random.random_range(0..20);
                let data = paths(random);
                let (exist, child) = (paths(random), paths(random));
                line(format!(
                    "{client} setWatches zxid=+{zxid} data={data} exist={exist} child={child}"
                ));
            }
            2 => {
                let user = pick(random, &["ann:1", "bob:2", "super:secret", "nobody"]);
                line(format!("{client} auth digest data={user}"));
            }
            _ => {
                let command = command(random);
                line(format!("{client} {command}"));
            }
        }
    }
    text
}

fn pick<'a>(random: &mut ChaCha8Rng, of: &[&'a str]) -> &'a str {
    of.choose(random).copied().unwrap_or_default()
}

/// A path, most often one of a few that exist or might.
fn path(random: &mut ChaCha8Rng) -> String {
    const HOSTILE: [&str; 14] = [
        "\"\"",
        "/",
        "nopath",
        "//",
        "/a/",
        "/a//b",
        "/./a",
        "/a/..",
        "/a/%00",
        "/a/%{fffe}",
        "/zookeeper",
        "/zookeeper/quota",
        "/zookeeper/quota/a",
        "/%{1f600}",
    ];
    if random.random_ratio(1, 12) {
        return pick(random, &HOSTILE).to_owned();
    }
    let depth = *[1, 1, 1, 2, 2, 3].choose(random).unwrap_or(&1);
    (0..depth)
        .map(|_| pick(random, &["/a", "/b", "/c"]))
        .collect()
}

fn paths(random: &mut ChaCha8Rng) -> String {
    let count = random.random_range(0..3);
    let paths: Vec<String> = (0..count).map(|_| path(random)).collect();
    paths.join(",")
}

fn version(random: &mut ChaCha8Rng) -> &'static str {
    match random.random_range(0..10) {
        0..6 => "",
        6 => " version=0",
        7 => " version=1",
        8 => " version=2",
        _ => pick(
            random,
            &[" version=-2", " version=2147483647", " version=-2147483648"],
        ),
    }
}

fn acl(random: &mut ChaCha8Rng) -> &'static str {
    const LISTS: [&str; 15] = [
        "null",
        "empty",
        "31:world:anyone",
        "1:world:anyone",
        "0:world:anyone",
        "31:auth:",
        "31:digest:ann:x",
        "15:ip:127.0.0.1",
        "31:ip:127.0.0.0/8",
        "31:ip:300.1.1.1",
        "31:none:x",
        "31:world:somebody",
        "-1:world:anyone",
        "255:world:anyone",
        "1:world:anyone,31:auth:",
    ];
    pick(random, &LISTS)
}

fn data(random: &mut ChaCha8Rng) -> &'static str {
    pick(
        random,
        &[
            "",
            " data=1",
            " data=null",
            " data=some-text",
            " data=%{e9}",
        ],
    )
}

fn flags(random: &mut ChaCha8Rng) -> i32 {
    match random.random_range(0..8) {
        0..3 => 0,
        3 | 4 => 1,
        5 => 2,
        6 => 3,
        _ => *[7, 8, -1, i32::MAX].choose(random).unwrap_or(&0),
    }
}

fn command(random: &mut ChaCha8Rng) -> String {
    match random.random_range(0..20) {
        0..8 => write(random),
        8 => {
            let count = random.random_range(0..4);
            let parts: Vec<String> = (0..count).map(|_| part(random)).collect();
            format!("multi {}", parts.join(" ; "))
        }
        9 => {
            let count = random.random_range(0..4);
            let parts: Vec<String> = (0..count)
                .map(|_| {
                    let name = pick(random, &["getData", "getChildren"]);
                    format!("{name} {}", path(random))
                })
                .collect();
            format!("multiRead {}", parts.join(" ; "))
        }
        10..13 => watch(random),
        _ => read(random),
    }
}

/// A part of a multi.
fn part(random: &mut ChaCha8Rng) -> String {
    match random.random_range(0..4) {
        0 => format!("check {}{}", path(random), version(random)),
        _ => loop {
            let part = write(random);
            if !part.starts_with("setACL") {
                break part;
            }
        },
    }
}

fn write(random: &mut ChaCha8Rng) -> String {
    let path = path(random);
    match random.random_range(0..20) {
        0..6 => {
            let name = pick(random, &["create", "create2"]);
            let (data, flags) = (data(random), flags(random));
            let acl = match random.random_ratio(1, 4) {
                true => format!(" acl={}", acl(random)),
                false => String::new(),
            };
            format!("{name} {path}{data} flags={flags}{acl}")
        }
        6 => {
            // One that has no TTL with a negative one would end ZooKeeper.
            let flags = pick(random, &["5", "6"]);
            let ttl = pick(
                random,
                &["3600000", "0", "-1", "1099511627775", "1099511627776"],
            );
            format!("createTTL {path} flags={flags} ttl={ttl}")
        }
        7 => format!("createContainer /k{} flags=4", random.random_range(0..3)),
        8..12 => format!("delete {path}{}", version(random)),
        12 => {
            let (acl, version) = (acl(random), version(random));
            format!("setACL {path} acl={acl}{version}")
        }
        _ => {
            let (data, version) = (data(random), version(random));
            format!("setData {path}{data}{version}")
        }
    }
}

fn read(random: &mut ChaCha8Rng) -> String {
    let path = path(random);
    let watch = pick(random, &["", " watch"]);
    match random.random_range(0..12) {
        0 | 1 => format!("exists {path}{watch}"),
        2 | 3 => format!("getData {path}{watch}"),
        4 | 5 => format!("getChildren {path}{watch}"),
        6 | 7 => format!("getChildren2 {path}{watch}"),
        8 => format!("getACL {path}"),
        9 => format!("getAllChildrenNumber {path}"),
        10 => format!("getEphemerals {path}"),
        _ => pick(random, &["ping", "whoAmI", "sync /", "getEphemerals"]).to_owned(),
    }
}

fn watch(random: &mut ChaCha8Rng) -> String {
    const KINDS: [&str; 5] = [
        "Children",
        "Data",
        "Any",
        "Persistent",
        "PersistentRecursive",
    ];
    let path = path(random);
    match random.random_range(0..6) {
        0..3 => format!("addWatch {path}{}", pick(random, &["", " recursive"])),
        3 => format!("checkWatches {path} kind={}", pick(random, &KINDS)),
        4 => format!("removeWatches {path} kind={}", pick(random, &KINDS)),
        _ => format!(
            "setWatches2 zxid=+{} data={} exist={} child={} persistent={} recursive={}",
            random.random_range(0..30),
            paths(random),
            paths(random),
            paths(random),
            paths(random),
            paths(random)
        ),
    }
}
