//! Pods in one process over a real endpoint: stock etcd and ours.

use anyhow::{Context, Result, ensure};
use synod_coordination_core::{Acl, CreateMode, Kind, LogNumber, Op, Password, SessionId};
use synod_proto::coordination::v1::pods_server::PodsServer;
use synod_rpc::{self as rpc, Listener, ServerConfig};
use synod_service::Front;
use synod_testkit::{Cluster, Fault, Proxy, Server, Share, Topology, run_within, until};

use super::*;
use crate::checkpoint::{self, Manifest};
use crate::endpoint::{BatchReader, Keys};
use crate::service::pods::PodsService;

const SERVERS: [Server; 2] = [Server::Etcd, Server::SYNOD];

const SOON: Duration = Duration::from_secs(60);

struct Pod {
    hub: Arc<Hub>,
    log: SharedLog,
    stop: Shutdown,
    session: SessionId,
    created: usize,
    front: Front,
    address: String,
}

impl Pod {
    /// `id` is that of its session.
    async fn start(servers: &[String], id: u64, limits: LogLimits) -> Result<Self> {
        let endpoint = Endpoint::connect(&Servers::plain(servers), "/zk").await?;
        let hub = Arc::new(Hub::new(limits.outbox, None));
        let listener = Listener::bind("127.0.0.1:0")?;
        let own = Leader::new(listener.url());
        let stop = Shutdown::new();
        let parts = Parts {
            endpoint,
            hub: Arc::clone(&hub),
            own: own.clone(),
            limits,
            channels: ChannelConfig::default(),
        };
        let log = SharedLog::start(parts, &stop);
        let pods = PodsService::new(Arc::clone(&hub), log.entrance().clone(), own.secret);
        let server = rpc::Server::new(ServerConfig::default()).add_service(PodsServer::new(pods));
        let mut front = Front::start("test", 1)?;
        front.serve(&server, listener)?;
        Ok(Self {
            hub,
            log,
            stop,
            session: SessionId::new(i64::try_from(id)?),
            created: 0,
            front,
            address: own.address,
        })
    }

    fn open_session(&self, timeout_ms: u32) {
        self.open_session_as(self.session, timeout_ms);
    }

    fn open_session_as(&self, session: SessionId, timeout_ms: u32) {
        let password = Password::new([7; 16]);
        let kind = Kind::CreateSession {
            timeout_ms,
            password,
        };
        self.hub.push(session, kind);
    }

    fn create(&mut self, count: usize) {
        for _ in 0..count {
            let path = format!("/{}-{}", self.session.get(), self.created);
            self.create_as(path, CreateMode::Persistent);
            self.created += 1;
        }
    }

    fn create_as(&self, path: String, mode: CreateMode) {
        let op = Op::Create {
            path,
            data: Some(vec![7; 100]),
            acl: Acl::open(),
            mode,
            ttl_ms: -1,
        };
        self.hub.push(self.session, Kind::Write(op));
    }

    fn exists(&self, path: &str) -> bool {
        self.hub
            .with_machine(|machine| machine.exists(path, &[]).is_ok())
    }

    fn leads(&self) -> bool {
        self.log.entrance().enter().is_some()
    }

    fn hash(&self) -> u64 {
        self.hub.with_machine(|machine| machine.state_hash())
    }

    async fn stop(self) {
        self.stop.trigger();
        self.log.stopped().await;
        self.front.stop().await;
    }
}

/// Waits until all commands are executed, and all pods agree.
async fn settled(pods: &[Pod]) -> Result<()> {
    until("all commands to be executed everywhere", SOON, async || {
        let open: Vec<usize> = pods.iter().map(|pod| pod.hub.unexecuted()).collect();
        let applied: Vec<LogNumber> = pods.iter().map(|pod| pod.hub.applied()).collect();
        let is_done =
            open.iter().all(|&open| open == 0) && applied.iter().all(|&at| at == applied[0]);
        ensure!(is_done, "not executed {open:?}, applied {applied:?}");
        Ok(Some(()))
    })
    .await?;
    let hashes: Vec<u64> = pods.iter().map(Pod::hash).collect();
    ensure!(hashes.iter().all(|&hash| hash == hashes[0]), "{hashes:?}");
    Ok(())
}

fn check_nodes(pods: &[Pod], of: &[(SessionId, usize)]) -> Result<()> {
    for pod in pods {
        for &(session, created) in of {
            for number in 0..created {
                let path = format!("/{}-{number}", session.get());
                ensure!(pod.exists(&path), "{path}");
            }
        }
    }
    Ok(())
}

