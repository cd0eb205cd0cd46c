//! The servers that are measured.

use clap::{Args, ValueEnum};
use synod_testkit::{Engine, Server};

/// Which engines of ours are measured.
#[derive(Args, Debug)]
pub(super) struct Engines {
    /// Which engines of ours are measured
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Algorithm::Raft, Algorithm::MultiPaxos])]
    engines: Vec<Algorithm>,
}

impl Engines {
    /// Our server with each of them.
    pub(super) fn servers(&self) -> impl Iterator<Item = Server> {
        self.engines.iter().map(|engine| {
            Server::Synod(match engine {
                Algorithm::Raft => Engine::Raft,
                Algorithm::MultiPaxos => Engine::MultiPaxos,
            })
        })
    }
}

/// A consensus algorithm of ours, as a flag says it.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Algorithm {
    Raft,
    MultiPaxos,
}

/// The head of a server's column.
pub(super) fn column_name(server: Server) -> &'static str {
    match server {
        Server::Etcd => "etcd",
        Server::Synod(Engine::Raft) => "Raft",
        Server::Synod(Engine::MultiPaxos) => "Multi-Paxos",
    }
}
