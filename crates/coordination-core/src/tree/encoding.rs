//! A page of nodes as bytes. The access control lists come first, each once; the nodes name them by
//! their place.

use std::collections::BTreeMap;

use super::Tree;
use super::node::{Body, Fields, NodeId};
use crate::acl::{AclId, AclList};
use crate::codec::{Reader, Writer};
use crate::page::PageId;
use crate::stat::Owner;
use crate::{DecodeError, SessionId, Zxid};

/// At least the length of a node's record without its body and its access control list. With it, no
/// page is longer than the sum of its nodes' bytes, the header apart.
pub(super) const RECORD_BYTES: u64 = 96;

const VERSION: u8 = 1;

/// A page's content.
pub(super) struct Content<'a> {
    pub(super) page: PageId,
    pub(super) modified: Zxid,
    pub(super) acls: Vec<AclList>,
    pub(super) records: Vec<Record<'a>>,
}

/// One node.
pub(super) struct Record<'a> {
    pub(super) id: NodeId,
    pub(super) parent: NodeId,
    /// The place of its list in the page.
    pub(super) acl: usize,
    pub(super) fields: Fields,
    pub(super) name: &'a str,
    pub(super) data: Option<&'a [u8]>,
}

impl Tree {
    /// The same bytes on every pod: the nodes are in order of their ids.
    pub(super) fn encode_page(&self, page: u32) -> Vec<u8> {
        let mut members = self.pages.members(page).to_vec();
        members.sort_unstable();
        let mut places: BTreeMap<u32, usize> = BTreeMap::new();
        let mut acls: Vec<AclId> = Vec::new();
        for &id in &members {
            let acl = self.node(id).acl;
            places.entry(acl.get()).or_insert_with(|| {
                acls.push(acl);
                acls.len() - 1
            });
        }
        let records = members.into_iter().map(|id| {
            let node = self.node(id);
            Record {
                id,
                parent: node.links.parent,
                acl: places[&node.acl.get()],
                fields: node.fields,
                name: node.body.name(),
                data: node.body.data(),
            }
        });
        let content = Content {
            page: PageId::Nodes(page),
            modified: self.pages.modified(page),
            acls: acls
                .into_iter()
                .map(|acl| AclList::clone(self.acls.get(acl)))
                .collect(),
            records: records.collect(),
        };
        content.encode()
    }
}

impl Content<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(64 * 1024);
        out.u8(VERSION);
        self.page.encode(&mut out);
        out.i64(self.modified.get());
        out.len(self.acls.len());
        for acl in &self.acls {
            crate::acl::encode(acl, &mut out);
        }
        out.len(self.records.len());
        for record in &self.records {
            record.encode(&mut out);
        }
        out.into_bytes()
    }
}

impl<'a> Content<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        match input.u8()? {
            VERSION => {}
            version => return Err(DecodeError::Version(version)),
        }
        let page = PageId::decode(&mut input)?;
        let modified = Zxid::new(input.i64()?);
        let acls = (0..input.count(1)?)
            .map(|_| crate::acl::decode(&mut input).map(AclList::from))
            .collect::<Result<_, _>>()?;
        let records = (0..input.count(Record::MIN_BYTES)?)
            .map(|_| Record::decode(&mut input))
            .collect::<Result<_, _>>()?;
        input.finish()?;
        Ok(Self {
            page,
            modified,
            acls,
            records,
        })
    }
}

impl<'a> Record<'a> {
    const MIN_BYTES: usize = 4 + 4 + 1 + 3 * 8 + 2 * 8 + 3 * 4 + 1 + 1 + 1;

    fn encode(&self, out: &mut Writer) {
        out.u32(self.id.get());
        out.u32(self.parent.get());
        out.len(self.acl);
        for zxid in [self.fields.czxid, self.fields.mzxid, self.fields.pzxid] {
            out.i64(zxid.get());
        }
        out.i64(self.fields.ctime_ms);
        out.i64(self.fields.mtime_ms);
        out.i32(self.fields.version);
        out.i32(self.fields.aversion);
        out.i32(self.fields.counter);
        match self.fields.owner {
            Owner::None => out.u8(0),
            Owner::Session(id) => {
                out.u8(1);
                out.i64(id.get());
            }
            Owner::Container => out.u8(2),
            Owner::Ttl { ttl_ms } => {
                out.u8(3);
                out.i64(ttl_ms);
            }
        }
        out.text(self.name);
        out.optional(self.data);
    }

    fn decode(input: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let id = NodeId::new(input.u32()?);
        let parent = NodeId::new(input.u32()?);
        let acl = input.varint_u32()? as usize;
        let mut zxid = || input.i64().map(Zxid::new);
        let (czxid, mzxid, pzxid) = (zxid()?, zxid()?, zxid()?);
        let fields = Fields {
            czxid,
            mzxid,
            pzxid,
            ctime_ms: input.i64()?,
            mtime_ms: input.i64()?,
            version: input.i32()?,
            aversion: input.i32()?,
            counter: input.i32()?,
            owner: decode_owner(input)?,
        };
        Ok(Self {
            id,
            parent,
            acl,
            fields,
            name: input.text()?,
            data: input.optional()?,
        })
    }

    pub(super) fn body(&self) -> Body {
        Body::new(self.name, self.data)
    }
}

fn decode_owner(input: &mut Reader<'_>) -> Result<Owner, DecodeError> {
    Ok(match input.u8()? {
        0 => Owner::None,
        1 => Owner::Session(SessionId::new(input.i64()?)),
        2 => Owner::Container,
        3 => {
            let ttl_ms = input.i64()?;
            if !(1..=Owner::MAX_TTL_MS).contains(&ttl_ms) {
                return Err(DecodeError::Invalid("ttl"));
            }
            Owner::Ttl { ttl_ms }
        }
        _ => return Err(DecodeError::Invalid("owner")),
    })
}
