//! Takes a place in a queue, waits for its turn, and leaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use synod_coordination_core::SessionId;
use synod_jute::{
    Acl, CheckVersionRequest, CreateMode, CreateRequest, DeleteRequest, ErrorCode, MultiOp,
    MultiRequest, OpResult, Request, Response,
};
use synod_runtime::{clock, random, task};
use tokio::sync::oneshot;

use super::attempts::{Call, Whose};
use super::{
    Attempt, Attempts, Blocker, Delays, Kind, LOCKS, Queue, SERVICE_ROOT, names, watch_blocker,
};
use crate::error::Error;
use crate::hub::{CallError, Client, Reader};

/// How often a write is tried whose nodes change meanwhile.
const TRIES: usize = 5;

/// The pause before an attempt whose caller is gone tries again to leave, at most; half of it at
/// least.
const LEAVE_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Permissions for everyone.
const ALL_PERMS: i32 = 31;

/// An attempt's place in a queue, if it has one.
pub(crate) struct Place {
    pub(crate) client: Arc<Client>,
    /// The path of the queue.
    pub(crate) queue: String,
    pub(crate) attempt: Attempt,
}

/// How long an attempt waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// Until this time. That it did not acquire by then is no error.
    Until(Instant),
    /// Until the call's deadline, if it has one. Then the call fails.
    Deadline(Option<Instant>),
}

/// What a caller wants.
pub(crate) struct Acquisition {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    pub(crate) wait: Wait,
    /// Zero: none.
    pub(crate) lock_delay_ms: u32,
    /// The data of the contender's node.
    pub(crate) data: Bytes,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) delays: Arc<Delays>,
}

type Answer = Result<Option<i64>, Error>;

/// Where an attempt stands.
enum Turn {
    Holds {
        token: i64,
        is_guarded: bool,
    },
    Waits,
    /// A holder has failed. Its guard goes at this time, or later.
    Delayed {
        guard: super::Guard,
        over: Instant,
    },
    /// It has no place any more.
    Removed,
}

enum Ended {
    Held { token: i64, whose: Whose },
    TimedOut,
    Cancelled,
}

impl Acquisition {
    /// Acquires. Returns the token; `None` if it did not in time. Then the attempt has no place.
    ///
    /// # Errors
    /// [`Error::Lost`] if the attempt may have a place. Otherwise it has none.
    ///
    /// # Cancel safety
    /// If it is dropped the attempt leaves the queue, unless the connection ends meanwhile or the
    /// attempt holds already: the client does not know, and releases it.
    pub(crate) async fn run(self) -> Answer {
        // In a task, so that a caller that goes away can't end it between two writes.
        let (answer, answered) = oneshot::channel();
        drop(task::spawn("acquire", self.answer(answer)));
        answered.await.unwrap_or(Err(Error::Lost))
    }

    async fn answer(self, mut answer: oneshot::Sender<Answer>) {
        let mut call = self.attempts.enter(&self.place.queue, &self.place.attempt);
        let whose = match self.enter(&call).await {
            Ok(whose) => whose,
            Err(error) => {
                // The client asks again after a loss, and keeps its place.
                let is_lost = error == Error::Lost;
                // The caller may be gone.
                drop(answer.send(Err(error)));
                if !is_lost {
                    self.leave_alone(&mut call, Whose::Earlier).await;
                }
                return;
            }
        };
        let outcome = match self.hold(&mut answer, whose).await {
            Ok(Ended::Held { token, whose }) => match answer.send(Ok(Some(token))) {
                Ok(()) => return call.is_held(),
                // Nobody learns of it from this call.
                Err(_) => return self.leave_alone(&mut call, whose).await,
            },
            Ok(Ended::Cancelled) => return self.leave_alone(&mut call, Whose::Own).await,
            Ok(Ended::TimedOut) => match self.wait {
                Wait::Until(_) => Ok(None),
                Wait::Deadline(_) => Err(Error::DeadlineExceeded),
            },
            Err(error) => Err(error),
        };
        let outcome = match outcome {
            // The client asks again, and keeps its place.
            Err(Error::Lost) => outcome,
            // An attempt that did not leave may hold later.
            Ok(_) | Err(_) => match self.leave(&mut call, Whose::Own).await {
                Ok(()) => outcome,
                Err(_) => Err(Error::Lost),
            },
        };
        // The caller may be gone.
        drop(answer.send(outcome));
    }

