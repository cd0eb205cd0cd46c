//! Replicas over a toy state machine, real logs and real streams, in one process.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail loudly"
)]

/// Makes two tests of each function, one for each algorithm.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use synod_consensus_core::Algorithm;

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

mod basics;
mod faults;
mod harness;
mod members;
mod snapshots;
mod toy;
