use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::jwt::MAX_TOKEN_BYTES;
use super::spec::JwtOptions;
use super::*;

/// A moment at which the tokens of these tests are made.
const NOW: u64 = 1_700_000_000;

fn key(name: &str) -> String {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/keys");
    dir.join(name).display().to_string()
}

fn jwt(options: &str) -> Result<Jwt, TokenConfigError> {
    let Spec::Jwt(options) = Spec::parse(&format!("jwt,{options}"))? else {
        panic!("{options} is not for JWTs");
    };
    Jwt::new(&options)
}

fn found(jwt: &Jwt, token: &str) -> Option<(String, u64)> {
    let identity = jwt.verify(token, NOW)?;
    Some((identity.user.to_string(), identity.revision))
}

/// Each method, with every form of key that etcd reads.
#[test]
fn every_method_signs_and_verifies() {
    let rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map(|method| {
        (
            method,
            &["rsa.key", "rsa-pkcs1.key"][..],
            &["rsa.pub", "rsa-pkcs1.pub", "rsa.crt"][..],
        )
    });
    let other = [
        (
            "ES256",
            &["p256.key", "p256-sec1.key"][..],
            &["p256.pub", "p256.crt"][..],
        ),
        ("ES384", &["p384.key", "p384-sec1.key"], &["p384.pub"]),
        ("EdDSA", &["ed25519.key"], &["ed25519.pub"]),
    ];
    for (method, private, public) in rsa.into_iter().chain(other) {
        for private in private {
            let signer = jwt(&format!("sign-method={method},priv-key={}", key(private))).unwrap();
            let token = signer.sign("alice", 7, NOW).unwrap();
            let expected = Some(("alice".to_owned(), 7));
            assert_eq!(found(&signer, &token), expected, "{method} {private}");
            for public in public {
                let with = format!("sign-method={method},pub-key={}", key(public));
                let both = jwt(&format!("{with},priv-key={}", key(private))).unwrap();
                assert_eq!(
                    found(&both, &token),
                    expected,
                    "{method} {private} {public}"
                );
                let verifier = jwt(&with).unwrap();
                assert_eq!(found(&verifier, &token), expected, "{method} {public}");
                let signed = verifier.sign("alice", 7, NOW);
                assert_eq!(signed, Err(AuthError::VerifyOnly), "{method} {public}");
            }
        }
    }
    for method in ["HS256", "HS384", "HS512"] {
        let shared = jwt(&format!(
            "sign-method={method},priv-key={}",
            key("shared.secret")
        ))
        .unwrap();
        let token = shared.sign("alice", 7, NOW).unwrap();
        assert_eq!(
            found(&shared, &token),
            Some(("alice".to_owned(), 7)),
            "{method}"
        );
    }
}

#[test]
fn keys_that_cannot_be_used() {
    let no_public = |method: &str| {
        format!(
            "it is no public key for {method} in PEM form (PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE); \
             name another file, or the sign-method of this key"
        )
    };
    let no_private = |method: &str| {
        format!(
            "it is no private key for {method} in PEM form (PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY); \
             name another file, or the sign-method of this key"
        )
    };
    let missing =
        "No such file or directory (os error 2); check the path and that this process may read it"
            .to_owned();
    for (method, option, file, reason) in [
        ("RS256", "pub-key", "rsa.key", no_public("RS256")),
        ("RS256", "pub-key", "rsa-pkcs1.key", no_public("RS256")),
        ("RS256", "pub-key", "p256.pub", no_public("RS256")),
        ("RS256", "pub-key", "shared.secret", no_public("RS256")),
        ("RS256", "priv-key", "rsa.pub", no_private("RS256")),
        ("RS256", "priv-key", "rsa.crt", no_private("RS256")),
        ("RS256", "priv-key", "p256.key", no_private("RS256")),
        ("ES256", "pub-key", "p256.key", no_public("ES256")),
        ("ES256", "pub-key", "p384.pub", no_public("ES256")),
        ("ES256", "pub-key", "rsa.pub", no_public("ES256")),
        ("ES256", "priv-key", "p384.key", no_private("ES256")),
        ("ES256", "priv-key", "p384-sec1.key", no_private("ES256")),
        ("ES384", "priv-key", "p256-sec1.key", no_private("ES384")),
        ("ES256", "priv-key", "p256.pub", no_private("ES256")),
        ("EdDSA", "pub-key", "ed25519.key", no_public("EdDSA")),
        ("EdDSA", "priv-key", "ed25519.pub", no_private("EdDSA")),
        ("EdDSA", "priv-key", "rsa.key", no_private("EdDSA")),
        ("RS256", "priv-key", "nowhere", missing.clone()),
        ("HS256", "pub-key", "nowhere", missing),
    ] {
        let path = key(file);
        let error = jwt(&format!("sign-method={method},{option}={path}")).unwrap_err();
        let text = format!("auth: cannot use the key in {path}: {reason}");
        assert_eq!(error.to_string(), text, "{method} {option}");
    }
}

