//! The servers to measure.

use clap::{Args, ValueEnum};
use synod_testkit::Server;

/// The algorithms of our server to measure.
#[derive(Args, Debug)]
pub(super) struct Algorithms {
    /// Which engines of ours are measured
    #[arg(long = "engines", value_name = "ENGINES", value_delimiter = ',', value_enum, default_values_t = [Algorithm::Raft, Algorithm::MultiPaxos])]
    algorithms: Vec<Algorithm>,
}

impl Algorithms {
    /// Our server with each of them.
    pub(super) fn servers(&self) -> impl Iterator<Item = Server> {
        self.algorithms.iter().map(|algorithm| {
            Server::Synod(match algorithm {
                Algorithm::Raft => synod_testkit::Algorithm::Raft,
                Algorithm::MultiPaxos => synod_testkit::Algorithm::MultiPaxos,
            })
        })
    }
}

/// A consensus algorithm, as named by a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Algorithm {
    Raft,
    MultiPaxos,
}

/// The heading of a server's column.
pub(super) fn column_name(server: Server) -> &'static str {
    match server {
        Server::Etcd => "etcd",
        Server::Synod(synod_testkit::Algorithm::Raft) => "Raft",
        Server::Synod(synod_testkit::Algorithm::MultiPaxos) => "Multi-Paxos",
    }
}
