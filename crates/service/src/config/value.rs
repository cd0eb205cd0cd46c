//! Parsers for the values of flags: Go's durations and booleans, numbers, URLs, log levels and
//! formats. Their errors say what is valid, for [`ConfigError::invalid`].

use std::time::Duration;

use synod_rpc::{Allowed, ServerUrl};

use super::ConfigError;

/// A Go duration: `300ms`, `1.5h`, `2h45m`, or a bare `0`.
///
/// # Errors
/// Says what was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "a duration such as 100ms, 10s, 5m or 1h30m";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or(EXPECTED)?;
        let number: f64 = rest[..digits].parse().map_err(|_| EXPECTED)?;
        rest = &rest[digits..];
        let unit_len = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let seconds = match &rest[..unit_len] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(EXPECTED.to_owned()),
        };
        total += number * seconds;
        rest = &rest[unit_len..];
    }
    if text.is_empty() {
        return Err(EXPECTED.to_owned());
    }
    Duration::try_from_secs_f64(total).map_err(|_| EXPECTED.to_owned())
}

/// A boolean in any of Go's spellings.
///
/// # Errors
/// Says what was expected.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

/// A whole number of at least `least`.
///
/// # Errors
/// Says what was expected.
pub fn number<T>(text: &str, least: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy,
{
    text.parse::<T>()
        .ok()
        .filter(|n| *n >= least)
        .ok_or_else(|| format!("a whole number of at least {least}"))
}

/// A comma-separated list. Spaces around its words are removed, and empty words are skipped.
#[must_use]
pub fn list(text: &str) -> Vec<String> {
    let words = text.split(',').map(str::trim);
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A comma-separated list of URLs of servers, see [`ServerUrl`]. Empty parts are skipped.
///
/// # Errors
/// Says which URL is wrong, and why.
pub fn urls(text: &str) -> Result<Vec<String>, String> {
    list(text).iter().map(|url| check_url(url)).collect()
}

/// Checks the URL of a server. Returns it as [`ServerUrl::as_str`] does.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_url(text: &str) -> Result<String, String> {
    match ServerUrl::parse(text) {
        Ok(url) => Ok(url.as_str().to_owned()),
        Err(error) => Err(format!("the URL of a server: {error}")),
    }
}

/// A comma-separated list of words that are allowed. As in etcd `*` and an empty list allow all.
#[must_use]
pub fn allowed(text: &str) -> Allowed {
    let words = list(text);
    match words.is_empty() || words.iter().any(|word| word == "*") {
        true => Allowed::All,
        false => Allowed::These(words),
    }
}

/// A comma-separated list of origins, as browsers write them: `https://site.example:8443`.
///
/// # Errors
/// Says which origin is wrong.
pub fn origins(text: &str) -> Result<Allowed, String> {
    let Allowed::These(words) = allowed(text) else {
        return Ok(Allowed::All);
    };
    let origins = words.iter().map(|word| {
        let url = url::Url::parse(word).ok();
        let is_origin = |url: &url::Url| {
            matches!(url.scheme(), "http" | "https")
                && url.path() == "/"
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
        };
        // Browsers leave out the port that the scheme implies.
        let origin = url.filter(is_origin).map(|url| url.origin());
        origin.map(|origin| origin.ascii_serialization()).ok_or_else(|| {
            format!("*, or origins such as http://site.example:8080, separated by commas: {word:?} is not an origin")
        })
    });
    Ok(Allowed::These(origins.collect::<Result<_, _>>()?))
}

/// Whether a URL, which was checked before, asks for TLS.
#[must_use]
pub fn is_tls(url: &str) -> bool {
    ServerUrl::parse(url).is_ok_and(|url| url.is_tls())
}

/// Refuses wildcard addresses: a process can listen on them, but others can't connect to them.
///
/// # Errors
/// [`ConfigError::Contradiction`] for the first such URL; it says that `flag` is required.
pub fn dialable(flag: &str, urls: &[String]) -> Result<(), ConfigError> {
    let is_wildcard = |url: &&String| ServerUrl::parse(url).is_ok_and(|url| url.is_wildcard());
    match urls.iter().find(is_wildcard) {
        Some(url) => Err(ConfigError::Contradiction(format!(
            "--{flag} is required: {url} is a wildcard address, which others cannot connect to"
        ))),
        None => Ok(()),
    }
}

/// A log level. Levels above `error` count as `error`.
///
/// # Errors
/// Says what was expected.
pub fn log_level(text: &str) -> Result<String, String> {
    match text {
        "debug" | "info" | "warn" | "error" => Ok(text.to_owned()),
        "panic" | "fatal" | "dpanic" => Ok("error".to_owned()),
        _ => Err("debug, info, warn or error".to_owned()),
    }
}

/// A log format: whether the log is JSON lines.
///
/// # Errors
/// Says what was expected.
pub fn log_format(text: &str) -> Result<bool, String> {
    match text {
        "json" => Ok(true),
        "console" | "text" => Ok(false),
        _ => Err("json or console".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, ms) in [
            ("0", Some(0)),
            ("100ms", Some(100)),
            ("1.5s", Some(1500)),
            ("1h30m", Some(5_400_000)),
            ("10m0s", Some(600_000)),
            ("", None),
            ("5", None),
            ("m", None),
            ("5 m", None),
            ("-1s", None),
        ] {
            assert_eq!(
                duration(text).ok(),
                ms.map(Duration::from_millis),
                "{text:?}"
            );
        }
    }

    #[test]
    fn lists_of_urls_name_the_wrong_one() {
        assert_eq!(
            urls("http://a:1/, unix://b").unwrap(),
            ["http://a:1", "unix://b"]
        );
        assert_eq!(urls("").unwrap(), Vec::<String>::new());
        let error = urls("http://a:1,b:2").unwrap_err();
        assert!(error.contains("\"b:2\" has no scheme"), "{error}");
    }

    #[test]
    fn origins_are_what_browsers_send() {
        let these =
            |words: &[&str]| Allowed::These(words.iter().map(|word| (*word).to_owned()).collect());
        for (text, expected) in [
            ("*", Allowed::All),
            ("", Allowed::All),
            ("http://a:1, *", Allowed::All),
            (
                "http://a:1,https://B.example/",
                these(&["http://a:1", "https://b.example"]),
            ),
            (
                "http://a:80,https://a:443",
                these(&["http://a", "https://a"]),
            ),
        ] {
            assert_eq!(origins(text), Ok(expected), "{text}");
        }
        for text in [
            "a",
            "a:1",
            "ftp://a",
            "http://a/path",
            "http://a?q",
            "http://u@a",
            "http://",
        ] {
            let error = origins(&format!("http://ok,{text}")).unwrap_err();
            assert!(
                error.contains(&format!("{text:?} is not an origin")),
                "{error}"
            );
        }
        assert_eq!(allowed("a, b"), these(&["a", "b"]));
        assert_eq!(allowed("a,*"), Allowed::All);
        assert_eq!(allowed(""), Allowed::All);
    }

    #[test]
    fn a_wildcard_is_not_dialable() {
        let urls = |url: &str| vec!["http://a:1".to_owned(), url.to_owned()];
        assert_eq!(dialable("advertise-urls", &urls("http://b:1")), Ok(()));
        for wildcard in ["http://0.0.0.0:1", "http://[::]:1"] {
            let refused = dialable("advertise-urls", &urls(wildcard)).unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!(
                    "--advertise-urls is required: {wildcard} is a wildcard address, which others cannot connect to"
                )
            );
        }
    }

    #[test]
    fn log_levels_and_formats_are_few() {
        assert_eq!(log_level("warn").as_deref(), Ok("warn"));
        assert_eq!(log_level("fatal").as_deref(), Ok("error"));
        assert!(log_level("loud").is_err());
        assert_eq!(log_format("console"), Ok(false));
        assert_eq!(log_format("json"), Ok(true));
        assert!(log_format("xml").is_err());
    }
}
