//! What checkpoints consist of: pages, each of one or more parts.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::codec::{Reader, Writer};
use crate::{DecodeError, Zxid};

/// The largest part of a page in bytes. A part fits one key of any etcd v3 endpoint.
pub const MAX_PART_BYTES: usize = 512 * 1024;

/// A page of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageId {
    /// The machine's position, the registered pods, and the list of all other pages.
    Meta,
    /// A share of the sessions.
    Sessions(u8),
    /// A share of the nodes.
    Nodes(u32),
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta => write!(f, "meta"),
            Self::Sessions(page) => write!(f, "sessions/{page}"),
            Self::Nodes(page) => write!(f, "nodes/{page}"),
        }
    }
}

impl PageId {
    pub(crate) fn encode(self, out: &mut Writer) {
        match self {
            Self::Meta => out.u8(0),
            Self::Sessions(page) => {
                out.u8(1);
                out.u8(page);
            }
            Self::Nodes(page) => {
                out.u8(2);
                out.u32(page);
            }
        }
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.u8()? {
            0 => Ok(Self::Meta),
            1 => Ok(Self::Sessions(input.u8()?)),
            2 => Ok(Self::Nodes(input.u32()?)),
            _ => Err(DecodeError::Invalid("page id")),
        }
    }
}

/// A page of a checkpoint, to be stored. Stored under its id and `modified`, it stays readable for
/// the previous checkpoint until the new one is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageWrite {
    /// The page.
    pub page: PageId,
    /// The transaction that last changed it.
    pub modified: Zxid,
    /// Its parts, each of at most [`MAX_PART_BYTES`]. Most pages have one; more come from a large
    /// node. None: the page is empty, and is deleted.
    pub parts: Vec<Vec<u8>>,
}

/// A part's header: version, place, number of parts, hash of the whole page.
pub(crate) struct Part {
    index: u16,
    count: u16,
    hash: u64,
}

impl Part {
    const VERSION: u8 = 1;
    const HEADER_BYTES: usize = 1 + 2 + 2 + 8;

    pub(crate) fn hash(content: &[u8]) -> u64 {
        xxh3_64(content)
    }

    /// Divides a page's content.
    pub(crate) fn split(content: &[u8]) -> Vec<Vec<u8>> {
        let hash = Self::hash(content);
        let chunks = content.chunks(MAX_PART_BYTES - Self::HEADER_BYTES);
        let count = u16::try_from(chunks.len()).expect("a page has less than 32 GiB");
        let parts = (0..).zip(chunks).map(|(index, chunk)| {
            let mut out = Writer::with_capacity(Self::HEADER_BYTES + chunk.len());
            out.u8(Self::VERSION);
            out.raw(&u16::to_le_bytes(index));
            out.raw(&count.to_le_bytes());
            out.u64(hash);
            out.raw(chunk);
            out.into_bytes()
        });
        parts.collect()
    }

    /// Puts a page's content together again, and checks it. Parts behind its last one are ignored:
    /// they are left from when the same page had a longer encoding.
    pub(crate) fn join<P: AsRef<[u8]>>(parts: &[P]) -> Result<Vec<u8>, DecodeError> {
        let first = parts.first().ok_or(DecodeError::Truncated)?;
        let count = Self::decode(&mut Reader::new(first.as_ref()))?.count;
        let parts = parts.get(..usize::from(count));
        let parts = parts.ok_or(DecodeError::Truncated)?;
        let bytes = parts.iter().map(|part| part.as_ref().len()).sum();
        let mut content = Vec::with_capacity(bytes);
        let mut hash = None;
        for (index, part) in parts.iter().enumerate() {
            let mut input = Reader::new(part.as_ref());
            let header = Self::decode(&mut input)?;
            if usize::from(header.index) != index || usize::from(header.count) != parts.len() {
                return Err(DecodeError::Invalid("order of parts"));
            }
            if *hash.get_or_insert(header.hash) != header.hash {
                return Err(DecodeError::Checksum);
            }
            content.extend_from_slice(input.rest());
        }
        if hash != Some(Self::hash(&content)) {
            return Err(DecodeError::Checksum);
        }
        Ok(content)
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.u8()? {
            Self::VERSION => {}
            version => return Err(DecodeError::Version(version)),
        }
        Ok(Self {
            index: u16::from_le_bytes(input.array()?),
            count: u16::from_le_bytes(input.array()?),
            hash: input.u64()?,
        })
    }
}
