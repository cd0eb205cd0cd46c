//! What every test here uses.

pub(crate) mod proto;
pub(crate) mod raw;

/// Tells the reader of a test's output something; the runner shows it when the test fails.
#[expect(
    clippy::print_stdout,
    reason = "the test runner captures only what the macro prints"
)]
pub(crate) fn note(text: &str) {
    println!("{text}");
}

/// Makes a test of each function for stock etcd and for our server: `share => name, name;`. For
/// what has to do with flags, clients and the API alone: whatever touches consensus is
/// [`on_all`]'s.
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
