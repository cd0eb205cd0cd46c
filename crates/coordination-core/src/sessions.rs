//! The sessions, and the ephemeral nodes of each.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64;

use crate::codec::{Reader, Writer};
use crate::command::Password;
use crate::page::{PageId, PageWrite, Part};
use crate::tree::NodeId;
use crate::{DecodeError, OpError, PodId, SessionId, Zxid};

/// The sessions in a fixed number of pages, by a hash of their id.
#[derive(Debug)]
pub(crate) struct Sessions {
    buckets: Vec<Bucket>,
    /// How many sessions each pod has. Derived from the sessions.
    by_pod: BTreeMap<PodId, u32>,
}

#[derive(Debug, Default)]
struct Bucket {
    sessions: BTreeMap<SessionId, Session>,
    modified: Zxid,
    hash: Option<u64>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) timeout_ms: u32,
    pub(crate) password: Password,
    /// The pod that the client is connected to.
    pub(crate) pod: PodId,
    /// The transaction that opened or last attached it.
    pub(crate) attached: Zxid,
    /// Not encoded: the nodes name their session.
    pub(crate) ephemerals: BTreeSet<NodeId>,
    /// The bytes of their paths.
    pub(crate) ephemeral_bytes: u64,
}

const VERSION: u8 = 1;
const MIN_BYTES: usize = 8 + 1 + 16 + 8 + 8;

impl Default for Sessions {
    fn default() -> Self {
        let buckets = (0..=u8::MAX).map(|_| Bucket::default()).collect();
        Self {
            buckets,
            by_pod: BTreeMap::new(),
        }
    }
}

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.buckets
            .iter()
            .map(|bucket| bucket.sessions.len())
            .sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        let all = self.buckets.iter().flat_map(|bucket| &bucket.sessions);
        all.map(|(&id, session)| (id, session))
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.buckets[index(id)].sessions.get(&id)
    }

    /// Checks that the session exists and is connected to this pod.
    pub(crate) fn check(&self, id: SessionId, pod: PodId) -> Result<(), OpError> {
        match self.get(id) {
            None => Err(OpError::SessionExpired),
            Some(session) if session.pod != pod => Err(OpError::SessionMoved),
            Some(_) => Ok(()),
        }
    }

    /// Whether a pod has sessions.
    pub(crate) fn has_any(&self, pod: PodId) -> bool {
        self.by_pod.contains_key(&pod)
    }

    /// Adds a session. There is none with this id.
    pub(crate) fn insert(&mut self, id: SessionId, session: Session) {
        self.count(session.pod);
        self.change(id, session.attached).insert(id, session);
    }

    /// Removes a session. Nothing happens to one that does not exist.
    pub(crate) fn remove(&mut self, id: SessionId, zxid: Zxid) {
        if self.get(id).is_some()
            && let Some(session) = self.change(id, zxid).remove(&id)
        {
            self.uncount(session.pod);
        }
    }

    /// Moves a session that exists to a pod.
    pub(crate) fn attach(&mut self, id: SessionId, pod: PodId, timeout_ms: u32, zxid: Zxid) {
        let session = self.change(id, zxid).get_mut(&id).expect("it exists");
        session.timeout_ms = timeout_ms;
        session.attached = zxid;
        let before = std::mem::replace(&mut session.pod, pod);
        self.uncount(before);
        self.count(pod);
    }

    fn count(&mut self, pod: PodId) {
        *self.by_pod.entry(pod).or_default() += 1;
    }

    fn uncount(&mut self, pod: PodId) {
        let sessions = self.by_pod.get_mut(&pod).expect("it was counted");
        *sessions -= 1;
        if *sessions == 0 {
            self.by_pod.remove(&pod);
        }
    }

    fn change(&mut self, id: SessionId, zxid: Zxid) -> &mut BTreeMap<SessionId, Session> {
        let bucket = &mut self.buckets[index(id)];
        bucket.modified = zxid;
        bucket.hash = None;
        &mut bucket.sessions
    }

    /// Counts one more ephemeral node of a session. Its page doesn't contain them.
    pub(crate) fn add_ephemeral(&mut self, id: SessionId, node: NodeId, path_bytes: u64) {
        if let Some(session) = self.buckets[index(id)].sessions.get_mut(&id) {
            session.ephemerals.insert(node);
            session.ephemeral_bytes += path_bytes;
        }
    }

    /// Counts one ephemeral node less.
    pub(crate) fn remove_ephemeral(&mut self, id: SessionId, node: NodeId, path_bytes: u64) {
        if let Some(session) = self.buckets[index(id)].sessions.get_mut(&id) {
            session.ephemerals.remove(&node);
            session.ephemeral_bytes -= path_bytes;
        }
    }

    fn live(&self) -> impl Iterator<Item = (u8, &Bucket)> {
        (0..=u8::MAX)
            .zip(&self.buckets)
            .filter(|(_, bucket)| !bucket.sessions.is_empty())
    }

    /// The pages that have sessions, with the transaction that last changed each.
    pub(crate) fn directory(&self) -> impl Iterator<Item = (PageId, Zxid)> {
        self.live()
            .map(|(page, bucket)| (PageId::Sessions(page), bucket.modified))
    }

    /// The pages that changed after `since`.
    pub(crate) fn pages(&self, since: Option<Zxid>) -> Vec<PageWrite> {
        (0..=u8::MAX)
            .zip(&self.buckets)
            .filter(|(_, bucket)| match since {
                Some(since) => bucket.modified > since,
                None => !bucket.sessions.is_empty(),
            })
            .map(|(page, bucket)| PageWrite {
                page: PageId::Sessions(page),
                modified: bucket.modified,
                parts: if bucket.sessions.is_empty() {
                    Vec::new()
                } else {
                    Part::split(&bucket.encode(page))
                },
            })
            .collect()
    }

    pub(crate) fn page_hashes(&mut self) -> Vec<(PageId, u64)> {
        let mut hashes = Vec::new();
        for (page, bucket) in (0..=u8::MAX).zip(&mut self.buckets) {
            if bucket.sessions.is_empty() {
                continue;
            }
            let hash = match bucket.hash {
                Some(hash) => hash,
                None => Part::hash(&bucket.encode(page)),
            };
            bucket.hash = Some(hash);
            hashes.push((PageId::Sessions(page), hash));
        }
        hashes
    }

    /// Adds the sessions of a page, and returns when it was last modified.
    pub(crate) fn load(&mut self, page: u8, content: &[u8]) -> Result<Zxid, DecodeError> {
        let bucket = Bucket::decode(page, content)?;
        let modified = bucket.modified;
        for session in bucket.sessions.values() {
            self.count(session.pod);
        }
        self.buckets[usize::from(page)] = bucket;
        Ok(modified)
    }
}

