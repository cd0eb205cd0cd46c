//! ZooKeeper's protocol, as scenarios that are replayed against a server. The files in `scenarios`
//! have the answers of the real ZooKeeper, and Synod's are to be the same. To rewrite them, run the
//! tests with `SYNOD_BLESS=1`.
//!
//! What scenarios can't show has tests of its own: limits, four-letter words and TLS.

mod attach;
mod limits;
mod parse;
mod random;
mod render;
mod replay;
mod server;
mod tls;
mod words;

use std::path::Path;

use anyhow::{Result, ensure};
use synod_testkit::zookeeper::{Options, ZooKeeper};
use synod_testkit::{Cluster, Lab, PodOptions, Pods, Server as Endpoint, Topology};

use crate::replay::replay;
use crate::server::Server;

/// Makes a test of each scenario, on a fresh server.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            #[ignore = "needs Java and Maven: cargo xtask interop"]
            fn zookeeper() -> anyhow::Result<()> {
                synod_testkit::run(synod_testkit::Share::Small, async |lab| {
                    crate::on_zookeeper(lab, stringify!($name)).await
                })
            }

            #[test]
            fn synod() -> anyhow::Result<()> {
                synod_testkit::run(synod_testkit::Share::Small, async |lab| {
                    crate::on_synod(lab, synod_testkit::Server::SYNOD, stringify!($name)).await
                })
            }

            #[test]
            fn synod_on_etcd() -> anyhow::Result<()> {
                synod_testkit::run(synod_testkit::Share::Small, async |lab| {
                    crate::on_synod(lab, synod_testkit::Server::Etcd, stringify!($name)).await
                })
            }
        }
    )+};
}

scenarios! {
    operations, errors, sequences, acl, multi, watches, watches_again, persistent_watches,
    sessions, expiry, containers, quota, hostile,
}

/// Settings under which scenarios are short: session timeouts between 1 and 10 s, and a look for
/// empty containers twice a second.
fn options() -> Options {
    let super_user = ("DigestAuthenticationProvider.superDigest", SUPER_DIGEST);
    Options {
        tick_ms: 500,
        properties: vec![
            (super_user.0.to_owned(), super_user.1.to_owned()),
            ("enforceQuota".to_owned(), "true".to_owned()),
        ],
        jvm_flags: vec!["-Dznode.container.checkIntervalMs=500".to_owned()],
        ..Options::default()
    }
}

/// The user `super` with the password `secret`.
const SUPER_DIGEST: &str = "super:lK75jTNcA+U9vtVEw5vB51mj/w4=";

async fn on_zookeeper(lab: &Lab, name: &str) -> Result<()> {
    let running = ZooKeeper::start(lab, options()).await?;
    check(&mut Server::zookeeper(running, lab), name).await
}

async fn on_synod(lab: &Lab, endpoint: Endpoint, name: &str) -> Result<()> {
    let flags = vec![format!("--super-digest={SUPER_DIGEST}")];
    let (pods, cluster) = pod(lab, endpoint, flags).await?;
    check(&mut Server::synod(pods, cluster, lab), name).await
}

/// A pod with these flags over one server of the etcd endpoint.
async fn pod(lab: &Lab, endpoint: Endpoint, flags: Vec<String>) -> Result<(Pods, Cluster)> {
    let cluster = Cluster::start(lab, endpoint, Topology::of(1)).await?;
    let options = PodOptions {
        tick_ms: options().tick_ms,
        flags,
        ..PodOptions::default()
    };
    let pods = Pods::start(lab, &cluster.endpoints(), options).await?;
    Ok((pods, cluster))
}

/// Replays a scenario and compares it with its file, or rewrites the file.
async fn check(server: &mut Server<'_>, name: &str) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("zookeeper/scenarios")
        .join(format!("{name}.txt"));
    let expected = std::fs::read_to_string(&file)?;
    let actual = replay(server, &expected).await?;
    if std::env::var_os("SYNOD_BLESS").is_some() {
        std::fs::write(&file, &actual)?;
        return Ok(());
    }
    let difference = expected.lines().zip(actual.lines()).find(|(a, b)| a != b);
    ensure!(
        expected == actual,
        "{}: the first difference is {difference:?}; all of it:\n{actual}",
        file.display()
    );
    Ok(())
}

/// Makes a test of each scenario that needs three servers.
macro_rules! scenarios_of_three {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            #[ignore = "needs Java and Maven: cargo xtask interop"]
            fn zookeeper() -> anyhow::Result<()> {
                synod_testkit::run(synod_testkit::Share::Whole, async |lab| {
                    crate::on_three_zookeepers(lab, stringify!($name)).await
                })
            }
        }
    )+};
}

scenarios_of_three! { ensemble, failures, read_only }

async fn on_three_zookeepers(lab: &Lab, name: &str) -> Result<()> {
    let mut options = options();
    options.servers = 3;
    if name == "read_only" {
        options
            .jvm_flags
            .push("-Dreadonlymode.enabled=true".to_owned());
        for property in ["localSessionsEnabled", "localSessionsUpgradingEnabled"] {
            let on = (property.to_owned(), "true".to_owned());
            options.properties.push(on);
        }
    }
    let running = ZooKeeper::start(lab, options).await?;
    check(&mut Server::zookeeper(running, lab), name).await
}