fn limits() -> LogLimits {
    LogLimits::of(1 << 20)
}

fn with_server(test: impl AsyncFn(&Cluster) -> Result<()>) -> Result<()> {
    for server in SERVERS {
        run_within(Share::Small, 3 * SOON, async |lab| {
            let cluster = Cluster::start(lab, server, Topology::of(1)).await?;
            test(&cluster).await
        })
        .with_context(|| format!("{server:?}"))?;
    }
    Ok(())
}

#[test]
fn commands_of_all_pods_are_executed_once_while_the_leader_changes() -> Result<()> {
    with_server(async |cluster| {
        let mut pods = Vec::new();
        for id in 1..=3 {
            let pod = Pod::start(&cluster.endpoints(), id, limits()).await?;
            pod.open_session(30_000);
            pods.push(pod);
        }
        let mut made: Vec<(SessionId, usize)> = Vec::new();
        while pods.len() > 1 {
            for pod in &mut pods {
                pod.create(200);
            }
            settled(&pods).await?;
            let leader = pods.iter().position(Pod::leads);
            made = pods
                .iter()
                .map(|pod| (pod.session, pod.created))
                .chain(made)
                .collect();
            pods.remove(leader.context("a pod leads")?).stop().await;
        }
        pods[0].create(10);
        settled(&pods).await?;
        check_nodes(&pods, &made)
    })
}

#[test]
fn a_sync_waits_for_what_was_appended_before() -> Result<()> {
    with_server(async |cluster| {
        let mut pods = Vec::new();
        for id in 1..=2 {
            pods.push(Pod::start(&cluster.endpoints(), id, limits()).await?);
        }
        for pod in &pods {
            pod.open_session(30_000);
        }
        settled(&pods).await?;
        for round in 0..50 {
            let path = format!("/round-{round}");
            pods[0].create_as(path.clone(), CreateMode::Persistent);
            until("the creation", SOON, async || {
                Ok((pods[0].hub.unexecuted() == 0).then_some(()))
            })
            .await?;
            pods[1].hub.sync().await;
            ensure!(pods[1].exists(&path), "{path} after sync");
        }
        Ok(())
    })
}

/// The pod follows nothing, so it is behind until the test applies a batch.
#[test]
fn a_sync_of_a_pod_that_is_behind_waits() -> Result<()> {
    with_server(async |cluster| {
        let mut first = Pod::start(&cluster.endpoints(), 1, limits()).await?;
        first.open_session(30_000);
        first.create(1);
        let pods = [first];
        settled(&pods).await?;
        let endpoint = Endpoint::connect(&Servers::plain(&cluster.endpoints()), "/zk").await?;
        let hub = Arc::new(Hub::new(limits().outbox, None));
        let sync = hub.sync();
        tokio::pin!(sync);
        // Who asks is served by the next read.
        let end = tokio::select! {
            biased;
            () = &mut sync => anyhow::bail!("nothing was read"),
            end = endpoint.log_end(hub.applied()) => end?,
        };
        let read = hub.begin_sync().context("a read is wanted")?;
        ensure!(hub.begin_sync().is_none(), "one read is enough");
        hub.end_sync(read, end);
        ensure!(end == pods[0].hub.applied());
        ensure!(
            futures::poll!(&mut sync).is_pending(),
            "nothing was applied"
        );
        let applier = Arc::new(Applier::new(Arc::clone(&hub)));
        let follower = Follower::new(endpoint, applier);
        follower.catch_up().await?;
        sync.await;
        ensure!(hub.applied() == end);
        Ok(())
    })
}

