use md5::{Digest as _, Md5};

use super::*;

const USER: &str = "joe:secret";

pub(crate) fn login() -> Login {
    Login::new(Some(Arc::new(Users::parse(USER).unwrap())), true)
}

impl Login {
    /// The same, but it need not happen.
    pub(crate) fn optional(self) -> Self {
        Self {
            is_required: false,
            ..self
        }
    }
}

fn challenged(login: &mut Login) -> String {
    let progress = login.take(b"").unwrap();
    assert_eq!(progress.user, None);
    nonce(&progress.token.unwrap())
}

/// The nonce of a challenge.
pub(crate) fn nonce(challenge: &[u8]) -> String {
    let token = String::from_utf8(challenge.to_vec()).unwrap();
    let (_, nonce) = token.split_once("nonce=\"").unwrap();
    nonce.split('"').next().unwrap().to_owned()
}

/// What a client sends, computed apart from the code under test.
pub(crate) fn answer(nonce: &str, password: &str, change: impl Fn(String) -> String) -> String {
    let ha1 = Md5::digest(format!("joe:zk-sasl-md5:{password}"));
    let a1 = [ha1.as_slice(), format!(":{nonce}:c0:joe").as_bytes()].concat();
    let a2 = hex(&Md5::digest("AUTHENTICATE:zookeeper/zk-sasl-md5"));
    let a1 = hex(&Md5::digest(a1));
    let response = hex(&Md5::digest(format!("{a1}:{nonce}:00000001:c0:auth:{a2}")));
    change(format!(
        "charset=utf-8,username=\"joe\",realm=\"zk-sasl-md5\",nonce=\"{nonce}\",nc=00000001,\
         cnonce=\"c0\",digest-uri=\"zookeeper/zk-sasl-md5\",response={response},qop=auth,authzid=\"joe\""
    ))
}

#[test]
fn the_right_password_logs_in_once() {
    let mut login = login();
    assert!(login.is_missing());
    let nonce = challenged(&mut login);
    assert!(login.is_missing());
    let sent = answer(&nonce, "secret", |text| text);
    let progress = login.take(sent.as_bytes()).unwrap();
    assert_eq!(progress.user.as_deref(), Some("joe"));
    assert!(progress.token.unwrap().starts_with(b"rspauth="));
    assert!(!login.is_missing());
    assert_eq!(login.take(b"").unwrap().token, None);
    assert_eq!(login.take(sent.as_bytes()), Err(LoginError::Finished));
    assert!(!login.is_missing());
}

/// The example of RFC 2831 §4 has another realm and service; this was computed by its rules with
/// another program.
#[test]
fn the_proofs_are_those_of_the_standard() {
    let users = Users::parse(USER).unwrap();
    let sent = answer("n0", "secret", |text| text.replace(",authzid=\"joe\"", ""));
    let sent = sent.replace(
        sent.split("response=")
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap(),
        "RESPONSE",
    );
    let proof = Answer::parse(sent.as_bytes()).unwrap();
    assert_eq!(proof.check("n0", &users), Err(LoginError::Denied));
    let sent = sent.replace("RESPONSE", EXPECTED_RESPONSE);
    let proof = Answer::parse(sent.as_bytes()).unwrap();
    assert_eq!(proof.check("n0", &users).unwrap(), EXPECTED_PROOF);
}

const EXPECTED_RESPONSE: &str = "a7f68963e60ac224d39a15de68d39251";
const EXPECTED_PROOF: &str = "rspauth=b7aabb3140173a8f016d4b1d96bf3272";

#[test]
fn what_is_not_right_is_refused() {
    let cases: [(&str, &str); 9] = [
        ("nc=00000001", "nc=00000002"),
        ("zk-sasl-md5\",nonce", "other\",nonce"),
        ("qop=auth", "qop=auth-int"),
        ("zookeeper/zk-sasl-md5", "hdfs/zk-sasl-md5"),
        ("authzid=\"joe\"", "authzid=\"super\""),
        ("username=\"joe\"", "username=\"ann\""),
        ("qop=auth", "qop=auth,nc=00000001"),
        ("charset=utf-8", "charset=utf-16"),
        ("response=", "answer="),
    ];
    for (from, to) in cases {
        let mut login = login();
        let nonce = challenged(&mut login);
        let sent = answer(&nonce, "secret", |text| text.replace(from, to));
        assert!(login.take(sent.as_bytes()).is_err(), "{to}");
        // Nor does the right answer help any more: the nonce was used.
        let sent = answer(&nonce, "secret", |text| text);
        assert!(login.take(sent.as_bytes()).is_err(), "{to}");
        assert!(login.is_missing());
    }
    let mut login = login();
    let nonce = challenged(&mut login);
    let sent = answer(&nonce, "wrong", |text| text);
    assert_eq!(login.take(sent.as_bytes()), Err(LoginError::Denied));
}

