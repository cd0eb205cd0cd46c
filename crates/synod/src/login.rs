//! Logging in to a cluster that enforces users.

use std::fmt;

use anyhow::Context as _;
use clap::Args;
use synod_proto::etcd::etcdserverpb::{AuthenticateRequest, auth_client::AuthClient};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::Channel;
use tonic::{Request, Status};

#[derive(Args, Clone, Default)]
pub(crate) struct LoginFlags {
    /// The user, and optionally the password
    #[arg(
        id = "login_user",
        long = "user",
        global = true,
        env = "SYNOD_USER",
        hide_env_values = true,
        value_name = "NAME[:PASSWORD]"
    )]
    user: Option<String>,
    /// The user's password; --user then takes only the name
    #[arg(
        id = "login_password",
        long = "password",
        global = true,
        env = "SYNOD_PASSWORD",
        hide_env_values = true,
        requires = "login_user"
    )]
    password: Option<String>,
}

impl fmt::Debug for LoginFlags {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LoginFlags").finish_non_exhaustive()
    }
}

impl LoginFlags {
    /// Name and password; none without `--user`.
    ///
    /// # Errors
    /// There is no password.
    pub(crate) fn credentials(&self) -> anyhow::Result<Option<(&str, &str)>> {
        let Some(user) = self.user.as_deref() else {
            return Ok(None);
        };
        if let Some(password) = self.password.as_deref() {
            return Ok(Some((user, password)));
        }
        let pair = user.split_once(':');
        let missing = "--user without a password: add --password, or set SYNOD_PASSWORD";
        Ok(Some(pair.context(missing)?))
    }

    /// Logs in over this channel, if there is a user. The token is good on every member.
    ///
    /// # Errors
    /// The login is refused.
    pub(crate) async fn log_in(&self, channel: &Channel) -> anyhow::Result<Token> {
        let Some((name, password)) = self.credentials()? else {
            return Ok(Token(None));
        };
        let request = AuthenticateRequest {
            name: name.to_owned(),
            password: password.to_owned(),
        };
        let answer = AuthClient::new(channel.clone()).authenticate(request).await;
        let answer = answer
            .with_context(|| format!("cannot log in as {name}; check the name and the password"))?;
        Ok(Token(Some(answer.into_inner().token.parse()?)))
    }
}

/// Adds the token to each request.
#[derive(Clone)]
pub(crate) struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_follows_the_name_or_has_its_own_flag() {
        let flags = |user: Option<&str>, password: Option<&str>| LoginFlags {
            user: user.map(str::to_owned),
            password: password.map(str::to_owned),
        };
        for (user, password, found) in [
            (None, None, None),
            (Some("root:a:b"), None, Some(("root", "a:b"))),
            (Some("root:a"), Some("b"), Some(("root:a", "b"))),
            (Some("root:"), None, Some(("root", ""))),
        ] {
            assert_eq!(flags(user, password).credentials().unwrap(), found);
        }
        assert!(flags(Some("root"), None).credentials().is_err());
    }
}
