//! Writes checkpoints.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{DeleteOptions, TxnOp};
use synod_coordination_core::{Directory, LoadError, LogNumber, Machine, PageId, Zxid};
use synod_runtime::{clock, random};

use super::{CheckpointError, Manifest};
use crate::applying::{Applier, Place};
use crate::endpoint::{Endpoint, Epoch, Fenced, KeyRange, Keys, Replaced};

/// The pause after a failed checkpoint, at most; half of it at least.
const RETRY_AFTER: Duration = Duration::from_secs(4);

/// The most operations of one transaction. Stock etcd's default limit is 128.
const TXN_OPERATIONS: usize = 100;

/// When a checkpoint is due, and what is kept behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckpointLimits {
    /// Batches behind the last checkpoint.
    pub(crate) batches: u64,
    /// Bytes of batches behind the last checkpoint.
    pub(crate) bytes: u64,
    /// How long a checkpoint is the last one at least. Pods have twice that to load it.
    pub(crate) pause: Duration,
    /// Bytes of values in one transaction.
    pub(crate) request_bytes: usize,
}

/// Writes the checkpoints of one leadership.
pub(crate) struct Writer {
    endpoint: Endpoint,
    applier: Arc<Applier>,
    limits: CheckpointLimits,
    epoch: Epoch,
    /// The last complete checkpoint.
    stored: Option<Stored>,
    /// The one before it. Pods that lag may still need it, and the batches behind it.
    previous: Option<Stored>,
    /// Whether the pages in the endpoint are exactly those of these two. An
    /// earlier leadership, or a checkpoint that failed, may have left others.
    is_swept: bool,
}

struct Stored {
    place: Place,
    /// The revision at which the manifest was written.
    revision: i64,
    /// When this pod knew that it was complete.
    since: Instant,
    directory: Directory,
}

/// Ends a checkpoint that was not completed, so that the machine keeps no pages for it.
struct Started<'a>(&'a Applier);

impl Drop for Started<'_> {
    fn drop(&mut self) {
        let end = |machine: &mut Machine| machine.end_checkpoint();
        self.0.hub().with_machine(end);
    }
}

impl Writer {
    pub(crate) fn new(
        endpoint: Endpoint,
        applier: Arc<Applier>,
        limits: CheckpointLimits,
        epoch: Epoch,
    ) -> Self {
        Self {
            endpoint,
            applier,
            limits,
            epoch,
            stored: None,
            previous: None,
            is_swept: false,
        }
    }

    /// Writes a checkpoint whenever one is due. Returns when the pod does not lead any more.
    ///
    /// # Cancel safety
    /// The future may be dropped.
    pub(crate) async fn run(mut self) {
        loop {
            match self.next().await {
                Ok(Fenced::Done) => {}
                Ok(Fenced::NotLeading) => return,
                Err(error) => {
                    // Read anew what there is: an attempt may have had an effect.
                    (self.stored, self.previous, self.is_swept) = (None, None, false);
                    tracing::warn!(%error, "will write the checkpoint again");
                    clock::sleep(random::jitter(RETRY_AFTER)).await;
                }
            }
        }
    }

    /// Waits until a checkpoint is due, and writes it.
    async fn next(&mut self) -> Result<Fenced, CheckpointError> {
        if self.stored.is_none() {
            self.stored = self.read_stored().await?;
        }
        let mut applied = self.applier.applied();
        while !self.is_due() {
            if applied.changed().await.is_err() {
                return Ok(Fenced::NotLeading);
            }
        }
        if let Some(stored) = &self.stored {
            let passed = clock::now().saturating_duration_since(stored.since);
            clock::sleep(self.limits.pause.saturating_sub(passed)).await;
        }
        self.write().await
    }

    /// The last complete checkpoint. Nobody knows how many bytes the pod had applied then, so all
    /// count: the next checkpoint may come early.
    async fn read_stored(&self) -> Result<Option<Stored>, CheckpointError> {
        let Some((manifest, revision)) = Manifest::read(&self.endpoint).await? else {
            return Ok(None);
        };
        let place = Place {
            number: manifest.number,
            bytes: 0,
        };
        let directory = manifest.directory(&self.endpoint).await?;
        Ok(Some(Stored {
            place,
            revision,
            since: clock::now(),
            directory,
        }))
    }

    fn is_due(&self) -> bool {
        let now = self.applier.place();
        let (number, bytes) = match &self.stored {
            Some(stored) => (stored.place.number, stored.place.bytes),
            None => (LogNumber::default(), 0),
        };
        let batches = now.number.get().saturating_sub(number.get());
        let bytes = now.bytes.saturating_sub(bytes);
        batches >= self.limits.batches || (batches > 0 && bytes >= self.limits.bytes)
    }

