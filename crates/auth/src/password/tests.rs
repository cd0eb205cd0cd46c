use std::time::Duration;

use synod_runtime::clock;

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
    passwords.line.close();
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

#[tokio::test]
async fn those_who_come_together_cost_one_verification() {
    let passwords = Arc::new(Passwords::new(QUICK));
    let hash = passwords.hash("right".to_owned()).await.unwrap();
    let held = Arc::clone(&passwords.places)
        .acquire_many_owned(u32::try_from(passwords.places.available_permits()).unwrap());
    let held = held.await.unwrap();
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let (passwords, hash) = (Arc::clone(&passwords), hash.clone());
            task::spawn("login", async move {
                passwords.verify("alice", &hash, "right").await
            })
        })
        .collect();
    until(|| passwords.line.available_permits() == MAX_WAITING - 50).await;
    // One of them verifies; as soon as it has, the others must find it remembered. A place that
    // stays taken shows that they don't verify again.
    passwords
        .verified
        .insert(passwords.digest("alice", &hash, "right"), ());
    drop(held);
    for login in waiting {
        assert_eq!(login.await.unwrap(), Ok(true));
    }
}

#[tokio::test]
async fn the_line_is_bounded() {
    let passwords = Arc::new(Passwords::new(QUICK));
    let hash = passwords.hash("right".to_owned()).await.unwrap();
    let all = u32::try_from(passwords.places.available_permits()).unwrap();
    let held = Arc::clone(&passwords.places)
        .acquire_many_owned(all)
        .await
        .unwrap();
    let waiting: Vec<_> = (0..MAX_WAITING)
        .map(|number| {
            let (passwords, hash) = (Arc::clone(&passwords), hash.clone());
            task::spawn("login", async move {
                passwords.verify("alice", &hash, &number.to_string()).await
            })
        })
        .collect();
    until(|| passwords.line.available_permits() == 0).await;
    let refused = passwords.verify("alice", &hash, "right").await;
    assert_eq!(refused, Err(PasswordError::Busy));
    let refused = passwords.hash("x".to_owned()).await;
    assert_eq!(refused, Err(PasswordError::Busy));
    // Whoever goes away leaves the line.
    for login in &waiting {
        login.abort();
    }
    until(|| passwords.line.available_permits() == MAX_WAITING).await;
    drop(held);
    assert_eq!(passwords.verify("alice", &hash, "right").await, Ok(true));
}

async fn until(condition: impl Fn() -> bool) {
    let waited = clock::timeout(Duration::from_secs(30), async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("the condition does not come true");
}
