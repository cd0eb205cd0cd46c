//! Passwords: hashed and verified with bcrypt, away from the serving threads, a few at once.
//!
//! bcrypt is slow on purpose, some 50 ms with etcd's cost. Clients log in whenever a token has
//! ended, a thousand of them at once when a member comes back, most with the same few passwords.
//! Logins that try the same password of the same user at the same time wait for one run of bcrypt,
//! and a password that was right is remembered: by a keyed digest of user, hash and password, with
//! a key that this process drew and nobody else knows. Another password has another hash, so that
//! nothing must be forgotten when it changes.
//!
//! New passwords have a place of their own: an administrator can change one while many log in.

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

/// bcrypt looks at no more of a password.
const MAX_PASSWORD_BYTES: usize = 72;
/// Different passwords that are verified or wait for it, about as many as two processors verify
/// before a request times out; more are refused.
const MAX_VERIFYING: usize = 128;
/// How many of them are of one user: whoever tries passwords of one name locks out nobody else.
const MAX_VERIFYING_OF_USER: usize = MAX_VERIFYING / 8;
/// Logins that wait, most of them for the same few passwords; more are refused.
const MAX_LOGINS: usize = 8_192;
/// New passwords that are hashed or wait for it; more are refused.
const MAX_HASHING: usize = 16;
/// The highest cost of a hash that a client made. Each verification takes some seconds.
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
        "--bcrypt-cost is out of range"
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

/// Whether this is a hash that bcrypt can verify, at a cost that every member can bear.
pub(crate) fn is_usable_hash(hash: &[u8]) -> bool {
    let parts = std::str::from_utf8(hash).ok();
    let parts = parts.and_then(|hash| HashParts::from_str(hash).ok());
    parts.is_some_and(|parts| (*COSTS.start()..=MAX_GIVEN_COST).contains(&parts.get_cost()))
}

/// The verifications that are going on.
#[derive(Default)]
struct Running {
    /// With their results.
    results: HashMap<Digest, watch::Receiver<Option<bool>>>,
    /// How many each user has.
    of_user: HashMap<Arc<str>, usize>,
}

/// Hashes and verifies.
pub struct Passwords {
    cost: u32,
    verifying: Workshop,
    hashing: Workshop,
    /// Logins that wait for a verification, be it another's.
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
                // Another one may have ended just before.
                Begun::Ours(_) if self.verified.get(&digest).is_some() => return Ok(true),
                Begun::Ours(run) => return self.run(run, hash, password).await,
                Begun::Others(result) => result,
            };
            // Without a result the other login went away: begin in its place.
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

/// A login's place among those that try the same password.
enum Begun<'a> {
    /// It verifies.
    Ours(Run<'a>),
    /// Another one does.
    Others(watch::Receiver<Option<bool>>),
}

/// A verification that others may wait for. Dropped without a result, it lets another one begin.
struct Run<'a> {
    passwords: &'a Passwords,
    user: Arc<str>,
    digest: Digest,
    result: watch::Sender<Option<bool>>,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        // Before the sender goes, so that those who wait for it don't find it again.
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

/// Blocking threads for bcrypt, and the line before them.
struct Workshop {
    /// Those that work.
    places: Arc<Semaphore>,
    /// Those that work or wait.
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
        // Nobody closes it.
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
