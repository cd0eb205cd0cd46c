//! Requests with passwords, as commands without them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use synod_proto::consensus::v1::auth_command::Command;
use synod_proto::consensus::v1::{UserAdd, UserChangePassword};
use synod_proto::etcd::etcdserverpb::{AuthUserAddRequest, AuthUserChangePasswordRequest};

use crate::error::MAX_NAME_BYTES;
use crate::password::is_usable_hash;
use crate::{Auth, AuthError, LoginError};

/// The longest password that a login may have, in bytes: far more than bcrypt's 72.
const MAX_GIVEN_PASSWORD_BYTES: usize = 1024;

/// Whether a name and a password are short enough for a login. Longer ones are refused at once,
/// since anyone can send them.
#[must_use]
pub fn may_log_in(user: &str, password: &str) -> bool {
    user.len() <= MAX_NAME_BYTES && password.len() <= MAX_GIVEN_PASSWORD_BYTES
}

impl Auth {
    /// The command that adds a user. A hash that the client made doesn't count: etcd hashes the
    /// password, be it empty, unless there is to be none. The caller has made sure that the request
    /// is root's: hashing is work.
    ///
    /// # Errors
    /// [`LoginError`].
    ///
    /// # Cancel safety
    /// Dropped, it has done nothing.
    pub async fn user_add(&self, request: AuthUserAddRequest) -> Result<Command, LoginError> {
        if request.name.is_empty() {
            return Err(AuthError::NameEmpty.into());
        }
        let no_password = request.options.is_some_and(|options| options.no_password);
        let password_hash = match no_password {
            true => Bytes::new(),
            false => self.passwords().hash(request.password).await?,
        };
        Ok(Command::UserAdd(UserAdd {
            name: request.name,
            password_hash,
            no_password,
        }))
    }

    /// The command that changes a password: to the given one, or to that of a hash that the client
    /// made. The caller has made sure that the request is root's.
    ///
    /// # Errors
    /// [`LoginError`].
    ///
    /// # Cancel safety
    /// Dropped, it has done nothing.
    pub async fn user_change_password(
        &self,
        request: AuthUserChangePasswordRequest,
    ) -> Result<Command, LoginError> {
        let password_hash = if request.password.is_empty() {
            let hash = STANDARD.decode(request.hashed_password);
            // So does etcd call what it can't decode.
            let hash = hash.map_err(|_| AuthError::NoPasswordUser)?;
            // Nobody can log in with an empty one.
            if !hash.is_empty() && !is_usable_hash(&hash) {
                return Err(AuthError::UnusableHash.into());
            }
            hash.into()
        } else {
            self.passwords().hash(request.password).await?
        };
        Ok(Command::UserChangePassword(UserChangePassword {
            name: request.name,
            password_hash,
        }))
    }
}

#[cfg(test)]
mod tests {
    use synod_proto::etcd::authpb::UserAddOptions;

    use super::*;
    use crate::{AuthConfig, AuthState};

    fn auth() -> Auth {
        let config = AuthConfig {
            bcrypt_cost: 4,
            ..AuthConfig::default()
        };
        Auth::new(&config, AuthState::default()).unwrap()
    }

    async fn verifies(auth: &Auth, hash: &Bytes, password: &str) -> bool {
        auth.passwords()
            .verify("alice", hash, password)
            .await
            .unwrap()
    }

    #[test]
    fn a_login_has_a_bounded_name_and_password() {
        for (name, password, may) in [
            (MAX_NAME_BYTES, 1024, true),
            (MAX_NAME_BYTES + 1, 0, false),
            (0, 1025, false),
        ] {
            let (name, password) = ("n".repeat(name), "p".repeat(password));
            assert_eq!(may_log_in(&name, &password), may);
        }
    }

    #[tokio::test]
    async fn a_new_user_has_the_password_and_never_the_clients_hash() {
        let auth = auth();
        for (password, no_password) in [("secret", false), ("", false), ("secret", true)] {
            let request = AuthUserAddRequest {
                name: "alice".to_owned(),
                password: password.to_owned(),
                options: Some(UserAddOptions { no_password }),
                hashed_password: STANDARD.encode("a hash"),
            };
            let Command::UserAdd(added) = auth.user_add(request).await.unwrap() else {
                panic!("it adds a user");
            };
            assert_eq!((&*added.name, added.no_password), ("alice", no_password));
            assert_eq!(
                verifies(&auth, &added.password_hash, password).await,
                !no_password
            );
            assert_eq!(added.password_hash.is_empty(), no_password);
        }
        let refused = auth.user_add(AuthUserAddRequest::default()).await;
        assert_eq!(refused, Err(AuthError::NameEmpty.into()));
        let long = AuthUserAddRequest {
            name: "alice".to_owned(),
            password: "a".repeat(73),
            ..AuthUserAddRequest::default()
        };
        assert_eq!(
            auth.user_add(long).await,
            Err(AuthError::PasswordTooLong.into())
        );
    }

    #[tokio::test]
    async fn a_password_is_changed_to_a_new_one_or_to_a_hash() {
        let auth = auth();
        let change = async |password: &str, hashed: &str| {
            let request = AuthUserChangePasswordRequest {
                name: "alice".to_owned(),
                password: password.to_owned(),
                hashed_password: hashed.to_owned(),
            };
            let changed = auth.user_change_password(request).await?;
            let Command::UserChangePassword(changed) = changed else {
                panic!("it changes a password");
            };
            Ok::<_, LoginError>(changed.password_hash)
        };
        let hash = change("secret", "ignored").await.unwrap();
        assert!(verifies(&auth, &hash, "secret").await);
        let given = change("", &STANDARD.encode(&hash)).await;
        assert_eq!(given, Ok(hash.clone()));
        assert_eq!(change("", "").await, Ok(Bytes::new()));
        // The lowest and the highest cost, costs that are too high, invalid ones, and no hash.
        let with_cost = |cost: &str| [b"$2a$", cost.as_bytes(), &hash[6..]].concat();
        for (given, is_taken) in [
            (with_cost("04"), true),
            (with_cost("16"), true),
            (with_cost("17"), false),
            (with_cost("31"), false),
            (with_cost("03"), false),
            (with_cost("4"), false),
            (b"$1$abc$def".to_vec(), false),
            ([&hash[..59], &[0xff]].concat(), false),
        ] {
            let expected = match is_taken {
                true => Ok(Bytes::from(given.clone())),
                false => Err(AuthError::UnusableHash.into()),
            };
            let changed = change("", &STANDARD.encode(&given)).await;
            assert_eq!(changed, expected, "{given:?}");
        }
        assert_eq!(
            change("", "no base64").await,
            Err(AuthError::NoPasswordUser.into())
        );
        let long = "a".repeat(73);
        assert_eq!(
            change(&long, "").await,
            Err(AuthError::PasswordTooLong.into())
        );
    }
}
