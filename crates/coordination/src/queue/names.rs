//! The names of the nodes in a queue.

use std::fmt;

use synod_coordination_core::SessionId;

use crate::error::Error;

/// Where everything of this API is.
pub(crate) const SERVICE_ROOT: &str = "/synod";

/// Below it each lock has a node.
pub(crate) const LOCKS: &str = "/synod/locks";

/// Below it each election has a node.
pub(crate) const ELECTIONS: &str = "/synod/elections";

/// The start of a guard's name.
pub(super) const GUARD: &str = "delay-";

/// The start of a contender's name, and what precedes its number: those of Curator.
const CONTENDER: &str = "_c_";
const EXCLUSIVE: &str = "-__WRIT__";
const SHARED: &str = "-__READ__";
const LATCH: &str = "-latch-";

/// The digits of a sequential node's number.
const SEQUENCE_DIGITS: usize = 10;

/// The longest name of a lock.
const MAX_NAME_BYTES: usize = 255;

/// The longest id of a request.
const MAX_REQUEST_BYTES: usize = 64;

/// What a contender excludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All others.
    Exclusive,
    /// Exclusive ones.
    Shared,
}

impl Mode {
    /// Whether two contenders can't hold at the same time.
    pub(super) fn excludes(self, other: Self) -> bool {
        self == Self::Exclusive || other == Self::Exclusive
    }
}

/// What a contender of ours is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lock(Mode),
    Election,
}

impl Kind {
    pub(super) fn mode(self) -> Mode {
        match self {
            Self::Lock(mode) => mode,
            Self::Election => Mode::Exclusive,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Lock(Mode::Exclusive) => EXCLUSIVE,
            Self::Lock(Mode::Shared) => SHARED,
            Self::Election => LATCH,
        }
    }
}

/// One attempt to acquire: a session and its request. Repeated calls are the same attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt(String);

impl Attempt {
    /// The attempt of a session under this request id.
    ///
    /// # Errors
    /// The id is not valid.
    pub(crate) fn new(session: SessionId, request_id: &str) -> Result<Self, Error> {
        let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !(1..=MAX_REQUEST_BYTES).contains(&request_id.len()) || !request_id.chars().all(is_valid)
        {
            return Err(Error::Invalid {
                what: "request_id",
                expected: "1 to 64 letters, digits, `-` and `_`",
            });
        }
        Ok(Self(format!("{:016x}.{request_id}", session.get())))
    }

    pub(super) fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// That of a contender's name, if it is one of ours.
    pub(super) fn of_contender(name: &str) -> Option<Self> {
        let name = name.strip_prefix(CONTENDER)?;
        let (name, _) = name.split_at_checked(name.len().checked_sub(SEQUENCE_DIGITS)?)?;
        // The sign of a number that has overflowed.
        let unsigned = name.strip_suffix('-').unwrap_or(name);
        let suffixes = [EXCLUSIVE, SHARED, LATCH].into_iter();
        let mut names = suffixes.flat_map(|suffix| [name, unsigned].map(|name| (name, suffix)));
        let attempt = names.find_map(|(name, suffix)| name.strip_suffix(suffix))?;
        Some(Self::from_text(attempt))
    }

    /// Zero if the text names none.
    pub(super) fn session(&self) -> SessionId {
        let text = self.0.split('.').next().unwrap_or_default();
        SessionId::new(i64::from_str_radix(text, 16).unwrap_or(0))
    }

    /// The path of its contender, without the number.
    pub(super) fn contender(&self, queue: &str, kind: Kind) -> String {
        format!("{queue}/{CONTENDER}{}{}", self.0, kind.suffix())
    }

