use std::time::Duration;

use synod_runtime::clock;
use tokio::sync::OwnedSemaphorePermit;

use super::*;

/// bcrypt's least cost: about a millisecond.
const QUICK: u32 = 4;

#[test]
fn a_cost_out_of_range_is_etcds_default() {
    for (given, used) in [
        (0, 10),
        (3, 10),
        (4, 4),
        (12, 12),
        (31, 31),
        (32, 10),
        (u32::MAX, 10),
    ] {
        assert_eq!(bcrypt_cost(given), used);
    }
}

#[tokio::test]
async fn a_hash_has_the_cost_and_verifies_its_password_alone() {
    let passwords = Passwords::new(QUICK);
    let hash = passwords.hash("pässword".to_owned()).await.unwrap();
    assert!(hash.starts_with(b"$2b$04$"), "{hash:?}");
    for (password, right) in [
        ("pässword", true),
        ("password", false),
        ("", false),
        ("pässword\0", false),
    ] {
        let verified = passwords.verify("alice", &hash, password).await;
        assert_eq!(verified, Ok(right), "{password:?}");
    }
    assert_ne!(
        passwords.hash("pässword".to_owned()).await.unwrap(),
        hash,
        "salted"
    );
}

#[tokio::test]
async fn hashes_of_other_programs_are_understood() {
    let passwords = Passwords::new(QUICK);
    // Test vectors that every bcrypt has, in the version that Go writes.
    for (password, hash) in [
        (
            "U*U",
            "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        ),
        (
            "",
            "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy",
        ),
    ] {
        let hash = Bytes::from_static(hash.as_bytes());
        assert_eq!(
            passwords.verify("alice", &hash, password).await,
            Ok(true),
            "{password}"
        );
    }
}

#[tokio::test]
async fn nobody_has_a_hash_that_is_none() {
    let passwords = Passwords::new(QUICK);
    let whole = passwords.hash("x".to_owned()).await.unwrap();
    let cut = whole.slice(..59);
    let no_text = Bytes::from([&whole[..59], &[0xff]].concat());
    let other = Bytes::from_static(b"$1$abc$def");
    for hash in [Bytes::new(), cut, no_text, other] {
        assert_eq!(
            passwords.verify("alice", &hash, "x").await,
            Ok(false),
            "{hash:?}"
        );
        assert_eq!(
            passwords.verify("alice", &hash, "").await,
            Ok(false),
            "{hash:?}"
        );
    }
}

#[tokio::test]
async fn a_password_whose_end_would_not_count_is_refused() {
    let passwords = Passwords::new(QUICK);
    let hash = passwords.hash("a".repeat(72)).await.unwrap();
    assert_eq!(
        passwords.verify("alice", &hash, &"a".repeat(72)).await,
        Ok(true)
    );
    assert_eq!(
        passwords.hash("a".repeat(73)).await,
        Err(PasswordError::TooLong)
    );
    assert_eq!(
        passwords.hash("ä".repeat(37)).await,
        Err(PasswordError::TooLong),
        "bytes count"
    );
}

#[tokio::test]
async fn what_was_right_is_remembered_for_this_user_hash_and_password_alone() {
    let passwords = Passwords::new(QUICK);
    let hash = passwords.hash("right".to_owned()).await.unwrap();
    let other = passwords.hash("other".to_owned()).await.unwrap();
    assert_eq!(passwords.verify("alice", &hash, "right").await, Ok(true));
    assert_eq!(passwords.verify("alice", &hash, "wrong").await, Ok(false));
    assert_eq!(passwords.verified.len(), 1, "nothing wrong is remembered");
    // Nothing can be verified any more but what is remembered.
    passwords.verifying.line.close();
    assert_eq!(passwords.verify("alice", &hash, "right").await, Ok(true));
    for (user, hash, password) in [
        ("bob", &hash, "right"),
        ("alice", &other, "right"),
        ("alice", &hash, "wrong"),
    ] {
        let verified = passwords.verify(user, hash, password).await;
        assert_eq!(verified, Err(PasswordError::Busy), "{user} {password}");
    }
}

#[test]
fn the_digest_tells_its_parts_apart_and_is_the_processs_own() {
    let passwords = Passwords::new(QUICK);
    let digest = |user, hash: &'static str, password| {
        passwords.digest(user, &Bytes::from_static(hash.as_bytes()), password)
    };
    assert_eq!(digest("ab", "c", "d"), digest("ab", "c", "d"));
    assert_ne!(digest("ab", "c", "d"), digest("a", "bc", "d"));
    assert_ne!(digest("ab", "c", "d"), digest("ab", "cd", ""));
    let other = Passwords::new(QUICK);
    assert_ne!(
        other.digest("ab", &Bytes::from_static(b"c"), "d"),
        digest("ab", "c", "d")
    );
}

