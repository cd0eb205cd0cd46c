//! Helpers for all tests in this suite.

pub(crate) mod proto;
pub(crate) mod raw;

/// Prints a note to the test's output. The runner shows it if the test fails.
#[expect(
    clippy::print_stdout,
    reason = "the test runner captures only what the macro prints"
)]
pub(crate) fn note(text: &str) {
    println!("{text}");
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