impl Bucket {
    fn encode(&self, page: u8) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(VERSION);
        PageId::Sessions(page).encode(&mut out);
        out.i64(self.modified.get());
        out.len(self.sessions.len());
        for (id, session) in &self.sessions {
            out.i64(id.get());
            out.varint(session.timeout_ms.into());
            out.raw(session.password.get());
            out.u64(session.pod.get());
            out.i64(session.attached.get());
        }
        out.into_bytes()
    }

    fn decode(page: u8, content: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(content);
        match input.u8()? {
            VERSION => {}
            version => return Err(DecodeError::Version(version)),
        }
        if PageId::decode(&mut input)? != PageId::Sessions(page) {
            return Err(DecodeError::Invalid("page id"));
        }
        let modified = Zxid::new(input.i64()?);
        let mut sessions = BTreeMap::new();
        for _ in 0..input.count(MIN_BYTES)? {
            let id = SessionId::new(input.i64()?);
            let session = Session {
                timeout_ms: input.varint_u32()?,
                password: Password::new(input.array()?),
                pod: PodId::new(input.u64()?),
                attached: Zxid::new(input.i64()?),
                ephemerals: BTreeSet::new(),
                ephemeral_bytes: 0,
            };
            let is_in_order = sessions.last_key_value().is_none_or(|(&last, _)| last < id);
            if index(id) != usize::from(page) || !is_in_order {
                return Err(DecodeError::Invalid("session id"));
            }
            sessions.insert(id, session);
        }
        input.finish()?;
        if sessions.is_empty() {
            return Err(DecodeError::Invalid("number of sessions"));
        }
        Ok(Self {
            sessions,
            modified,
            hash: None,
        })
    }
}

fn index(id: SessionId) -> usize {
    let [index, ..] = xxh3_64(&id.get().to_le_bytes()).to_le_bytes();
    usize::from(index)
}
