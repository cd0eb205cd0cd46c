//! Checks the width of comments, which rustfmt doesn't.

use anyhow::Result;

use crate::sources;

/// The maximum number of characters per line, the same as `max_width` in .rustfmt.toml.
const MAX_WIDTH: usize = 100;

/// Fails if a comment line is too wide. Table rows and code blocks are exempt.
pub(crate) fn check() -> Result<()> {
    let advice = format!("lines of comments have more than {MAX_WIDTH} characters: wrap them");
    sources::check(&["crates", "tests"], too_wide, &advice)
}

fn too_wide(source: &str) -> Vec<usize> {
    let mut wide = Vec::new();
    let mut is_code = false;
    for (line, number) in source.lines().zip(1..) {
        let Some(comment) = line.trim_start().strip_prefix("//") else {
            is_code = false;
            continue;
        };
        let text = comment.trim_start_matches(['/', '!', ' ']);
        if text.starts_with("```") {
            is_code = !is_code;
        }
        if !is_code && !text.starts_with('|') && line.chars().count() > MAX_WIDTH {
            wide.push(number);
        }
    }
    wide
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_comment_is_too_wide() {
        check().unwrap();
    }

    #[test]
    fn wide_comments_are_detected() {
        let words = "word ".repeat(20);
        let just = format!("// {}", "w".repeat(97));
        let source = format!(
            "/// {words}\nlet wide = \"{words}\";\n    // {words}\n//! ```text\n//! {words}\n//! ```\n//! {words}\n\
             /// | {words} |\n{just}\n{just}w\n"
        );
        assert_eq!(too_wide(&source), [1, 3, 7, 10]);
    }
}
