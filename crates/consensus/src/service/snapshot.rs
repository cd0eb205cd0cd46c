//! A [backup](crate::backup) as a stream, in etcd's framing.
//!
//! Clients write the bytes into a file and check its size and its digest.

use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use sha2::{Digest as _, Sha256};
use synod_mvcc::{View, export};
use synod_proto::etcd::etcdserverpb::SnapshotResponse;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::backup::{ALIGN_BYTES, MAGIC};
use crate::error::Error;
use crate::shared::Shared;
use crate::version;

/// What one response carries, as in etcd.
const CHUNK_BYTES: usize = 32 << 10;
/// How much of the engine is read at a time.
const READ_BYTES: usize = 256 << 10;
/// Responses that wait for a slow client.
const QUEUED_CHUNKS: usize = 8;

/// What a client receives.
pub(super) type SnapshotStream =
    Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

type Chunks = mpsc::Sender<Result<SnapshotResponse, Status>>;

/// Starts to send a consistent view of the whole store.
///
/// # Errors
/// Too many long reads wait already.
pub(super) fn stream(shared: &Arc<Shared>) -> Result<SnapshotStream, Error> {
    let (chunks, receiver) = mpsc::channel(QUEUED_CHUNKS);
    let view = shared.view.reader().view();
    let estimate = shared.view.live_bytes();
    let scans = shared.scans.clone();
    let failed = chunks.clone();
    let reading = async move {
        let mut file = File::new(chunks, estimate);
        let result = scans.run(move || write_file(&view, &mut file)).await;
        if let Err(error) = result {
            // A client that is gone needs no error.
            let _ = failed.send(Err(error.into())).await;
        }
    };
    drop(synod_runtime::task::spawn("snapshot", reading));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn write_file(view: &View, file: &mut File) -> Result<(), Error> {
    file.write(MAGIC)?;
    let mut resume = Bytes::new();
    loop {
        let (rows, next) = export(view, &resume, READ_BYTES)?;
        file.write(&rows)?;
        match next {
            Some(next) => resume = next,
            None => return file.finish(),
        }
    }
}

/// Cuts a file into responses, on a thread of its own.
struct File {
    chunks: Chunks,
    buffer: BytesMut,
    digest: Sha256,
    sent: u64,
    estimate: u64,
}

impl File {
    fn new(chunks: Chunks, estimate: u64) -> Self {
        Self {
            chunks,
            buffer: BytesMut::with_capacity(CHUNK_BYTES),
            digest: Sha256::new(),
            sent: 0,
            estimate,
        }
    }

    fn write(&mut self, mut data: &[u8]) -> Result<(), Error> {
        while !data.is_empty() {
            let room = CHUNK_BYTES - self.buffer.len();
            let (now, later) = data.split_at(room.min(data.len()));
            self.buffer.extend_from_slice(now);
            data = later;
            if self.buffer.len() == CHUNK_BYTES {
                self.send_buffer()?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        let padding = (ALIGN_BYTES - self.buffer.len() % ALIGN_BYTES) % ALIGN_BYTES;
        self.write(&[0; ALIGN_BYTES][..padding])?;
        if !self.buffer.is_empty() {
            self.send_buffer()?;
        }
        let digest = Bytes::copy_from_slice(&std::mem::take(&mut self.digest).finalize());
        self.send(digest, 0)
    }

    fn send_buffer(&mut self) -> Result<(), Error> {
        let blob =
            std::mem::replace(&mut self.buffer, BytesMut::with_capacity(CHUNK_BYTES)).freeze();
        self.digest.update(&blob);
        self.sent += blob.len() as u64;
        // The size is not known before the end; what is left is an estimate and never nothing.
        let remaining = self.estimate.saturating_sub(self.sent).max(32);
        self.send(blob, remaining)
    }

    fn send(&mut self, blob: Bytes, remaining_bytes: u64) -> Result<(), Error> {
        let response = SnapshotResponse {
            header: None,
            remaining_bytes,
            blob,
            version: version::ETCD_STORAGE_VERSION.to_owned(),
        };
        self.chunks
            .blocking_send(Ok(response))
            .map_err(|_| Error::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that is sent, put together as a client does.
    fn file_of(parts: &'static [usize]) -> (Vec<u8>, Vec<usize>) {
        let (chunks, mut receiver) = mpsc::channel(QUEUED_CHUNKS);
        let writer = synod_runtime::task::spawn_thread("file", move || {
            let mut file = File::new(chunks, 10);
            for part in parts {
                file.write(&vec![7; *part]).unwrap();
            }
            file.finish().unwrap();
        })
        .unwrap();
        let mut file = Vec::new();
        let mut sizes = Vec::new();
        while let Some(response) = receiver.blocking_recv() {
            let response = response.unwrap();
            sizes.push(response.blob.len());
            file.extend_from_slice(&response.blob);
            assert_eq!(response.remaining_bytes == 0, response.blob.len() == 32);
        }
        writer.join().unwrap();
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
}
