//! Parsers for the values of flags: Go's durations and booleans, numbers, URLs, log levels and
//! formats. Their errors say what is valid, for [`ConfigError::invalid`].

use std::time::Duration;

use url::Url;

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

/// A comma-separated list of `http://host:port` URLs without a path. Empty parts are skipped.
///
/// # Errors
/// Says which URL is wrong, and why.
pub fn urls(text: &str) -> Result<Vec<String>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(check_url)
        .collect()
}

/// Checks one `http://host:port` URL. Returns it with its scheme in lower case and without a
/// trailing slash.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("http://host:port ({text:?}: {error})"))?;
    // `Url` accepts missing slashes and backslashes.
    let (_, rest) = text
        .split_once("://")
        .ok_or_else(|| format!("http://host:port; {text:?} lacks the two slashes"))?;
    match url.scheme() {
        "http" => {}
        "https" | "unixs" => {
            return Err(format!(
                "http:// URLs: TLS is not supported yet, so {text} can't be served (it comes in a \
                 later release; nothing is served in plaintext instead)"
            ));
        }
        other => return Err(format!("http://host:port, not the scheme {other:?}")),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("http://host:port; {text:?} names no host"));
    }
    // `Url` drops the scheme's default port, so look at the text.
    if url.port().is_none() && !text.trim_end_matches('/').ends_with(":80") {
        return Err(format!("http://host:port; {text:?} names no port"));
    }
    if rest.contains('@') {
        return Err(format!(
            "http://host:port; {text:?} must not have a user or a password: nobody would check them"
        ));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "http://host:port; {text:?} must not have a path or a query"
        ));
    }
    Ok(format!("http://{}", rest.trim_end_matches('/')))
}

/// The `host:port` of a URL that [`check_url`] returned.
pub fn authority(url: &str) -> &str {
    url.trim_start_matches("http://").trim_end_matches('/')
}

/// Refuses wildcard addresses: a process can listen on them, but others can't connect to them.
///
/// # Errors
/// [`ConfigError::Contradiction`] for the first such URL; it says that `flag` is required.
pub fn dialable(flag: &str, urls: &[String]) -> Result<(), ConfigError> {
    let wildcard = urls.iter().find(|url| {
        let host = authority(url);
        host.starts_with("0.0.0.0:") || host.starts_with("[::]:")
    });
    match wildcard {
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
    fn urls_need_scheme_host_and_port() {
        assert_eq!(check_url("http://a:1/").unwrap(), "http://a:1");
        assert_eq!(check_url("http://[::1]:80").unwrap(), "http://[::1]:80");
        assert_eq!(check_url("HTTP://Host:1").unwrap(), "http://Host:1");
        for bad in ["http:a:1", "http:/a:1", "http:\\\\a:1"] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
        for bad in ["http://user@a:1", "http://user:secret@a:1", "http://@a:1"] {
            let refused = check_url(bad).unwrap_err();
            assert!(refused.contains("must not have a user"), "{refused}");
        }
        for bad in ["a:1", "http://a", "http://:1", "http://a:1/x", "ftp://a:1"] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
        assert!(check_url("https://a:1").unwrap_err().contains("TLS"));
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
