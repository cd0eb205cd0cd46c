//! A session with the coordination service: it lives on any of the pods.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::keep_request::Request as Asked;
use synod_proto::coordination::v1::keep_response::Response as Told;
use synod_proto::coordination::v1::sessions_client::SessionsClient;
use synod_rpc::ChannelConfig;
use synod_runtime::{clock, random, task};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::connect::Target;
use crate::failure;

/// The pause before another pod is tried, at most; half of it at least.
const RETRY_AFTER: Duration = Duration::from_millis(400);

/// A pod that is asked to resume a session has this part of the time that is left.
const TRIES_AT_LEAST: u32 = 3;

/// A keep-alive is sent after this part of the timeout.
const ALIVE_PARTS: u32 = 4;

/// A pod that does not confirm a keep-alive within this part of the timeout is left for another
/// one. A quarter of the timeout remains to find it, until [`Keeper::deadline`].
const PATIENCE_PARTS: u32 = 6;

/// Requests that wait to be sent on a stream.
const WAITING_REQUESTS: usize = 8;

/// Keep-alives without an answer. More than are sent within a timeout.
const UNANSWERED: usize = 16;

/// Where the coordination service is.
#[derive(Args, Clone, Debug)]
pub(crate) struct Pods {
    /// URLs of the coordination service's pods, separated by commas
    #[arg(
        long,
        env = "SYNOD_COORDINATION",
        value_delimiter = ',',
        value_name = "URLS",
        default_value = "http://127.0.0.1:2190"
    )]
    pub(crate) coordination: Vec<String>,
}

impl Pods {
    /// A channel to each pod, with its URL.
    ///
    /// # Errors
    /// A URL is not valid.
    pub(crate) fn channels(&self, target: &Target) -> anyhow::Result<Vec<(&str, Channel)>> {
        let config = ChannelConfig {
            tls: target.tls.channel()?,
            connect_timeout: target.timeout,
            ..ChannelConfig::default()
        };
        let channels = self.coordination.iter().map(|url| {
            let channel = config.lazy(&target.url(url));
            let channel = channel.with_context(|| format!("--coordination {url}"))?;
            Ok((url.as_str(), channel))
        });
        channels.collect()
    }

    /// The answer of the first pod that gives one to a call without a session.
    ///
    /// # Errors
    /// The last pod's error.
    pub(crate) async fn ask<T>(
        &self,
        target: &Target,
        call: impl AsyncFn(Channel) -> Result<T, Status>,
    ) -> anyhow::Result<T> {
        let mut last = None;
        for (url, channel) in self.channels(target)? {
            match answer(target, url, call(channel)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(no_pod))
    }
}

/// The list of pods is empty.
pub(crate) fn no_pod() -> anyhow::Error {
    anyhow::anyhow!("--coordination names no pod")
}

/// A pod's answer, within the request timeout.
async fn answer<T>(
    target: &Target,
    url: &str,
    call: impl Future<Output = Result<T, Status>>,
) -> anyhow::Result<T> {
    match clock::timeout(target.timeout, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) if !is_transient(&status) => Err(failed(status)),
        Ok(Err(status)) => {
            let text = failure::describe(&etcd_client::Error::GRpcStatus(status));
            bail!("coordination service at {url}: {text}")
        }
        Err(_) => bail!(
            "coordination service at {url}: no answer within {:?}",
            target.timeout
        ),
    }
}

/// A status as an error that `failure::report` explains.
pub(crate) fn failed(status: Status) -> anyhow::Error {
    etcd_client::Error::GRpcStatus(status).into()
}

/// An open session, kept alive by a task.
pub(crate) struct Session {
    reference: pb::SessionRef,
    timeout: Duration,
    standing: watch::Receiver<Standing>,
    close: oneshot::Sender<()>,
    keeper: task::JoinHandle<anyhow::Result<()>>,
}

/// Where a session is.
#[derive(Clone, Debug)]
enum Standing {
    /// The pod that has its stream.
    On(Channel),
    /// It has expired, or may have.
    Lost(String),
}

