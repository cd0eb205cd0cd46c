//! Clients that set, swap and read the data of a few nodes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use rand::Rng as _;
use synod_history::{Record, Seen, Verdict, check_within};
use synod_jute::{
    Acl, CreateRequest, ErrorCode, GetDataRequest, Request, Response, SetDataRequest, SyncRequest,
};
use synod_testkit::zookeeper::ZkClient;
use tokio::time::Instant;

use super::session::Session;
use crate::chaos::evidence;

/// Nodes at a time.
const NODES: u32 = 4;

/// New nodes after this time keep the linearizability check small.
const EPOCH: Duration = Duration::from_secs(5);

/// Enough for the longest load.
const EPOCHS: u32 = 200;

const SEARCH_WITHIN: Duration = Duration::from_secs(60);

/// What the clients saw, by node.
pub(super) struct Registers {
    began: Instant,
    records: RefCell<Vec<(u32, Record)>>,
    answered: RefCell<Vec<Duration>>,
}

impl Registers {
    pub(super) fn new(began: Instant) -> Self {
        Self {
            began,
            records: RefCell::default(),
            answered: RefCell::default(),
        }
    }

    fn now(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }

    /// The node to work on, of the nodes that are in use now.
    fn node(&self, chosen: u32) -> u32 {
        let epoch = self.began.elapsed().as_secs() / EPOCH.as_secs();
        let epoch = u32::try_from(epoch).unwrap_or(u32::MAX) % EPOCHS;
        epoch * NODES + chosen
    }

    fn add(&self, node: u32, record: Record) {
        if record.returned.is_some() {
            self.answered.borrow_mut().push(self.began.elapsed());
        }
        self.records.borrow_mut().push((node, record));
    }

    pub(super) fn records(&self) -> Vec<(u32, Record)> {
        self.records.borrow().clone()
    }

    /// The longest time without an answer to anybody.
    pub(super) fn longest_gap(&self) -> Duration {
        let answered = self.answered.borrow();
        let gaps = answered.windows(2);
        let gaps = gaps.map(|pair| pair[1].saturating_sub(pair[0]));
        gaps.max().unwrap_or_default()
    }
}

fn path(node: u32) -> String {
    format!("/registers/{node}")
}

/// Creates the nodes.
pub(super) async fn create(address: &str) -> Result<()> {
    let mut client = ZkClient::open(address).await?;
    let paths = (0..EPOCHS * NODES).map(path);
    for path in std::iter::once("/registers".to_owned()).chain(paths) {
        client
            .send(&Request::Create(CreateRequest {
                path: path.into(),
                data: None,
                acl: Some(vec![Acl::new(31, "world", "anyone")]),
                flags: 0,
            }))
            .await?;
    }
    let sync = Request::Sync(SyncRequest { path: "/".into() });
    client.send(&sync).await?;
    while client.is_waiting() {
        client.receive().await?;
    }
    Ok(())
}

/// Works until `stop`.
pub(super) async fn run(
    mut session: Session,
    number: u32,
    registers: &Registers,
    stop: &Cell<bool>,
) -> Result<()> {
    let mut written = u64::from(number) << 32;
    // What the client read last: node, value, version.
    let mut known: Option<(u32, Option<u64>, i32)> = None;
    while !stop.get() {
        let node = registers.node(session.random.random_range(0..NODES));
        let called = registers.now();
        let record = |returned, seen| Record {
            client: number,
            called,
            returned,
            seen,
        };
        if session.random.random_range(0..10) < 4 {
            if let Some((value, version)) = read(&mut session, node).await? {
                let read = record(Some(registers.now()), Seen::Read(value));
                registers.add(node, read);
                known = Some((node, value, version));
            }
            continue;
        }
        written += 1;
        let swap = known.take().filter(|(known, ..)| *known == node);
        let seen = match swap {
            Some((_, expect, _)) => Seen::Swapped {
                expect,
                new: written,
            },
            None => Seen::Wrote(Some(written)),
        };
        let set = Request::SetData(SetDataRequest {
            path: path(node).into(),
            data: Some(Bytes::copy_from_slice(&written.to_be_bytes())),
            version: swap.map_or(-1, |(.., version)| version),
        });
        match session.call(&set).await? {
            None => registers.add(node, record(None, seen)),
            Some(reply) => match reply.outcome {
                Ok(Response::SetData(done)) => {
                    registers.add(node, record(Some(registers.now()), seen));
                    known = Some((node, Some(written), done.stat.version));
                }
                Err(ErrorCode::BadVersion) if swap.is_some() => {}
                other => bail!("{set:?}: {other:?}"),
            },
        }
    }
    Ok(())
}

/// `sync` and a read, in one go.
async fn read(session: &mut Session, node: u32) -> Result<Option<(Option<u64>, i32)>> {
    let sync = Request::Sync(SyncRequest { path: "/".into() });
    if session.call(&sync).await?.is_none() {
        return Ok(None);
    }
    // The read may come to another pod, which is not behind what this client has seen.
    let get = Request::GetData(GetDataRequest {
        path: path(node).into(),
        watch: false,
    });
    let Some(reply) = session.call(&get).await? else {
        return Ok(None);
    };
    let Ok(Response::GetData(found)) = reply.outcome else {
        bail!("{get:?}: {reply:?}");
    };
    let bytes = found.data.unwrap_or_default();
    let value = match bytes.len() {
        0 => None,
        _ => Some(u64::from_be_bytes(
            bytes[..].try_into().context("eight bytes")?,
        )),
    };
    Ok(Some((value, found.stat.version)))
}

/// Each node is linearizable.
pub(super) fn check(records: &[(u32, Record)]) -> Result<()> {
    let mut by_node: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
    for (node, record) in records {
        by_node.entry(*node).or_default().push(*record);
    }
    for (node, records) in by_node {
        let verdict = check_within(&records, SEARCH_WITHIN);
        if matches!(verdict, Verdict::Linearizable(_)) {
            continue;
        }
        let file = evidence()?.join(format!("register-{node}.history"));
        let lines = records.iter().map(|record| format!("{record:?}\n"));
        std::fs::write(&file, lines.collect::<String>())?;
        bail!(
            "{}: {verdict:?} (its history: {})",
            path(node),
            file.display()
        );
    }
    Ok(())
}
