//! Pods and their clients.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use synod_coordination::{Config, Pod};
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::keep_request::Request as Asked;
use synod_proto::coordination::v1::keep_response::Response as Told;
use synod_proto::coordination::v1::locks_client::LocksClient;
use synod_proto::coordination::v1::sessions_client::SessionsClient;
use synod_rpc::ChannelConfig;
use synod_testkit::{Cluster, Server, Share, Topology, run_within};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Session timeouts are between 2 and 20 of them.
pub(crate) const TICK_MS: u32 = 1_000;

/// The longest session timeout.
pub(crate) const LONG_MS: u32 = 20 * TICK_MS;

/// The shortest session timeout.
pub(crate) const SHORT_MS: u32 = 2 * TICK_MS;

/// Runs a test with this many pods.
pub(crate) fn with_pods(count: usize, test: impl AsyncFnOnce(&[Pod]) -> Result<()>) -> Result<()> {
    run_within(Share::Small, 3 * SOON, async |lab| {
        let cluster = Cluster::start(lab, Server::SYNOD, Topology::of(1)).await?;
        let mut pods = Vec::new();
        for _ in 0..count {
            pods.push(start(&cluster.endpoints()).await?);
        }
        test(&pods).await?;
        for pod in pods {
            pod.shutdown().await;
        }
        Ok(())
    })
}

/// A pod that serves.
pub(crate) async fn start(endpoints: &[String]) -> Result<Pod> {
    let pod = Pod::start(config(endpoints)).await?;
    pod.ready(SOON).await?;
    Ok(pod)
}

pub(crate) fn config(endpoints: &[String]) -> Config {
    Config {
        endpoints: endpoints.to_vec(),
        listen_zookeeper: vec!["127.0.0.1:0".to_owned()],
        listen_urls: vec!["http://127.0.0.1:0".to_owned()],
        listen_metrics_urls: Vec::new(),
        tick_ms: TICK_MS,
        io_threads: 1,
        ..Config::default()
    }
}

pub(crate) fn channel(pod: &Pod) -> Result<Channel> {
    Ok(ChannelConfig::default().lazy(&pod.urls()[0])?)
}

/// A session and its stream.
pub(crate) struct Session {
    pub(crate) reference: pb::SessionRef,
    requests: mpsc::Sender<pb::KeepRequest>,
    responses: Streaming<pb::KeepResponse>,
    locks: LocksClient<Channel>,
}

impl Session {
    pub(crate) async fn open(pod: &Pod, timeout_ms: u32) -> Result<Self> {
        let open = pb::OpenSession {
            timeout_ms,
            digests: Vec::new(),
        };
        Ok(Self::start(pod, Asked::Open(open)).await?)
    }

    pub(crate) async fn resume(pod: &Pod, session: &pb::SessionRef) -> Result<Self, Status> {
        let resume = pb::ResumeSession {
            session: Some(session.clone()),
            timeout_ms: LONG_MS,
            digests: Vec::new(),
        };
        Self::start(pod, Asked::Resume(resume)).await
    }

    pub(crate) async fn start(pod: &Pod, first: Asked) -> Result<Self, Status> {
        let channel = channel(pod).unwrap();
        let (requests, stream) = mpsc::channel(16);
        requests.send(request(first)).await.unwrap();
        let mut sessions = SessionsClient::new(channel.clone());
        let responses = sessions.keep(ReceiverStream::new(stream)).await?;
        let mut session = Self {
            reference: pb::SessionRef::default(),
            requests,
            responses: responses.into_inner(),
            locks: LocksClient::new(channel),
        };
        match session.next().await? {
            Some((pb::SessionState::Safe, Some(Told::Opened(opened)))) => {
                session.reference = opened.session.unwrap();
                Ok(session)
            }
            other => panic!("{other:?} came first"),
        }
    }

    /// The next response; `None` at the end.
    pub(crate) async fn next(
        &mut self,
    ) -> Result<Option<(pb::SessionState, Option<Told>)>, Status> {
        let response = timeout(SOON, self.responses.message()).await;
        let response = response.map_err(|_| Status::internal("no response came"))??;
        Ok(response.map(|response| (response.state(), response.response)))
    }

    /// Sends a sign of life. Returns the state in its answer.
    pub(crate) async fn alive(&mut self) -> Result<pb::SessionState> {
        let number = 7;
        self.ask(Asked::KeepAlive(pb::KeepAlive { number })).await?;
        match self.next().await? {
            Some((state, Some(Told::Alive(answered)))) if answered == number => Ok(state),
            other => bail!("{other:?} answers a keep-alive"),
        }
    }

    /// Waits until the pod asks for a sign of life, and gives it. Returns the state in the answer.
    pub(crate) async fn alive_again(&mut self) -> Result<pb::SessionState> {
        let asked = self.next().await?;
        ensure!(
            asked == Some((pb::SessionState::Jeopardy, None)),
            "{asked:?}"
        );
        let number = 8;
        self.ask(Asked::KeepAlive(pb::KeepAlive { number })).await?;
        match self.next().await? {
            Some((state, Some(Told::Alive(answered)))) if answered == number => Ok(state),
            other => bail!("{other:?} answers a keep-alive"),
        }
    }

