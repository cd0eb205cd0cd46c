//! Sessions: a stream each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use synod_coordination_core::SessionId;
use synod_jute::PASSWORD_LEN;
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::keep_request::Request as Asked;
use synod_proto::coordination::v1::keep_response::Response as Told;
use synod_proto::coordination::v1::sessions_server::Sessions;
use synod_runtime::{clock, random, task};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Shared;
use crate::error::Error;
use crate::hub::{Client, Closed, MAX_DIGEST_BYTES, MAX_DIGESTS, Opened, Sign, Standing};
use crate::queue;

/// The first request must come within this time.
const FIRST_WITHIN: Duration = Duration::from_secs(10);

/// The pause before a session is given another connection again, at most; half of it at least.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Responses that wait for a client to read them. Then its requests are not read.
const WAITING_RESPONSES: usize = 16;

/// Keep-alives of a session that wait for an answer. Then its requests are not read.
const WAITING_ALIVE: usize = 16;

/// Serves sessions.
#[derive(Clone)]
pub(crate) struct SessionsService {
    shared: Arc<Shared>,
}

type Responses = mpsc::Sender<Result<pb::KeepResponse, Status>>;

impl SessionsService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl Sessions for SessionsService {
    type KeepStream = ReceiverStream<Result<pb::KeepResponse, Status>>;

    async fn keep(
        &self,
        request: Request<Streaming<pb::KeepRequest>>,
    ) -> Result<Response<Self::KeepStream>, Status> {
        let (responses, stream) = mpsc::channel(WAITING_RESPONSES);
        let shared = Arc::clone(&self.shared);
        let requests = request.into_inner();
        drop(task::spawn("session", async move {
            if let Err(error) = keep(&shared, requests, &responses).await {
                // The client may be gone.
                drop(responses.send(Err(error.into())).await);
            }
        }));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Serves a stream until its end.
async fn keep(
    shared: &Arc<Shared>,
    mut requests: Streaming<pb::KeepRequest>,
    responses: &Responses,
) -> Result<(), Error> {
    let first = clock::timeout(FIRST_WITHIN, requests.message()).await;
    let first = first.ok().and_then(Result::ok).flatten();
    let first = first.and_then(|first| first.request);
    let asked = Start::of(first, shared)?;
    let (session, _) = asked.session.unwrap_or_default();
    shared.sessions.check_room(session)?;
    let client = Arc::new(asked.client(shared));
    let opened = client.connect(asked.session, asked.timeout_ms).await?;
    let mut stream = Stream {
        shared,
        asked,
        opened,
        client,
        responses,
        alive: VecDeque::new(),
    };
    stream.register()?;
    let ended = stream.serve(&mut requests).await;
    shared
        .sessions
        .remove(stream.opened.session, &stream.client);
    // Calls that use the connection end: their client is to ask again once it has resumed.
    stream.client.close();
    ended
}

/// What the first request asks for.
struct Start {
    session: Option<(SessionId, [u8; PASSWORD_LEN])>,
    timeout_ms: u32,
    digests: Vec<String>,
}

impl Start {
    fn of(first: Option<Asked>, shared: &Shared) -> Result<Self, Error> {
        let (session, timeout_ms, digests) = match first {
            Some(Asked::Open(open)) => (None, open.timeout_ms, open.digests),
            Some(Asked::Resume(resume)) => {
                let named = resume.session.unwrap_or_default();
                let secret = named.secret.as_ref().try_into();
                let secret = secret.map_err(|_| Error::Expired)?;
                // Zero would open a new session.
                if named.id == 0 {
                    return Err(Error::Expired);
                }
                let session = (SessionId::new(named.id), secret);
                (Some(session), resume.timeout_ms, resume.digests)
            }
            Some(Asked::KeepAlive(_) | Asked::Close(_)) | None => return Err(Error::OutOfOrder),
        };
        let is_long = |digest: &String| digest.len() > MAX_DIGEST_BYTES;
        if digests.len() > MAX_DIGESTS || digests.iter().any(is_long) {
            return Err(Error::Invalid {
                what: "digests",
                expected: "at most 16, each of at most 256 bytes",
            });
        }
        let limits = &shared.limits;
        Ok(Self {
            session,
            timeout_ms: timeout_ms
                .clamp(limits.min_session_timeout_ms, limits.max_session_timeout_ms),
            digests,
        })
    }

    /// A connection for the session.
    fn client(&self, shared: &Shared) -> Client {
        let address = std::net::Ipv4Addr::UNSPECIFIED.into();
        Client::open(&shared.hub, address, &self.digests)
    }
}

/// The stream of an open session.
struct Stream<'a> {
    shared: &'a Arc<Shared>,
    asked: Start,
    opened: Opened,
    client: Arc<Client>,
    responses: &'a Responses,
    /// Keep-alives that are not answered: their signs of life, and their numbers.
    alive: VecDeque<(Sign, u64)>,
}

/// What ends the wait for the next request.
enum Next {
    Request(Option<Asked>),
    /// The client has ended its side, or is gone.
    End,
    /// The session's connection has ended.
    Closed,
    /// The pod answers clients again.
    Serving,
    /// The leading pod knows of the first sign of life.
    Confirmed,
    /// The pod stops.
    Stopping,
}

impl Stream<'_> {
    /// Tells the client of its session, and serves.
    async fn serve(&mut self, requests: &mut Streaming<pb::KeepRequest>) -> Result<(), Error> {
        self.confirm().await?;
        let told = self.opened();
        match self.tell(pb::SessionState::Safe, Some(told)).await {
            true => self.run(requests).await,
            false => Ok(()),
        }
    }