    /// The path of its guard.
    pub(super) fn guard(&self, queue: &str) -> String {
        format!("{queue}/{GUARD}{}", self.0)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a contender's name says: its mode and its number. Names of other programs than Curator
/// contend exclusively, but for those of kazoo's read locks.
pub(super) fn parse(name: &str) -> Option<(Mode, u32)> {
    let at = name.len().checked_sub(SEQUENCE_DIGITS)?;
    let (name, number) = name.split_at_checked(at)?;
    // After 2^31 creations below a parent the numbers are negative. The sign is one of the ten
    // characters, or precedes them.
    let name = name.strip_suffix('-').unwrap_or(name);
    let digits = number.strip_prefix('-').unwrap_or(number);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let is_shared = name.ends_with("__READ__") || name.ends_with("__rlock__");
    let mode = match is_shared {
        true => Mode::Shared,
        false => Mode::Exclusive,
    };
    Some((mode, digits.parse().ok()?))
}

/// A guard's data: people can read it.
pub(super) fn guard_data(mode: Mode, delay_ms: u32) -> String {
    match mode {
        Mode::Exclusive => format!("exclusive {delay_ms} ms"),
        Mode::Shared => format!("shared {delay_ms} ms"),
    }
}

/// Reads [`guard_data`]. What can't be read excludes all for the longest time.
pub(super) fn read_guard(data: &[u8]) -> (Mode, u32) {
    let text = std::str::from_utf8(data).unwrap_or_default();
    let mut words = text.split(' ');
    let mode = match words.next() {
        Some("shared") => Mode::Shared,
        _ => Mode::Exclusive,
    };
    let delay_ms = words.next().and_then(|word| word.parse().ok());
    let delay_ms = delay_ms.unwrap_or(super::delays::MAX_DELAY_MS);
    (mode, delay_ms.min(super::delays::MAX_DELAY_MS))
}

/// The path of a lock.
///
/// # Errors
/// The name is not valid.
pub(crate) fn lock_path(name: &str) -> Result<String, Error> {
    child_path(LOCKS, name)
}

/// The path of an election.
///
/// # Errors
/// The name is not valid.
pub(crate) fn election_path(name: &str) -> Result<String, Error> {
    child_path(ELECTIONS, name)
}

/// The path of a node that a client names, below another one.
///
/// # Errors
/// The name is not valid.
pub(crate) fn child_path(parent: &str, name: &str) -> Result<String, Error> {
    let path = format!("{parent}/{name}");
    let is_valid = (1..=MAX_NAME_BYTES).contains(&name.len())
        && !name.contains('/')
        && synod_coordination_core::validate_path(&path).is_ok();
    match is_valid {
        true => Ok(path),
        false => Err(Error::Invalid {
            what: "name",
            expected: "1 to 255 bytes without `/` and control characters",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_attempt_again() {
        let session = SessionId::new(0x1234);
        let attempt = Attempt::new(session, "a-1_b").unwrap();
        let modes = [Mode::Exclusive, Mode::Shared];
        for kind in modes.map(Kind::Lock).into_iter().chain([Kind::Election]) {
            for number in [7, i32::MIN, -7] {
                let path = format!("{}{number:010}", attempt.contender("/l", kind));
                let name = path.strip_prefix("/l/").unwrap();
                assert_eq!(Attempt::of_contender(name), Some(attempt.clone()));
                assert_eq!(parse(name), Some((kind.mode(), number.unsigned_abs())));
            }
        }
        assert_eq!(attempt.session(), session);
        assert_eq!(attempt.guard("/l"), "/l/delay-0000000000001234.a-1_b");
    }

    #[test]
    fn nodes_of_other_programs_contend() {
        let exclusive = Some((Mode::Exclusive, 12));
        let shared = Some((Mode::Shared, 12));
        for (name, expected) in [
            ("_c_8f-__READ__0000000012", shared),
            ("_c_8f-__WRIT__0000000012", exclusive),
            ("8f__rlock__0000000012", shared),
            ("8f__lock__0000000012", exclusive),
            ("_c_8f-lock-0000000012", exclusive),
            (
                "_c_8f-__READ__-2147483648",
                Some((Mode::Shared, 2_147_483_648)),
            ),
            ("_c_8f-__READ__-000000012", shared),
            ("8f__rlock__-000000012", shared),
            (
                "8f__lock__-2147483648",
                Some((Mode::Exclusive, 2_147_483_648)),
            ),
            ("config", None),
            ("é00000000012", exclusive),
            ("00000000é0", None),
            ("", None),
        ] {
            assert_eq!(parse(name), expected, "{name}");
        }
    }

    #[test]
    fn a_guard_tells_its_delay() {
        for mode in [Mode::Exclusive, Mode::Shared] {
            let data = guard_data(mode, 1_500);
            assert_eq!(read_guard(data.as_bytes()), (mode, 1_500));
        }
        for damaged in ["", "exclusive", "exclusive x ms", "exclusive 4000000000 ms"] {
            let read = read_guard(damaged.as_bytes());
            assert_eq!(read, (Mode::Exclusive, 60_000), "{damaged:?}");
        }
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(lock_path("é 1").unwrap(), "/synod/locks/é 1");
        for name in ["", "a/b", ".", "..", "a\n", &"x".repeat(256)] {
            assert!(lock_path(name).is_err(), "{name:?}");
        }
        for id in ["", "a.b", "a/b", "é", &"x".repeat(65)] {
            assert!(Attempt::new(SessionId::new(1), id).is_err(), "{id:?}");
        }
    }
}
