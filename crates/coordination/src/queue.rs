//! The queue of a lock or an election: nodes below one parent, in the order of their creation.
//!
//! # Nodes
//! - A contender is ephemeral: `_c_SESSION.REQUEST-__WRIT__0000000000`, or `__READ__` if it shares.
//!   The form is that of Curator's `InterProcessReadWriteLock`. In an election the suffix is
//!   `-latch-`, as in its `LeaderLatch`. Other sequential nodes contend, too.
//! - A guard is persistent: `delay-SESSION.REQUEST`. A holder with a lock delay has one, from
//!   before it is told that it holds until it releases. While a guard's contender is gone,
//!   nobody gets the lock.
//!
//! # Who holds
//! A contender holds if no earlier contender excludes it, and no other guard. Once true this stays
//! true: new contenders come behind it, and only holders get guards. So an old state of the tree
//! can't make two holders out of one.
//!
//! The token is the zxid that created the contender. Holders follow each other in the order of
//! their tokens.

mod acquire;
mod attempts;
mod delays;
mod names;

use synod_coordination_core::{OpError, SessionId, WatchKind};

pub(crate) use acquire::{
    Acquisition, Place, Wait, create, make_queue, release_guarded, remove_token,
};
pub(crate) use attempts::Attempts;
pub(crate) use delays::{Delays, MAX_DELAY_MS};
pub(crate) use names::{Attempt, Kind, LOCKS, Mode, child_path, election_path, lock_path};
use names::{GUARD, SERVICE_ROOT, parse};

use crate::hub::View;

/// A holder or a waiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    /// The fencing token.
    pub(crate) token: i64,
    sequence: u32,
    /// Zero if the node is not ephemeral.
    pub(crate) session: SessionId,
    pub(crate) since_ms: i64,
}

impl Contender {
    /// Its session and request, if it is one of ours. Others may create nodes with such names, so
    /// the node has to be the session's.
    fn own_attempt(&self) -> Option<Attempt> {
        let attempt = Attempt::of_contender(&self.name)?;
        (attempt.session() == self.session).then_some(attempt)
    }

    /// Its node's data; empty if the client may not read it.
    pub(crate) fn data<'a>(&self, view: &'a View<'_>, queue: &str) -> &'a [u8] {
        let read = view.get(&format!("{queue}/{}", self.name));
        read.map(|(data, _)| data).unwrap_or_default()
    }
}

/// What keeps a lock closed after its holder has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guard {
    pub(crate) name: String,
    pub(crate) attempt: Attempt,
    mode: Mode,
    pub(crate) delay_ms: u32,
    /// The transaction that created it.
    pub(crate) czxid: i64,
}

/// What a contender waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Blocker<'a> {
    /// Another contender.
    Contender(&'a Contender),
    /// The lock delay of a holder that has failed.
    Delay(&'a Guard),
}

/// The contenders and guards of a lock or an election.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// In their order.
    pub(crate) contenders: Vec<Contender>,
    guards: Vec<Guard>,
}

impl Queue {
    /// Reads the queue below `path`. It is empty if the node does not exist. Nodes whose data the
    /// client may not read count as well: other clients choose their access control lists.
    ///
    /// # Errors
    /// The client may not read the names of the nodes.
    pub(crate) fn read(view: &View<'_>, path: &str) -> Result<Self, OpError> {
        let names = match view.children(path) {
            Ok((names, _)) => names,
            Err(OpError::NoNode) => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut queue = Self::default();
        for name in names {
            let path = format!("{path}/{name}");
            if let Some(attempt) = name.strip_prefix(GUARD) {
                let data = view.get(&path).map(|(data, _)| data);
                let (mode, delay_ms) = names::read_guard(data.unwrap_or_default());
                let stat = view.stat(&path).ok_or(OpError::NoNode)?;
                queue.guards.push(Guard {
                    attempt: Attempt::from_text(attempt),
                    mode,
                    delay_ms,
                    czxid: stat.czxid.get(),
                    name,
                });
            } else if let Some((mode, sequence)) = parse(&name) {
                let stat = view.stat(&path).ok_or(OpError::NoNode)?;
                queue.contenders.push(Contender {
                    mode,
                    token: stat.czxid.get(),
                    sequence,
                    session: stat.ephemeral_owner,
                    since_ms: stat.ctime_ms,
                    name,
                });
            }
        }
        // Nodes that one transaction created have the same token.
        let order = |contender: &Contender| (contender.token, contender.sequence);
        queue.contenders.sort_by_key(order);
        Ok(queue)
    }

    /// The places of an attempt. There is more than one if the log took a creation whose outcome
    /// was unknown.
    pub(crate) fn places(&self, attempt: &Attempt) -> impl Iterator<Item = &Contender> {
        let own = |contender: &&Contender| contender.own_attempt().as_ref() == Some(attempt);
        self.contenders.iter().filter(own)
    }

    /// The guard of an attempt.
    pub(crate) fn guard(&self, attempt: &Attempt) -> Option<&Guard> {
        self.guards.iter().find(|guard| guard.attempt == *attempt)
    }

    /// What keeps a contender from holding; `None` if it holds. Of several contenders, the last one
    /// before it: the others go first.
    pub(crate) fn blocker(&self, contender: &Contender) -> Option<Blocker<'_>> {
        let order = |contender: &Contender| (contender.token, contender.sequence);
        let own = contender.own_attempt();
        let earlier = self.contenders.iter().rev().find(|other| {
            let is_own = own.is_some() && other.own_attempt() == own;
            order(other) < order(contender) && !is_own && other.mode.excludes(contender.mode)
        });
        if let Some(earlier) = earlier {
            return Some(Blocker::Contender(earlier));
        }
        let delay = self
            .delays()
            .find(|guard| guard.mode.excludes(contender.mode));
        delay.map(Blocker::Delay)
    }

    /// The guards of holders that have failed.
    pub(crate) fn delays(&self) -> impl Iterator<Item = &Guard> {
        let is_delay = |guard: &&Guard| self.places(&guard.attempt).next().is_none();
        self.guards.iter().filter(is_delay)
    }

    /// The first one with this token that holds.
    pub(crate) fn holds(&self, token: i64) -> bool {
        let mut contenders = self.contenders.iter();
        contenders.any(|contender| contender.token == token && self.blocker(contender).is_none())
    }
}

/// Leaves a watch on what a contender waits for. Returns whether there was room.
fn watch_blocker(view: &mut View<'_>, path: &str, blocker: &Blocker<'_>) -> bool {
    let name = match blocker {
        Blocker::Contender(contender) => &contender.name,
        Blocker::Delay(guard) => &guard.name,
    };
    view.watch(&format!("{path}/{name}"), WatchKind::Data)
}
