//! Environment variables. Only a service's `config.rs` calls this.

use thiserror::Error;

/// An environment variable is set but invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvError {
    /// The value is not UTF-8.
    #[error("environment variable {name} is not valid UTF-8: set it again or unset it")]
    NotUnicode {
        /// The variable.
        name: String,
    },
}

/// The value of `name`; `None` if it is unset.
///
/// # Errors
/// [`EnvError::NotUnicode`], so that an invalid setting is not treated as absent.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub fn var(name: &str) -> Result<Option<String>, EnvError> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(EnvError::NotUnicode {
            name: name.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_variable_is_read_and_an_unset_one_is_none() {
        assert!(var("PATH").unwrap().is_some_and(|path| !path.is_empty()));
        assert_eq!(var("SYNOD_NO_SUCH_VARIABLE"), Ok(None));
    }
}
