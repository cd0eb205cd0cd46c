//! Batches: appending, reading and following them.

use etcd_client::{
    Compare, CompareOp, EventType, GetOptions, Txn, TxnOp, WatchFilterType, WatchOptions,
    WatchStream,
};
use synod_coordination_core::{Action, Found, LogNumber, Outcome};

use super::{Endpoint, EndpointError, Epoch, MAX_RESPONSE_BYTES, call, reads, revision};

/// The bytes of batches that one read should return.
const READ_BYTES: usize = 8 << 20;

/// The most batches that one read returns.
const READ_BATCHES: i64 = 512;

impl Endpoint {
    /// Does what the sequencer wants done. An error says that it was certainly not done and can't
    /// be done.
    pub(crate) async fn execute(
        &self,
        epoch: Epoch,
        action: Action,
    ) -> Result<Outcome, EndpointError> {
        let is_append = matches!(action, Action::Append { .. });
        let (what, number, txn) = match action {
            Action::Append { number, batch } => {
                let key = self.keys.batch(number);
                let is_new = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
                let txn = Txn::new()
                    .when([is_new, self.leads(epoch)])
                    .and_then([TxnOp::put(key, batch, None)])
                    .or_else(self.find(number));
                ("append a batch", number, txn)
            }
            Action::Read { number } => {
                // No key has this version, so the branch of a failed append is executed.
                let never = Compare::version(self.keys.leader(), CompareOp::Equal, -1);
                let txn = Txn::new().when([never]).or_else(self.find(number));
                ("read a batch", number, txn)
            }
        };
        let response = match self.txn(what, txn).await {
            Ok(response) => response,
            Err(EndpointError::TooLarge { .. }) if is_append => return Ok(Outcome::TooLarge),
            Err(error @ EndpointError::Refused { .. }) => return Err(error),
            Err(error) => {
                tracing::warn!(%number, %error, "will read whether the batch is in the log");
                return Ok(Outcome::Unknown);
            }
        };
        if response.succeeded() {
            return Ok(Outcome::Appended);
        }
        let reads = reads(&response).unwrap_or_default();
        let [batch, leader] = reads.as_slice() else {
            return Ok(Outcome::Unknown);
        };
        Ok(Outcome::Found(Found {
            batch: batch.kvs().first().map(|kv| kv.value().to_vec()),
            leads: leader
                .kvs()
                .first()
                .is_some_and(|kv| Epoch(kv.create_revision()) == epoch),
        }))
    }

    /// Reads a batch's key and the leadership key.
    fn find(&self, number: LogNumber) -> [TxnOp; 2] {
        let keys = [self.keys.batch(number), self.keys.leader()];
        keys.map(|key| TxnOp::get(key, None))
    }

    /// The last batch of the log, by a linearizable read. `applied` is one that this pod has
    /// applied, or zero.
    ///
    /// It counts the batches from there on: the log has no gaps, its oldest batches are deleted
    /// first, and its last one never is. (Asking for the last key would make stock etcd read all.)
    pub(crate) async fn log_end(&self, applied: LogNumber) -> Result<LogNumber, LogLost> {
        let range = self.keys.batches_from(applied);
        let options = GetOptions::new()
            .with_range(range.end)
            .with_limit(1)
            .with_keys_only();
        let what = "read the log's end";
        let response = self.range(what, range.start, options).await?;
        let Some(first) = response.kvs().first() else {
            return none_from(applied).map(|()| applied);
        };
        let first = self.number(what, first.key())?;
        let count = u64::try_from(response.count()).unwrap_or(1).max(1);
        Ok(LogNumber::new(first.get() + count - 1))
    }

    /// Follows the log from a revision on.
    pub(crate) async fn follow_log(&self, revision: i64) -> Result<LogEvents, EndpointError> {
        let range = self.keys.batches_from(LogNumber::default());
        let options = WatchOptions::new()
            .with_range(range.end)
            .with_start_revision(revision)
            .with_filters([WatchFilterType::NoDelete])
            .with_fragment();
        let watch = self.client.watch_client();
        let mut watch = watch.max_decoding_message_size(MAX_RESPONSE_BYTES);
        let stream = call("follow the log", watch.watch(range.start, Some(options))).await?;
        Ok(LogEvents {
            endpoint: self.clone(),
            stream,
        })
    }