/// Takes all places for verifications.
async fn hold(passwords: &Passwords) -> OwnedSemaphorePermit {
    let places = Arc::clone(&passwords.verifying.places);
    let all = u32::try_from(places.available_permits()).unwrap();
    places.acquire_many_owned(all).await.unwrap()
}

type Login = task::JoinHandle<Result<bool, PasswordError>>;

fn logins(passwords: &Arc<Passwords>, hash: &Bytes, tried: &[String]) -> Vec<Login> {
    let login = |password: &String| login(passwords, "alice", hash, password);
    tried.iter().map(login).collect()
}

fn login(passwords: &Arc<Passwords>, user: &str, hash: &Bytes, password: &str) -> Login {
    let (passwords, hash) = (Arc::clone(passwords), hash.clone());
    let (user, password) = (user.to_owned(), password.to_owned());
    task::spawn("login", async move {
        passwords.verify(&user, &hash, &password).await
    })
}

fn waiting(passwords: &Passwords) -> usize {
    MAX_LOGINS - passwords.logins.available_permits()
}

fn in_line(passwords: &Passwords) -> usize {
    MAX_VERIFYING - passwords.verifying.line.available_permits()
}

#[tokio::test]
async fn simultaneous_logins_with_one_password_cost_one_verification() {
    for (tried, right) in [("right", true), ("wrong", false)] {
        let passwords = Arc::new(Passwords::new(QUICK));
        let hash = passwords.hash("right".to_owned()).await.unwrap();
        let held = hold(&passwords).await;
        let together = logins(&passwords, &hash, &vec![tried.to_owned(); 50]);
        until(|| waiting(&passwords) == 50).await;
        assert_eq!(in_line(&passwords), 1, "one verification for all");
        // A second verification would be refused: the queue is closed.
        passwords.verifying.line.close();
        drop(held);
        for login in together {
            assert_eq!(login.await.unwrap(), Ok(right));
        }
        assert_eq!((waiting(&passwords), in_line(&passwords)), (0, 0));
        let running = passwords.running.lock();
        assert!(running.results.is_empty() && running.of_user.is_empty());
    }
}

#[tokio::test]
async fn if_the_verifying_login_is_dropped_another_one_verifies() {
    let passwords = Arc::new(Passwords::new(QUICK));
    let hash = passwords.hash("right".to_owned()).await.unwrap();
    let held = hold(&passwords).await;
    let first = logins(&passwords, &hash, &["right".to_owned()]).remove(0);
    until(|| in_line(&passwords) == 1).await;
    let second = logins(&passwords, &hash, &["right".to_owned()]).remove(0);
    until(|| waiting(&passwords) == 2).await;
    first.abort();
    until(|| waiting(&passwords) == 1 && in_line(&passwords) == 1).await;
    drop(held);
    assert_eq!(second.await.unwrap(), Ok(true));
}