    /// Serves until the stream or the session ends.
    async fn run(&mut self, requests: &mut Streaming<pb::KeepRequest>) -> Result<(), Error> {
        loop {
            let next = tokio::select! {
                biased; // the end of the session comes before its requests
                () = self.shared.stop.triggered() => Next::Stopping,
                () = self.client.closed() => Next::Closed,
                () = confirmed(&self.client, self.alive.front()) => Next::Confirmed,
                message = requests.message(), if self.alive.len() < WAITING_ALIVE => {
                    request(message)
                }
            };
            match next {
                Next::Stopping => return Err(Error::Stopping),
                Next::End => return Ok(()),
                Next::Closed | Next::Serving => {
                    if !self.recover(requests).await? {
                        return Ok(());
                    }
                }
                Next::Confirmed => {
                    let first = self.alive.pop_front();
                    let told = first.map(|(_, number)| Told::Alive(number));
                    if !self.tell(pb::SessionState::Safe, told).await {
                        return Ok(());
                    }
                }
                Next::Request(Some(Asked::KeepAlive(alive))) => {
                    // If the connection has just ended, the next round says so.
                    if let Ok(sign) = self.client.touch() {
                        self.alive.push_back((sign, alive.number));
                    }
                }
                Next::Request(Some(Asked::Close(_))) => return self.close().await,
                Next::Request(Some(Asked::Open(_) | Asked::Resume(_)) | None) => {
                    return Err(Error::OutOfOrder);
                }
            }
        }
    }

    /// Waits until the leading pod knows that the client of a resumed session lives: it may have
    /// given the session up. A new session lives for its timeout from its command in the log on.
    async fn confirm(&self) -> Result<(), Error> {
        if self.asked.session.is_none() {
            return Ok(());
        }
        let sign = self.client.touch().map_err(|Closed| Error::NotServing)?;
        tokio::select! {
            biased; // the end of the session comes first
            () = self.shared.stop.triggered() => Err(Error::Stopping),
            () = self.client.closed() => Err(Error::NotServing),
            () = self.client.confirmed(sign) => Ok(()),
        }
    }

    /// The session's connection has ended. Gives it another one when its client shows life: the
    /// client may be gone, or have resumed the session with another pod. Returns whether the stream
    /// goes on.
    async fn recover(&mut self, requests: &mut Streaming<pb::KeepRequest>) -> Result<bool, Error> {
        // A keep-alive that is not answered.
        let mut alive = None;
        // Their client learns of the jeopardy.
        self.alive.clear();
        loop {
            if !self.shared.hub.is_serving() {
                if !self.jeopardy(alive.take(), requests).await? {
                    return Ok(false);
                }
                continue;
            }
            match self
                .shared
                .hub
                .standing(self.opened.session, self.opened.pod)
            {
                Standing::Gone => {
                    self.tell(pb::SessionState::Expired, None).await;
                    return Ok(false);
                }
                Standing::Elsewhere => return Err(Error::Moved),
                Standing::Here => {}
            }
            if alive.is_none() {
                match self.sign(requests).await? {
                    Next::Request(Some(Asked::KeepAlive(sign))) => alive = Some(sign.number),
                    Next::End => return Ok(false),
                    Next::Request(_)
                    | Next::Closed
                    | Next::Serving
                    | Next::Confirmed
                    | Next::Stopping => {}
                }
                continue;
            }
            let client = Arc::new(self.asked.client(self.shared));
            let session = Some((self.opened.session, self.opened.secret));
            match client.connect(session, self.opened.timeout_ms).await {
                Ok(opened) => {
                    (self.client, self.opened) = (client, opened);
                    self.register()?;
                    if let (Ok(sign), Some(number)) = (self.client.touch(), alive) {
                        self.alive.push_back((sign, number));
                    }
                    // It is safe when the leading pod knows of the sign.
                    return Ok(true);
                }
                // The pod lost its contact again, or is overloaded, or the session has gone.
                Err(_) => clock::sleep(random::jitter(RETRY_AFTER)).await,
            }
        }
    }