    fn number(&self, what: &'static str, key: &[u8]) -> Result<LogNumber, EndpointError> {
        self.keys.number(key).ok_or_else(|| {
            let reason = format!("{} is not a batch's key", String::from_utf8_lossy(key));
            EndpointError::corrupt(what, reason)
        })
    }
}

/// There is no batch from the one on that this pod has applied last: fine only before the first.
fn none_from(applied: LogNumber) -> Result<(), LogLost> {
    if applied == LogNumber::default() {
        return Ok(());
    }
    Err(LogLost::Shortened { applied })
}

/// Why the log can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LogLost {
    /// A call failed.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The log ends before what was applied.
    #[error(
        "batch {applied} was applied, but the log ends before it: if the etcd endpoint was \
         restored from a backup, restart all pods"
    )]
    Shortened {
        /// The last batch that this pod has applied.
        applied: LogNumber,
    },
}

/// Batches that were read together.
#[derive(Debug)]
pub(crate) struct Batches {
    pub(crate) batches: Vec<(LogNumber, Vec<u8>)>,
    /// Whether there are more.
    pub(crate) more: bool,
    /// The revision of the read. If there are no more, a watch goes on after it.
    pub(crate) revision: i64,
}

/// Reads the log in pieces of about [`READ_BYTES`].
pub(crate) struct BatchReader<'a> {
    endpoint: &'a Endpoint,
    /// How many batches the next read asks for.
    most: i64,
}

impl<'a> BatchReader<'a> {
    pub(crate) fn new(endpoint: &'a Endpoint) -> Self {
        Self { endpoint, most: 1 }
    }

    /// The batches after `applied`, from the first that exists, by a linearizable read. The first
    /// may be `applied` itself.
    pub(crate) async fn after(&mut self, applied: LogNumber) -> Result<Batches, LogLost> {
        let what = "read the log";
        let range = self.endpoint.keys.batches_from(applied);
        // One more than wanted: `applied` itself, which shows that the log was not shortened.
        let options = GetOptions::new()
            .with_range(range.end)
            .with_limit(self.most + 1);
        let mut response = self.endpoint.range(what, range.start, options).await?;
        let revision = revision(response.header());
        let more = response.more();
        let mut batches = Vec::new();
        let mut bytes = 0;
        for kv in response.take_kvs() {
            let (key, value) = kv.into_key_value();
            bytes += value.len();
            batches.push((self.endpoint.number(what, &key)?, value));
        }
        if batches.is_empty() {
            none_from(applied)?;
        }
        self.adapt(bytes);
        Ok(Batches {
            batches,
            more,
            revision,
        })
    }

    fn adapt(&mut self, bytes: usize) {
        if bytes > READ_BYTES {
            self.most = (self.most / 2).max(1);
        } else if bytes <= READ_BYTES / 4 {
            self.most = (self.most * 2).min(READ_BATCHES);
        }
    }
}

/// The batches that are appended from now on.
pub(crate) struct LogEvents {
    endpoint: Endpoint,
    stream: WatchStream,
}

impl LogEvents {
    /// The next batches, in order.
    ///
    /// # Errors
    /// The watch has ended: read the log, and follow it anew. That includes a revision that was
    /// compacted.
    pub(crate) async fn next(&mut self) -> Result<Vec<(LogNumber, Vec<u8>)>, EndpointError> {
        let what = "follow the log";
        let message = self.stream.message().await;
        let response = message
            .map_err(|error| EndpointError::of(what, &error))?
            .ok_or_else(|| EndpointError::unknown(what, "the watch has ended"))?;
        if response.canceled() {
            let reason = match response.compact_revision() {
                0 => format!("the watch was canceled: {}", response.cancel_reason()),
                revision => format!("the history before revision {revision} was compacted"),
            };
            return Err(EndpointError::unknown(what, reason));
        }
        let puts = response
            .events()
            .iter()
            .filter(|event| event.event_type() == EventType::Put);
        puts.filter_map(|event| event.kv())
            .map(|kv| {
                let number = self.endpoint.number(what, kv.key())?;
                Ok((number, kv.value().to_vec()))
            })
            .collect()
    }
}
