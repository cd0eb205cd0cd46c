//! Range streams: the pairs of a range in several responses, all of one revision.

use std::sync::Arc;

use synod_auth::{AuthState, Identity};
use synod_mvcc::RangeStream;
use synod_proto::etcd::etcdserverpb as pb;
use synod_runtime::task;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::sorted_stream::{self, Chunks as SortedChunks, needs_sorting};
use crate::call::Call;
use crate::convert::range_query;
use crate::error::Error;
use crate::shared::ServiceContext;

pub(super) type Chunks = SortedChunks;

/// How many responses of a range stream wait for a slow client.
const QUEUED_CHUNKS: usize = 1;

/// Whether the caller may read a range, as of what this member has applied.
pub(super) async fn permit_range(
    shared: &ServiceContext,
    call: &Call,
    request: &pb::RangeRequest,
) -> Result<(), Error> {
    let check = |users: &AuthState, by: Option<&Identity>| users.check_range(by, request);
    shared.permit(call, check).await
}

/// Checks a range stream while it is sent, since the permission to read may be revoked meanwhile.
pub(super) struct Guard {
    pub(super) shared: Arc<ServiceContext>,
    pub(super) call: Call,
    pub(super) request: pb::RangeRequest,
}

impl Guard {
    /// Before each response.
    ///
    /// # Errors
    /// The caller may not read the range, or no longer.
    pub(super) async fn check(&self) -> Result<(), Error> {
        permit_range(&self.shared, &self.call, &self.request).await
    }
}

/// Answers the request.
///
/// # Errors
/// The caller may not read the range, there is no room, or the engine fails.
pub(super) async fn respond(guard: Guard) -> Result<Response<Chunks>, Error> {
    let chunk_bytes = guard.shared.settings.max_request_bytes;
    // Checked first, so that a denied request takes no place among the streams.
    guard.check().await?;
    if needs_sorting(&guard.request) {
        return sorted_stream::respond(guard, chunk_bytes).await;
    }
    // Room for the chunks in the queue, one that is read and one that is sent.
    let budget = &guard.shared.reads.budget;
    let place = budget.large((QUEUED_CHUNKS + 2) * chunk_bytes, guard.call.deadline);
    let place = place.await?;
    let reader = guard.shared.view.reader();
    let stream = reader.range_stream(range_query(&guard.request), chunk_bytes)?;
    let (chunks, receiver) = mpsc::channel(QUEUED_CHUNKS);
    let sending = send_chunks(guard, stream, chunks);
    // Ends after the last chunk, or when the client is gone and so is the receiver.
    task::spawn("range-stream", sending);
    Ok(place.stream(Box::pin(ReceiverStream::new(receiver))))
}

/// Reads and sends the chunks. `header`, `count` and `more` come with the last one.
async fn send_chunks(
    guard: Guard,
    stream: RangeStream,
    chunks: mpsc::Sender<Result<pb::RangeStreamResponse, Status>>,
) {
    let shared = &guard.shared;
    let revision = stream.store_revision().get();
    let mut next = Some(stream);
    while let Some(mut stream) = next.take() {
        let read = shared.reads.scans.run(move || {
            let chunk = stream.next_chunk()?;
            Ok::<_, Error>((chunk, stream))
        });
        let read = read.await;
        let read = match guard.check().await {
            Ok(()) => read,
            Err(denied) => Err(denied),
        };
        let chunk = match read {
            Ok((Some(chunk), stream)) => {
                if !chunk.is_last {
                    next = Some(stream);
                }
                chunk
            }
            Ok((None, _)) => return,
            Err(error) => {
                // The client may be gone.
                let _gone = chunks.send(Err(error.into())).await;
                return;
            }
        };
        let mut response = pb::RangeResponse {
            kvs: chunk.kvs,
            ..Default::default()
        };
        if chunk.is_last {
            response.header = Some(shared.header(revision));
            response.count = i64::try_from(chunk.count).unwrap_or(i64::MAX);
            response.more = chunk.more;
        }
        let response = pb::RangeStreamResponse {
            range_response: Some(response),
        };
        if chunks.send(Ok(response)).await.is_err() {
            return;
        }
    }
}
