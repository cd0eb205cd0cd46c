//! Converts the messages of a snapshot transfer.

use synod_proto::replica::v1 as wire;
use synod_replica_core::{Begun, Piece, Resume};

use super::{WireError, meta_from_wire, meta_to_wire, position_from_wire, position_to_wire};

/// Encodes a request to continue from `resume`. The caller sets sender and receiver.
pub(crate) fn resume_to_wire(resume: Option<Resume>) -> wire::FetchSnapshotRequest {
    let mut request = wire::FetchSnapshotRequest::default();
    if let Some(resume) = resume {
        request.position = position_to_wire(resume.position);
        request.view = resume.view;
        request.resume = resume.after;
    }
    request
}

pub(crate) fn resume_from_wire(request: &wire::FetchSnapshotRequest) -> Option<Resume> {
    let position = request.position?;
    Some(Resume {
        position: position_from_wire(Some(position)),
        view: request.view,
        after: request.resume.clone(),
    })
}

/// Encodes a piece. `crc32c` is the checksum of its data.
pub(crate) fn piece_to_wire(piece: Piece, crc32c: u32) -> wire::SnapshotChunk {
    let last = piece.resume.is_none();
    let begun = piece.begun.as_ref();
    wire::SnapshotChunk {
        meta: begun.map(|begun| meta_to_wire(&begun.meta)),
        data: piece.data,
        crc32c,
        resume: piece.resume.unwrap_or_default(),
        last,
        view: begun.map_or(0, |begun| begun.view),
    }
}

pub(crate) fn piece_from_wire(chunk: wire::SnapshotChunk) -> Result<Piece, WireError> {
    if crc32c::crc32c(&chunk.data) != chunk.crc32c {
        return Err(WireError::Checksum);
    }
    let view = chunk.view;
    let meta = chunk.meta.map(meta_from_wire).transpose()?;
    Ok(Piece {
        begun: meta.map(|meta| Begun { meta, view }),
        data: chunk.data,
        resume: (!chunk.last).then_some(chunk.resume),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use synod_consensus_core::{Membership, SnapshotMeta};
    use synod_types::{Ballot, Index, LogPosition};

    use super::*;

    const POSITION: LogPosition = LogPosition {
        ballot: Ballot { round: 3, node: 1 },
        index: Index::new(9),
    };

    fn begun() -> Begun {
        let membership = Membership::default();
        let last = POSITION;
        Begun {
            meta: SnapshotMeta { last, membership },
            view: 7,
        }
    }

    fn pieces() -> [Piece; 3] {
        let data = Bytes::from_static(b"data");
        let resume = Some(Bytes::from_static(b"resume"));
        let begun = Some(begun());
        let piece = |begun, resume| Piece {
            begun,
            data: data.clone(),
            resume,
        };
        [
            piece(begun, resume.clone()),
            piece(None, resume),
            piece(None, None),
        ]
    }

    #[test]
    fn the_bytes_of_pieces_are_unchanged() {
        let data = Bytes::from_static(b"data");
        let resume = Bytes::from_static(b"resume");
        let crc32c = crc32c::crc32c(&data);
        let wire = |meta, resume, last, view| wire::SnapshotChunk {
            meta,
            data: data.clone(),
            crc32c,
            resume,
            last,
            view,
        };
        let meta = Some(meta_to_wire(&begun().meta));
        let expected = [
            wire(meta, resume.clone(), false, 7),
            wire(None, resume, false, 0),
            wire(None, Bytes::new(), true, 0),
        ];
        for (piece, expected) in pieces().into_iter().zip(expected) {
            assert_eq!(piece_to_wire(piece.clone(), crc32c), expected);
            assert_eq!(piece_from_wire(expected), Ok(piece));
        }
    }

    #[test]
    fn a_damaged_piece_is_refused() {
        for piece in pieces() {
            let crc32c = crc32c::crc32c(&piece.data);
            let mut damaged = piece_to_wire(piece, crc32c);
            damaged.data = Bytes::from_static(b"date");
            assert_eq!(piece_from_wire(damaged), Err(WireError::Checksum));
        }
    }

    #[test]
    fn a_request_names_the_point_to_continue_from_if_any() {
        let resume = Resume {
            position: POSITION,
            view: 7,
            after: Bytes::from_static(b"resume"),
        };
        let request = resume_to_wire(Some(resume.clone()));
        let expected = wire::FetchSnapshotRequest {
            position: position_to_wire(POSITION),
            resume: resume.after.clone(),
            view: 7,
            ..Default::default()
        };
        assert_eq!(request, expected);
        assert_eq!(resume_from_wire(&request), Some(resume));
        assert_eq!(resume_to_wire(None), wire::FetchSnapshotRequest::default());
        assert_eq!(resume_from_wire(&resume_to_wire(None)), None);
    }
}
