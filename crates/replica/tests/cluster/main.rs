//! Replicas with a toy state machine, real logs and real streams, in one process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may panic")]

/// Makes two tests of each function, one per algorithm.
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
