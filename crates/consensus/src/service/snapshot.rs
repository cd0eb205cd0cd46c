//! A [backup](crate::backup) as a stream, in etcd's framing.
//!
//! Clients write the bytes into a file and check its size and its digest.

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use synod_mvcc::{View, export};
use synod_proto::etcd::etcdserverpb::SnapshotResponse;
use synod_runtime::clock;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::backup::{ALIGN_BYTES, MAGIC};
use crate::error::Error;
use crate::scans::ScanPool;
use crate::shared::ServiceContext;
use crate::version;

/// What one response carries, as in etcd.
const CHUNK_BYTES: usize = 32 << 10;
/// How much of the engine is read at a time.
const READ_BYTES: usize = 256 << 10;
/// Responses that wait for a slow client.
const QUEUED_CHUNKS: usize = 8;
/// A client that takes no response for so long is given up: an open view keeps old data on disk.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// What a client receives.
pub(super) type SnapshotStream =
    Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

/// Starts to send a consistent view of the whole store. Each piece takes its own turn among the
/// long reads, so that a client that does not read holds none.
///
/// # Errors
/// Too many backups are being sent.
pub(super) fn stream(shared: &Arc<ServiceContext>) -> Result<SnapshotStream, Error> {
    let place = Arc::clone(&shared.backups).try_acquire_owned();
    let place = place.map_err(|_| Error::TooManyRequests)?;
    let (chunks, receiver) = mpsc::channel(QUEUED_CHUNKS);
    let (failed, failure) = oneshot::channel();
    let view = Arc::new(shared.view.reader().view());
    let file = File::new(shared.view.live_bytes());
    let scans = shared.scans.clone();
    let sending = async move {
        let _place = place;
        if let Err(error) = send_file(&scans, &view, file, &chunks, SEND_TIMEOUT).await {
            // A client that is gone needs no error.
            let _ = failed.send(Status::from(error));
        }
    };
    drop(synod_runtime::task::spawn("snapshot", sending));
    // The error comes behind what is queued, also when the queue is full.
    let failure = stream::once(failure).filter_map(|failed| ready(failed.ok().map(Err)));
    Ok(Box::pin(ReceiverStream::new(receiver).chain(failure)))
}

async fn send_file(
    scans: &ScanPool,
    view: &Arc<View>,
    mut file: File,
    chunks: &mpsc::Sender<Result<SnapshotResponse, Status>>,
    timeout: Duration,
) -> Result<(), Error> {
    file.write(MAGIC);
    let mut resume = Some(Bytes::new());
    while let Some(at) = resume {
        let view = Arc::clone(view);
        // The digest is taken there too: it costs more than the reading.
        let read = scans.run(move || {
            let (rows, next) = export(&view, &at, READ_BYTES)?;
            file.write(&rows);
            if next.is_none() {
                file.finish();
            }
            Ok((file, next))
        });
        (file, resume) = read.await?;
        for response in file.take_responses() {
            send(chunks, response, timeout).await?;
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

/// Cuts a file into responses.
struct File {
    ready: Vec<SnapshotResponse>,
    buffer: BytesMut,
    digest: Sha256,
    sent: u64,
    estimate: u64,
}

impl File {
    fn new(estimate: u64) -> Self {
        Self {
            ready: Vec::new(),
            buffer: BytesMut::with_capacity(CHUNK_BYTES),
            digest: Sha256::new(),
            sent: 0,
            estimate,
        }
    }

    fn take_responses(&mut self) -> Vec<SnapshotResponse> {
        std::mem::take(&mut self.ready)
    }

    fn write(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let room = CHUNK_BYTES - self.buffer.len();
            let (now, later) = data.split_at(room.min(data.len()));
            self.buffer.extend_from_slice(now);
            data = later;
            if self.buffer.len() == CHUNK_BYTES {
                self.cut();
            }
        }
    }

    fn finish(&mut self) {
        let padding = (ALIGN_BYTES - self.buffer.len() % ALIGN_BYTES) % ALIGN_BYTES;
        self.write(&[0; ALIGN_BYTES][..padding]);
        if !self.buffer.is_empty() {
            self.cut();
        }
        let digest = Bytes::copy_from_slice(&std::mem::take(&mut self.digest).finalize());
        self.push(digest, 0);
    }

    fn cut(&mut self) {
        let blob =
            std::mem::replace(&mut self.buffer, BytesMut::with_capacity(CHUNK_BYTES)).freeze();
        self.digest.update(&blob);
        self.sent += blob.len() as u64;
        // The size is not known before the end; what is left is an estimate and never nothing.
        let remaining = self.estimate.saturating_sub(self.sent).max(32);
        self.push(blob, remaining);
    }

    fn push(&mut self, blob: Bytes, remaining_bytes: u64) {
        self.ready.push(SnapshotResponse {
            header: None,
            remaining_bytes,
            blob,
            version: version::ETCD_STORAGE_VERSION.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that is sent, put together as a client does.
    fn file_of(parts: &'static [usize]) -> (Vec<u8>, Vec<usize>) {
        let mut cutter = File::new(10);
        for part in parts {
            cutter.write(&vec![7; *part]);
        }
        cutter.finish();
        let mut file = Vec::new();
        let mut sizes = Vec::new();
        for response in cutter.take_responses() {
            sizes.push(response.blob.len());
            file.extend_from_slice(&response.blob);
            assert_eq!(response.remaining_bytes == 0, response.blob.len() == 32);
        }
        (file, sizes)
    }

    #[test]
    fn files_are_aligned_and_end_with_their_digest() {
        const CASES: [&[usize]; 4] = [&[1], &[CHUNK_BYTES], &[CHUNK_BYTES, 513], &[100_000, 3]];
        for parts in CASES {
            let (file, sizes) = file_of(parts);
            assert_eq!(file.len() % ALIGN_BYTES, 32, "{parts:?}");
            let (data, digest) = file.split_at(file.len() - 32);
            assert_eq!(Sha256::digest(data).as_slice(), digest, "{parts:?}");
            assert!(sizes.iter().all(|size| *size <= CHUNK_BYTES), "{sizes:?}");
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
