//! What a response keeps until the last of its bytes has left.

use std::fmt;
use std::sync::Arc;

/// Something that is dropped only when all bytes of a response are written to the socket, or the
/// call is gone: a place in a budget, say. Put it into the response's extensions. HTTP/2 buffers a
/// message until its receiver reads it, long after the service has returned.
///
/// A response that holds something is watched: it is ended when its receiver takes nothing for
/// [`response_stall_timeout`](crate::ServerConfig::response_stall_timeout).
#[derive(Clone)]
pub struct Hold {
    what: Arc<dyn Keep>,
}

/// What can be held.
pub trait Keep: Send + Sync + 'static {
    /// The response's first message is encoded, and the message itself dropped. Called once, before
    /// any of the bytes leave.
    fn encoded(&self) {}
}

impl Hold {
    /// Holds `what`.
    pub fn new(what: impl Keep) -> Self {
        Self {
            what: Arc::new(what),
        }
    }

    pub(crate) fn encoded(&self) {
        self.what.encoded();
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}
