//! Checks that log lines contain no `Debug` form of a value (`Some(NodeId(7))`, `["a"]`). It is
//! neither readable nor machine-readable; in a JSON line it is a string within JSON.

use anyhow::Result;

use crate::sources;

const MACROS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Fails if a log line contains the `Debug` form of a value.
pub(crate) fn check() -> Result<()> {
    sources::check(
        &["crates"],
        debug_forms,
        "log lines show `Debug` forms (`?value`, `{:?}`): use `%` with a `Display`, \
         or `.map(tracing::field::display)`",
    )
}

/// The lines of log macros with such a field or format.
fn debug_forms(source: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    for name in MACROS {
        let start = format!("tracing::{name}!(");
        for (at, _) in source.match_indices(&start) {
            if shows_debug(&source[at + start.len()..]) {
                lines.push(source[..at].matches('\n').count() + 1);
            }
        }
    }
    lines.sort_unstable();
    lines
}

/// Whether the arguments, up to the macro's closing bracket, use a `Debug` form.
fn shows_debug(arguments: &str) -> bool {
    let (mut depth, mut in_text, mut escaped) = (1, false, false);
    // Whether the value of a field, or a shorthand field, may start here.
    let mut begins = true;
    for (at, letter) in arguments.char_indices() {
        if in_text {
            let rest = &arguments[at..];
            match letter {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_text = false,
                ':' if rest.starts_with(":?}") || rest.starts_with(":#?}") => return true,
                _ => {}
            }
            continue;
        }
        match letter {
            '"' => in_text = true,
            '?' if begins && depth == 1 => return true,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return false;
        }
        begins = matches!(letter, ',' | '=' | '(') || (begins && letter.is_whitespace());
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_log_line_shows_a_debug_form() {
        check().unwrap();
    }

    #[test]
    fn debug_forms_are_detected() {
        let log =
            |arguments: &str| format!("fn f() {{\n    {}::info!({arguments});\n}}", "tracing");
        for bad in [
            r#"leader = ?role.leader, "changed""#,
            r#"?leader, "changed""#,
            r#"%group, ?leader, "changed""#,
            r#"error = %format!("{:?}", e), "failed""#,
            r#""it was {value:?}""#,
            "\n    name = x,\n    urls =\n        ?urls,\n    \"ready\"\n",
        ] {
            assert_eq!(debug_forms(&log(bad)), [2], "{bad}");
        }
        for good in [
            r#"%leader, term = ballot.round, "elected""#,
            r#"leader = leader.map(tracing::field::display), "is it? (yes)""#,
            r#"bytes = size(file)?, "read""#,
            r#""a quote \" and = ?""#,
        ] {
            assert_eq!(debug_forms(&log(good)).len(), 0, "{good}");
        }
    }
}
