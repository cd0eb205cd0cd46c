//! Paths: which are valid, and how they divide.

use crate::OpError;

/// The node that holds ZooKeeper's own nodes.
pub const SYSTEM_PATH: &str = "/zookeeper";
/// The node under which the quotas are.
pub const QUOTA_PATH: &str = "/zookeeper/quota";
/// The node whose data names the pods of the service.
pub const CONFIG_PATH: &str = "/zookeeper/config";

/// Checks a path as ZooKeeper's servers do.
///
/// # Errors
/// [`OpError::BadArguments`] if the path does not start with `/`, ends with one, has an empty,
/// `.` or `..` component, or contains a control, surrogate, private-use or other excluded
/// character.
pub fn validate(path: &str) -> Result<(), OpError> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(OpError::BadArguments);
    };
    let is_valid =
        rest.is_empty() || rest.split('/').all(is_component) && !rest.chars().any(is_excluded);
    if is_valid {
        Ok(())
    } else {
        Err(OpError::BadArguments)
    }
}

fn is_component(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
}

/// ZooKeeper checks UTF-16 units, so everything outside the basic plane is excluded as surrogates.
fn is_excluded(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// The parent's path and the name, for a path that is to be created or deleted. ZooKeeper checks no
/// more at this point, and some errors depend on it: the parent of `/a/` is `/a`, and that of `/a`
/// is the empty path, an alias of the root.
pub(crate) fn split(path: &str) -> Result<(&str, &str), OpError> {
    if path.contains('\0') {
        return Err(OpError::BadArguments);
    }
    path.rsplit_once('/').ok_or(OpError::BadArguments)
}

/// Whether clients can't delete the node.
pub(crate) fn is_permanent(path: &str) -> bool {
    matches!(path, "/" | SYSTEM_PATH | QUOTA_PATH | CONFIG_PATH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_paths_are_accepted() {
        for path in [
            "/",
            "/a",
            "/a/b",
            "/a.b",
            "/...",
            "/..a/.b",
            "/a..",
            "/é\u{d7ff}",
            "/ ",
            "/\u{feff}",
        ] {
            assert_eq!(validate(path), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn invalid_paths_are_refused() {
        for path in [
            "",
            "a",
            "a/b",
            "//",
            "/a/",
            "/a//b",
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/a/.",
            "/\0",
            "/a\u{1f}",
            "/\u{7f}",
            "/\u{9f}",
            "/\u{e000}",
            "/\u{f8ff}",
            "/\u{fff0}",
            "/\u{1f600}",
        ] {
            assert_eq!(validate(path), Err(OpError::BadArguments), "{path:?}");
        }
    }

    #[test]
    fn a_path_splits_at_its_last_slash() {
        assert_eq!(split("/a/b"), Ok(("/a", "b")));
        assert_eq!(split("/a"), Ok(("", "a")));
        assert_eq!(split("/"), Ok(("", "")));
        assert_eq!(split("/a/"), Ok(("/a", "")));
        assert_eq!(split("a"), Err(OpError::BadArguments));
        assert_eq!(split("/a\0"), Err(OpError::BadArguments));
    }
}
