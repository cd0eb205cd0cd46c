//! Transcripts of `etcdctl` sessions that are replayed against a server.
//!
//! `$ words` is a command and `< text` its stdin. The lines that it prints follow. `! text` is the
//! last stderr line of a command that fails. `{name}` matches any text on its first use and the
//! same text afterwards, in commands too; `{_}` matches any text. `#` starts a comment.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use synod_testkit::Etcdctl;

/// Replays a transcript, and returns the texts that its names matched.
pub(super) async fn replay(etcdctl: &Etcdctl, text: &str) -> Result<HashMap<String, String>> {
    let mut bound = HashMap::new();
    for step in parse(text) {
        check(etcdctl, &step, &mut bound)
            .await
            .with_context(|| format!("$ {}", step.command))?;
    }
    Ok(bound)
}

#[derive(Debug, Default)]
struct Step {
    command: String,
    stdin: Vec<String>,
    stdout: Vec<String>,
    failure: Option<String>,
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                command: command.to_owned(),
                ..Step::default()
            });
        } else if let Some(step) = steps.last_mut() {
            if let Some(input) = line.strip_prefix('<') {
                step.stdin
                    .push(input.strip_prefix(' ').unwrap_or(input).to_owned());
            } else if let Some(failure) = line.strip_prefix("! ") {
                step.failure = Some(failure.to_owned());
            } else if !line.starts_with('#') {
                step.stdout.push(line.to_owned());
            }
        }
    }
    for step in &mut steps {
        while step.stdout.last().is_some_and(String::is_empty) {
            step.stdout.pop();
        }
    }
    steps
}

async fn check(etcdctl: &Etcdctl, step: &Step, bound: &mut HashMap<String, String>) -> Result<()> {
    let command = filled(&step.command, bound);
    let words = split_words(&command);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut stdin = step.stdin.join("\n");
    if !stdin.is_empty() {
        stdin.push('\n');
    }
    let output = etcdctl.run_with_input(&words, &stdin).await?;
    if let Some(failure) = &step.failure {
        ensure!(
            !output.success,
            "should fail, but printed {}",
            output.stdout
        );
        let last = output.stderr.trim().lines().last().unwrap_or_default();
        ensure!(
            matches(failure, last, bound),
            "should fail with {failure:?}, not {last:?}"
        );
    } else {
        ensure!(output.success, "failed: {}", output.stderr);
    }
    let printed: Vec<&str> = output.stdout.trim_end().lines().collect();
    let same = printed.len() == step.stdout.len()
        && step
            .stdout
            .iter()
            .zip(&printed)
            .all(|(wanted, line)| matches(wanted, line, bound));
    if !same {
        bail!(
            "should print\n{}\nbut printed\n{}",
            step.stdout.join("\n"),
            printed.join("\n")
        );
    }
    Ok(())
}

/// Words are separated by blanks. Quotes enclose a word with blanks (`""` is the empty word).
fn split_words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in command.split('"').enumerate() {
        if number % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn filled(text: &str, bound: &HashMap<String, String>) -> String {
    bound.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    })
}

/// Matches one line, and binds the names that are used for the first time.
fn matches(pattern: &str, line: &str, bound: &mut HashMap<String, String>) -> bool {
    let Some((literal, rest)) = pattern.split_once('{') else {
        return pattern == line;
    };
    let Some((name, pattern)) = rest.split_once('}') else {
        return pattern == line;
    };
    let Some(line) = line.strip_prefix(literal) else {
        return false;
    };
    if let Some(value) = bound.get(name).cloned() {
        return line
            .strip_prefix(value.as_str())
            .is_some_and(|line| matches(pattern, line, bound));
    }
    // The shortest text that lets the rest match. A name never matches an empty text.
    let ends = line
        .char_indices()
        .map(|(at, letter)| at + letter.len_utf8());
    for end in ends.filter(|end| name == "_" || *end > 0) {
        let before = bound.clone();
        if name != "_" {
            bound.insert(name.to_owned(), line[..end].to_owned());
        }
        if matches(pattern, &line[end..], bound) {
            return true;
        }
        *bound = before;
    }
    name == "_" && matches(pattern, line, bound)
}

#[test]
fn a_name_matches_the_same_text_everywhere() {
    let mut bound = HashMap::new();
    assert!(matches(
        "lease {a} granted with TTL({ttl}s)",
        "lease 17 granted with TTL(2s)",
        &mut bound
    ));
    assert_eq!((bound["a"].as_str(), bound["ttl"].as_str()), ("17", "2"));
    assert!(matches("{a}, {_}, x", "17, anything at all, x", &mut bound));
    assert!(!matches(
        "{a}, {_}, x",
        "18, anything at all, x",
        &mut bound
    ));
    assert_eq!(filled("lease revoke {a}", &bound), "lease revoke 17");
    assert_eq!(split_words(r#"get "" --prefix"#), ["get", "", "--prefix"]);
}
