//! The file of users and their secrets.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};

/// What clients of ZooKeeper know as the realm, whatever the server is called.
pub(super) const REALM: &str = "zk-sasl-md5";

/// Stands before a secret in hexadecimal digits, in place of a password.
const SECRET_MARK: &str = "{HA1}";

/// The largest file of users.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The longest name, which fits into an access control list.
const MAX_NAME_BYTES: usize = 255;

/// The hash of `user:realm:password`, `HA1` for short. Whoever has it can log in as the user, but
/// does not know a password that the user may have elsewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Secret([u8; 16]);

impl Secret {
    pub(super) fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn of(user: &[u8], password: &[u8]) -> Self {
        Self(Md5::digest([user, REALM.as_bytes(), password].join(&b':')).into())
    }

    fn parse(digits: &str) -> Option<Self> {
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u128::from_str_radix(digits, 16).ok();
        let number = number.filter(|_| is_hex && digits.len() == 32)?;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why a file of users can't be used. No password is shown.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The file can't be read.
    #[error(
        "cannot read --sasl-users-file {path}: {reason}; check the path and that this process may read it"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A line is not valid.
    #[error(
        "--sasl-users-file {path}, line {line}: {reason}; write USER:PASSWORD or USER:{{HA1}}DIGITS"
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from one.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Users with their secrets.
#[derive(Debug, Default)]
pub(crate) struct Users(HashMap<String, Vec<Secret>>);

impl Users {
    /// Reads a file.
    ///
    /// # Errors
    /// [`UsersError`].
    pub(crate) fn read(path: &Path) -> Result<Self, UsersError> {
        let unreadable = |reason: String| UsersError::Unreadable {
            path: path.to_owned(),
            reason,
        };
        let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
        if size.len() > MAX_FILE_BYTES {
            return Err(unreadable("it is over 16 MiB".to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        Self::parse(&text).map_err(|(line, reason)| UsersError::Line {
            path: path.to_owned(),
            line,
            reason,
        })
    }

    /// Reads lines `USER:PASSWORD` or `USER:{HA1}DIGITS`. Empty lines and those that start with `#`
    /// say nothing.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut users = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |reason| (index + 1, reason);
            let (user, password) = line.split_once(':').ok_or(wrong("there is no colon"))?;
            if user.is_empty() || user.len() > MAX_NAME_BYTES {
                return Err(wrong("the name does not have 1 to 255 bytes"));
            }
            if password.is_empty() {
                return Err(wrong("the password is empty"));
            }
            let secrets = match password.strip_prefix(SECRET_MARK) {
                Some(digits) => {
                    let secret = Secret::parse(digits);
                    vec![secret.ok_or(wrong("after {HA1} there are not 32 hexadecimal digits"))?]
                }
                None => of_password(user, password),
            };
            if users.insert(user.to_owned(), secrets).is_some() {
                return Err(wrong("the user stands in the file twice"));
            }
        }
        Ok(Self(users))
    }

    pub(super) fn secrets(&self, user: &str) -> Option<&[Secret]> {
        self.0.get(user).map(Vec::as_slice)
    }
}

/// RFC 2831 hashes names and passwords in ISO 8859-1 where they fit into it, as Java's client does;
/// others hash UTF-8.
fn of_password(user: &str, password: &str) -> Vec<Secret> {
    let mut secrets = vec![Secret::of(user.as_bytes(), password.as_bytes())];
    let latin = |text: &str| match text.chars().map(|c| u8::try_from(c).ok()).collect() {
        Some(bytes) => bytes,
        None => text.as_bytes().to_vec(),
    };
    let other = Secret::of(&latin(user), &latin(password));
    if other != secrets[0] {
        secrets.push(other);
    }
    secrets
}