impl Session {
    /// Opens a session on the first pod that takes it.
    ///
    /// # Errors
    /// No pod does within the request timeout.
    pub(crate) async fn open(
        target: &Target,
        pods: &Pods,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let channels = pods.channels(target)?;
        let open = pb::OpenSession {
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            digests: Vec::new(),
        };
        let mut last = None;
        for (index, (url, channel)) in channels.iter().enumerate() {
            let began = clock::now();
            let opening = Stream::start(channel.clone(), Asked::Open(open.clone()));
            let (stream, opened) = match answer(target, url, opening).await {
                Ok(opened) => opened,
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            let reference = opened
                .session
                .context("the pod's answer names no session")?;
            let (told, standing) = watch::channel(Standing::On(channel.clone()));
            let (close, closing) = oneshot::channel();
            let timeout = Duration::from_millis(opened.timeout_ms.into());
            let keeper = Keeper {
                channels: channels.into_iter().map(|(_, channel)| channel).collect(),
                index,
                reference: reference.clone(),
                timeout,
                safe: began,
                told,
            };
            return Ok(Self {
                reference,
                timeout,
                standing,
                close,
                keeper: task::spawn("session", keeper.run(stream, closing)),
            });
        }
        Err(last.unwrap_or_else(no_pod))
    }

    /// For calls that name the session.
    pub(crate) fn reference(&self) -> pb::SessionRef {
        self.reference.clone()
    }

    /// Its timeout, as the pod that opened it gave it.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Resolves with the reason when the session has expired, or may have.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(crate) async fn lost(&self) -> String {
        let mut standing = self.standing.clone();
        let lost = standing.wait_for(|standing| matches!(standing, Standing::Lost(_)));
        match lost.await.as_deref() {
            Ok(Standing::Lost(reason)) => reason.clone(),
            Ok(Standing::On(_)) | Err(_) => "the session's task has ended".to_owned(),
        }
    }

    /// Makes a call that is safe to repeat until it has an answer. If the session moves to another
    /// pod meanwhile, the call is repeated there: the former pod may never answer.
    ///
    /// # Errors
    /// A refusal, or that the session is lost.
    pub(crate) async fn call<T>(
        &self,
        call: impl AsyncFn(Channel) -> Result<T, Status>,
    ) -> anyhow::Result<T> {
        let mut standing = self.standing.clone();
        let answered = async {
            loop {
                let now = standing.borrow_and_update().clone();
                let Standing::On(channel) = now else {
                    // The other branch knows the reason.
                    std::future::pending().await
                };
                let answer = tokio::select! {
                    biased; // an answer needs no repetition
                    answer = call(channel) => answer,
                    Ok(()) = standing.changed() => continue,
                };
                match answer {
                    Ok(answer) => return Ok(answer),
                    Err(status) if is_transient(&status) => {
                        clock::sleep(random::jitter(RETRY_AFTER)).await;
                    }
                    Err(status) => return Err(failed(status)),
                }
            }
        };
        tokio::select! {
            biased; // an answer counts, whatever comes next
            answer = answered => answer,
            reason = self.lost() => bail!("the session was lost: {reason}"),
        }
    }

    /// Ends the session, and with it all that lives by it.
    ///
    /// # Errors
    /// The pod did not confirm it: the session ends by its timeout.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        // If the task has ended, its result says why.
        let _ended = self.close.send(());
        self.keeper
            .await?
            .context("no pod confirmed the end of the session, which ends by its timeout")
    }
}

/// The pod is not the session's any more, has no contact, or the connection to it broke.
pub(crate) fn is_transient(status: &Status) -> bool {
    let says = |text| status.message().contains(text);
    let is_elsewhere = status.code() == Code::FailedPrecondition
        && says("does not serve the session")
        // A place that was removed is aborted, too.
        || status.code() == Code::Aborted && says("resumed with another stream");
    is_elsewhere
        || matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
        )
}

/// Keeps a session alive.
struct Keeper {
    channels: Vec<Channel>,
    /// The pod that has the stream.
    index: usize,
    reference: pb::SessionRef,
    timeout: Duration,
    /// The last keep-alive that was answered as safe was sent then.
    safe: Instant,
    told: watch::Sender<Standing>,
}

/// What ended a stream.
enum Ended {
    /// As it was asked to.
    Closed,
    /// It may be resumed.
    Broken(String),
    /// The session is gone.
    Gone(String),
}

impl Keeper {
    async fn run(
        mut self,
        stream: Stream,
        mut closing: oneshot::Receiver<()>,
    ) -> anyhow::Result<()> {
        let mut stream = Some(stream);
        loop {
            let ended = match stream.take() {
                Some(stream) => self.keep(stream, &mut closing).await,
                None => Ended::Broken("no pod could be reached".to_owned()),
            };
            let reason = match ended {
                Ended::Closed => return Ok(()),
                Ended::Gone(reason) => reason,
                // A close that is not confirmed is not repeated.
                Ended::Broken(reason)
                    if closing.is_terminated() || clock::now() >= self.deadline() =>
                {
                    reason
                }
                Ended::Broken(_) => {
                    stream = self.resume().await;
                    continue;
                }
            };
            self.told.send_replace(Standing::Lost(reason.clone()));
            bail!(reason);
        }
    }

    /// Until then the session has certainly not expired. A margin is left for clocks that differ
    /// and for what the session protects to end.
    fn deadline(&self) -> Instant {
        self.safe + self.timeout * 2 / 3
    }

    /// Until then a pod may confirm the keep-alive that waits for longest. A single pod has all the
    /// time that there is.
    fn patience(&self, oldest: Option<&(u64, Instant)>) -> Instant {
        match oldest {
            Some((_, sent)) if self.channels.len() > 1 => *sent + self.timeout / PATIENCE_PARTS,
            Some(_) | None => self.deadline(),
        }
    }

