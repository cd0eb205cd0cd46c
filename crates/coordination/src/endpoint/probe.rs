//! Finds out how large a request the endpoint takes.

use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use synod_coordination_core::MAX_PART_BYTES;

use super::{Endpoint, EndpointError};

/// What a request contains besides its values: keys, conditions and the envelope.
const ENVELOPE_BYTES: usize = 8 << 10;

/// The smallest limit that will do: a part of a page must fit.
pub(super) const MIN_REQUEST_BYTES: usize = MAX_PART_BYTES;

/// The limits that are tried. Stock etcd's default is 1.5 MiB for the whole request.
const TRIED_BYTES: [usize; 4] = [
    4 << 20,
    (3 << 19) - ENVELOPE_BYTES,
    1 << 20,
    MIN_REQUEST_BYTES,
];

impl Endpoint {
    /// The bytes of values that one transaction may write, as far as they are of use.
    pub(crate) async fn request_bytes(&self) -> Result<usize, EndpointError> {
        // The largest size of which it is not known whether it was too large.
        let mut unclear = None;
        for bytes in TRIED_BYTES {
            match self.takes(bytes).await {
                Ok(()) => {
                    let Some(larger) = unclear else {
                        return Ok(bytes);
                    };
                    let takes_larger = self.takes(larger).await.is_ok();
                    return Ok(if takes_larger { larger } else { bytes });
                }
                Err(EndpointError::Unknown { .. })
                    if unclear.is_none() && bytes > MIN_REQUEST_BYTES =>
                {
                    unclear = Some(bytes);
                }
                // Servers say in different ways that a request is too large.
                Err(error) if bytes > MIN_REQUEST_BYTES => {
                    tracing::debug!(bytes, %error, "trying a smaller request");
                }
                Err(
                    EndpointError::Refused { reason, .. } | EndpointError::TooLarge { reason, .. },
                ) => {
                    let what = "write 512 KiB at once (if they are too many, raise its limit)";
                    return Err(EndpointError::Refused { what, reason });
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the last size was taken or refused")
    }

    /// A write of this size whose condition never holds, so that it changes nothing.
    async fn takes(&self, bytes: usize) -> Result<(), EndpointError> {
        let key = self.keys.leader();
        let never = Compare::version(key.clone(), CompareOp::Equal, -1);
        let txn = Txn::new()
            .when([never])
            .and_then([TxnOp::put(key, vec![0; bytes], None)]);
        self.txn("try a large request", txn).await.map(drop)
    }
}