    async fn write(&mut self) -> Result<Fenced, CheckpointError> {
        let since = self
            .stored
            .as_ref()
            .map(|stored| stored.directory.last_zxid());
        let place = self.applier.start_checkpoint(since);
        let number = place.number;
        let Some(directory) = self.write_pages(number).await? else {
            return Ok(Fenced::NotLeading);
        };
        let last = directory.last_zxid();
        let manifest = Manifest { number, last }.encode();
        let expected = self.stored.as_ref().map_or(0, |stored| stored.revision);
        let put = self
            .endpoint
            .replace_manifest(self.epoch, expected, manifest);
        let revision = match put.await? {
            Replaced::Done(revision) => revision,
            Replaced::Changed => return Err(CheckpointError::Changed),
            Replaced::NotLeading => return Ok(Fenced::NotLeading),
        };
        let previous = self.stored.replace(Stored {
            place,
            revision,
            since: clock::now(),
            directory,
        });
        let oldest = std::mem::replace(&mut self.previous, previous);
        tracing::info!(%number, zxid = %last, "wrote a checkpoint");
        if self.cut_log().await? == Fenced::NotLeading {
            return Ok(Fenced::NotLeading);
        }
        self.sweep(oldest).await
    }

    /// Writes the pages. Returns the checkpoint's list of pages, or `None` if the pod does not lead
    /// any more.
    async fn write_pages(&self, number: LogNumber) -> Result<Option<Directory>, CheckpointError> {
        let started = Started(&self.applier);
        let (mut puts, mut bytes) = (Vec::new(), 0);
        let mut directory = None;
        loop {
            let next = |machine: &mut Machine| machine.next_page();
            let Some(page) = started.0.hub().with_machine(next) else {
                break;
            };
            if page.page == PageId::Meta {
                let failed = |error: LoadError| CheckpointError::Load { number, error };
                directory = Some(Directory::from_parts(&page.parts).map_err(failed)?);
            }
            for (index, part) in page.parts.into_iter().enumerate() {
                let is_full =
                    bytes + part.len() > self.limits.request_bytes || puts.len() == TXN_OPERATIONS;
                if is_full && !puts.is_empty() {
                    bytes = 0;
                    if self.fenced(std::mem::take(&mut puts)).await? == Fenced::NotLeading {
                        return Ok(None);
                    }
                }
                bytes += part.len();
                let key = self.endpoint.keys().part(page.page, page.modified, index);
                puts.push(TxnOp::put(key, part, None));
            }
        }
        // Without its last page, the machine was replaced by one that has no checkpoint.
        let directory = directory.ok_or(CheckpointError::Dropped)?;
        match self.fenced(puts).await? {
            Fenced::Done => Ok(Some(directory)),
            Fenced::NotLeading => Ok(None),
        }
    }

    /// Deletes the batches that both checkpoints contain. The log's last batch is never one of
    /// them.
    async fn cut_log(&self) -> Result<Fenced, CheckpointError> {
        let Some(previous) = &self.previous else {
            return Ok(Fenced::Done);
        };
        let first_kept = LogNumber::new(previous.place.number.get() + 1);
        let range = self.endpoint.keys().batches_before(first_kept);
        self.fenced(vec![delete(range)]).await
    }

    /// Deletes the pages that do not belong to the last checkpoint, nor to the one before it.
    /// `oldest` is the one before those.
    async fn sweep(&mut self, oldest: Option<Stored>) -> Result<Fenced, CheckpointError> {
        let mut kept = self.pages(self.stored.as_ref());
        kept.extend(self.pages(self.previous.as_ref()));
        let stale: HashSet<Vec<u8>> = if self.is_swept {
            let before = self.pages(oldest.as_ref());
            before.difference(&kept).cloned().collect()
        } else {
            self.listed().await?.difference(&kept).cloned().collect()
        };
        let stale: Vec<Vec<u8>> = stale.into_iter().collect();
        for some in stale.chunks(TXN_OPERATIONS) {
            let deletions = some.iter().map(|start| {
                // A page's keys end before the character after '/'.
                let mut end = start.clone();
                end.pop();
                end.push(b'0');
                delete(KeyRange {
                    start: start.clone(),
                    end,
                })
            });
            if self.fenced(deletions.collect()).await? == Fenced::NotLeading {
                return Ok(Fenced::NotLeading);
            }
        }
        self.is_swept = true;
        Ok(Fenced::Done)
    }

    /// The pages of a checkpoint, by the start of their keys.
    fn pages(&self, stored: Option<&Stored>) -> HashSet<Vec<u8>> {
        let Some(Stored { directory, .. }) = stored else {
            return HashSet::new();
        };
        let meta = (PageId::Meta, directory.last_zxid());
        let all: Vec<(PageId, Zxid)> = directory.pages().chain([meta]).collect();
        let keys = self.endpoint.keys();
        all.into_iter()
            .map(|(page, modified)| keys.page(page, modified).start)
            .collect()
    }

    /// The pages in the endpoint, by the start of their keys.
    async fn listed(&self) -> Result<HashSet<Vec<u8>>, CheckpointError> {
        let mut pages = HashSet::new();
        let mut from = None;
        loop {
            let (parts, next) = self.endpoint.listed_parts(from).await?;
            pages.extend(parts.iter().map(|part| Keys::page_of(part).to_vec()));
            from = next;
            if from.is_none() {
                return Ok(pages);
            }
        }
    }

    async fn fenced(&self, operations: Vec<TxnOp>) -> Result<Fenced, CheckpointError> {
        let what = "write a checkpoint";
        let written = self.endpoint.write_fenced(what, self.epoch, operations);
        Ok(written.await?)
    }
}

fn delete(range: KeyRange) -> TxnOp {
    let options = DeleteOptions::new().with_range(range.end);
    TxnOp::delete(range.start, Some(options))
}
