//! How a node without data comes into a cluster: with the others as one of the first, or by joining
//! them.
//!
//! The first members all begin with the same snapshot at index 1, term 1, which holds the
//! membership. So a member that joins later, whose log is empty, always gets a snapshot of a peer
//! first and with it the members. For Multi-Paxos that is slot 1, chosen in a ballot of nobody's:
//! every member's own ballots, the first included, are above it.

use std::time::Duration;

use synod_consensus_core::{Algorithm, Membership, SnapshotMeta};
use synod_proto::etcd::etcdserverpb::cluster_client::ClusterClient;
use synod_proto::etcd::etcdserverpb::{Member, MemberListRequest};
use synod_rpc::ChannelConfig;
use synod_runtime::{clock, random};
use synod_service::{BackupId, Identity};
use synod_types::{Ballot, ClusterId, Index, LogPosition, NodeId};

use crate::config::{ClusterState, Config};
use crate::data_dir::{self, Meta};
use crate::identity::{cluster_id, initial_member_id};
use crate::service::ALGORITHM_METADATA;
use crate::state::Roster;

/// How long one peer may take to say who its cluster is.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a new cluster's members look whether they were members already.
const CHECK_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a node that joins asks all its peers before it gives up.
const JOIN_ATTEMPTS: u32 = 5;
/// The pause between two such rounds.
const JOIN_PAUSE: Duration = Duration::from_millis(500);

/// A node that can't come into its cluster.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// Nobody answered.
    #[error(
        "can't join the cluster: none of its members answered at {urls} (last answer: {last}); start them first, \
         correct --initial-cluster, or start a new cluster with --initial-cluster-state new"
    )]
    NoPeer {
        /// Where they were looked for.
        urls: String,
        /// What the last one said.
        last: String,
    },
    /// There is nobody to ask.
    #[error(
        "--initial-cluster-state is existing, but --initial-cluster names no other member: list the members that \
         this one joins"
    )]
    Alone,
    /// The cluster does not know this member.
    #[error(
        "the cluster has no member with the peer URLs {mine} (its members: {known}); run `etcdctl member add {name} \
         --peer-urls={mine}` first, with the same URLs as --initial-advertise-peer-urls"
    )]
    NotAMember {
        /// This member's URLs.
        mine: String,
        /// This member's name.
        name: String,
        /// What the cluster knows.
        known: String,
    },
    /// The flags and the cluster differ.
    #[error(
        "--initial-cluster lists {listed} members, but the cluster has {actual}: {known}; list exactly those"
    )]
    OtherMembers {
        /// In the flags.
        listed: usize,
        /// In the cluster.
        actual: usize,
        /// Its members.
        known: String,
    },
    /// The cluster runs another algorithm.
    #[error(
        "--engine is {asked}, but the cluster runs {theirs}: the members of a cluster run one consensus algorithm; start \
         this one with --engine {theirs}, or without the flag"
    )]
    OtherAlgorithm {
        /// In the flags.
        asked: Algorithm,
        /// In the cluster.
        theirs: Algorithm,
    },
    /// It was a member before and lost its data.
    #[error(
        "member {member} was part of the cluster already, and its data directory is empty: a member that lost its data \
         must not vote as if it had it; remove it with `etcdctl member remove {member}`, add it again with `member \
         add`, and start it with --initial-cluster-state existing"
    )]
    LostData {
        /// Its id.
        member: NodeId,
    },
}

/// What a node without data begins with.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) meta: Meta,
    pub(crate) roster: Roster,
    /// Position and membership before the first entry.
    pub(crate) start: SnapshotMeta,
}

/// Finds out with whom this node begins; a new cluster may begin with a backup.
///
/// # Errors
/// [`BootstrapError`] says what to do.
pub(crate) async fn begin(
    config: &Config,
    restored: Option<BackupId>,
) -> Result<Beginning, BootstrapError> {
    match config.initial_cluster_state {
        ClusterState::New => found(config, restored).await,
        ClusterState::Existing => join(config).await,
    }
}

/// A new cluster: everybody derives the same ids and the same first snapshot.
async fn found(config: &Config, restored: Option<BackupId>) -> Result<Beginning, BootstrapError> {
    let token = &config.initial_cluster_token;
    let cluster = cluster_id(&config.initial_cluster, token, restored);
    let me = initial_member_id(&config.initial_advertise_peer_urls, token);
    refuse_if_lost(config, cluster, me).await?;
    let members = config.initial_cluster.iter().map(|(name, urls)| Member {
        id: initial_member_id(urls, token).get(),
        name: name.clone(),
        peer_urls: urls.clone(),
        client_urls: Vec::new(),
        is_learner: false,
    });
    let roster = Roster::of(members);
    let ids = roster.members().map(|member| NodeId::new(member.id));
    let first = LogPosition {
        ballot: Ballot::term(1),
        index: Index::new(1),
    };
    let start = SnapshotMeta {
        last: first,
        membership: Membership::of(ids),
    };
    let mut meta = new_meta(config, cluster, me, None).bootstrapped(token);
    meta.own.restored = restored;
    Ok(Beginning {
        meta,
        roster,
        start,
    })
}

/// `theirs` is what the cluster runs, where it said so.
fn new_meta(
    config: &Config,
    cluster: ClusterId,
    member: NodeId,
    theirs: Option<Algorithm>,
) -> Meta {
    let algorithm = config.algorithm.or(theirs).unwrap_or(Algorithm::Raft);
    let identity = Identity {
        cluster,
        member,
        incarnation: random::u64(),
        name: &config.name,
    };
    data_dir::meta(identity, algorithm)
}

