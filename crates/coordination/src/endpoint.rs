//! The etcd v3 endpoint that holds the log, the leadership key and the checkpoints.
//!
//! Any etcd v3 endpoint will do, stock etcd included. This module and its children contain every
//! call of the etcd client for the log's data; `leadership` makes those for the lease.

mod error;
mod keys;
mod log;
mod pages;
mod probe;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Channel, Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, KvClient, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};
use synod_rpc::{ChannelConfig, ClientTls};
use synod_runtime::clock;

use crate::config::User;
pub(crate) use error::EndpointError;
pub(crate) use keys::{KeyRange, Keys};
pub(crate) use log::{BatchReader, LogLost};
pub(crate) use pages::Replaced;

/// After how long without an answer a call's outcome counts as unknown.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// After how long without data a connection is probed. Without this, a pod would wait for ever for
/// a watch of a server that has lost its power. Stock etcd closes connections that are probed more
/// often than every 5 s, or without a call.
const PROBE_AFTER: Duration = Duration::from_secs(6);

/// How long the answer to a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The largest response that a pod reads.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// The create revision of the leadership key: no two leaderships have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(pub(crate) i64);

/// A client of the endpoint. Clones share their connections.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// Shared, as it is large: futures hold endpoints.
    client: Arc<Client>,
    keys: Arc<Keys>,
}

/// What came of a write that requires the leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fenced {
    /// It was done.
    Done,
    /// The pod does not lead any more. Nothing was done.
    NotLeading,
}

/// The servers of the endpoint, and what they are shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Servers {
    /// URLs.
    pub(crate) urls: Vec<String>,
    /// For URLs with TLS.
    pub(crate) tls: Option<ClientTls>,
    /// Who logs in.
    pub(crate) user: Option<User>,
}

#[cfg(test)]
impl Servers {
    /// Without TLS and users.
    pub(crate) fn plain(urls: &[String]) -> Self {
        Self {
            urls: urls.to_vec(),
            ..Self::default()
        }
    }
}

impl Endpoint {
    /// A client of these servers. It connects when it is first used; a user logs in first.
    pub(crate) async fn connect(servers: &Servers, root: &str) -> Result<Self, EndpointError> {
        let what = "connect";
        let channels = ChannelConfig {
            tls: servers.tls.clone(),
            connect_timeout: CALL_TIMEOUT,
            keepalive_interval: PROBE_AFTER,
            keepalive_timeout: PROBE_TIMEOUT,
            keepalive_while_idle: false,
            ..ChannelConfig::default()
        };
        let channel = channels.balanced(&servers.urls);
        let channel = channel.map_err(|error| EndpointError::refused(what, error.to_string()))?;
        let mut options = ConnectOptions::new()
            // A server that is cut off from the others ends its watches.
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some(User { name, password }) = &servers.user {
            options = options.with_user(name, password);
        }
        let connecting = Client::from_channel(Channel::Custom(channel), Some(options));
        let client = call(what, Box::pin(connecting)).await?;
        Ok(Self {
            client: Arc::new(client),
            keys: Arc::new(Keys::new(root)),
        })
    }

    /// The names of the keys.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// A client for calls that are not made here.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    fn kv(&self) -> KvClient {
        let kv = self.client.kv_client();
        kv.max_decoding_message_size(MAX_RESPONSE_BYTES)
    }

    /// Executes these operations if the leadership key is still that of `epoch`. They must be such
    /// that repeating them after an unknown outcome does no harm.
    pub(crate) async fn write_fenced(
        &self,
        what: &'static str,
        epoch: Epoch,
        operations: Vec<TxnOp>,
    ) -> Result<Fenced, EndpointError> {
        let txn = Txn::new().when([self.leads(epoch)]).and_then(operations);
        match self.txn(what, txn).await?.succeeded() {
            true => Ok(Fenced::Done),
            false => Ok(Fenced::NotLeading),
        }
    }

    /// Reads a key, linearizably.
    pub(crate) async fn get(
        &self,
        what: &'static str,
        key: Vec<u8>,
    ) -> Result<Option<etcd_client::KeyValue>, EndpointError> {
        let mut response = self.range(what, key, GetOptions::new()).await?;
        Ok(response.take_kvs().pop())
    }

    async fn range(
        &self,
        what: &'static str,
        key: Vec<u8>,
        options: GetOptions,
    ) -> Result<etcd_client::GetResponse, EndpointError> {
        let mut kv = self.kv();
        call(what, kv.get(key, Some(options))).await
    }

    pub(crate) async fn txn(
        &self,
        what: &'static str,
        txn: Txn,
    ) -> Result<TxnResponse, EndpointError> {
        let mut kv = self.kv();
        call(what, kv.txn(txn)).await
    }

    /// Requires that the leadership key is that of `epoch`.
    fn leads(&self, epoch: Epoch) -> Compare {
        Compare::create_revision(self.keys.leader(), CompareOp::Equal, epoch.0)
    }
}

/// Waits for an answer, for a limited time.
pub(crate) async fn call<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, EndpointError> {
    match clock::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| EndpointError::of(what, &error)),
        Err(_) => {
            let reason = format!("no answer within {CALL_TIMEOUT:?}");
            Err(EndpointError::unknown(what, reason))
        }
    }
}

/// The answers to a transaction that only reads.
fn reads(response: &TxnResponse) -> Option<Vec<etcd_client::GetResponse>> {
    let answers = response.op_responses().into_iter();
    answers
        .map(|answer| match answer {
            TxnOpResponse::Get(found) => Some(found),
            TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
        })
        .collect()
}

/// The revision at which a response was made.
pub(crate) fn revision(header: Option<&etcd_client::ResponseHeader>) -> i64 {
    header.map_or(0, etcd_client::ResponseHeader::revision)
}

#[cfg(test)]
mod tests;