    /// Waits until the attempt holds. It has a place, taken by this call or an earlier one.
    async fn hold(
        &self,
        answer: &mut oneshot::Sender<Answer>,
        mut whose: Whose,
    ) -> Result<Ended, Error> {
        let mut reader = self.place.client.reader();
        loop {
            let turn = self.look(&mut reader)?;
            if !matches!(turn, Turn::Holds { .. }) {
                // Nobody was told before that it holds.
                whose = Whose::Own;
            }
            match turn {
                Turn::Holds { is_guarded, .. } if self.lock_delay_ms > 0 && !is_guarded => {
                    self.guard().await?;
                    continue;
                }
                Turn::Holds { token, .. } => return Ok(Ended::Held { token, whose }),
                Turn::Removed => return Err(Error::Removed),
                Turn::Waits => {
                    if let Some(ended) = self.wait(&reader, None, answer).await {
                        return Ok(ended);
                    }
                }
                Turn::Delayed { guard, over } if over <= clock::now() => {
                    let path = format!("{}/{}", self.place.queue, guard.name);
                    // Another waiter may have deleted it.
                    match self.place.client.call(delete(path)).await {
                        Ok(_) | Err(CallError::Refused(ErrorCode::NoNode)) => {}
                        Err(error) => return Err(placed(error.into())),
                    }
                    self.delays.forget(&self.place.queue, &guard);
                }
                Turn::Delayed { over, .. } => {
                    if let Some(ended) = self.wait(&reader, Some(over), answer).await {
                        return Ok(ended);
                    }
                }
            }
        }
    }

    /// Takes a place, unless the attempt has one.
    async fn enter(&self, call: &Call) -> Result<Whose, Error> {
        let _change = call.change.lock().await;
        let found = self.place.client.reader().look(|view| {
            let queue = Queue::read(view, &self.place.queue)?;
            let mode = queue.places(&self.place.attempt).next();
            Ok::<_, Error>(mode.map(|contender| contender.mode))
        })??;
        match found {
            Some(mode) if mode != self.kind.mode() => Err(Error::OtherMode),
            Some(_) => Ok(Whose::Earlier),
            None => self.create().await.map(|()| Whose::Own),
        }
    }