/// A member that the others know as started has had data. It must not begin again under the same
/// id: it may have voted for, or acknowledged, what it has forgotten.
async fn refuse_if_lost(
    config: &Config,
    cluster: ClusterId,
    me: NodeId,
) -> Result<(), BootstrapError> {
    for url in peer_urls(config) {
        let asked = ask(&url, CHECK_TIMEOUT, false).await;
        let Ok(answer) = asked else { continue };
        if answer.cluster != cluster {
            continue;
        }
        let mine = answer.members.iter().find(|member| member.id == me.get());
        if mine.is_some_and(|member| !member.client_urls.is_empty()) {
            return Err(BootstrapError::LostData { member: me });
        }
    }
    Ok(())
}

/// An existing cluster: it knows the ids, and the log brings the rest.
async fn join(config: &Config) -> Result<Beginning, BootstrapError> {
    let answer = match ask_anyone(config).await {
        Ok(answer) => answer,
        Err(error) => {
            refuse_if_it_was_started(config).await?;
            return Err(error);
        }
    };
    let known = || describe(&answer.members);
    let Some(me) = myself(config, &answer.members) else {
        return Err(BootstrapError::NotAMember {
            mine: config.initial_advertise_peer_urls.join(","),
            name: config.name.clone(),
            known: known(),
        });
    };
    if let (Some(asked), Some(theirs)) = (config.algorithm, answer.algorithm)
        && asked != theirs
    {
        return Err(BootstrapError::OtherAlgorithm { asked, theirs });
    }
    if config.initial_cluster.len() != answer.members.len() {
        return Err(BootstrapError::OtherMembers {
            listed: config.initial_cluster.len(),
            actual: answer.members.len(),
            known: known(),
        });
    }
    let id = NodeId::new(me.id);
    if !me.client_urls.is_empty() {
        return Err(BootstrapError::LostData { member: id });
    }
    Ok(Beginning {
        meta: new_meta(config, answer.cluster, id, answer.algorithm),
        roster: Roster::of(answer.members),
        start: SnapshotMeta::default(),
    })
}

/// Without a quorum nobody vouches for who the members are. But a peer that knows this one as
/// started may well be without one *because* this member lost its data: then say that.
async fn refuse_if_it_was_started(config: &Config) -> Result<(), BootstrapError> {
    for url in peer_urls(config) {
        let Ok(answer) = ask(&url, ASK_TIMEOUT, false).await else {
            continue;
        };
        if let Some(me) = myself(config, &answer.members)
            && !me.client_urls.is_empty()
        {
            let member = NodeId::new(me.id);
            return Err(BootstrapError::LostData { member });
        }
    }
    Ok(())
}

/// The member with this node's peer URLs.
fn myself<'a>(config: &Config, members: &'a [Member]) -> Option<&'a Member> {
    members.iter().find(|member| {
        let mut urls = member.peer_urls.clone();
        urls.sort();
        urls == config.initial_advertise_peer_urls
    })
}

/// Whether the other members say that this one is not among them any more. A member that is removed
/// while it is away, or just before it hears of it, is told nothing by its log.
pub(crate) async fn was_removed(cluster: ClusterId, me: NodeId, peer_urls: &[String]) -> bool {
    for url in peer_urls {
        let Ok(answer) = ask(url, ASK_TIMEOUT, true).await else {
            continue;
        };
        if answer.cluster == cluster {
            return answer.members.iter().all(|member| member.id != me.get());
        }
    }
    false
}

fn describe(members: &[Member]) -> String {
    let one = |member: &Member| format!("{:x}={}", member.id, member.peer_urls.join(","));
    members.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The other members' URLs.
fn peer_urls(config: &Config) -> Vec<String> {
    config
        .initial_cluster
        .iter()
        .filter(|(name, _)| **name != config.name)
        .flat_map(|(_, urls)| urls.iter().cloned())
        .collect()
}

struct Answer {
    cluster: ClusterId,
    members: Vec<Member>,
    /// What they run, if they say so.
    algorithm: Option<Algorithm>,
}

/// Asks the members in turn until one knows.
async fn ask_anyone(config: &Config) -> Result<Answer, BootstrapError> {
    let urls = peer_urls(config);
    if urls.is_empty() {
        return Err(BootstrapError::Alone);
    }
    let mut last = String::new();
    for attempt in 0..JOIN_ATTEMPTS {
        if attempt > 0 {
            clock::sleep(JOIN_PAUSE).await;
        }
        for url in &urls {
            match ask(url, ASK_TIMEOUT, true).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    tracing::info!(%url, %error, "a peer did not say who its cluster is");
                    last = error;
                }
            }
        }
    }
    Err(BootstrapError::NoPeer {
        urls: urls.join(", "),
        last,
    })
}

async fn ask(url: &str, timeout: Duration, linearizable: bool) -> Result<Answer, String> {
    let config = ChannelConfig {
        connect_timeout: timeout,
        ..ChannelConfig::default()
    };
    let asking = async {
        let channel = config
            .connect(url)
            .await
            .map_err(|error| error.to_string())?;
        let request = MemberListRequest { linearizable };
        let response = ClusterClient::new(channel).member_list(request).await;
        response.map_err(|status| status.message().to_owned())
    };
    let response = clock::timeout(timeout, asking)
        .await
        .map_err(|_| "no answer in time".to_owned())??;
    let algorithm = response.metadata().get(ALGORITHM_METADATA);
    let algorithm = algorithm.and_then(|name| name.to_str().ok()?.parse().ok());
    let response = response.into_inner();
    let cluster = response.header.map_or(0, |header| header.cluster_id);
    if cluster == 0 {
        return Err("it does not know its cluster yet".to_owned());
    }
    Ok(Answer {
        cluster: ClusterId::new(cluster),
        members: response.members,
        algorithm,
    })
}
