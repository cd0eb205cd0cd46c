//! The service as its clients see it: embedded nodes on ephemeral loopback ports, called through
//! `etcd-client`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail loudly"
)]

/// Makes two tests of each function, one for each consensus algorithm.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use synod_consensus::Algorithm;

            #[tokio::test]
            async fn raft() {
                super::$name(Algorithm::Raft).await;
            }

            #[tokio::test]
            async fn multi_paxos() {
                super::$name(Algorithm::MultiPaxos).await;
            }
        }
    )+};
}

mod fuzz;
mod http;
mod lease;
mod limits;
mod lock;
mod members;
mod refusals;
mod restore;
mod single;
mod support;
mod three;
mod tls;
mod upgrade;
mod watch;