    pub(crate) async fn ask(&self, asked: Asked) -> Result<()> {
        Ok(self.requests.send(request(asked)).await?)
    }

    /// Ends the stream, and waits until the server has ended it. The session stays open.
    pub(crate) async fn leave(mut self) -> Result<pb::SessionRef> {
        drop(self.requests);
        let end = timeout(SOON, self.responses.message()).await??;
        ensure!(end.is_none(), "{end:?} came after the end");
        Ok(self.reference)
    }

    pub(crate) fn request(&self, name: &str, request_id: &str) -> pb::AcquireRequest {
        pb::AcquireRequest {
            session: Some(self.reference.clone()),
            name: name.to_owned(),
            mode: pb::LockMode::Exclusive.into(),
            request_id: request_id.to_owned(),
            owner: format!("owner of {request_id}"),
            ..pb::AcquireRequest::default()
        }
    }

    /// The token; zero if it was not acquired.
    pub(crate) async fn acquire(&self, request: pb::AcquireRequest) -> Result<u64, Status> {
        let response = self.locks.clone().acquire(request).await?.into_inner();
        assert_eq!(response.acquired, response.token != 0);
        Ok(response.token)
    }

    /// The token of a request with metadata of its own.
    pub(crate) async fn acquire_with(
        &self,
        request: Request<pb::AcquireRequest>,
    ) -> Result<u64, Status> {
        let response = self.locks.clone().acquire(request).await?;
        Ok(response.into_inner().token)
    }

    /// Acquires in the background.
    pub(crate) fn acquiring(&self, request: pb::AcquireRequest) -> Acquiring {
        let mut locks = self.locks.clone();
        Acquiring(synod_runtime::task::spawn("call", async move {
            let response = locks.acquire(request).await?;
            Ok(response.into_inner().token)
        }))
    }

    pub(crate) async fn release(&self, name: &str, request_id: &str) -> Result<bool> {
        let request = pb::ReleaseRequest {
            session: Some(self.reference.clone()),
            name: name.to_owned(),
            request_id: request_id.to_owned(),
        };
        let response = self.locks.clone().release(request).await?;
        Ok(response.into_inner().released)
    }

    pub(crate) async fn break_lock(&self, name: &str, token: u64) -> Result<bool> {
        let request = pb::BreakRequest {
            session: Some(self.reference.clone()),
            name: name.to_owned(),
            token,
        };
        let response = self.locks.clone().r#break(request).await?;
        Ok(response.into_inner().broken)
    }
}

fn request(asked: Asked) -> pb::KeepRequest {
    pb::KeepRequest {
        request: Some(asked),
    }
}

/// A call that waits for a lock. Dropping it cancels the call.
pub(crate) struct Acquiring(tokio::task::JoinHandle<Result<u64, Status>>);

impl Acquiring {
    pub(crate) async fn token(mut self) -> Result<u64, Status> {
        let answer = timeout(SOON, &mut self.0).await;
        answer
            .map_err(|_| Status::internal("no answer came"))?
            .unwrap()
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.0.is_finished()
    }
}

impl Drop for Acquiring {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) async fn holds(pod: &Pod, name: &str, token: u64) -> Result<bool> {
    let name = name.to_owned();
    let request = pb::CheckRequest { name, token };
    let response = LocksClient::new(channel(pod)?).check(request).await?;
    Ok(response.into_inner().holds)
}

pub(crate) async fn list(
    pod: &Pod,
    request: pb::ListLocksRequest,
) -> Result<pb::ListLocksResponse> {
    let response = LocksClient::new(channel(pod)?).list(request).await?;
    Ok(response.into_inner())
}

/// The contenders of a lock: token and whether it holds.
pub(crate) async fn contenders(pod: &Pod, name: &str) -> Result<Vec<(u64, bool)>> {
    let request = pb::ListLocksRequest {
        name: name.to_owned(),
        ..pb::ListLocksRequest::default()
    };
    let listed = list(pod, request).await?;
    let contenders = listed.locks.into_iter().flat_map(|lock| lock.contenders);
    Ok(contenders.map(|found| (found.token, found.holds)).collect())
}

/// Waits until a lock has so many contenders.
pub(crate) async fn until_contenders(pod: &Pod, name: &str, count: usize) -> Result<()> {
    synod_testkit::until(&format!("{count} contenders"), SOON, async || {
        let found = contenders(pod, name).await?;
        ensure!(found.len() == count, "{found:?}");
        Ok(Some(()))
    })
    .await
}

/// The code of a call that must fail, and the reason in its details.
pub(crate) fn failure<T: std::fmt::Debug>(
    result: Result<T, Status>,
) -> Result<(Code, Option<String>)> {
    use tonic_types::StatusExt as _;
    let status = result.err().context("the call did not fail")?;
    let reason = status.get_details_error_info().map(|info| info.reason);
    Ok((status.code(), reason))
}
