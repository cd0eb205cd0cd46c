//! Clients that take a lock: an ephemeral node that one of them creates.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rand::Rng as _;
use synod_jute::{Acl, CreateRequest, DeleteRequest, ErrorCode, Request, Response};
use tokio::time::{Instant, sleep};

use super::session::{Session, TIMEOUT_MS};

const PATH: &str = "/the-lock";

/// A term with the lock.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// The fencing token: the transaction that created the node.
    token: i64,
    since: Instant,
    until: Instant,
}

/// All terms with the lock.
#[derive(Default)]
pub(super) struct Holders(RefCell<Vec<Held>>);

impl Holders {
    /// No two terms overlap, and later ones have higher tokens. Returns how many there were.
    pub(super) fn check(&self) -> Result<usize> {
        let mut terms = self.0.borrow().clone();
        terms.sort_by_key(|held| held.since);
        for pair in terms.windows(2) {
            ensure!(pair[0].until <= pair[1].since, "two holders: {pair:?}");
            ensure!(pair[0].token < pair[1].token, "an older token: {pair:?}");
        }
        Ok(terms.len())
    }
}

/// Works until `stop`, and leaves no node behind.
pub(super) async fn run(mut session: Session, holders: &Holders, stop: &Cell<bool>) -> Result<()> {
    let create = Request::Create2(CreateRequest {
        path: PATH.into(),
        data: None,
        acl: Some(vec![Acl::new(31, "world", "anyone")]),
        flags: 1,
    });
    let delete = Request::Delete(DeleteRequest {
        path: PATH.into(),
        version: -1,
    });
    while !stop.get() {
        let called = Instant::now();
        let token = match session.call(&create).await? {
            // It may hold the lock, or get it later.
            None => {
                end(&mut session).await?;
                None
            }
            Some(reply) => match reply.outcome {
                Ok(Response::Create2(created)) => Some(created.stat.czxid),
                Err(ErrorCode::NodeExists) => {
                    pause(&mut session, 1..20).await;
                    None
                }
                other => bail!("{create:?}: {other:?}"),
            },
        };
        // The session can't expire so soon after the call began.
        let is_safe =
            called.elapsed() < Duration::from_millis(TIMEOUT_MS.unsigned_abs().into()) / 2;
        if let Some(token) = token.filter(|_| is_safe) {
            let since = Instant::now();
            pause(&mut session, 1..10).await;
            let until = Instant::now();
            holders.0.borrow_mut().push(Held {
                token,
                since,
                until,
            });
        }
        if token.is_some() {
            release(&mut session, &delete).await?;
        }
    }
    Ok(())
}

/// Deletes the node. If the answer is lost, it may be another client's by now: then only the end of
/// the session is safe.
async fn release(session: &mut Session, delete: &Request) -> Result<()> {
    match session.call(delete).await? {
        // After the session, and with it the node, is gone, another client may have it.
        Some(reply) => ensure!(reply.outcome.is_ok(), "{delete:?}: {reply:?}"),
        None => end(session).await?,
    }
    Ok(())
}

/// Ends the session for certain, and with it its node.
async fn end(session: &mut Session) -> Result<()> {
    let id = session.id();
    while id != 0 && session.id() == id {
        if session.call(&Request::CloseSession).await?.is_some() {
            session.forget();
        }
    }
    Ok(())
}

async fn pause(session: &mut Session, milliseconds: std::ops::Range<u64>) {
    let milliseconds = session.random.random_range(milliseconds);
    sleep(Duration::from_millis(milliseconds)).await;
}
