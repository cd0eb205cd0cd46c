//! ZooKeeper's protocol, as scenarios that are replayed against a server. The files in `scenarios`
//! have the answers of the real ZooKeeper. To rewrite them, run the tests with `SYNOD_BLESS=1`.

mod parse;
mod render;
mod replay;

use std::path::Path;

use anyhow::{Result, ensure};
use synod_testkit::zookeeper::{Options, ZooKeeper};
use synod_testkit::{Lab, Share};

use crate::replay::{Server, replay};

/// Makes a test of each scenario, on a fresh server.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn zookeeper() -> anyhow::Result<()> {
                synod_testkit::run(synod_testkit::Share::Small, async |lab| {
                    crate::on_zookeeper(lab, stringify!($name)).await
                })
            }
        }
    )+};
}

scenarios! {
    operations, errors, sequences, acl, multi, watches, watches_again, persistent_watches,
    sessions, expiry, containers, hostile,
}

/// Settings under which scenarios are short: session timeouts between 0.5 and 5 s, and a look for
/// empty containers twice a second.
fn options() -> Options {
    let super_user = ("DigestAuthenticationProvider.superDigest", SUPER_DIGEST);
    Options {
        tick_ms: 250,
        properties: vec![(super_user.0.to_owned(), super_user.1.to_owned())],
        jvm_flags: vec!["-Dznode.container.checkIntervalMs=500".to_owned()],
        ..Options::default()
    }
}

/// The user `super` with the password `secret`.
const SUPER_DIGEST: &str = "super:lK75jTNcA+U9vtVEw5vB51mj/w4=";

async fn on_zookeeper(lab: &Lab, name: &str) -> Result<()> {
    let running = ZooKeeper::start(lab, options()).await?;
    let server = Server {
        address: running.address(0),
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("zookeeper/scenarios")
        .join(format!("{name}.txt"));
    let expected = std::fs::read_to_string(&file)?;
    let actual = replay(&server, &expected).await?;
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

/// An ensemble serves as one: what is written through one server is read through another.
#[test]
fn an_ensemble_of_three_serves() -> Result<()> {
    synod_testkit::run(Share::Whole, async |lab| {
        let options = Options {
            servers: 3,
            ..options()
        };
        let running = ZooKeeper::start(lab, options).await?;
        for (index, address) in running.addresses().iter().enumerate() {
            let text = format!(
                "$ a connect\n$ a create /n{index}\n$ a sync /\n$ a getAllChildrenNumber /\n$ a closeSession\n"
            );
            let server = Server {
                address: address.clone(),
            };
            let actual = replay(&server, &text).await?;
            // Beside the new nodes, /zookeeper has two children.
            let number = format!("number={}", 4 + index);
            ensure!(actual.contains(&number), "no {number} in:\n{actual}");
        }
        Ok(())
    })
}
