//! Passwords: hashed and verified with bcrypt, away from the serving threads, a few at once.
//!
//! bcrypt is slow on purpose, some 50 ms with etcd's cost. Clients log in whenever a token has
//! ended, a thousand of them at once when a member comes back. A password that was right is
//! therefore remembered: by a keyed digest of user, hash and password, with a key that this process
//! drew and nobody else knows. Another password has another hash, so that nothing must be forgotten
//! when it changes.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use synod_runtime::{random, task};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::recent::{Digest, Recent};

/// etcd's cost of a hash: two to this power rounds.
pub const DEFAULT_BCRYPT_COST: u32 = 10;
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;

/// bcrypt looks at no more of a password.
const MAX_PASSWORD_BYTES: usize = 72;
/// Passwords that are hashed or verified, or wait for it; more are refused.
const MAX_WAITING: usize = 128;
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
    #[error("too many passwords are being verified: try again")]
    Busy,
}

/// Hashes and verifies.
pub struct Passwords {
    cost: u32,
    /// Those that work.
    places: Arc<Semaphore>,
    /// Those that work or wait.
    line: Semaphore,
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
    /// New passwords get this cost, see [`bcrypt_cost`]. Half of the processors are left for
    /// everything else.
    #[must_use]
    pub fn new(cost: u32) -> Self {
        let processors = available_parallelism().map_or(1, NonZero::get);
        Self {
            cost,
            places: Arc::new(Semaphore::new((processors / 2).max(1))),
            line: Semaphore::new(MAX_WAITING),
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
        let hash = self
            .work(|| None, move || bcrypt::hash(password, cost))
            .await?;
        match hash {
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
        // Those who come together with one password wait for the first of them.
        let known = || self.verified.get(&digest).map(|()| true);
        if known().is_some() {
            return Ok(true);
        }
        let (hash, password) = (hash.clone(), password.to_owned());
        let verify = move || {
            let hash = std::str::from_utf8(&hash).unwrap_or_default();
            bcrypt::verify(password, hash).unwrap_or(false)
        };
        let is_right = self.work(known, verify).await?;
        if is_right {
            self.verified.insert(digest, ());
        }
        Ok(is_right)
    }

    /// Does a piece of work on a blocking thread, unless it is done meanwhile.
    async fn work<T: Send + 'static>(
        &self,
        done: impl Fn() -> Option<T>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _in_line = self.line.try_acquire().map_err(|_| PasswordError::Busy)?;
        let place = self.place().await?;
        if let Some(done) = done() {
            return Ok(done);
        }
        let working = task::spawn_blocking(move || {
            // Held to the end, also when nobody waits for it any more.
            let _place = place;
            work()
        });
        // The runtime ends, and with it the process.
        working.await.map_err(|_| PasswordError::Busy)
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, PasswordError> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        // Nobody closes it.
        place.map_err(|_| PasswordError::Busy)
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

#[cfg(test)]
mod tests;