    /// The pod serves, and the session may have a connection again. Asks the client for a
    /// keep-alive and waits for it. Returns another [`Next`] if the session may be elsewhere
    /// meanwhile.
    async fn sign(&self, requests: &mut Streaming<pb::KeepRequest>) -> Result<Next, Error> {
        if !self.tell(pb::SessionState::Jeopardy, None).await {
            return Ok(Next::End);
        }
        let (session, pod) = (self.opened.session, self.opened.pod);
        let next = tokio::select! {
            biased; // the end of the session comes before its requests
            () = self.shared.stop.triggered() => Next::Stopping,
            () = self.shared.hub.not_here(session, pod) => Next::Closed,
            message = requests.message() => request(message),
        };
        match next {
            Next::Stopping => Err(Error::Stopping),
            Next::Request(Some(Asked::Close(_))) => Err(Error::NotServing),
            Next::Request(Some(Asked::Open(_) | Asked::Resume(_)) | None) => Err(Error::OutOfOrder),
            Next::Request(Some(Asked::KeepAlive(_)))
            | Next::End
            | Next::Closed
            | Next::Serving
            | Next::Confirmed => Ok(next),
        }
    }

    /// Tells the client that the session is in jeopardy, and waits until the pod serves again.
    /// Returns whether the stream goes on.
    async fn jeopardy(
        &self,
        alive: Option<u64>,
        requests: &mut Streaming<pb::KeepRequest>,
    ) -> Result<bool, Error> {
        let state = pb::SessionState::Jeopardy;
        if !self.tell(state, alive.map(Told::Alive)).await {
            return Ok(false);
        }
        loop {
            let next = tokio::select! {
                biased; // the end of the jeopardy comes before requests
                () = self.shared.stop.triggered() => Next::Stopping,
                () = self.shared.hub.serving() => Next::Serving,
                message = requests.message() => request(message),
            };
            match next {
                Next::Serving | Next::Closed | Next::Confirmed => return Ok(true),
                Next::Stopping => return Err(Error::Stopping),
                Next::End => return Ok(false),
                Next::Request(Some(Asked::KeepAlive(alive))) => {
                    if !self.tell(state, Some(Told::Alive(alive.number))).await {
                        return Ok(false);
                    }
                }
                Next::Request(Some(Asked::Close(_))) => return Err(Error::NotServing),
                Next::Request(Some(Asked::Open(_) | Asked::Resume(_)) | None) => {
                    return Err(Error::OutOfOrder);
                }
            }
        }
    }

    async fn close(&self) -> Result<(), Error> {
        // A lock delay is for a session that expires.
        queue::release_guarded(&self.client, self.opened.session, &self.shared.attempts).await?;
        match self.client.call(synod_jute::Request::CloseSession).await {
            Ok(_) => {
                self.tell(pb::SessionState::Closed, None).await;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the connection known to calls.
    fn register(&self) -> Result<(), Error> {
        self.shared.sessions.add(&self.opened, &self.client)?;
        let checker = &self.shared.checker;
        checker.take_over(self.opened.session, &self.client);
        Ok(())
    }

    fn opened(&self) -> Told {
        Told::Opened(pb::SessionOpened {
            session: Some(pb::SessionRef {
                id: self.opened.session.get(),
                secret: self.opened.secret.to_vec().into(),
            }),
            timeout_ms: self.opened.timeout_ms,
        })
    }

    /// Returns whether the client is still there.
    async fn tell(&self, state: pb::SessionState, response: Option<Told>) -> bool {
        let response = pb::KeepResponse {
            state: state.into(),
            response,
        };
        self.responses.send(Ok(response)).await.is_ok()
    }
}

/// Resolves when the leading pod knows of a sign of life; never without one.
async fn confirmed(client: &Client, alive: Option<&(Sign, u64)>) {
    match alive {
        Some((sign, _)) => client.confirmed(*sign).await,
        None => std::future::pending().await,
    }
}

fn request(message: Result<Option<pb::KeepRequest>, Status>) -> Next {
    match message {
        Ok(Some(request)) => Next::Request(request.request),
        // A client that is gone looks like one that ended its side.
        Ok(None) | Err(_) => Next::End,
    }
}
