//! A node that pulls: the real transfer with a modelled directory.

use synod_proto::replica::v1 as wire;
use synod_replica_core::{PieceError, Step, Transfer};

use super::model::{Directory, ModelSink};
use crate::convert::piece_from_wire;
use crate::state_machine::SnapshotSink as _;

#[derive(Default)]
pub(super) struct Receiver {
    pub(super) directory: Directory,
    pub(super) pull: Option<Pull>,
    /// The position that it must reach; zero for none.
    pub(super) needs: u64,
}

/// A transfer from one source.
pub(super) struct Pull {
    pub(super) from: usize,
    pub(super) offered: u64,
    pub(super) transfer: Transfer<ModelSink>,
    /// The stream that it listens to. Events of other streams are ignored.
    pub(super) stream: u64,
    /// Streams that broke since the last chunk was written.
    pub(super) barren: u32,
    /// Incremented by each event of the stream, so that timeouts of earlier waits are ignored.
    pub(super) wait: u64,
}

/// The reason why a chunk broke the stream.
#[derive(Debug)]
pub(super) enum Broken {
    Malformed,
    Piece(PieceError),
    Disk,
}

impl Receiver {
    /// Processes a chunk like the shell. `fails` makes the disk fail.
    pub(super) fn take(&mut self, chunk: wire::SnapshotChunk, fails: bool) -> Result<bool, Broken> {
        let Some(pull) = &mut self.pull else {
            return Ok(false);
        };
        let transfer = &mut pull.transfer;
        let mut piece = piece_from_wire(chunk).map_err(|_| Broken::Malformed)?;
        let step = transfer.check(&mut piece).map_err(Broken::Piece)?;
        if let Step::Begin(begun) = step {
            let sink = self.directory.begin(begun.meta.clone());
            transfer.begun(begun, sink);
        }
        let mut sink = transfer.take_sink().map_err(Broken::Piece)?;
        sink.fails = fails;
        sink.write(piece.data).map_err(|_| Broken::Disk)?;
        if piece.resume.is_none() {
            sink.finish().map_err(|_| Broken::Disk)?;
        }
        pull.barren = 0;
        transfer.written(sink, piece.resume);
        Ok(transfer.is_done())
    }
}
