//! Checkpoints: the state as pages, and back.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use super::{Machine, Pods};
use crate::codec::{Reader, Writer};
use crate::page::{PageId, PageWrite, Part};
use crate::sessions::Sessions;
use crate::stat::Owner;
use crate::tree::{NodeId, TreeLoader};
use crate::{DecodeError, LoadError, Zxid};

const VERSION: u8 = 1;

/// The content of [`PageId::Meta`]: where the machine was, and which pages belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    last: Zxid,
    time_ms: i64,
    pods: Pods,
    pages: BTreeMap<PageId, Zxid>,
}

impl Machine {
    /// Starts a checkpoint of the state as it is now, and drops one that is being written. It has
    /// the pages that changed after the transaction `since`, that of the last complete checkpoint;
    /// all pages if there is none. Every pod knows which those are.
    ///
    /// The machine can go on to apply commands. A page that is about to change before it was
    /// fetched is encoded first and kept, so call [`next_page`](Self::next_page) soon.
    pub fn start_checkpoint(&mut self, since: Option<Zxid>) {
        self.end_checkpoint();
        let directory = Directory {
            last: self.last,
            time_ms: self.time_ms,
            pods: self.pods.clone(),
            pages: self.directory().collect(),
        };
        self.writes.push(PageWrite {
            page: PageId::Meta,
            modified: self.last,
            parts: Part::split(&directory.encode()),
        });
        self.writes.extend(self.sessions.pages(since));
        self.tree.start_checkpoint(since);
    }

    /// The next page of the checkpoint to be stored; `None` when it is complete.
    /// [`PageId::Meta`] comes last: once it is stored, the checkpoint can be loaded.
    pub fn next_page(&mut self) -> Option<PageWrite> {
        self.tree.next_page().or_else(|| self.writes.pop())
    }

    /// Drops the checkpoint that is being written.
    pub fn end_checkpoint(&mut self) {
        self.tree.end_checkpoint();
        self.writes.clear();
    }

    /// All pages that have nodes or sessions, with the transaction that last changed each.
    pub fn directory(&self) -> impl Iterator<Item = (PageId, Zxid)> {
        self.sessions.directory().chain(self.tree.directory())
    }

    /// A hash of the whole state. Pods that have applied the same commands have the same. Only
    /// pages that changed since the last call are encoded.
    pub fn state_hash(&mut self) -> u64 {
        let mut out = Writer::default();
        out.i64(self.last.get());
        out.i64(self.time_ms);
        self.pods.encode(&mut out);
        let mut hashes = self.sessions.page_hashes();
        hashes.extend(self.tree.page_hashes());
        for (page, hash) in hashes {
            page.encode(&mut out);
            out.u64(hash);
        }
        xxh3_64(&out.into_bytes())
    }

    /// Everything that is derived from the nodes.
    fn derive(&mut self) -> Result<(), LoadError> {
        let ids: Vec<NodeId> = self.tree.ids().collect();
        for id in ids {
            if let Owner::Session(session) = self.tree.node(id).fields.owner
                && self.sessions.get(session).is_none()
            {
                return Err(LoadError::Inconsistent(
                    "an ephemeral node without a session",
                ));
            }
            self.note_added(id);
        }
        Ok(())
    }
}

/// Builds a machine from the pages of a checkpoint, one after the other.
#[derive(Debug)]
pub struct Loader {
    directory: Directory,
    tree: TreeLoader,
    sessions: Sessions,
    missing: BTreeMap<PageId, Zxid>,
}

impl Loader {
    /// Starts with the parts of [`PageId::Meta`]. For the seed see [`Machine::new`].
    ///
    /// # Errors
    /// The page is damaged, or of a later version.
    pub fn new<P: AsRef<[u8]>>(seed: u64, meta: &[P]) -> Result<Self, LoadError> {
        let directory = Directory::from_parts(meta)?;
        Ok(Self {
            missing: directory.pages.clone(),
            directory,
            tree: TreeLoader::new(seed),
            sessions: Sessions::default(),
        })
    }

    /// The pages that are to be added, with the transaction that last changed each.
    pub fn missing(&self) -> impl Iterator<Item = (PageId, Zxid)> {
        self.missing.iter().map(|(&page, &zxid)| (page, zxid))
    }