/// The log is cut while the pod can't read it. Its own commands are in the part that is cut.
#[test]
fn a_pod_that_fell_behind_the_log_loads_a_checkpoint() -> Result<()> {
    for server in SERVERS {
        run_within(Share::Small, 3 * SOON, async |lab| {
            let cluster = Cluster::start(lab, server, Topology::of(1)).await?;
            let proxy = Proxy::start(cluster.nodes()[0].spec.client.address()).await?;
            let mut limits = limits();
            limits.checkpoints.batches = 5;
            limits.checkpoints.pause = Duration::ZERO;
            let mut pods = vec![Pod::start(&cluster.endpoints(), 1, limits).await?];
            until("the first pod to lead", SOON, async || {
                Ok(pods[0].leads().then_some(()))
            })
            .await?;
            pods.push(Pod::start(&[proxy.port().url()], 2, limits).await?);
            for pod in &mut pods {
                pod.open_session(30_000);
                pod.create(1);
            }
            settled(&pods).await?;
            let behind = pods[1].hub.applied();
            proxy.set(Fault::Cut);
            pods[1].create(20);
            let mut client = cluster.client(0).await?;
            let next = Keys::new("/zk").batch(behind.next());
            until("the next batch to be deleted", SOON, async || {
                pods[0].create(1);
                let is_later = pods[0].hub.applied() > behind.next();
                let exists = client.get(next.clone(), None).await?.count() > 0;
                Ok((is_later && !exists).then_some(()))
            })
            .await?;
            ensure!(pods[1].hub.applied() == behind, "it reads nothing");
            ensure!(pods[1].hub.unexecuted() == 20);
            proxy.heal();
            settled(&pods).await?;
            pods[1].create(1);
            settled(&pods).await?;
            let made: Vec<_> = pods.iter().map(|pod| (pod.session, pod.created)).collect();
            check_nodes(&pods, &made)
        })
        .with_context(|| format!("{server:?}"))?;
    }
    Ok(())
}

#[test]
fn a_session_without_signs_of_life_is_closed_and_others_are_not() -> Result<()> {
    with_server(async |cluster| {
        let mut pods = Vec::new();
        for id in 1..=2 {
            let pod = Pod::start(&cluster.endpoints(), id, limits()).await?;
            pod.open_session(1_500);
            pod.create_as(format!("/e{id}"), CreateMode::Ephemeral);
            pods.push(pod);
        }
        // A container that has no children any more is reaped.
        pods[1].create_as("/c".to_owned(), CreateMode::Container);
        pods[1].create_as("/c/child".to_owned(), CreateMode::Persistent);
        let delete = Op::Delete {
            path: "/c/child".to_owned(),
            version: -1,
        };
        pods[1].hub.push(pods[1].session, Kind::Write(delete));
        settled(&pods).await?;
        ensure!(pods[0].exists("/e1") && pods[0].exists("/e2"));
        let alive = pods[1].session;
        until("the silent session to be closed", SOON, async || {
            pods[1].hub.touch(alive);
            Ok((!pods[1].exists("/e1") && !pods[1].exists("/c")).then_some(()))
        })
        .await?;
        ensure!(pods[1].exists("/e2"), "a session that lives");
        until("the other session to be closed", SOON, async || {
            Ok((!pods[1].exists("/e2")).then_some(()))
        })
        .await
    })
}

#[test]
fn a_new_pod_starts_from_a_checkpoint_and_what_it_replaces_is_deleted() -> Result<()> {
    with_server(async |cluster| {
        let mut limits = limits();
        limits.checkpoints.batches = 5;
        limits.checkpoints.pause = Duration::ZERO;
        let mut pods = vec![Pod::start(&cluster.endpoints(), 1, limits).await?];
        pods[0].open_session(30_000);
        let mut client = cluster.client(0).await?;
        let keys = Keys::new("/zk");
        for _ in 0..40 {
            pods[0].create(5);
            settled(&pods).await?;
        }
        let log = keys.batches_from(LogNumber::default());
        let last = pods[0].hub.applied();
        let first_kept = until("the log to be cut", SOON, async || {
            let options = etcd_client::GetOptions::new().with_range(log.end.clone());
            let mut batches = client.get(log.start.clone(), Some(options)).await?;
            let kept = batches.take_kvs();
            let first = keys.number(kept[0].key()).context("a batch")?;
            let end = keys.number(kept[kept.len() - 1].key());
            ensure!(end == Some(last), "the last batch is kept");
            ensure!(kept.len() < 25, "{} batches are kept", kept.len());
            Ok(Some(first))
        })
        .await?;
        ensure!(first_kept > LogNumber::new(1));
        let limits = LogLimits::of(1 << 20);
        pods.push(Pod::start(&cluster.endpoints(), 2, limits).await?);
        settled(&pods).await?;
        check_nodes(&pods, &[(pods[0].session, pods[0].created)])?;
        // Only the pages of the last two checkpoints are left.
        let endpoint = Endpoint::connect(&Servers::plain(&cluster.endpoints()), "/zk").await?;
        let pages = until("stale pages to be deleted", SOON, async || {
            let listed = endpoint.listed_parts(None).await?.0;
            let pages: Vec<Vec<u8>> = listed.iter().map(|part| page_name(part)).collect();
            let is_swept = pages
                .chunk_by(|one, next| one == next)
                .all(|versions| versions.len() <= 2);
            Ok(is_swept.then_some(pages))
        })
        .await?;
        ensure!(pages.len() > 1, "{pages:?}");
        Ok(())
    })
}

