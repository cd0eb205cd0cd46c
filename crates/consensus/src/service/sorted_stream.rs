//! Range streams that are not sorted by key. Like a range, such a stream is read as a whole before
//! the first chunk is sent, and has a place in the budget of responses.

use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, stream};
use synod_mvcc::RangeResult;
use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::etcd::etcdserverpb::range_request::SortTarget;
use tonic::{Response, Status};

use super::large_read::RangeRead;
use super::range_stream::Guard;
use crate::convert::range_query;
use crate::error::Error;

/// The responses of a range stream.
pub(super) type Chunks =
    Pin<Box<dyn Stream<Item = Result<pb::RangeStreamResponse, Status>> + Send>>;

/// Whether a checked request asks for another order than that of the keys.
pub(super) fn needs_sorting(request: &pb::RangeRequest) -> bool {
    request.sort_target != SortTarget::Key as i32 && !request.count_only
}

/// Reads and sorts the range, and answers in chunks of about `chunk_bytes`.
///
/// # Errors
/// As for a range.
pub(super) async fn respond(guard: Guard, chunk_bytes: usize) -> Result<Response<Chunks>, Error> {
    let shared = &guard.shared;
    let view = shared.view.reader().view();
    let query = range_query(&guard.request);
    let read = RangeRead { view, query };
    let (result, place) = shared.reads.run(read, guard.call.deadline).await?;
    let header = shared.header(result.revision.get());
    let responses = responses(result, header, chunk_bytes).into_iter();
    let sent = stream::try_unfold((guard, responses), |(guard, mut responses)| async {
        let Some(response) = responses.next() else {
            return Ok(None);
        };
        guard.check().await?;
        Ok(Some((response, (guard, responses))))
    });
    Ok(place.response(Box::pin(sent)))
}

/// `header`, `count` and `more` come with the last response. An empty range has one response.
fn responses(
    result: RangeResult,
    header: pb::ResponseHeader,
    chunk_bytes: usize,
) -> Vec<pb::RangeStreamResponse> {
    let (count, more) = (result.count, result.more);
    let mut chunks = split(result.kvs, chunk_bytes);
    let last = pb::RangeResponse {
        header: Some(header),
        kvs: chunks.pop().unwrap_or_default(),
        more,
        count: i64::try_from(count).unwrap_or(i64::MAX),
    };
    let before = chunks.into_iter().map(|kvs| pb::RangeResponse {
        kvs,
        ..Default::default()
    });
    let all = before.chain([last]).map(Some);
    all.map(|range_response| pb::RangeStreamResponse { range_response })
        .collect()
}

/// A chunk ends with the record that brings it to its size.
fn split(kvs: Vec<Bytes>, chunk_bytes: usize) -> Vec<Vec<Bytes>> {
    let (mut chunks, mut chunk, mut bytes) = (Vec::new(), Vec::new(), 0);
    for record in kvs {
        bytes += record.len();
        chunk.push(record);
        if bytes >= chunk_bytes {
            chunks.push(std::mem::take(&mut chunk));
            bytes = 0;
        }
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use synod_mvcc::Revision;

    use super::*;

    fn result(sizes: &[usize]) -> RangeResult {
        RangeResult {
            kvs: sizes
                .iter()
                .map(|size| Bytes::from(vec![7; *size]))
                .collect(),
            count: 9,
            more: true,
            revision: Revision::new(4),
        }
    }

    #[test]
    fn only_the_last_chunk_tells_header_count_and_more() {
        for (sizes, chunks) in [
            (&[][..], &[0][..]),
            (&[10], &[1]),
            (&[4, 6], &[2]),
            (&[4, 6, 1], &[2, 1]),
            (&[25, 3, 9, 1], &[1, 2, 1]),
        ] {
            let header = pb::ResponseHeader::default();
            let told = responses(result(sizes), header, 10);
            let told: Vec<_> = told.into_iter().filter_map(|r| r.range_response).collect();
            let lengths: Vec<_> = told.iter().map(|chunk| chunk.kvs.len()).collect();
            assert_eq!(lengths, chunks);
            for (at, chunk) in told.iter().enumerate() {
                let last = at + 1 == told.len();
                let expected = (last, if last { 9 } else { 0 }, last);
                assert_eq!((chunk.header.is_some(), chunk.count, chunk.more), expected);
            }
        }
    }
}
