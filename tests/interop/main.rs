//! Real clients, unmodified, against stock etcd and both engines of our server, and against
//! ZooKeeper and our coordination service: the same programs with the same checks, so that a wrong
//! check fails on the real ones too.
//!
//! `cargo xtask interop` runs them. They need Go, Python, Node, Java with Maven, and curl.

mod clients;
mod clusters;
mod curl;
mod etcdctl;
mod output;
mod program;
mod programs;
mod zookeeper;

/// Makes a test of each function for stock etcd and for each engine of our server.
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
pub(crate) use on_all;
