//! How a node without data comes to its cluster: as one of the first members, or by joining them.
//!
//! All first members begin with the same snapshot at index 1, term 1, which holds the membership. A
//! member that joins later has an empty log, so it first gets a snapshot from a peer, and the
//! membership with it. For Multi-Paxos this is slot 1, chosen in a ballot that belongs to no
//! member: the ballots of all members are above it.

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

/// The time limit for asking one peer about its cluster.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// The time limit for asking one peer whether this node was a member before.
const CHECK_TIMEOUT: Duration = Duration::from_millis(500);
/// How many rounds of asking all peers a joining node makes before it gives up.
const JOIN_ATTEMPTS: u32 = 5;
/// The pause between two rounds.
const JOIN_PAUSE: Duration = Duration::from_millis(500);

/// Why a node can't come to its cluster.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// No member answered.
    #[error(
        "can't join the cluster: none of its members answered at {urls} (last answer: {last}); start them first, \
         correct --initial-cluster, or start a new cluster with --initial-cluster-state new"
    )]
    NoPeer {
        /// The URLs that were asked.
        urls: String,
        /// The last answer.
        last: String,
    },
    /// The flags name no other member.
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
        /// The cluster's members.
        known: String,
    },
    /// The flags list other members than the cluster has.
    #[error(
        "--initial-cluster lists {listed} members, but the cluster has {actual}: {known}; list exactly those"
    )]
    OtherMembers {
        /// How many the flags list.
        listed: usize,
        /// How many the cluster has.
        actual: usize,
        /// The cluster's members.
        known: String,
    },
    /// The cluster runs another algorithm.
    #[error(
        "--engine is {asked}, but the cluster runs {theirs}: the members of a cluster run one consensus algorithm; start \
         this one with --engine {theirs}, or without the flag"
    )]
    OtherAlgorithm {
        /// The algorithm in the flags.
        asked: Algorithm,
        /// The cluster's algorithm.
        theirs: Algorithm,
    },
    /// This node was a member before and has lost its data.
    #[error(
        "member {member} was part of the cluster already, and its data directory is empty: without its data it \
         could forget its votes, so it must not continue; remove it with `etcdctl member remove {member}`, add it again with `member \
         add`, and start it with --initial-cluster-state existing"
    )]
    LostData {
        /// Its id as a member.
        member: NodeId,
    },
}

/// What a new data directory is created from.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) meta: Meta,
    pub(crate) roster: Roster,
    /// The position and the membership before the first entry.
    pub(crate) start: SnapshotMeta,
}

/// Finds out what this node begins with. A new cluster may begin with a backup. `dial` configures
/// connections to other members.
///
/// # Errors
/// [`BootstrapError`] says what to do.
pub(crate) async fn begin(
    config: &Config,
    restored: Option<BackupId>,
    dial: &ChannelConfig,
) -> Result<Beginning, BootstrapError> {
    match config.initial_cluster_state {
        ClusterState::New => found(config, restored, dial).await,
        ClusterState::Existing => join(config, dial).await,
    }
}

/// A new cluster: all members derive the same ids and the same first snapshot from the flags.
async fn found(
    config: &Config,
    restored: Option<BackupId>,
    dial: &ChannelConfig,
) -> Result<Beginning, BootstrapError> {
    let token = &config.initial_cluster_token;
    let cluster = cluster_id(&config.initial_cluster, token, restored);
    let me = initial_member_id(&config.initial_advertise_peer_urls, token);
    refuse_if_lost(config, cluster, me, dial).await?;
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

/// `theirs` is the cluster's algorithm, if the cluster told it.
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

/// Refuses to create data again for a member that the others know as started. It may have voted or
/// acknowledged entries before it lost its data.
async fn refuse_if_lost(
    config: &Config,
    cluster: ClusterId,
    me: NodeId,
    dial: &ChannelConfig,
) -> Result<(), BootstrapError> {
    for url in peer_urls(config) {
        let asked = ask(&url, CHECK_TIMEOUT, false, dial).await;
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

/// An existing cluster: it tells the ids, and the log brings the rest.
async fn join(config: &Config, dial: &ChannelConfig) -> Result<Beginning, BootstrapError> {
    let answer = match ask_anyone(config, dial).await {
        Ok(answer) => answer,
        Err(error) => {
            refuse_if_it_was_started(config, dial).await?;
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

/// Without a quorum no peer can confirm the members. A peer may be without a quorum because this
/// member lost its data: if a peer knows this member as started, report that instead.
async fn refuse_if_it_was_started(
    config: &Config,
    dial: &ChannelConfig,
) -> Result<(), BootstrapError> {
    for url in peer_urls(config) {
        let Ok(answer) = ask(&url, ASK_TIMEOUT, false, dial).await else {
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

/// Whether the other members say that this one was removed. Its log does not tell it if it was
/// removed while it was stopped, or before the entry reached it.
pub(crate) async fn was_removed(
    cluster: ClusterId,
    me: NodeId,
    peer_urls: &[String],
    dial: &ChannelConfig,
) -> bool {
    for url in peer_urls {
        let Ok(answer) = ask(url, ASK_TIMEOUT, true, dial).await else {
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
    /// Their algorithm, if they tell it.
    algorithm: Option<Algorithm>,
}

/// Asks the members in turn until one answers.
async fn ask_anyone(config: &Config, dial: &ChannelConfig) -> Result<Answer, BootstrapError> {
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
            match ask(url, ASK_TIMEOUT, true, dial).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    tracing::info!(%url, %error, "a peer did not say which cluster it belongs to; asking again: check that it runs and that --initial-cluster has its peer URL");
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

async fn ask(
    url: &str,
    timeout: Duration,
    linearizable: bool,
    dial: &ChannelConfig,
) -> Result<Answer, String> {
    let config = ChannelConfig {
        connect_timeout: timeout,
        ..dial.clone()
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
        .map_err(|_| "no answer in time: check the address and the network".to_owned())??;
    let algorithm = response.metadata().get(ALGORITHM_METADATA);
    let algorithm = algorithm.and_then(|name| name.to_str().ok()?.parse().ok());
    let response = response.into_inner();
    let cluster = response.header.map_or(0, |header| header.cluster_id);
    if cluster == 0 {
        return Err("it does not know its cluster yet: wait until it has started".to_owned());
    }
    Ok(Answer {
        cluster: ClusterId::new(cluster),
        members: response.members,
        algorithm,
    })
}