    async fn keep(&mut self, mut stream: Stream, closing: &mut oneshot::Receiver<()>) -> Ended {
        let every = self.timeout / ALIVE_PARTS;
        let mut next = clock::now() + every;
        let mut sent: VecDeque<(u64, Instant)> = VecDeque::new();
        let mut number = 0;
        loop {
            tokio::select! {
                biased; // what the pod said counts before the time that passes
                response = stream.responses.message() => {
                    let response = match response {
                        Ok(Some(response)) => response,
                        Ok(None) => return Ended::Broken("the pod ended the stream".to_owned()),
                        Err(status) => return Ended::Broken(status.message().to_owned()),
                    };
                    match response.state() {
                        pb::SessionState::Expired => return Ended::Gone("it has expired".to_owned()),
                        pb::SessionState::Closed => return Ended::Closed,
                        pb::SessionState::Safe => {
                            if let Some(Told::Alive(answered)) = response.response {
                                while let Some((_, at)) = sent.pop_front_if(|(n, _)| *n <= answered) {
                                    self.safe = at;
                                }
                            }
                        }
                        // The pod asks whether the client is still there.
                        pb::SessionState::Jeopardy if response.response.is_none() => {
                            next = clock::now();
                        }
                        pb::SessionState::Jeopardy | pb::SessionState::Unspecified => {}
                    }
                }
                Ok(()) = &mut *closing, if !closing.is_terminated() => {
                    if !stream.ask(Asked::Close(pb::CloseSession {})).await {
                        return Ended::Broken("the pod is gone".to_owned());
                    }
                }
                () = clock::sleep_until(self.deadline().min(self.patience(sent.front()))) => {
                    return Ended::Broken("no pod confirmed in time that it is open".to_owned());
                }
                () = clock::sleep_until(next), if sent.len() < UNANSWERED => {
                    number += 1;
                    sent.push_back((number, clock::now()));
                    if !stream.ask(Asked::KeepAlive(pb::KeepAlive { number })).await {
                        return Ended::Broken("the pod is gone".to_owned());
                    }
                    next = clock::now() + every;
                }
            }
        }
    }

    /// Resumes the session with the next pod that takes it, until the deadline.
    async fn resume(&mut self) -> Option<Stream> {
        let deadline = self.deadline();
        loop {
            let left = deadline.saturating_duration_since(clock::now());
            let pause = RETRY_AFTER.min(left / TRIES_AT_LEAST);
            clock::timeout_at(deadline, clock::sleep(random::jitter(pause)))
                .await
                .ok()?;
            if clock::now() >= deadline {
                return None;
            }
            self.index = (self.index + 1) % self.channels.len();
            let channel = self.channels[self.index].clone();
            let resume = pb::ResumeSession {
                session: Some(self.reference.clone()),
                timeout_ms: u32::try_from(self.timeout.as_millis()).unwrap_or(u32::MAX),
                digests: Vec::new(),
            };
            let began = clock::now();
            let starting = Stream::start(channel.clone(), Asked::Resume(resume));
            // A silent pod leaves time for others.
            let within = deadline.saturating_duration_since(began) / TRIES_AT_LEAST;
            if let Ok(Ok((stream, opened))) = clock::timeout(within, starting).await {
                self.safe = began;
                self.timeout = Duration::from_millis(opened.timeout_ms.into());
                self.told.send_replace(Standing::On(channel));
                return Some(stream);
            }
        }
    }
}

/// The stream of a session.
struct Stream {
    requests: mpsc::Sender<pb::KeepRequest>,
    responses: Streaming<pb::KeepResponse>,
}

impl Stream {
    async fn start(channel: Channel, first: Asked) -> Result<(Self, pb::SessionOpened), Status> {
        let (requests, receiver) = mpsc::channel(WAITING_REQUESTS);
        let mut stream = Self {
            requests,
            responses: {
                let first = pb::KeepRequest {
                    request: Some(first),
                };
                let rest = ReceiverStream::new(receiver);
                let requests = tokio_stream::StreamExt::chain(tokio_stream::once(first), rest);
                SessionsClient::new(channel)
                    .keep(requests)
                    .await?
                    .into_inner()
            },
        };
        let response = stream.responses.message().await?;
        match response.and_then(|response| response.response) {
            Some(Told::Opened(opened)) => Ok((stream, opened)),
            Some(Told::Alive(_)) | None => Err(Status::internal(
                "the pod did not say that the session is open",
            )),
        }
    }

    /// Returns whether the pod is still there.
    async fn ask(&self, asked: Asked) -> bool {
        let request = pb::KeepRequest {
            request: Some(asked),
        };
        self.requests.send(request).await.is_ok()
    }
}
