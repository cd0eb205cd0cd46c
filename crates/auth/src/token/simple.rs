//! Simple tokens: random, and good for a while after each use.
//!
//! A login goes through the log, so that a token is good on every member, as clients that move from
//! one to another expect. The log has a digest of the token only.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};
use synod_runtime::{clock, random};

use super::{DEFAULT_TOKEN_TTL, User};
use crate::recent::Digest;

/// The maximum number of tokens that a member knows. Beyond it, those that were used least recently
/// are evicted, and their clients log in again.
const MAX_TOKENS: usize = 65_536;
/// The maximum for one user, so that a client that logs in for every request evicts only its own
/// tokens.
const MAX_TOKENS_OF_USER: usize = 16_384;
/// The part of a full table, or of a user's share, that is evicted at once, so that not every login
/// has to search for the oldest tokens.
const EVICTED_PART: usize = 16;
/// Expired tokens are removed at most this often, during logins.
const SWEEP_MS: u64 = 1000;

const SECRET_BYTES: usize = 16;

/// A token before its entry has a place in the log.
pub struct NewToken {
    secret: String,
}

impl fmt::Debug for NewToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NewToken").finish_non_exhaustive()
    }
}

impl NewToken {
    /// Nobody can guess it.
    pub(super) fn draw() -> Self {
        let mut secret = String::with_capacity(2 * SECRET_BYTES);
        for byte in random::secret::<SECRET_BYTES>() {
            // Writing to a string does not fail.
            let _ = write!(secret, "{byte:02x}");
        }
        Self { secret }
    }

    /// What the log and the members know of it.
    pub(super) fn digest(&self) -> Digest {
        digest(&self.secret)
    }

    /// The token for the client, once its entry is applied. As in etcd, a member that does not know
    /// the token can tell from the index whether it may be behind.
    #[must_use]
    pub fn at(self, index: u64) -> String {
        format!("{}.{index}", self.secret)
    }
}

fn digest(secret: &str) -> Digest {
    Sha256::digest(secret).into()
}

/// Who shows a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    User(User),
    /// It has ended, or was never granted.
    Unknown,
    /// The entry that would have granted it is not applied here yet.
    NotYet,
}

/// The simple tokens that a member knows.
#[derive(Debug)]
pub(super) struct SimpleTokens {
    ttl_ms: u64,
    epoch: Instant,
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    tokens: HashMap<Digest, Token>,
    /// How many each user has.
    counts: HashMap<User, usize>,
    swept_ms: u64,
}

#[derive(Debug)]
struct Token {
    user: User,
    /// Moves at each use, under the table's shared lock.
    ends_ms: AtomicU64,
}

impl Token {
    fn ends_ms(&self) -> u64 {
        self.ends_ms.load(Ordering::Relaxed)
    }
}

impl SimpleTokens {
    pub(super) fn new(ttl: Duration) -> Self {
        let ttl = if ttl.is_zero() {
            DEFAULT_TOKEN_TTL
        } else {
            ttl
        };
        Self {
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            epoch: clock::now(),
            table: RwLock::default(),
        }
    }

    /// Applies an entry that grants a token.
    pub(super) fn grant(&self, user: &User, digest: &Bytes) {
        // A digest of another size can't match any secret.
        if let Ok(digest) = Digest::try_from(&digest[..]) {
            self.grant_at(self.now_ms(), user, digest);
        }
    }

    fn grant_at(&self, now_ms: u64, user: &User, digest: Digest) {
        let token = Token {
            user: Arc::clone(user),
            ends_ms: now_ms.saturating_add(self.ttl_ms).into(),
        };
        let mut table = self.table.write();
        table.sweep(now_ms);
        if table.count(user) >= MAX_TOKENS_OF_USER {
            table.evict(MAX_TOKENS_OF_USER / EVICTED_PART, |token| {
                token.user == *user
            });
        }
        if table.tokens.len() >= MAX_TOKENS {
            table.evict(MAX_TOKENS / EVICTED_PART, |_| true);
        }
        table.insert(digest, token);
    }

    /// The user of this token. Each use extends its life.
    pub(super) fn find(&self, token: &str, applied: u64) -> Found {
        self.find_at(self.now_ms(), token, applied)
    }

    fn find_at(&self, now_ms: u64, token: &str, applied: u64) -> Found {
        let Some((secret, index)) = token.split_once('.') else {
            return Found::Unknown;
        };
        let Ok(index) = index.parse::<u64>() else {
            return Found::Unknown;
        };
        if secret.len() != 2 * SECRET_BYTES {
            return Found::Unknown;
        }
        let table = self.table.read();
        match table.tokens.get(&digest(secret)) {
            Some(token) if now_ms < token.ends_ms() => {
                let ends_ms = now_ms.saturating_add(self.ttl_ms);
                token.ends_ms.store(ends_ms, Ordering::Relaxed);
                Found::User(Arc::clone(&token.user))
            }
            Some(_) => Found::Unknown,
            None if index > applied => Found::NotYet,
            None => Found::Unknown,
        }
    }