/// A pod that began to load a checkpoint can load all of it, and go on from there, although the
/// next one is complete.
#[test]
fn the_checkpoint_before_the_last_one_is_kept_with_the_batches_behind_it() -> Result<()> {
    with_server(async |cluster| {
        let mut limits = limits();
        limits.checkpoints.batches = 3;
        limits.checkpoints.pause = Duration::ZERO;
        let mut pods = vec![Pod::start(&cluster.endpoints(), 1, limits).await?];
        pods[0].open_session(30_000);
        let endpoint = Endpoint::connect(&Servers::plain(&cluster.endpoints()), "/zk").await?;
        let others = [2, 3, 4, 5].map(SessionId::new);
        for other in others {
            pods[0].open_session_as(other, 30_000);
        }
        let mut seen: Vec<Manifest> = Vec::new();
        for other in others {
            let wanted = seen.len() + 3;
            until("three more checkpoints", SOON, async || {
                pods[0].create(1);
                settled(&pods).await?;
                // Its page was the same for long, and changes now.
                if seen.len() + 1 == wanted {
                    pods[0].hub.push(other, Kind::CloseSession);
                }
                let now = Manifest::read(&endpoint).await?.map(|found| found.0);
                seen.extend(now.filter(|now| seen.last() != Some(now)));
                Ok((seen.len() >= wanted).then_some(()))
            })
            .await?;
            let [oldest, previous] = [seen[seen.len() - 3], seen[seen.len() - 2]];
            until("the oldest checkpoint to be deleted", SOON, async || {
                Ok(oldest.meta(&endpoint).await?.is_empty().then_some(()))
            })
            .await?;
            checkpoint::load_named(&endpoint, &previous).await?;
            let read = BatchReader::new(&endpoint).after(previous.number).await?;
            let first = read.batches.first().context("a batch")?.0;
            ensure!(first <= previous.number.next(), "{first} is the first");
        }
        Ok(())
    })
}

/// A page's name, without its transaction and the number of the part.
fn page_name(part: &[u8]) -> Vec<u8> {
    let mut words: Vec<&[u8]> = part.split(|&byte| byte == b'/').collect();
    words.truncate(words.len() - 2);
    words.join(&b'/')
}

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_its_commands_survive() -> Result<()> {
    for server in SERVERS {
        run_within(Share::Small, 3 * SOON, async |lab| {
            let cluster = Cluster::start(lab, server, Topology::of(1)).await?;
            let address = cluster.nodes()[0].spec.client.address();
            let proxy = Proxy::start(address).await?;
            let first = Pod::start(&[proxy.port().url()], 1, limits()).await?;
            until("the first pod to lead", SOON, async || {
                Ok(first.leads().then_some(()))
            })
            .await?;
            let second = Pod::start(&cluster.endpoints(), 2, limits()).await?;
            let mut pods = vec![first, second];
            for pod in &mut pods {
                pod.open_session(30_000);
                pod.create(50);
            }
            settled(&pods).await?;
            for fault in [Fault::Stall, Fault::Cut, Fault::Drop] {
                proxy.set(fault);
                for pod in &mut pods {
                    pod.create(50);
                }
                until("the other pod to lead", SOON, async || {
                    Ok(pods[1].leads().then_some(()))
                })
                .await?;
                let seen = pods[1].log.leader().borrow().clone();
                ensure!(seen.is_some_and(|leader| leader.address == pods[1].address));
                proxy.heal();
                settled(&pods).await?;
                let made = [
                    (pods[0].session, pods[0].created),
                    (pods[1].session, pods[1].created),
                ];
                check_nodes(&pods, &made)?;
                // The pod behind the proxy leads again.
                let second = pods.pop().context("two pods")?;
                let (id, created) = (second.session, second.created);
                second.stop().await;
                until("the first pod to lead again", SOON, async || {
                    Ok(pods[0].leads().then_some(()))
                })
                .await?;
                check_nodes(&pods, &[(id, created)])?;
                let id = u64::try_from(id.get())? + 10;
                let other = Pod::start(&cluster.endpoints(), id, limits()).await?;
                other.open_session(30_000);
                pods.push(other);
                settled(&pods).await?;
            }
            Ok(())
        })
        .with_context(|| format!("{server:?}"))?;
    }
    Ok(())
}