/// Each of these fails by the rule that it is about, not by the hash.
#[test]
fn rules_hold_also_with_a_right_hash() {
    let users = Users::parse(USER).unwrap();
    for (from, to, expected) in [
        ("nonce=\"n0\"", "nonce=\"n1\"", LoginError::Replayed),
        ("nc=00000001", "nc=00000002", LoginError::Replayed),
        ("authzid=\"joe\"", "authzid=\"ann\"", LoginError::Denied),
        (
            "qop=auth",
            "qop=auth-int",
            LoginError::Malformed("another qop"),
        ),
        (
            "zookeeper/zk",
            "hdfs/zk",
            LoginError::Malformed("another digest-uri"),
        ),
    ] {
        let sent = answer("n0", "secret", |text| text.replace(from, to));
        let mut sent = Answer::parse(sent.as_bytes()).unwrap();
        let secret = users.secrets("joe").unwrap()[0];
        sent.response = sent.response_of(&secret, "AUTHENTICATE").into_bytes();
        assert_eq!(sent.check("n0", &users), Err(expected), "{to}");
    }
}

#[test]
fn an_answer_to_another_connection_is_refused() {
    let (mut first, mut second) = (login(), login());
    let nonce = challenged(&mut first);
    challenged(&mut second);
    let sent = answer(&nonce, "secret", |text| text);
    assert_eq!(second.take(sent.as_bytes()), Err(LoginError::Replayed));
}

#[test]
fn tokens_have_a_bound_and_a_form() {
    let mut long = login();
    let nonce = challenged(&mut long);
    let sent = answer(&nonce, "secret", |text| text);
    let sent = format!("{sent},x={}", "y".repeat(MAX_TOKEN_BYTES));
    let expected = LoginError::Malformed("the token is over 4096 bytes");
    assert_eq!(long.take(sent.as_bytes()), Err(expected));
    for token in [
        &[b'x'; MAX_TOKEN_BYTES + 1][..],
        b"a",
        b"a=\"b",
        b"a=\"b\\",
        b"a=\"b\"c",
        b"=",
    ] {
        let mut login = login();
        challenged(&mut login);
        assert!(login.take(token).is_err());
    }
    assert!(
        login().take(b"x=y").is_err(),
        "a token before the challenge"
    );
}

#[test]
fn without_users_the_client_goes_on() {
    let mut login = Login::default();
    assert!(!login.is_missing());
    assert_eq!(login.take(b"").unwrap().token, None);
}

#[test]
fn files_have_passwords_or_hashes() {
    let hash = "1a2b3c4d5e6f708192a3b4c5d6e7f809";
    let text = format!("# people\n\njoe:a:b\nann:{{HA1}}{hash}\njörg:ü\n");
    let users = Users::parse(&text).unwrap();
    assert_eq!(hex(users.secrets("ann").unwrap()[0].bytes()), hash);
    assert_eq!(users.secrets("joe").unwrap().len(), 1);
    assert_eq!(users.secrets("jörg").unwrap().len(), 2, "both encodings");
    assert!(users.secrets("bob").is_none());
    for (text, line) in [
        ("joe", 1),
        ("a:b\n:x", 2),
        ("joe:", 1),
        ("joe:{HA1}12", 1),
        ("joe:{HA1}+a2b3c4d5e6f708192a3b4c5d6e7f809", 1),
        ("a:b\na:c", 2),
    ] {
        assert_eq!(Users::parse(text).unwrap_err().0, line, "{text}");
    }
    assert!(!format!("{users:?}").contains(hash));
}
