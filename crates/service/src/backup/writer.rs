//! Writes a backup.

use std::vec;

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use super::{ALIGN_BYTES, BackupFormat};

/// Cuts a backup into pieces while it is written. The pieces in their order are the file.
#[derive(Debug)]
pub struct BackupWriter {
    piece_bytes: usize,
    pieces: Vec<Bytes>,
    buffer: BytesMut,
    digest: Sha256,
    written: usize,
}

impl BackupWriter {
    /// Begins a file. Its pieces have `piece_bytes` each, except for the last two.
    #[must_use]
    pub fn new(format: &BackupFormat, piece_bytes: usize) -> Self {
        let mut writer = Self {
            piece_bytes,
            pieces: Vec::new(),
            buffer: BytesMut::with_capacity(piece_bytes),
            digest: Sha256::new(),
            written: 0,
        };
        writer.write(format.magic);
        writer
    }

    /// Appends content.
    pub fn write(&mut self, mut data: &[u8]) {
        self.digest.update(data);
        self.written += data.len();
        while !data.is_empty() {
            let room = self.piece_bytes - self.buffer.len();
            let (now, later) = data.split_at(room.min(data.len()));
            self.buffer.extend_from_slice(now);
            data = later;
            if self.buffer.len() == self.piece_bytes {
                self.cut();
            }
        }
    }

    /// Ends the file: adds the padding, and the digest as a piece of its own.
    pub fn finish(&mut self) {
        let padding = (ALIGN_BYTES - self.written % ALIGN_BYTES) % ALIGN_BYTES;
        self.write(&[0; ALIGN_BYTES][..padding]);
        if !self.buffer.is_empty() {
            self.cut();
        }
        let digest = std::mem::take(&mut self.digest).finalize();
        self.pieces.push(Bytes::copy_from_slice(&digest));
    }

    /// Takes the pieces that are complete.
    pub fn take_pieces(&mut self) -> vec::IntoIter<Bytes> {
        std::mem::take(&mut self.pieces).into_iter()
    }

    fn cut(&mut self) {
        let next = BytesMut::with_capacity(self.piece_bytes);
        let piece = std::mem::replace(&mut self.buffer, next);
        self.pieces.push(piece.freeze());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: BackupFormat = BackupFormat {
        magic: b"M",
        family: b"M",
        foreign: &[],
        refusal: "",
        flag: "",
    };

    #[test]
    fn files_are_aligned_and_end_with_their_digest() {
        const PIECE: usize = 1000;
        for parts in [&[1][..], &[PIECE - 1], &[PIECE, 513], &[100_000, 3]] {
            let mut writer = BackupWriter::new(&FORMAT, PIECE);
            for part in parts {
                writer.write(&vec![7; *part]);
            }
            writer.finish();
            let mut pieces: Vec<_> = writer.take_pieces().collect();
            let digest = pieces.pop().unwrap();
            let file = pieces.concat();
            assert!(file.len().is_multiple_of(ALIGN_BYTES), "{parts:?}");
            assert_eq!(Sha256::digest(&file).as_slice(), digest, "{parts:?}");
            let (_, whole) = pieces.split_last().unwrap();
            assert!(whole.iter().all(|piece| piece.len() == PIECE), "{parts:?}");
        }
    }
}
