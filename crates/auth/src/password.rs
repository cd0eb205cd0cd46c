//! Passwords: hashed and verified with bcrypt, away from the serving threads, a few at once.
//!
//! bcrypt is slow on purpose: it takes some 50 ms with etcd's cost. When a member restarts, a
//! thousand clients may log in at once, most of them with the same few passwords. Logins with the
//! same user and password at the same time share one run of bcrypt. A verified password is
//! remembered as a keyed digest of user, hash and password; the key is random and never leaves this
//! process. A new password has a new hash, so nothing has to be forgotten when it changes.
//!
//! New passwords have a queue of their own, so an administrator can set one while many clients log
//! in.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::num::NonZero;
use std::str::FromStr as _;
use std::sync::Arc;
use std::thread::available_parallelism;

use bcrypt::HashParts;
use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use parking_lot::Mutex;
use sha2::Sha256;
use synod_runtime::{random, task};
use tokio::sync::{Semaphore, watch};

use crate::recent::{Digest, Recent};

/// etcd's cost of a hash: two to this power rounds.
pub const DEFAULT_BCRYPT_COST: u32 = 10;
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;

/// bcrypt ignores the rest of a password.
const MAX_PASSWORD_BYTES: usize = 72;
/// The maximum number of different passwords that are being verified or wait for that: about as
/// many as two processors verify before a request times out. Further ones are refused.
const MAX_VERIFYING: usize = 128;
/// The maximum for one user, so that someone who guesses a user's password locks out nobody else.
const MAX_VERIFYING_OF_USER: usize = MAX_VERIFYING / 8;
/// The maximum number of logins that wait; further ones are refused.
const MAX_LOGINS: usize = 8_192;
/// The maximum number of new passwords that are being hashed or wait; further ones are refused.
const MAX_HASHING: usize = 16;
/// The highest cost of a hash that a client sends. At this cost a verification takes seconds.
pub(crate) const MAX_GIVEN_COST: u32 = 16;
/// Passwords that are remembered.
const MAX_REMEMBERED: usize = 4_096;

/// The cost that `--bcrypt-cost` stands for. One that bcrypt can't have is replaced by the default,
/// as in etcd.
#[must_use]
pub fn bcrypt_cost(given: u32) -> u32 {
    if COSTS.contains(&given) {
        return given;
    }
    let (least, most) = (COSTS.start(), COSTS.end());
    tracing::warn!(
        given,
        least,
        most,
        used = DEFAULT_BCRYPT_COST,
        "--bcrypt-cost is out of range, and the default is used: give a cost in the range"
    );
    DEFAULT_BCRYPT_COST
}

/// A password that was neither hashed nor verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// bcrypt would ignore its end.
    #[error("a password has at most {MAX_PASSWORD_BYTES} bytes")]
    TooLong,
    /// Too many wait: try again.
    #[error("too many passwords are being hashed or verified: try again")]
    Busy,
}

/// Whether bcrypt can verify this hash, at a cost of at most [`MAX_GIVEN_COST`].
pub(crate) fn is_usable_hash(hash: &[u8]) -> bool {
    let parts = std::str::from_utf8(hash).ok();
    let parts = parts.and_then(|hash| HashParts::from_str(hash).ok());
    parts.is_some_and(|parts| (*COSTS.start()..=MAX_GIVEN_COST).contains(&parts.get_cost()))
}

/// The verifications in progress.
#[derive(Default)]
struct Running {
    /// By the password's digest; the receiver gets the result.
    results: HashMap<Digest, watch::Receiver<Option<bool>>>,
    /// How many each user has.
    of_user: HashMap<Arc<str>, usize>,
}

/// Hashes and verifies.
pub struct Passwords {
    cost: u32,
    verifying: Workshop,
    hashing: Workshop,
    /// Permits for logins, including those that wait for another login's verification.
    logins: Semaphore,
    running: Mutex<Running>,
    key: [u8; 32],
    verified: Recent<()>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Passwords")
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

impl Passwords {
    /// New passwords get this cost, see [`bcrypt_cost`]. Logins take at most half of the
    /// processors.
    #[must_use]
    pub fn new(cost: u32) -> Self {
        let processors = available_parallelism().map_or(1, NonZero::get);
        Self {
            cost,
            verifying: Workshop::new((processors / 2).max(1), MAX_VERIFYING),
            hashing: Workshop::new(1, MAX_HASHING),
            logins: Semaphore::new(MAX_LOGINS),
            running: Mutex::default(),
            key: random::secret(),
            verified: Recent::new(MAX_REMEMBERED),
        }
    }