#[tokio::test]
async fn a_login_just_after_a_verification_does_not_repeat_it() {
    let passwords = Passwords::new(QUICK);
    let hash = passwords.hash("right".to_owned()).await.unwrap();
    let digest = passwords.digest("alice", &hash, "right");
    let Ok(Begun::Ours(run)) = passwords.begin("alice", digest) else {
        panic!("nobody else verifies");
    };
    let mut second = Box::pin(passwords.verify("alice", &hash, "right"));
    assert!(futures_pending(&mut second));
    // The first one is dropped without a result, but the password is remembered.
    passwords.verified.insert(digest, ());
    passwords.verifying.line.close();
    drop(run);
    assert_eq!(second.await, Ok(true));
}

fn futures_pending(
    future: &mut (impl Future<Output = Result<bool, PasswordError>> + Unpin),
) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut context).is_pending()
}

#[tokio::test]
async fn the_queue_is_bounded_and_new_passwords_have_their_own() {
    let passwords = Arc::new(Passwords::new(QUICK));
    let hash = passwords.hash("right".to_owned()).await.unwrap();
    let held = hold(&passwords).await;
    let user = |number: usize| format!("user {}", number / MAX_VERIFYING_OF_USER);
    let filling: Vec<_> = (0..MAX_VERIFYING)
        .map(|number| login(&passwords, &user(number), &hash, &number.to_string()))
        .collect();
    until(|| in_line(&passwords) == MAX_VERIFYING).await;
    let refused = passwords.verify("alice", &hash, "right").await;
    assert_eq!(refused, Err(PasswordError::Busy));
    assert!(
        passwords.hash("x".to_owned()).await.is_ok(),
        "not in this queue"
    );
    // Whoever goes away leaves the line.
    for login in &filling {
        login.abort();
    }
    until(|| in_line(&passwords) == 0).await;
    drop(held);
    assert_eq!(passwords.verify("alice", &hash, "right").await, Ok(true));
}

#[tokio::test]
async fn guessing_the_password_of_one_user_locks_out_nobody_else() {
    let passwords = Arc::new(Passwords::new(QUICK));
    let hash = passwords.hash("right".to_owned()).await.unwrap();
    let held = hold(&passwords).await;
    let wrong: Vec<_> = (0..MAX_VERIFYING_OF_USER)
        .map(|number| number.to_string())
        .collect();
    let filling = logins(&passwords, &hash, &wrong);
    until(|| in_line(&passwords) == MAX_VERIFYING_OF_USER).await;
    let refused = passwords.verify("alice", &hash, "right").await;
    assert_eq!(refused, Err(PasswordError::Busy));
    let other = login(&passwords, "bob", &hash, "right");
    until(|| in_line(&passwords) == MAX_VERIFYING_OF_USER + 1).await;
    drop(held);
    assert_eq!(other.await.unwrap(), Ok(true));
    for login in filling {
        assert_eq!(login.await.unwrap(), Ok(false));
    }
    assert_eq!(passwords.verify("alice", &hash, "right").await, Ok(true));
}

#[tokio::test]
async fn logins_that_wait_for_one_verification_are_bounded_too() {
    let passwords = Passwords::new(QUICK);
    let hash = passwords.hash("right".to_owned()).await.unwrap();
    let all = u32::try_from(MAX_LOGINS).unwrap();
    let taken = passwords.logins.acquire_many(all).await.unwrap();
    let refused = passwords.verify("alice", &hash, "right").await;
    assert_eq!(refused, Err(PasswordError::Busy));
    drop(taken);
    assert_eq!(passwords.verify("alice", &hash, "right").await, Ok(true));
}

#[tokio::test]
async fn new_passwords_that_wait_are_bounded() {
    let passwords = Passwords::new(QUICK);
    let all = u32::try_from(MAX_HASHING).unwrap();
    let taken = passwords.hashing.line.acquire_many(all).await.unwrap();
    let refused = passwords.hash("x".to_owned()).await;
    assert_eq!(refused, Err(PasswordError::Busy));
    drop(taken);
    assert!(passwords.hash("x".to_owned()).await.is_ok());
}

async fn until(condition: impl Fn() -> bool) {
    let waited = clock::timeout(Duration::from_secs(30), async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("the condition does not come true");
}
