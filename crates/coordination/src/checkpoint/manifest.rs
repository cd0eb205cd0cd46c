//! The key that names the last complete checkpoint.

use synod_coordination_core::{Directory, LogNumber, PageId, Zxid};

use super::CheckpointError;
use crate::endpoint::{Endpoint, EndpointError};

/// The format's version.
const VERSION: &str = "1";

/// Names a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The last batch that it contains.
    pub(crate) number: LogNumber,
    /// The last transaction that it contains.
    pub(crate) last: Zxid,
}

impl Manifest {
    /// Reads the manifest and the revision at which it was written, if a checkpoint was completed.
    pub(crate) async fn read(endpoint: &Endpoint) -> Result<Option<(Self, i64)>, EndpointError> {
        let what = "read the checkpoint's manifest";
        let Some(found) = endpoint.get(what, endpoint.keys().checkpoint()).await? else {
            return Ok(None);
        };
        let manifest = Self::decode(found.value()).ok_or_else(|| {
            let text = String::from_utf8_lossy(found.value());
            EndpointError::corrupt(what, format!("unknown format or version: {text:?}"))
        })?;
        Ok(Some((manifest, found.mod_revision())))
    }

    /// The parts of the checkpoint's [`PageId::Meta`].
    pub(crate) async fn meta(&self, endpoint: &Endpoint) -> Result<Vec<Vec<u8>>, EndpointError> {
        let mut pages = endpoint.pages(&[(PageId::Meta, self.last)]).await?;
        Ok(pages.pop().unwrap_or_default())
    }

    /// The checkpoint's list of pages.
    pub(crate) async fn directory(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Directory, CheckpointError> {
        let meta = self.meta(endpoint).await?;
        let number = self.number;
        let failed = |error| CheckpointError::Load { number, error };
        Directory::from_parts(&meta).map_err(failed)
    }

    pub(crate) fn encode(&self) -> String {
        let (number, last) = (self.number.get(), self.last.get());
        format!("{VERSION} {number:016x} {last:016x}")
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut words = text.strip_prefix(VERSION)?.strip_prefix(' ')?.split(' ');
        let number = u64::from_str_radix(words.next()?, 16).ok()?;
        let last = i64::from_str_radix(words.next()?, 16).ok()?;
        let manifest = Self {
            number: LogNumber::new(number),
            last: Zxid::new(last),
        };
        (manifest.encode() == text).then_some(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let manifest = Manifest {
            number: LogNumber::new(0x2710),
            last: Zxid::new((3 << 32) + 5),
        };
        let text = "1 0000000000002710 0000000300000005";
        assert_eq!(manifest.encode(), text);
        assert_eq!(Manifest::decode(text.as_bytes()), Some(manifest));
        for other in ["", "1", "2 0000000000002710 0000000300000005", "1 2710 5"] {
            assert_eq!(Manifest::decode(other.as_bytes()), None, "{other}");
        }
        let longer = format!("{text} 7");
        assert_eq!(Manifest::decode(longer.as_bytes()), None);
    }
}
