//! A client's session, which goes on at another pod when its connection is lost.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;
use synod_jute::{
    ConnectRequest, ErrorCode, GetChildren2Request, GetDataRequest, PASSWORD_LEN, Request,
    Response, SyncRequest,
};
use synod_testkit::zookeeper::{Reply, ZkClient};
use tokio::time::{sleep, timeout};

/// The session's timeout.
pub(super) const TIMEOUT_MS: i32 = 6_000;

/// How long a client waits for an answer.
const CALL_WITHIN: Duration = Duration::from_secs(3);

const PAUSE_MS: std::ops::Range<u64> = 5..50;

/// A client's session.
pub(super) struct Session {
    addresses: Vec<String>,
    pub(super) random: ChaCha8Rng,
    client: Option<ZkClient>,
    id: i64,
    password: Bytes,
    last_zxid: i64,
    /// How many sessions the client had before.
    pub(super) lost: usize,
}

impl Session {
    pub(super) fn new(addresses: Vec<String>, random: ChaCha8Rng) -> Self {
        Self {
            addresses,
            random,
            client: None,
            id: 0,
            password: Bytes::from_static(&[0; PASSWORD_LEN]),
            last_zxid: 0,
            lost: 0,
        }
    }

    /// The session's id; zero if it has none.
    pub(super) fn id(&self) -> i64 {
        self.id
    }

    /// The session was closed: the next call opens another one.
    pub(super) fn forget(&mut self) {
        self.client = None;
        self.id = 0;
        self.password = Bytes::from_static(&[0; PASSWORD_LEN]);
    }

    /// Sends a request, over a new connection if there is none. `None`: no answer, so the outcome
    /// is unknown, or nothing was sent.
    pub(super) async fn call(&mut self, request: &Request) -> Result<Option<Reply>> {
        if self.client.is_none() && !self.connect().await? {
            sleep(Duration::from_millis(self.random.random_range(PAUSE_MS))).await;
            return Ok(None);
        }
        let client = self.client.as_mut().context("a connection")?;
        match timeout(CALL_WITHIN, client.call(request)).await {
            Ok(Ok((_, reply))) => {
                ensure!(
                    reply.zxid >= self.last_zxid,
                    "a reply of {} after {}",
                    reply.zxid,
                    self.last_zxid
                );
                self.last_zxid = reply.zxid;
                let has_ended = matches!(
                    reply.outcome,
                    Err(ErrorCode::SessionExpired | ErrorCode::SessionMoved)
                );
                if has_ended {
                    self.client = None;
                    return Ok(None);
                }
                Ok(Some(reply))
            }
            Ok(Err(_)) | Err(_) => {
                self.client = None;
                Ok(None)
            }
        }
    }

    /// Connects to a random pod. Returns whether it answered.
    async fn connect(&mut self) -> Result<bool> {
        let address = self.addresses.choose(&mut self.random).context("a pod")?;
        let request = ConnectRequest {
            timeout_ms: TIMEOUT_MS,
            session_id: self.id,
            password: Some(self.password.clone()),
            last_zxid_seen: self.last_zxid,
            read_only: Some(false),
            ..ConnectRequest::default()
        };
        let connected = timeout(CALL_WITHIN, ZkClient::connect(address, &request)).await;
        let Ok(Ok(Some(client))) = connected else {
            return Ok(false);
        };
        let response = client.session();
        if response.session_id == 0 {
            // It has expired.
            self.lost += usize::from(self.id != 0);
            self.id = 0;
            return Ok(false);
        }
        ensure!(
            self.id == 0 || self.id == response.session_id,
            "another session"
        );
        self.id = response.session_id;
        self.password = response.password.clone().context("a password")?;
        self.client = Some(client);
        Ok(true)
    }
}

/// Waits until the pod has what was written before.
pub(super) async fn sync(client: &mut ZkClient) -> Result<()> {
    let sync = Request::Sync(SyncRequest { path: "/".into() });
    let (_, reply) = client.call(&sync).await?;
    ensure!(reply.outcome.is_ok(), "{reply:?}");
    Ok(())
}

/// All nodes below one, with their data and stats.
pub(super) async fn tree(client: &mut ZkClient, root: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut paths = vec![root.to_owned()];
    while let Some(path) = paths.pop() {
        let get = Request::GetData(GetDataRequest {
            path: path.as_str().into(),
            watch: false,
        });
        let (_, reply) = client.call(&get).await?;
        lines.push(format!("{path} {:?}", reply.outcome));
        let children = Request::GetChildren2(GetChildren2Request {
            path: path.as_str().into(),
            watch: false,
        });
        let (_, reply) = client.call(&children).await?;
        match reply.outcome {
            Ok(Response::GetChildren2(found)) => {
                let parent = path.trim_end_matches('/');
                paths.extend(found.children.iter().map(|name| format!("{parent}/{name}")));
            }
            // An ephemeral node was deleted meanwhile.
            Err(ErrorCode::NoNode) => {}
            other => bail!("{path}: {other:?}"),
        }
    }
    lines.sort();
    Ok(lines)
}
