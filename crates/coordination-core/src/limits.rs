//! What a command may contain and cause, so that the time and memory to apply it are in proportion
//! to its bytes: every pod applies every command, and one that takes minutes stops the service for
//! all. ZooKeeper has none of these limits; they are far above what clients use. A pod that checks
//! them first spares the log.

use crate::{Id, OpError};

/// The longest path of a node. Longer ones are refused with [`OpError::BadArguments`].
pub const MAX_PATH_BYTES: usize = 16 * 1024;

/// The most entries of an access control list, after `auth` was replaced by the caller's
/// identities. More are refused with [`OpError::InvalidAcl`].
pub const MAX_ACL_ENTRIES: usize = 256;

/// The largest access control list in bytes, after `auth` was replaced by the caller's identities.
/// A larger one is refused with [`OpError::InvalidAcl`].
pub const MAX_ACL_BYTES: usize = 64 * 1024;

/// The most identities of a caller: each is compared with each entry of a list.
pub const MAX_IDENTITIES: usize = 32;

/// The bytes of all identities of a caller: they are sent with each of its commands.
pub const MAX_IDENTITY_BYTES: usize = 16 * 1024;

/// The most operations of a multi. The one after them is refused with [`OpError::BadArguments`].
pub const MAX_MULTI_OPS: usize = 10_000;

/// The bytes of the paths of all ephemeral nodes of a session: one command closes it, and causes
/// events with all of these paths. A node that exceeds them is refused with
/// [`OpError::QuotaExceeded`].
pub const MAX_EPHEMERAL_BYTES: u64 = 16 * 1024 * 1024;

/// The longest data of a node with limits, or with what is used, that means something. Longer data
/// has no numbers in it. ZooKeeper's own is below 100 bytes.
pub(crate) const MAX_QUOTA_BYTES: usize = 1024;

/// A new node that says what a quota uses is refused with [`OpError::QuotaExceeded`] if the nodes
/// before it in the same multi have counted this many. A single one counts all that there are, as
/// in ZooKeeper.
pub(crate) const MAX_RECOUNTED_NODES: usize = 10_000;

/// Checks the identities that a client has proved: a pod does so before it adds one.
///
/// # Errors
/// [`OpError::BadArguments`] if there are more than [`MAX_IDENTITIES`], or they have more than
/// [`MAX_IDENTITY_BYTES`]. The machine refuses such a caller's commands.
pub fn check_identities(caller: &[Id]) -> Result<(), OpError> {
    let bytes: usize = caller.iter().map(|id| id.scheme.len() + id.id.len()).sum();
    if caller.len() > MAX_IDENTITIES || bytes > MAX_IDENTITY_BYTES {
        return Err(OpError::BadArguments);
    }
    Ok(())
}
