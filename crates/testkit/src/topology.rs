//! The server to run, and the shape of its cluster.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{consensus_binary, peers};

/// The consensus algorithm of our server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Raft, the default.
    Raft,
    /// Multi-Paxos.
    MultiPaxos,
}

impl Algorithm {
    /// The algorithm's name for `--engine`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raft => "raft",
            Self::MultiPaxos => "multi-paxos",
        }
    }
}

/// The server to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Stock etcd from the installed peers.
    Etcd,
    /// Our `synod-consensus`.
    Synod(Algorithm),
}

impl Server {
    /// Our server with the default algorithm.
    pub const SYNOD: Self = Self::Synod(Algorithm::Raft);
    /// Our server with Multi-Paxos.
    pub const PAXOS: Self = Self::Synod(Algorithm::MultiPaxos);

    /// The server's program.
    ///
    /// # Errors
    /// It can't be found, built or installed.
    pub fn program(self) -> Result<PathBuf> {
        match self {
            Self::Etcd => Ok(peers::install()?.etcd),
            Self::Synod(_) => consensus_binary().map(Path::to_path_buf),
        }
    }

    /// The flag that selects this algorithm; `None` for the default.
    pub(crate) fn engine_flag(self) -> Option<String> {
        match self {
            Self::Etcd | Self::Synod(Algorithm::Raft) => None,
            Self::Synod(algorithm @ Algorithm::MultiPaxos) => {
                Some(format!("--engine={}", algorithm.name()))
            }
        }
    }

    /// Whether this is stock etcd.
    #[must_use]
    pub fn is_etcd(self) -> bool {
        self == Self::Etcd
    }
}

/// The shape of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// The number of members; zero means one.
    pub nodes: usize,
    /// Additional flags for every member.
    pub flags: Vec<String>,
    /// Environment variables for every member.
    pub envs: Vec<(String, String)>,
    /// Whether members are connected through fault proxies.
    pub proxied: bool,
    /// The largest file that a member may write, in bytes; `None` for no limit.
    pub max_file_bytes: Option<u64>,
}

impl Topology {
    /// A cluster with this many members.
    #[must_use]
    pub fn of(nodes: usize) -> Self {
        Self {
            nodes,
            ..Self::default()
        }
    }

    /// Adds a flag for every member.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Puts fault proxies between the members.
    #[must_use]
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }
}
