//! What `--auth-token` says.

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use synod_service::config::value;

/// How long a JWT is good unless `ttl` says otherwise.
const DEFAULT_TTL: Duration = Duration::from_secs(5 * 60);

/// A value of `--auth-token` that can't be used, in etcd's words as far as it has some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenConfigError {
    /// The text itself is wrong.
    #[error("auth: invalid auth options: {0}")]
    Options(String),
    /// There is no key to sign or to verify with.
    #[error("auth: missing key data: {0}")]
    MissingKey(String),
    /// The files don't belong together.
    #[error(
        "auth: public and private keys don't match: leave pub-key out, it follows from priv-key"
    )]
    KeyMismatch,
    /// A file holds no key for the method.
    #[error("auth: cannot use the key in {path}: {reason}", path = path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// The kind of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spec {
    Off,
    Simple,
    Jwt(JwtOptions),
}

/// How JWTs are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JwtOptions {
    pub(super) algorithm: Algorithm,
    pub(super) public_key: Option<PathBuf>,
    pub(super) private_key: Option<PathBuf>,
    pub(super) ttl: Duration,
}

impl Spec {
    /// etcd's syntax: a kind, then `name=value` after commas.
    pub(super) fn parse(text: &str) -> Result<Self, TokenConfigError> {
        let mut parts = text.split(',');
        let kind = parts.next().unwrap_or_default();
        let mut options: Vec<(&str, &str)> = Vec::new();
        for part in parts {
            let option = part
                .split_once('=')
                .filter(|(_, value)| !value.contains('='));
            let Some((name, value)) = option else {
                return Err(invalid(format!("{part:?} is not of the form name=value")));
            };
            if options.iter().any(|(given, _)| *given == name) {
                return Err(invalid(format!("{name} is given twice: give it once")));
            }
            options.push((name, value));
        }
        match kind {
            "" => Ok(Self::Off),
            "simple" => Ok(Self::Simple),
            "jwt" => Ok(Self::Jwt(JwtOptions::of(&options)?)),
            _ => Err(invalid(format!(
                "{kind:?} is no kind of tokens: use simple or jwt"
            ))),
        }
    }
}

impl JwtOptions {
    fn of(options: &[(&str, &str)]) -> Result<Self, TokenConfigError> {
        let (mut method, mut public_key, mut private_key) = (None, None, None);
        let mut ttl = DEFAULT_TTL;
        for (name, given) in options.iter().filter(|(_, given)| !given.is_empty()) {
            match *name {
                "sign-method" => method = Some(*given),
                "pub-key" => public_key = Some(PathBuf::from(given)),
                "priv-key" => private_key = Some(PathBuf::from(given)),
                "ttl" => ttl = positive_duration(given)?,
                // So does etcd.
                _ => tracing::warn!(option = name, "unknown option of --auth-token is ignored"),
            }
        }
        let method = method.ok_or_else(|| {
            invalid("sign-method is missing: add one, such as sign-method=RS256".to_owned())
        })?;
        Ok(Self {
            algorithm: algorithm(method)?,
            public_key,
            private_key,
            ttl,
        })
    }
}

fn positive_duration(text: &str) -> Result<Duration, TokenConfigError> {
    let expected = |expected: String| invalid(format!("ttl {text:?} is not {expected}"));
    let ttl = value::duration(text).map_err(expected)?;
    if ttl.is_zero() {
        return Err(expected("longer than zero".to_owned()));
    }
    Ok(ttl)
}

fn algorithm(method: &str) -> Result<Algorithm, TokenConfigError> {
    method.parse().map_err(|_| {
        let known =
            "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA";
        invalid(format!(
            "sign-method {method:?} is not supported: use {known}"
        ))
    })
}

fn invalid(detail: String) -> TokenConfigError {
    TokenConfigError::Options(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_syntax() {
        assert_eq!(Spec::parse(""), Ok(Spec::Off));
        assert_eq!(Spec::parse("simple"), Ok(Spec::Simple));
        assert_eq!(Spec::parse("simple,x=y"), Ok(Spec::Simple));
        let spec = "jwt,pub-key=a.pub,priv-key=dir/a.key,sign-method=PS512,ttl=1h30m,x=y";
        let options = JwtOptions {
            algorithm: Algorithm::PS512,
            public_key: Some("a.pub".into()),
            private_key: Some("dir/a.key".into()),
            ttl: Duration::from_secs(5400),
        };
        assert_eq!(Spec::parse(spec), Ok(Spec::Jwt(options)));
        let options = JwtOptions {
            algorithm: Algorithm::HS256,
            public_key: None,
            private_key: None,
            ttl: Duration::from_secs(300),
        };
        let spec = "jwt,sign-method=HS256,ttl=,pub-key=";
        assert_eq!(Spec::parse(spec), Ok(Spec::Jwt(options)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (spec, text) in [
            ("jwtx", r#""jwtx" is no kind of tokens: use simple or jwt"#),
            (
                "Simple",
                r#""Simple" is no kind of tokens: use simple or jwt"#,
            ),
            ("simple,x", r#""x" is not of the form name=value"#),
            ("jwt,", r#""" is not of the form name=value"#),
            (
                "jwt,ttl=1m=2m",
                r#""ttl=1m=2m" is not of the form name=value"#,
            ),
            ("jwt,ttl=1m,ttl=1m", "ttl is given twice: give it once"),
            (
                "jwt",
                "sign-method is missing: add one, such as sign-method=RS256",
            ),
            (
                "jwt,sign-method=none",
                "sign-method \"none\" is not supported: use HS256, HS384, HS512, RS256, RS384, RS512, \
                 PS256, PS384, PS512, ES256, ES384 or EdDSA",
            ),
            (
                "jwt,sign-method=RS256,ttl=forever",
                "ttl \"forever\" is not a duration such as 100ms, 10s, 5m or 1h30m",
            ),
            (
                "jwt,sign-method=RS256,ttl=0",
                "ttl \"0\" is not longer than zero",
            ),
        ] {
            let error = Spec::parse(spec).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("auth: invalid auth options: {text}"),
                "{spec}"
            );
        }
    }
}
