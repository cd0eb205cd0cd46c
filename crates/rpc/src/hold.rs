//! What a response keeps until the last of its bytes has left.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// Something that is dropped only when all bytes of a response are written to the socket, or the
/// call is gone: a place in a budget, say. Put it into the response's extensions. HTTP/2 buffers a
/// message until its receiver reads it, long after the service has returned.
#[derive(Clone)]
pub struct Hold {
    _what: Arc<dyn Any + Send + Sync>,
}

impl Hold {
    /// Holds `what`.
    pub fn new(what: impl Any + Send + Sync) -> Self {
        Self {
            _what: Arc::new(what),
        }
    }

    /// The same bytes, which hold it too.
    pub(crate) fn attach(&self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held {
            bytes,
            _hold: self.clone(),
        })
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}

struct Held {
    bytes: Bytes,
    _hold: Hold,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lives_as_long_as_any_of_the_bytes() {
        let alive = Arc::new(());
        let hold = Hold::new(Arc::clone(&alive));
        let mut bytes = hold.attach(Bytes::from_static(b"head and tail"));
        drop(hold);
        let head = bytes.split_to(4);
        drop(bytes);
        assert_eq!(Arc::strong_count(&alive), 2);
        assert_eq!(head, "head");
        drop(head);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
