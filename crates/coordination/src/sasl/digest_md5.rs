//! The messages of DIGEST-MD5 (RFC 2831), with the quality of protection `auth`.

use std::collections::HashMap;

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;
use synod_runtime::random;

use super::LoginError;
use super::users::{REALM, Secret, Users};

/// What clients of ZooKeeper name as the service.
const DIGEST_URI: &str = "zookeeper/zk-sasl-md5";

/// A nonce counts one use, its only one.
const FIRST_USE: &str = "00000001";

pub(super) fn challenge(nonce: &str) -> String {
    format!(r#"realm="{REALM}",nonce="{nonce}",qop="auth",charset=utf-8,algorithm=md5-sess"#)
}

/// What a client answers to a challenge.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) user: String,
    realm: String,
    nonce: String,
    cnonce: Vec<u8>,
    uses: String,
    qop: String,
    uri: String,
    pub(super) response: Vec<u8>,
    /// On whose behalf: nobody but the user itself.
    on_behalf: Option<String>,
}

impl Answer {
    pub(super) fn parse(token: &[u8]) -> Result<Self, LoginError> {
        let mut given = directives(token)?;
        let is_utf8 = match given.remove("charset").as_deref() {
            None => false,
            Some(b"utf-8") => true,
            Some(_) => return Err(LoginError::Malformed("the charset is not utf-8")),
        };
        let text = |value: Vec<u8>| match is_utf8 {
            true => String::from_utf8(value).map_err(|_| LoginError::Malformed("not UTF-8")),
            // ISO 8859-1: each byte is the character of that number.
            false => Ok(value.into_iter().map(char::from).collect()),
        };
        let on_behalf = given.remove("authzid").map(text).transpose()?;
        let qop = given.remove("qop").unwrap_or_else(|| b"auth".to_vec());
        let mut required = |name, missing| {
            let value = given.remove(name);
            value.ok_or(LoginError::Malformed(missing))
        };
        Ok(Self {
            user: text(required("username", "no username")?)?,
            realm: text(required("realm", "no realm")?)?,
            nonce: text(required("nonce", "no nonce")?)?,
            cnonce: required("cnonce", "no cnonce")?,
            uses: text(required("nc", "no nc")?)?,
            qop: text(qop)?,
            uri: text(required("digest-uri", "no digest-uri")?)?,
            response: required("response", "no response")?,
            on_behalf,
        })
    }

    /// Checks the answer to the challenge with this nonce, and returns the server's own proof that
    /// it knows the password.
    pub(super) fn check(&self, nonce: &str, users: &Users) -> Result<String, LoginError> {
        if self.nonce != nonce || self.uses != FIRST_USE {
            return Err(LoginError::Replayed);
        }
        if self.realm != REALM {
            return Err(LoginError::Malformed("another realm"));
        }
        if self.qop != "auth" {
            return Err(LoginError::Malformed("another qop"));
        }
        if self.uri != DIGEST_URI {
            return Err(LoginError::Malformed("another digest-uri"));
        }
        if self.on_behalf.as_ref().is_some_and(|id| *id != self.user) {
            return Err(LoginError::Denied);
        }
        // An unknown user takes as long as a wrong password.
        let nobody = [Secret::new(random::secret())];
        let secrets = users.secrets(&self.user).unwrap_or(&nobody);
        let right = secrets.iter().find(|secret| {
            let expected = self.response_of(secret, "AUTHENTICATE");
            bool::from(expected.as_bytes().ct_eq(&self.response))
        });
        let secret = right.ok_or(LoginError::Denied)?;
        Ok(format!("rspauth={}", self.response_of(secret, "")))
    }

    /// RFC 2831 §2.1.2.1 and, without a method, §2.1.3.
    pub(super) fn response_of(&self, secret: &Secret, method: &str) -> String {
        let mut a1 = Md5::new();
        a1.update(secret.bytes());
        for part in [self.nonce.as_bytes(), &self.cnonce] {
            a1.update(b":");
            a1.update(part);
        }
        if let Some(on_behalf) = &self.on_behalf {
            a1.update(b":");
            a1.update(on_behalf);
        }
        let a2 = Md5::digest(format!("{method}:{}", self.uri));
        let (a1, a2) = (hex(&a1.finalize()), hex(&a2));
        let parts: [&[u8]; 6] = [
            a1.as_bytes(),
            self.nonce.as_bytes(),
            self.uses.as_bytes(),
            &self.cnonce,
            self.qop.as_bytes(),
            a2.as_bytes(),
        ];
        hex(&Md5::digest(parts.join(&b':')))
    }
}

/// The bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The directives of a token, `name=value` or `name="value"` each, separated by commas. Within
/// quotes `\` stands before a character that is meant literally.
fn directives(token: &[u8]) -> Result<HashMap<String, Vec<u8>>, LoginError> {
    let malformed = LoginError::Malformed("no list of directives");
    let mut found = HashMap::new();
    let mut rest = token.trim_ascii();
    while !rest.is_empty() {
        let end = rest
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or(malformed)?;
        let name = str::from_utf8(rest[..end].trim_ascii()).map_err(|_| malformed)?;
        let (value, after) = value(rest[end + 1..].trim_ascii_start()).ok_or(malformed)?;
        // A second value could be the one that was not checked.
        if found.insert(name.to_ascii_lowercase(), value).is_some() {
            return Err(LoginError::Malformed("a directive stands twice"));
        }
        let after = after.trim_ascii_start();
        rest = match after.split_first() {
            None => after,
            Some((b',', more)) => more.trim_ascii_start(),
            Some(_) => return Err(malformed),
        };
    }
    Ok(found)
}

/// The value at the start, and what follows it.
fn value(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    if text.first() != Some(&b'"') {
        let end = text.iter().position(|byte| *byte == b',');
        let (value, rest) = text.split_at(end.unwrap_or(text.len()));
        return Some((value.trim_ascii_end().to_vec(), rest));
    }
    let mut value = Vec::new();
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'"' => return Some((value, &text[at + 1..])),
            b'\\' => {
                value.push(*text.get(at + 1)?);
                at += 2;
            }
            byte => {
                value.push(byte);
                at += 1;
            }
        }
    }
}
