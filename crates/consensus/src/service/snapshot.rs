//! A [backup](crate::backup) as a stream, in etcd's framing. Clients write the bytes into a file
//! and check its size and its digest.

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use synod_mvcc::{View, export};
use synod_proto::etcd::etcdserverpb::SnapshotResponse;
use synod_runtime::clock;
use synod_service::{BackupWriter, ScanPool};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::backup::FORMAT;
use crate::error::Error;
use crate::shared::ServiceContext;
use crate::version;

/// The size of a response, as in etcd.
const CHUNK_BYTES: usize = 32 << 10;
/// How much of the engine is read at a time.
const READ_BYTES: usize = 256 << 10;
/// How many responses wait for a slow client.
const QUEUED_CHUNKS: usize = 8;
/// A client that takes no response for so long is given up, since its view keeps old data on disk.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// The responses to a client.
pub(super) type SnapshotStream =
    Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

/// Starts to send `view`, the whole store. Each piece takes a turn of its own among
/// the long reads, so that a client that does not read blocks none.
///
/// # Errors
/// Too many backups are being sent.
pub(super) fn stream(shared: &Arc<ServiceContext>, view: View) -> Result<SnapshotStream, Error> {
    let place = Arc::clone(&shared.backups).try_acquire_owned();
    let place = place.map_err(|_| Error::TooManyRequests)?;
    let (chunks, receiver) = mpsc::channel(QUEUED_CHUNKS);
    let (failed, failure) = oneshot::channel();
    let view = Arc::new(view);
    let estimate = shared.view.live_bytes();
    let scans = shared.reads.scans.clone();
    let sending = async move {
        let _place = place;
        if let Err(error) = send_file(&scans, &view, estimate, &chunks).await {
            // The client may be gone.
            let _ = failed.send(Status::from(error));
        }
    };
    drop(synod_runtime::task::spawn("snapshot", sending));
    // The error follows the queued responses, and so needs no room in the queue.
    let failure = stream::once(failure).filter_map(|failed| ready(failed.ok().map(Err)));
    Ok(Box::pin(ReceiverStream::new(receiver).chain(failure)))
}

/// `estimate` is the file's approximate size in bytes. The real size is known only at the end.
async fn send_file(
    scans: &ScanPool,
    view: &Arc<View>,
    estimate: u64,
    chunks: &mpsc::Sender<Result<SnapshotResponse, Status>>,
) -> Result<(), Error> {
    let mut file = BackupWriter::new(&FORMAT, CHUNK_BYTES);
    let mut remaining = estimate;
    let mut resume = Some(Bytes::new());
    while let Some(at) = resume {
        let view = Arc::clone(view);
        // The digest is computed there too, as it costs more than reading.
        let read = scans.run(move || {
            let (rows, next) = export(&view, &at, READ_BYTES)?;
            file.write(&rows);
            if next.is_none() {
                file.finish();
            }
            Ok::<_, Error>((file, next))
        });
        (file, resume) = read.await?;
        let mut pieces = file.take_pieces().peekable();
        while let Some(blob) = pieces.next() {
            let is_last = resume.is_none() && pieces.peek().is_none();
            remaining = remaining.saturating_sub(blob.len() as u64);
            // Zero means the end.
            let remaining_bytes = if is_last { 0 } else { remaining.max(1) };
            let response = SnapshotResponse {
                header: None,
                remaining_bytes,
                blob,
                version: version::ETCD_STORAGE_VERSION.to_owned(),
            };
            send(chunks, response, SEND_TIMEOUT).await?;
        }
    }
    Ok(())
}

/// # Errors
/// The client is gone, or took nothing for `timeout`.
async fn send(
    chunks: &mpsc::Sender<Result<SnapshotResponse, Status>>,
    response: SnapshotResponse,
    timeout: Duration,
) -> Result<(), Error> {
    match clock::timeout(timeout, chunks.send(Ok(response))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Error::Stopped),
        Err(_) => {
            tracing::warn!("a backup ended since its client stopped reading it");
            Err(Error::BackupStalled)
        }
    }
}

#[cfg(test)]
mod tests {
    use synod_engine::MemoryEngine;
    use synod_mvcc::{Applied, LeaseId, MvccConfig, MvccStore, Put};

    use super::*;

    #[tokio::test]
    async fn only_the_last_response_says_that_nothing_remains() {
        let engine = Arc::new(MemoryEngine::new());
        let mut store = MvccStore::open(engine, MvccConfig::default()).unwrap();
        let mut txn = store.begin();
        txn.put(&Put {
            key: "k".into(),
            value: vec![7; 5 * READ_BYTES / 2].into(),
            lease: LeaseId::new(0),
            ignore_value: false,
            ignore_lease: false,
        })
        .unwrap();
        txn.finish();
        store.commit(Applied::default()).unwrap();
        // The estimate may be far off.
        for estimate in [0, 100 << 20] {
            let (chunks, mut receiver) = mpsc::channel(1000);
            let view = Arc::new(store.view());
            send_file(&ScanPool::default(), &view, estimate, &chunks)
                .await
                .unwrap();
            drop(chunks);
            let mut file = Vec::new();
            while let Some(response) = receiver.recv().await {
                let response = response.unwrap();
                file.extend_from_slice(&response.blob);
                assert_eq!(response.remaining_bytes == 0, response.blob.len() == 32);
            }
            assert_eq!(file.len() % 512, 32);
        }
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_given_up_and_one_that_is_gone_at_once() {
        let (chunks, receiver) = mpsc::channel(1);
        let brief = Duration::from_millis(1);
        let response = SnapshotResponse::default;
        assert_eq!(send(&chunks, response(), brief).await, Ok(()));
        assert_eq!(
            send(&chunks, response(), brief).await,
            Err(Error::BackupStalled)
        );
        drop(receiver);
        assert_eq!(
            send(&chunks, response(), SEND_TIMEOUT).await,
            Err(Error::Stopped)
        );
    }
}