#[test]
fn keys_that_are_missing_or_do_not_match() {
    for method in ["RS256", "PS256", "ES256", "EdDSA"] {
        let error = jwt(&format!("sign-method={method}"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "auth: missing key data: give priv-key, or pub-key to only verify"
        );
    }
    let empty = tempfile::NamedTempFile::new().unwrap();
    for options in [
        String::new(),
        format!(",pub-key={}", key("rsa.pub")),
        format!(",priv-key={}", empty.path().display()),
    ] {
        let error = jwt(&format!("sign-method=HS256{options}"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "auth: missing key data: HS* needs a secret, give priv-key"
        );
    }
    let options = format!(
        "sign-method=RS256,pub-key={},priv-key={}",
        key("other-rsa.pub"),
        key("rsa.key")
    );
    assert_eq!(jwt(&options).unwrap_err(), TokenConfigError::KeyMismatch);
}

#[test]
fn a_token_ends_with_its_ttl() {
    let jwt = jwt(&format!(
        "sign-method=ES256,priv-key={},ttl=10s",
        key("p256.key")
    ))
    .unwrap();
    let token = jwt.sign("alice", 7, NOW).unwrap();
    for (now, good) in [
        (NOW, true),
        (NOW + 9, true),
        (NOW + 10, false),
        (NOW + 11, false),
        (NOW - 5, true),
    ] {
        assert_eq!(jwt.verify(&token, now).is_some(), good, "{now}");
    }
}

fn part(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Signs whatever it is with the shared secret.
fn forged(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let secret = std::fs::read(key("shared.secret")).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
    mac.update(message.as_bytes());
    format!(
        "{message}.{}",
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    )
}

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn shared() -> Jwt {
    jwt(&format!(
        "sign-method=HS256,priv-key={}",
        key("shared.secret")
    ))
    .unwrap()
}

/// What others than members may sign: etcd takes a number for what it is worth, and asks for no
/// end.
#[test]
fn claims_that_count() {
    let jwt = shared();
    let later = NOW + 1;
    for (claims, revision) in [
        (
            format!(r#"{{"username":"alice","revision":7,"exp":{later}}}"#),
            7,
        ),
        (
            format!(r#"{{"username":"alice","revision":7.9,"exp":{later}.5}}"#),
            7,
        ),
        (r#"{"username":"alice","revision":0}"#.to_owned(), 0),
        (
            format!(
                r#"{{"username":"alice","revision":1e3,"nbf":{NOW},"aud":"x","iss":"y","sub":"z"}}"#
            ),
            1000,
        ),
    ] {
        let identity = found(&jwt, &forged(HS256, &claims));
        assert_eq!(identity, Some(("alice".to_owned(), revision)), "{claims}");
    }
}

#[test]
fn claims_that_do_not() {
    let jwt = shared();
    let earlier = NOW - 1;
    let later = NOW + 1;
    for claims in [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"username":"alice"}"#.to_owned(),
        r#"{"revision":7}"#.to_owned(),
        r#"{"username":7,"revision":7}"#.to_owned(),
        r#"{"username":null,"revision":7}"#.to_owned(),
        r#"{"username":"alice","revision":"7"}"#.to_owned(),
        r#"{"username":"alice","revision":null}"#.to_owned(),
        r#"{"username":"alice","revision":-1}"#.to_owned(),
        r#"{"username":"alice","revision":1e300}"#.to_owned(),
        r#"{"username":"alice","username":"root","revision":7}"#.to_owned(),
        r#"{"username":"alice","revision":7,"exp":null}"#.to_owned(),
        r#"{"username":"alice","revision":7,"exp":"never"}"#.to_owned(),
        r#"{"username":"alice","revision":7,"nbf":null}"#.to_owned(),
        r#"{"username":"alice","revision":7,"exp":-1}"#.to_owned(),
        format!(r#"{{"username":"alice","revision":7,"exp":{NOW}}}"#),
        format!(r#"{{"username":"alice","revision":7,"exp":{earlier}}}"#),
        format!(r#"{{"username":"alice","revision":7,"nbf":{later}}}"#),
        r#"{"username":"alice","revision":7"#.to_owned(),
    ] {
        assert_eq!(found(&jwt, &forged(HS256, &claims)), None, "{claims}");
    }
}

const CLAIMS: &str = r#"{"username":"root","revision":7}"#;

/// The classics: no signature, another method, another's key.
#[test]
fn signatures_that_do_not_count() {
    let jwt = shared();
    assert!(found(&jwt, &forged(HS256, CLAIMS)).is_some());
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None","typ":"JWT"}"#,
        r#"{"alg":"HS384"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":null}"#,
        r#"{"typ":"JWT"}"#,
        "{}",
        "",
        "HS256",
    ] {
        assert_eq!(found(&jwt, &forged(header, CLAIMS)), None, "{header}");
    }
    let good = forged(HS256, CLAIMS);
    let (message, signature) = good.rsplit_once('.').unwrap();
    for bad in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        message.to_owned(),
        format!("{message}."),
        format!("{message}.{signature}."),
        format!("{message}.{signature}.{signature}"),
        format!("{message}.{signature}="),
        format!("{message}.{}", &signature[1..]),
        format!(".{message}.{signature}"),
        format!("{}..{signature}", part(HS256)),
        format!("{}.{}.", part(r#"{"alg":"none"}"#), part(CLAIMS)),
        format!(" {good}"),
        format!("{}{}", "a".repeat(1 << 20), good),
    ] {
        assert_eq!(found(&jwt, &bad), None, "{:.100}", bad);
    }
}

/// A public key is no secret: whoever has it must not be able to sign with it.
#[test]
fn a_public_key_does_not_sign() {
    let options = JwtOptions {
        algorithm: jsonwebtoken::Algorithm::RS256,
        public_key: Some(key("rsa.pub").into()),
        private_key: None,
        ttl: Duration::from_secs(1),
    };
    let verifier = Jwt::new(&options).unwrap();
    let public = std::fs::read(key("rsa.pub")).unwrap();
    let message = format!("{}.{}", part(HS256), part(CLAIMS));
    let mut mac = Hmac::<Sha256>::new_from_slice(&public).unwrap();
    mac.update(message.as_bytes());
    let token = format!(
        "{message}.{}",
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    );
    assert_eq!(found(&verifier, &token), None);
    let other = jwt(&format!(
        "sign-method=RS256,priv-key={}",
        key("other-rsa.key")
    ))
    .unwrap();
    assert_eq!(
        found(&verifier, &other.sign("root", 7, NOW).unwrap()),
        None,
        "another's key"
    );
    let same = jwt(&format!("sign-method=PS256,priv-key={}", key("rsa.key"))).unwrap();
    assert_eq!(
        found(&verifier, &same.sign("root", 7, NOW).unwrap()),
        None,
        "another method"
    );
}

#[test]
fn a_token_is_verified_once_and_ends_all_the_same() {
    let jwt = shared();
    let token = forged(
        HS256,
        &format!(r#"{{"username":"alice","revision":7,"exp":{}}}"#, NOW + 5),
    );
    for _ in 0..2 {
        assert!(jwt.verify(&token, NOW).is_some());
        assert!(jwt.verify(&token, NOW + 5).is_none());
    }
    let forged = format!("{token}x");
    for _ in 0..2 {
        assert!(
            jwt.verify(&forged, NOW).is_none(),
            "what is bad is not remembered as good"
        );
    }
}

#[test]
fn a_token_that_was_verified_is_not_verified_again() {
    let jwt = shared();
    let token = forged(HS256, CLAIMS);
    assert!(jwt.verify(&token, NOW).is_some());
    assert_eq!(jwt.verified.len(), 1);
    // From now on, the remembered result is used.
    let digest: crate::recent::Digest = Sha256::digest(&token).into();
    let mut known = jwt.verified.get(&digest).unwrap();
    known.identity.revision = 99;
    jwt.verified.insert(digest, known);
    assert_eq!(found(&jwt, &token), Some(("root".to_owned(), 99)));
}

#[test]
fn a_token_too_long_for_a_header_is_not_verified() {
    let jwt = shared();
    let padded = |bytes: usize| {
        let claims = |padding: usize| {
            let padding = "x".repeat(padding);
            forged(
                HS256,
                &format!(r#"{{"username":"alice","revision":7,"x":"{padding}"}}"#),
            )
        };
        // Four characters stand for three bytes.
        let room = (bytes - claims(0).len()) / 4 * 3;
        (room..)
            .map(claims)
            .find(|token| token.len() >= bytes)
            .unwrap()
    };
    let longest = padded(MAX_TOKEN_BYTES - 2);
    assert!(longest.len() <= MAX_TOKEN_BYTES, "{}", longest.len());
    assert!(jwt.verify(&longest, NOW).is_some());
    let longer = padded(MAX_TOKEN_BYTES + 1);
    assert!(jwt.verify(&longer, NOW).is_none());
}

proptest! {
    /// Whatever is changed in a good token, it is not good any more.
    #[test]
    fn a_changed_token_is_not_good(at in 0_usize..1000, with in 0_u8..128) {
        let jwt = shared();
        let good = forged(HS256, CLAIMS);
        let mut bytes = good.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] = with;
        let changed = String::from_utf8(bytes).unwrap();
        prop_assume!(changed != good);
        prop_assert_eq!(found(&jwt, &changed), None);
    }

    #[test]
    fn garbage_is_no_token_of_any_kind(text in ".{0,80}") {
        prop_assert_eq!(found(&shared(), &text), None);
        let simple = Tokens::new("simple", Duration::ZERO).unwrap();
        prop_assert!(simple.find(&text, u64::MAX, 1).is_err());
    }
}

#[test]
fn the_kinds_of_tokens() {
    let simple = Tokens::new("simple", Duration::ZERO).unwrap();
    let Issued::ToPropose(token) = simple.issue("alice", 5).unwrap() else {
        panic!("a simple token is known to all members");
    };
    let grant = token.to_grant("alice", 5);
    assert_eq!(
        (&*grant.user, grant.auth_revision, grant.digest.len()),
        ("alice", 5, 32)
    );
    let text = token.at(70);
    let (secret, index) = text.split_once('.').unwrap();
    assert_eq!(index, "70");
    assert!(
        !format!("{grant:?}").contains(secret),
        "the log does not have it"
    );
    assert_eq!(simple.find(&text, 69, 8), Err(TokenError::NotYet));
    assert_eq!(simple.find(&text, 70, 8), Err(TokenError::Invalid));
    let granted = Effect::Granted {
        user: "alice".into(),
        digest: grant.digest,
    };
    simple.follow(&granted);
    let alice = Identity {
        user: "alice".into(),
        revision: 8,
    };
    assert_eq!(
        simple.find(&text, 70, 8),
        Ok(alice),
        "at the member's revision"
    );
    simple.follow(&Effect::None);
    simple.follow(&Effect::UserEnded { user: "bob".into() });
    assert!(simple.find(&text, 70, 8).is_ok());
    simple.follow(&Effect::UserEnded {
        user: "alice".into(),
    });
    assert_eq!(simple.find(&text, 70, 8), Err(TokenError::Invalid));
    simple.follow(&granted);
    simple.follow(&Effect::AllEnded);
    assert_eq!(simple.find(&text, 70, 8), Err(TokenError::Invalid));

    let spec = format!("jwt,sign-method=HS256,priv-key={}", key("shared.secret"));
    let signed = Tokens::new(&spec, Duration::ZERO).unwrap();
    let Issued::Done(token) = signed.issue("alice", 5).unwrap() else {
        panic!("a JWT says everything itself");
    };
    signed.follow(&granted);
    signed.end_all();
    let alice = Identity {
        user: "alice".into(),
        revision: 5,
    };
    assert_eq!(
        signed.find(&token, 0, 8),
        Ok(alice),
        "at the revision that it was made at"
    );

    let off = Tokens::new("", Duration::ZERO).unwrap();
    assert_eq!(off.issue("alice", 5).unwrap_err(), AuthError::AuthFailed);
    assert_eq!(off.find(&token, 0, 8), Err(TokenError::Invalid));
}
