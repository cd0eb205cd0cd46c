//! Helpers for all tests in this suite.

pub(crate) mod proto;
pub(crate) mod raw;

use std::path::Path;

use anyhow::{Result, ensure};
use synod_testkit::Server;

/// Prints a note to the test's output. The runner shows it if the test fails.
#[expect(
    clippy::print_stdout,
    reason = "the test runner captures only what the macro prints"
)]
pub(crate) fn note(text: &str) {
    println!("{text}");
}

/// Compares a server's answers, a line each, with those that stock etcd gave, which are in `file`
/// below this package's folder. With `SYNOD_BLESS` in the environment stock etcd's answers are
/// written there. `may_differ` gets an answer and what stock etcd told.
///
/// # Errors
/// Lists the lines that differ.
pub(crate) fn compare_recorded(
    server: Server,
    file: &str,
    told: &str,
    may_differ: impl Fn(&str, &str) -> bool,
) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if server.is_etcd() && std::env::var_os("SYNOD_BLESS").is_some() {
        std::fs::write(file, told)?;
        return Ok(());
    }
    let recorded = std::fs::read_to_string(file)?;
    let differing: Vec<String> = told
        .lines()
        .zip(recorded.lines())
        .filter(|(told, wanted)| told != wanted && !may_differ(told, wanted))
        .map(|(told, wanted)| format!("{wanted}\n  but {told}"))
        .collect();
    ensure!(
        differing.is_empty() && told.lines().count() == recorded.lines().count(),
        "{} of {} lines differ:\n{}",
        differing.len(),
        told.lines().count(),
        differing.join("\n")
    );
    Ok(())
}

/// Makes a test of each function for stock etcd and for our server: `share => name, name;`. For
/// tests of flags, clients and the API only; tests that involve consensus use [`on_all`].
macro_rules! on_both {
    ($share:ident => $($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn etcd() -> anyhow::Result<()> {
                synod_testkit::run(synod_testkit::Share::$share, async |lab| {
                    super::$name(lab, synod_testkit::Server::Etcd).await
                })
            }

            #[test]
            fn synod() -> anyhow::Result<()> {
                synod_testkit::run(synod_testkit::Share::$share, async |lab| {
                    super::$name(lab, synod_testkit::Server::SYNOD).await
                })
            }
        }
    )+};
}

/// Makes a test of each function for stock etcd and for each engine of our server: `share => name,
/// name;`.
macro_rules! on_all {
    ($share:ident => $($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn etcd() -> anyhow::Result<()> {
                synod_testkit::run(synod_testkit::Share::$share, async |lab| {
                    super::$name(lab, synod_testkit::Server::Etcd).await
                })
            }

            #[test]
            fn raft() -> anyhow::Result<()> {
                synod_testkit::run(synod_testkit::Share::$share, async |lab| {
                    super::$name(lab, synod_testkit::Server::SYNOD).await
                })
            }

            #[test]
            fn multi_paxos() -> anyhow::Result<()> {
                synod_testkit::run(synod_testkit::Share::$share, async |lab| {
                    super::$name(lab, synod_testkit::Server::PAXOS).await
                })
            }
        }
    )+};
}