    /// The hash of a new password.
    ///
    /// # Errors
    /// [`PasswordError`].
    ///
    /// # Cancel safety
    /// Dropped, it has done nothing; a hash that has begun is finished, and lost.
    pub async fn hash(&self, password: String) -> Result<Bytes, PasswordError> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordError::TooLong);
        }
        let cost = self.cost;
        let work = move || bcrypt::hash(password, cost);
        match self.hashing.work(work).await? {
            Ok(hash) => Ok(hash.into()),
            Err(error) => {
                // The cost is right; what is left is that the system has no random numbers.
                tracing::error!(%error, "cannot hash a password");
                Err(PasswordError::Busy)
            }
        }
    }

    /// Whether the password of a user has this hash. None has one that bcrypt can't read.
    ///
    /// # Errors
    /// [`PasswordError::Busy`].
    ///
    /// # Cancel safety
    /// As [`Self::hash`].
    pub async fn verify(
        &self,
        user: &str,
        hash: &Bytes,
        password: &str,
    ) -> Result<bool, PasswordError> {
        let digest = self.digest(user, hash, password);
        if self.verified.get(&digest).is_some() {
            return Ok(true);
        }
        let _waiting = self.logins.try_acquire().map_err(|_| PasswordError::Busy)?;
        loop {
            let mut others = match self.begin(user, digest)? {
                // Another login's verification may have ended just before.
                Begun::Ours(_) if self.verified.get(&digest).is_some() => return Ok(true),
                Begun::Ours(run) => return self.run(run, hash, password).await,
                Begun::Others(result) => result,
            };
            // No result: the other login was dropped. Verify instead of it.
            if let Ok(result) = others.wait_for(Option::is_some).await {
                return Ok(*result == Some(true));
            }
        }
    }

    fn begin(&self, user: &str, digest: Digest) -> Result<Begun<'_>, PasswordError> {
        let mut running = self.running.lock();
        if let Some(others) = running.results.get(&digest) {
            return Ok(Begun::Others(others.clone()));
        }
        let user: Arc<str> = user.into();
        let of_user = running.of_user.entry(Arc::clone(&user)).or_default();
        if *of_user >= MAX_VERIFYING_OF_USER {
            return Err(PasswordError::Busy);
        }
        *of_user += 1;
        let (result, others) = watch::channel(None);
        running.results.insert(digest, others);
        Ok(Begun::Ours(Run {
            passwords: self,
            user,
            digest,
            result,
        }))
    }

    async fn run(&self, run: Run<'_>, hash: &Bytes, password: &str) -> Result<bool, PasswordError> {
        let (hash, password) = (hash.clone(), password.to_owned());
        let verify = move || {
            let hash = std::str::from_utf8(&hash).unwrap_or_default();
            bcrypt::verify(password, hash).unwrap_or(false)
        };
        let is_right = self.verifying.work(verify).await?;
        if is_right {
            self.verified.insert(run.digest, ());
        }
        run.result.send_replace(Some(is_right));
        Ok(is_right)
    }

    fn digest(&self, user: &str, hash: &Bytes, password: &str) -> Digest {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key of 32 bytes");
        for part in [user.as_bytes(), hash, password.as_bytes()] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// The role of a login among those that try the same password.
enum Begun<'a> {
    /// This login verifies the password.
    Ours(Run<'a>),
    /// Another login verifies it; wait for the result.
    Others(watch::Receiver<Option<bool>>),
}

/// A verification that other logins may wait for. If it is dropped without a result, one of them
/// verifies instead.
struct Run<'a> {
    passwords: &'a Passwords,
    user: Arc<str>,
    digest: Digest,
    result: watch::Sender<Option<bool>>,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        // Before the sender is dropped, so that the logins that it wakes don't find it again.
        let mut running = self.passwords.running.lock();
        running.results.remove(&self.digest);
        if let Entry::Occupied(mut count) = running.of_user.entry(Arc::clone(&self.user)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Blocking threads for bcrypt, and the queue for them.
struct Workshop {
    /// Permits to run.
    places: Arc<Semaphore>,
    /// Permits to run or to wait.
    line: Semaphore,
}

impl Workshop {
    fn new(places: usize, line: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            line: Semaphore::new(line),
        }
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _in_line = self.line.try_acquire().map_err(|_| PasswordError::Busy)?;
        let place = Arc::clone(&self.places).acquire_owned().await;
        // The semaphore is never closed.
        let place = place.map_err(|_| PasswordError::Busy)?;
        let working = task::spawn_blocking(move || {
            // Held to the end, also when nobody waits for it any more.
            let _place = place;
            work()
        });
        // The runtime ends, and with it the process.
        working.await.map_err(|_| PasswordError::Busy)
    }
}

#[cfg(test)]
mod tests;