    /// Adds a page. They may come in any order.
    ///
    /// # Errors
    /// The page is damaged, of a later version, or not one of the [`missing`](Self::missing). The
    /// loader can't be used any more.
    pub fn add<P: AsRef<[u8]>>(&mut self, page: PageId, parts: &[P]) -> Result<(), LoadError> {
        let expected = self
            .missing
            .remove(&page)
            .ok_or(LoadError::WrongPage(page))?;
        let damaged = |error| LoadError::Page { page, error };
        let content = Part::join(parts).map_err(damaged)?;
        let modified = match page {
            PageId::Meta => return Err(LoadError::WrongPage(page)),
            PageId::Sessions(number) => self.sessions.load(number, &content),
            PageId::Nodes(number) => self.tree.add(number, &content),
        };
        if modified.map_err(damaged)? != expected {
            return Err(LoadError::WrongPage(page));
        }
        Ok(())
    }

    /// The machine, when all pages have been added.
    ///
    /// # Errors
    /// A page is missing, or the pages contradict each other.
    pub fn finish(self) -> Result<Machine, LoadError> {
        if let Some(&page) = self.missing.keys().next() {
            return Err(LoadError::WrongPage(page));
        }
        let mut machine = Machine::with(self.tree.finish()?, self.sessions);
        machine.pods = self.directory.pods;
        machine.last = self.directory.last;
        machine.time_ms = self.directory.time_ms;
        machine.derive()?;
        Ok(machine)
    }
}

impl Directory {
    /// Reads the parts of [`PageId::Meta`].
    ///
    /// # Errors
    /// The page is damaged, or of a later version.
    pub fn from_parts<P: AsRef<[u8]>>(meta: &[P]) -> Result<Self, LoadError> {
        let content = Part::join(meta);
        content
            .and_then(|content| Self::decode(&content))
            .map_err(|error| LoadError::Page {
                page: PageId::Meta,
                error,
            })
    }

    /// The last transaction that the checkpoint contains.
    #[must_use]
    pub fn last_zxid(&self) -> Zxid {
        self.last
    }

    /// Whether a stored page, last changed by `modified`, can be deleted once this checkpoint is
    /// stored. A page that changed later is kept, since it may belong to a later checkpoint, which
    /// another pod writes while this one deletes.
    #[must_use]
    pub fn is_obsolete(&self, page: PageId, modified: Zxid) -> bool {
        match page {
            PageId::Meta => modified < self.last,
            PageId::Sessions(_) | PageId::Nodes(_) => {
                modified <= self.last && self.pages.get(&page) != Some(&modified)
            }
        }
    }

    /// The pages of the checkpoint, with the transaction that last changed each. What is stored of
    /// other transactions or other pages belongs to other checkpoints.
    pub fn pages(&self) -> impl Iterator<Item = (PageId, Zxid)> {
        self.pages.iter().map(|(&page, &zxid)| (page, zxid))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(VERSION);
        PageId::Meta.encode(&mut out);
        out.i64(self.last.get());
        out.i64(self.time_ms);
        self.pods.encode(&mut out);
        out.len(self.pages.len());
        for (page, zxid) in &self.pages {
            page.encode(&mut out);
            out.i64(zxid.get());
        }
        out.into_bytes()
    }

    fn decode(content: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(content);
        match input.u8()? {
            VERSION => {}
            version => return Err(DecodeError::Version(version)),
        }
        if PageId::decode(&mut input)? != PageId::Meta {
            return Err(DecodeError::Invalid("page id"));
        }
        let (last, time_ms) = (Zxid::new(input.i64()?), input.i64()?);
        let pods = Pods::decode(&mut input)?;
        let mut pages = BTreeMap::new();
        for _ in 0..input.count(10)? {
            let page = PageId::decode(&mut input)?;
            let is_in_order = pages.last_key_value().is_none_or(|(&last, _)| last < page);
            if page == PageId::Meta || !is_in_order {
                return Err(DecodeError::Invalid("list of pages"));
            }
            pages.insert(page, Zxid::new(input.i64()?));
        }
        input.finish()?;
        Ok(Self {
            last,
            time_ms,
            pods,
            pages,
        })
    }
}