    /// Ends a user's tokens.
    pub(super) fn end(&self, user: &str) {
        let mut table = self.table.write();
        if table.count(user) > 0 {
            table.retain(|token| *token.user != *user);
        }
    }

    /// Ends all tokens.
    pub(super) fn end_all(&self) {
        *self.table.write() = Table::default();
    }

    fn now_ms(&self) -> u64 {
        let since = clock::now().saturating_duration_since(self.epoch);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Table {
    fn count(&self, user: &str) -> usize {
        self.counts.get(user).copied().unwrap_or_default()
    }

    fn insert(&mut self, digest: Digest, token: Token) {
        let user = Arc::clone(&token.user);
        // An entry that is applied again grants the same token.
        if self.tokens.insert(digest, token).is_none() {
            *self.counts.entry(user).or_default() += 1;
        }
    }

    fn retain(&mut self, mut stays: impl FnMut(&Token) -> bool) {
        let counts = &mut self.counts;
        self.tokens.retain(|_, token| {
            let stays = stays(token);
            if let Some(count) = counts.get_mut(&token.user).filter(|_| !stays) {
                *count -= 1;
            }
            stays
        });
        counts.retain(|_, count| *count > 0);
    }

    /// Removes what ran out.
    fn sweep(&mut self, now_ms: u64) {
        if now_ms < self.swept_ms.saturating_add(SWEEP_MS) {
            return;
        }
        self.swept_ms = now_ms;
        self.retain(|token| now_ms < token.ends_ms());
    }

    /// Evicts `most` of the tokens for which `is_meant` is true: those that end first, which were
    /// used least recently. There are at least `most` of them.
    fn evict(&mut self, most: usize, is_meant: impl Fn(&Token) -> bool) {
        let meant = self.tokens.values().filter(|token| is_meant(token));
        let mut ends: Vec<u64> = meant.map(Token::ends_ms).collect();
        let (_, last, _) = ends.select_nth_unstable(most - 1);
        let last = *last;
        let mut left = most;
        self.retain(|token| {
            let goes = left > 0 && is_meant(token) && token.ends_ms() <= last;
            left -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPLIED: u64 = 100;

    fn granted(tokens: &SimpleTokens, user: &str, index: u64) -> String {
        let token = NewToken::draw();
        tokens.grant(&user.into(), &Bytes::copy_from_slice(&token.digest()));
        token.at(index)
    }

    fn user(name: &str) -> Found {
        Found::User(name.into())
    }

    #[test]
    fn a_token_ends_after_a_while_without_use() {
        for (ttl, ttl_ms) in [(Duration::from_secs(10), 10_000), (Duration::ZERO, 300_000)] {
            let tokens = SimpleTokens::new(ttl);
            let token = NewToken::draw();
            tokens.grant_at(50, &"alice".into(), token.digest());
            let token = token.at(7);
            let mut now_ms = 50;
            for _ in 0..5 {
                now_ms += ttl_ms - 1;
                assert_eq!(tokens.find_at(now_ms, &token, APPLIED), user("alice"));
            }
            now_ms += ttl_ms;
            assert_eq!(tokens.find_at(now_ms, &token, APPLIED), Found::Unknown);
        }
    }

    #[test]
    fn what_is_no_token_is_unknown_and_one_from_the_future_not_yet() {
        let tokens = SimpleTokens::new(Duration::ZERO);
        let token = granted(&tokens, "alice", 7);
        let secret = token.strip_suffix(".7").unwrap();
        let other = NewToken::draw().at(7);
        for bad in ["", ".", "7", ".7", "x.7", secret, &other] {
            assert_eq!(tokens.find(bad, APPLIED), Found::Unknown, "{bad}");
        }
        for bad in ["", "-1", "x", "7.7", "99999999999999999999"] {
            let bad = format!("{secret}.{bad}");
            assert_eq!(tokens.find(&bad, APPLIED), Found::Unknown, "{bad}");
        }
        let early = NewToken::draw().at(APPLIED + 1);
        assert_eq!(tokens.find(&early, APPLIED), Found::NotYet);
        assert_eq!(tokens.find(&early, APPLIED + 1), Found::Unknown);
        assert_eq!(
            tokens.find("short.101", APPLIED),
            Found::Unknown,
            "nobody got such a one"
        );
        assert_eq!(tokens.find(&token, APPLIED), user("alice"));
        assert_eq!(tokens.find(&token, 0), user("alice"), "known is known");
    }

    #[test]
    fn secrets_are_long_and_never_the_same() {
        let one = NewToken::draw().secret;
        assert_eq!(one.len(), 32);
        assert_ne!(one, NewToken::draw().secret);
    }

    #[test]
    fn a_users_tokens_end_together_and_those_of_others_stay() {
        let tokens = SimpleTokens::new(Duration::ZERO);
        let first = granted(&tokens, "alice", 7);
        let second = granted(&tokens, "alice", 8);
        let bobs = granted(&tokens, "bob", 9);
        tokens.end("alice");
        for gone in [&first, &second] {
            assert_eq!(tokens.find(gone, APPLIED), Found::Unknown);
        }
        assert_eq!(tokens.find(&bobs, APPLIED), user("bob"));
        tokens.end_all();
        assert_eq!(tokens.find(&bobs, APPLIED), Found::Unknown);
    }

    /// Grants `count` tokens in turn while one of them stays in use. Returns the highest number of
    /// tokens at any time.
    fn fill(
        tokens: &SimpleTokens,
        count: usize,
        part: usize,
        owner: impl Fn(usize) -> User,
    ) -> usize {
        let used = granted(tokens, "alice", 7);
        let mut most = 0;
        for number in 0..count {
            let now_ms = 1 + (number / part) as u64;
            if number % part == 0 {
                assert_eq!(tokens.find_at(now_ms, &used, APPLIED), user("alice"));
            }
            let digest = Sha256::digest(number.to_be_bytes());
            tokens.grant_at(now_ms, &owner(number), digest.into());
            most = most.max(tokens.table.read().tokens.len());
        }
        let table = tokens.table.read();
        let counted: usize = table.counts.values().sum();
        assert_eq!(counted, table.tokens.len());
        most
    }

    #[test]
    fn the_table_is_bounded_and_the_ones_in_use_stay() {
        let tokens = SimpleTokens::new(Duration::from_secs(1000));
        let part = MAX_TOKENS / EVICTED_PART;
        let many: Vec<User> = (0..100).map(|n| format!("user {n}").into()).collect();
        let most = fill(&tokens, 2 * MAX_TOKENS, part, |number| {
            Arc::clone(&many[number % 100])
        });
        assert_eq!(most, MAX_TOKENS);
        assert!(tokens.table.read().tokens.len() > MAX_TOKENS - part);
        // Tokens that were last used at the same time are not all evicted at once.
        let tokens = SimpleTokens::new(Duration::from_secs(1000));
        fill(&tokens, MAX_TOKENS, usize::MAX, |number| {
            Arc::clone(&many[number % 100])
        });
        assert_eq!(tokens.table.read().tokens.len(), MAX_TOKENS - part + 1);
    }

    #[test]
    fn a_users_share_is_bounded_and_takes_nobody_elses() {
        let tokens = SimpleTokens::new(Duration::from_secs(1000));
        let bobs = granted(&tokens, "bob", 9);
        let part = MAX_TOKENS_OF_USER / EVICTED_PART;
        let most = fill(&tokens, 2 * MAX_TOKENS_OF_USER, part, |_| "alice".into());
        assert_eq!(most, MAX_TOKENS_OF_USER + 1);
        assert!(tokens.table.read().count("alice") > MAX_TOKENS_OF_USER - part);
        assert_eq!(
            tokens.find(&bobs, APPLIED),
            user("bob"),
            "the oldest of all"
        );
        // Tokens that have ended are no longer counted.
        tokens.end("alice");
        assert_eq!(tokens.table.read().counts, [("bob".into(), 1)].into());
        assert_eq!(tokens.find(&bobs, APPLIED), user("bob"));
        tokens.end_all();
        assert!(tokens.table.read().counts.is_empty());
    }

    #[test]
    fn a_token_that_is_granted_again_counts_once() {
        let tokens = SimpleTokens::new(Duration::ZERO);
        for _ in 0..2 {
            tokens.grant_at(0, &"alice".into(), [0; 32]);
        }
        assert_eq!(tokens.table.read().count("alice"), 1);
    }

    #[test]
    fn what_ran_out_makes_room() {
        let tokens = SimpleTokens::new(Duration::from_secs(10));
        for number in 0..100_u64 {
            let digest = Sha256::digest(number.to_be_bytes());
            tokens.grant_at(number, &"alice".into(), digest.into());
        }
        tokens.grant_at(10_050, &"bob".into(), [0; 32]);
        assert_eq!(tokens.table.read().tokens.len(), 50);
    }

    #[test]
    fn a_digest_of_the_wrong_size_grants_nothing() {
        let tokens = SimpleTokens::new(Duration::ZERO);
        tokens.grant(&"alice".into(), &Bytes::from_static(b"short"));
        assert!(tokens.table.read().tokens.is_empty());
    }
}