    async fn create(&self) -> Result<(), Error> {
        let client = &self.place.client;
        let path = self.place.attempt.contender(&self.place.queue, self.kind);
        for _ in 0..TRIES {
            let mode = CreateMode::EphemeralSequential;
            let request = create(path.clone(), self.data.clone(), mode);
            match client.call(Request::Create2(request)).await {
                Ok(_) => return Ok(()),
                // The queue's node does not exist, or not any more.
                Err(CallError::Refused(ErrorCode::NoNode)) => {
                    make_queue(client, &self.place.queue).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Throttled)
    }

    fn look(&self, reader: &mut Reader) -> Result<Turn, Error> {
        let path = &self.place.queue;
        let looked = reader.look(|view| {
            let queue = Queue::read(view, path)?;
            let Some(own) = queue.places(&self.place.attempt).next() else {
                return Ok(Turn::Removed);
            };
            let Some(blocker) = queue.blocker(own) else {
                return Ok(Turn::Holds {
                    token: own.token,
                    is_guarded: queue.guard(&self.place.attempt).is_some(),
                });
            };
            let own_path = format!("{path}/{}", own.name);
            let is_watched = watch_blocker(view, path, &blocker)
                && view.watch(&own_path, synod_coordination_core::WatchKind::Data);
            if !is_watched {
                return Err(Error::Throttled);
            }
            Ok(match blocker {
                Blocker::Contender(_) => Turn::Waits,
                Blocker::Delay(guard) => Turn::Delayed {
                    over: self.delays.over(path, guard, clock::now()),
                    guard: guard.clone(),
                },
            })
        });
        looked.map_err(|closed| placed(closed.into()))?
    }

    /// Waits for a change, or for `over`. Returns why it waits no longer.
    async fn wait(
        &self,
        reader: &Reader,
        over: Option<Instant>,
        answer: &mut oneshot::Sender<Answer>,
    ) -> Option<Ended> {
        let deadline = match self.wait {
            Wait::Until(at) => Some(at),
            Wait::Deadline(at) => at,
        };
        tokio::select! {
            biased; // nothing for a caller that is gone; a free lock before the deadline
            () = answer.closed() => Some(Ended::Cancelled),
            () = reader.changed() => None,
            () = sleep_until(over) => None,
            () = sleep_until(deadline) => Some(Ended::TimedOut),
        }
    }

    /// Creates the guard of a holder. It exists only if the holder did when it was created.
    async fn guard(&self) -> Result<(), Error> {
        let path = &self.place.queue;
        let own = self.place.nodes()?;
        let Some(contender) = own.contenders.first() else {
            return Err(Error::Removed);
        };
        let data = names::guard_data(self.kind.mode(), self.lock_delay_ms);
        let guard = self.place.attempt.guard(path);
        let ops = vec![
            MultiOp::Check(CheckVersionRequest {
                path: contender.as_str().into(),
                version: -1,
            }),
            MultiOp::Create(create(guard, data.into(), CreateMode::Persistent)),
        ];
        match multi(&self.place.client, ops).await {
            Ok(()) | Err(Error::NodeExists) => Ok(()),
            Err(Error::NoNode) => Err(Error::Removed),
            Err(error) => Err(placed(error)),
        }
    }

    /// Leaves the queue, unless another call is about the same attempt.
    async fn leave(&self, call: &mut Call, whose: Whose) -> Result<(), Error> {
        let change = Arc::clone(&call.change);
        let _change = change.lock().await;
        match call.give_up(whose) {
            true => self.place.remove().await.map(drop),
            false => Ok(()),
        }
    }

    /// Leaves the queue when nobody can be told that it failed. If the connection ends first, the
    /// attempt keeps its place until its client releases it or the session ends.
    async fn leave_alone(&self, call: &mut Call, whose: Whose) {
        while self.leave(call, whose).await == Err(Error::Throttled)
            && !self.place.client.is_closed()
        {
            clock::sleep(random::jitter(LEAVE_AGAIN_AFTER)).await;
        }
    }
}

impl Place {
    /// The path of the attempt's node, if it holds.
    ///
    /// # Errors
    /// The queue can't be read.
    pub(crate) fn held(&self) -> Result<Option<String>, Error> {
        self.client.reader().look(|view| {
            let queue = Queue::read(view, &self.queue)?;
            let own = queue.places(&self.attempt).next();
            let held = own.filter(|own| queue.blocker(own).is_none());
            Ok(held.map(|own| format!("{}/{}", self.queue, own.name)))
        })?
    }

    /// Deletes the attempt's nodes. Returns whether there were any.
    ///
    /// # Errors
    /// [`Error::Lost`] if they may be deleted or not.
    pub(crate) async fn release(&self, attempts: &Arc<Attempts>) -> Result<bool, Error> {
        let call = attempts.enter(&self.queue, &self.attempt);
        let _change = call.change.lock().await;
        self.remove().await
    }

    async fn remove(&self) -> Result<bool, Error> {
        for _ in 0..TRIES {
            let own = self.nodes()?;
            let paths = own.contenders.into_iter().chain(own.guard);
            let ops: Vec<MultiOp> = paths.map(delete_op).collect();
            if ops.is_empty() {
                return Ok(false);
            }
            match multi(&self.client, ops).await {
                Ok(()) => return Ok(true),
                // Somebody else deleted one of them.
                Err(Error::NoNode) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Throttled)
    }

    fn nodes(&self) -> Result<Nodes, Error> {
        self.client.reader().look(|view| {
            let queue = Queue::read(view, &self.queue)?;
            let path = |name: &String| format!("{}/{name}", self.queue);
            let contenders = queue.places(&self.attempt);
            let contenders = contenders.map(|contender| path(&contender.name));
            let guard = queue.guard(&self.attempt);
            Ok(Nodes {
                contenders: contenders.collect(),
                guard: guard.map(|guard| path(&guard.name)),
            })
        })?
    }
}

/// The paths of an attempt's nodes.
struct Nodes {
    contenders: Vec<String>,
    guard: Option<String>,
}

/// Takes a place away from whoever has this token. Returns whether anybody had it.
///
/// # Errors
/// [`Error::Lost`] if it may have been taken away.
pub(crate) async fn remove_token(
    client: &Arc<Client>,
    queue_path: &str,
    token: i64,
) -> Result<bool, Error> {
    for _ in 0..TRIES {
        let ops = client.reader().look(|view| {
            let queue = Queue::read(view, queue_path)?;
            let mut contenders = queue.contenders.iter();
            let Some(contender) = contenders.find(|contender| contender.token == token) else {
                return Ok::<_, Error>(Vec::new());
            };
            let attempt = contender.own_attempt();
            let guard = attempt.and_then(|attempt| queue.guard(&attempt));
            let names = [Some(&contender.name), guard.map(|guard| &guard.name)];
            let paths = names.into_iter().flatten();
            let paths = paths.map(|name| format!("{queue_path}/{name}"));
            Ok(paths.map(delete_op).collect())
        })??;
        if ops.is_empty() {
            return Ok(false);
        }
        match multi(client, ops).await {
            Ok(()) => return Ok(true),
            Err(Error::NoNode) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::Throttled)
}

/// Releases the locks of a session that have a lock delay, so that nobody waits for it.
///
/// # Errors
/// [`Error::Lost`] if some may be released. Then, or if it is refused, it is safe to repeat.
pub(crate) async fn release_guarded(
    client: &Arc<Client>,
    session: SessionId,
    attempts: &Arc<Attempts>,
) -> Result<(), Error> {
    let places = client.reader().look(|view| {
        let paths = view.ephemerals(session, LOCKS).into_iter();
        let places = paths.filter_map(|path| {
            let (queue, name) = path.rsplit_once('/')?;
            let attempt = Attempt::of_contender(name)?;
            let is_guarded = view.stat(&attempt.guard(queue)).is_some();
            is_guarded.then(|| Place {
                client: Arc::clone(client),
                queue: queue.to_owned(),
                attempt,
            })
        });
        places.collect::<Vec<_>>()
    })?;
    for place in places {
        place.release(attempts).await?;
    }
    Ok(())
}

/// Of an attempt that may have a place: what was not sent is no certain failure of the whole.
fn placed(error: Error) -> Error {
    if error == Error::NotServing {
        Error::Lost
    } else {
        error
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => clock::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Creates the queue's node, and those above it. The queue's own goes when it is empty.
///
/// # Errors
/// Nothing was asked of the queue yet.
pub(crate) async fn make_queue(client: &Client, queue: &str) -> Result<(), Error> {
    let kind = queue.rsplit_once('/').map(|(kind, _)| kind);
    for path in [Some(SERVICE_ROOT), kind].into_iter().flatten() {
        let request = create(path.to_owned(), Bytes::new(), CreateMode::Persistent);
        made(client.call(Request::Create2(request)).await)?;
    }
    let request = create(queue.to_owned(), Bytes::new(), CreateMode::Container);
    made(client.call(Request::CreateContainer(request)).await)
}

/// A node that exists is as good as a new one. Nothing was asked of a queue yet if this fails.
fn made(reply: Result<Response, CallError>) -> Result<(), Error> {
    match reply {
        Ok(_) | Err(CallError::Refused(ErrorCode::NodeExists)) => Ok(()),
        Err(CallError::NotSent | CallError::Lost) => Err(Error::NotServing),
        Err(CallError::Refused(code)) => Err(code.into()),
    }
}

/// A node that everybody may read and change.
pub(crate) fn create(path: String, data: Bytes, mode: CreateMode) -> CreateRequest {
    CreateRequest {
        path: path.into(),
        data: Some(data),
        acl: Some(vec![Acl::new(ALL_PERMS, "world", "anyone")]),
        flags: mode.code(),
    }
}

fn delete(path: String) -> Request {
    Request::Delete(DeleteRequest {
        path: path.into(),
        version: -1,
    })
}

fn delete_op(path: String) -> MultiOp {
    MultiOp::Delete(DeleteRequest {
        path: path.into(),
        version: -1,
    })
}

/// Sends a multi. It has an effect as a whole or not at all.
async fn multi(client: &Client, ops: Vec<MultiOp>) -> Result<(), Error> {
    let response = client.call(Request::Multi(MultiRequest { ops })).await?;
    let Response::Multi(response) = response else {
        return Err(Error::Internal(ErrorCode::SystemError));
    };
    let culprit = response.results.iter().find_map(|result| {
        if let OpResult::Error(code) = result {
            Some(*code).filter(|code| *code != 0)
        } else {
            None
        }
    });
    match culprit.map(ErrorCode::try_from) {
        None => Ok(()),
        Some(Ok(code)) => Err(code.into()),
        Some(Err(_)) => Err(Error::Internal(ErrorCode::SystemError)),
    }
}
