use synod_proto::consensus::v1::UserAdd;
use synod_proto::consensus::v1::auth_command::Command;
use synod_proto::etcd::etcdserverpb as pb;
use tonic::metadata::MetadataMap;

use super::*;
use crate::Issued;

const APPLIED: u64 = 50;

fn auth(state: AuthState) -> Auth {
    let config = AuthConfig {
        bcrypt_cost: 4,
        ..AuthConfig::default()
    };
    Auth::new(&config, state).unwrap()
}

/// Root and alice with their names as passwords, carol without.
async fn state() -> AuthState {
    let passwords = Passwords::new(4);
    let mut state = AuthState::default();
    for name in ["root", "alice", "carol"] {
        let command = Command::UserAdd(UserAdd {
            name: name.to_owned(),
            password_hash: passwords.hash(name.to_owned()).await.unwrap(),
            no_password: name == "carol",
        });
        state.apply(None, &command).unwrap();
    }
    let command = Command::UserGrantRole(pb::AuthUserGrantRoleRequest {
        user: "root".to_owned(),
        role: "root".to_owned(),
    });
    state.apply(None, &command).unwrap();
    state
}

async fn enabled() -> AuthState {
    let mut state = state().await;
    let enable = Command::Enable(pb::AuthEnableRequest {});
    state.apply(None, &enable).unwrap();
    state
}

fn with_token(token: &str) -> Credentials {
    let mut metadata = MetadataMap::new();
    metadata.insert("token", token.parse().unwrap());
    Credentials::new(&metadata, None)
}

/// Logs in as a host does, in one process.
async fn log_in(auth: &Auth, user: &str) -> String {
    let revision = auth.check_password(user, user).await.unwrap();
    let Issued::ToPropose(token) = auth.tokens().issue(user, revision).unwrap() else {
        panic!("simple tokens are proposed");
    };
    let grant = Command::GrantToken(token.to_grant(user, revision));
    let mut state = AuthState::clone(&auth.state());
    let changed = state.apply(None, &grant).unwrap();
    auth.tokens().follow(&changed.effect);
    token.at(APPLIED)
}

#[tokio::test]
async fn nobody_is_anybody_while_users_are_not_enforced() {
    let auth = auth(state().await);
    assert!(!auth.is_enabled());
    assert_eq!(auth.identify(&with_token("garbage"), APPLIED), Ok(None));
    assert_eq!(auth.admit(None, Requirement::Root), Ok(()));
    let refused = auth.check_password("alice", "alice").await;
    assert_eq!(refused, Err(AuthError::NotEnabled.into()));
}

#[tokio::test]
async fn a_token_or_a_certificate_says_who_asks() {
    let auth = auth(enabled().await);
    let revision = auth.state().revision();
    let identity = |user: &str| Identity {
        user: user.into(),
        revision,
    };
    let token = log_in(&auth, "alice").await;
    let identified = auth.identify(&with_token(&token), APPLIED);
    assert_eq!(identified, Ok(Some(identity("alice"))));
    let name: Arc<str> = "carol".into();
    let certificate = Credentials::new(&MetadataMap::new(), Some(&name));
    assert_eq!(
        auth.identify(&certificate, APPLIED),
        Ok(Some(identity("carol")))
    );
    assert_eq!(auth.identify(&Credentials::default(), APPLIED), Ok(None));
    assert_eq!(
        auth.identify(&with_token("garbage"), APPLIED),
        Err(TokenError::Invalid)
    );
    let early = format!("{}.{}", "0".repeat(32), APPLIED + 1);
    assert_eq!(
        auth.identify(&with_token(&early), APPLIED),
        Err(TokenError::NotYet)
    );
    // After the wait an unknown token is refused.
    let refused = auth.identify_up_to_date(&with_token(&early));
    assert_eq!(refused, Err(AuthError::InvalidToken));
    let garbage = auth.identify_up_to_date(&with_token("garbage"));
    assert_eq!(garbage, Err(AuthError::InvalidToken));
    let identified = auth.identify_up_to_date(&with_token(&token));
    assert_eq!(identified, Ok(Some(identity("alice"))));
}

/// The member that issued the JWT has applied changes that this one hasn't.
#[tokio::test]
async fn a_jwt_from_the_future_waits_for_this_member() {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/shared.secret");
    let config = AuthConfig {
        token: format!("jwt,sign-method=HS256,priv-key={keys}"),
        ..AuthConfig::default()
    };
    let state = enabled().await;
    let auth = Auth::new(&config, state.clone()).unwrap();
    let revision = state.revision();
    let made_at = |revision| {
        let Issued::Done(token) = auth.tokens().issue("alice", revision).unwrap() else {
            panic!("a JWT needs no entry in the log");
        };
        with_token(&token)
    };
    let identity = |revision| Identity {
        user: "alice".into(),
        revision,
    };
    for known in [revision - 1, revision] {
        let identified = auth.identify(&made_at(known), APPLIED);
        assert_eq!(identified, Ok(Some(identity(known))));
    }
    let ahead = made_at(revision + 1);
    assert_eq!(auth.identify(&ahead, APPLIED), Err(TokenError::NotYet));
    let refused = auth.identify_up_to_date(&ahead);
    assert_eq!(refused, Err(AuthError::InvalidToken), "none is so late");
    let mut later = state;
    let add = Command::RoleAdd(pb::AuthRoleAddRequest {
        name: "new".to_owned(),
    });
    later
        .apply(Some(&identity_of_root(revision)), &add)
        .unwrap();
    auth.publish(later);
    let identified = auth.identify_up_to_date(&ahead);
    assert_eq!(identified, Ok(Some(identity(revision + 1))));
}

fn identity_of_root(revision: u64) -> Identity {
    Identity {
        user: "root".into(),
        revision,
    }
}

#[tokio::test]
async fn passwords_are_checked() {
    let auth = auth(enabled().await);
    let revision = auth.state().revision();
    for (user, password, checked) in [
        ("alice", "alice", Ok(revision)),
        ("alice", "root", Err(AuthError::AuthFailed)),
        ("alice", "", Err(AuthError::AuthFailed)),
        ("nobody", "nobody", Err(AuthError::AuthFailed)),
        ("", "", Err(AuthError::AuthFailed)),
        ("carol", "carol", Err(AuthError::NoPasswordUser)),
    ] {
        let found = auth.check_password(user, password).await;
        assert_eq!(
            found,
            checked.map_err(LoginError::from),
            "{user} {password}"
        );
    }
}

#[tokio::test]
async fn what_a_call_requires() {
    let auth = auth(enabled().await);
    let identity = |user: &str, revision| Identity {
        user: user.into(),
        revision,
    };
    // The oldest identities that are valid: from when the user was added.
    let (root, alice) = (identity("root", 2), identity("alice", 3));
    let (old, gone) = (identity("alice", 2), identity("gone", 3));
    for (by, requirement, admitted) in [
        (None, Requirement::Nothing, Ok(())),
        (None, Requirement::ByRequest, Ok(())),
        (None, Requirement::Authenticated, Err(AuthError::UserEmpty)),
        (None, Requirement::Root, Err(AuthError::UserEmpty)),
        (Some(&alice), Requirement::Authenticated, Ok(())),
        (
            Some(&alice),
            Requirement::Root,
            Err(AuthError::PermissionDenied),
        ),
        (Some(&root), Requirement::Root, Ok(())),
        (Some(&old), Requirement::ByRequest, Ok(())),
        (
            Some(&old),
            Requirement::Authenticated,
            Err(AuthError::OldRevision),
        ),
        (
            Some(&gone),
            Requirement::Authenticated,
            Err(AuthError::PermissionDenied),
        ),
        (Some(&gone), Requirement::Root, Err(AuthError::UserNotFound)),
    ] {
        assert_eq!(
            auth.admit(by, requirement),
            admitted,
            "{by:?} {requirement:?}"
        );
    }
}

#[tokio::test]
async fn what_is_published_counts_at_once() {
    let auth = auth(AuthState::default());
    auth.publish(enabled().await);
    assert!(auth.is_enabled());
    let token = log_in(&auth, "alice").await;
    auth.publish(enabled().await);
    assert!(
        auth.identify(&with_token(&token), APPLIED).is_ok(),
        "tokens stay"
    );
    auth.reload(enabled().await);
    let found = auth.identify(&with_token(&token), APPLIED);
    assert_eq!(
        found,
        Err(TokenError::Invalid),
        "which have ended is not known"
    );
    auth.publish(AuthState::default());
    assert!(!auth.is_enabled());
}

#[tokio::test]
async fn a_new_password_counts_at_once() {
    let auth = auth(enabled().await);
    assert!(auth.check_password("alice", "alice").await.is_ok());
    let mut state = AuthState::clone(&auth.state());
    let command = Command::UserChangePassword(synod_proto::consensus::v1::UserChangePassword {
        name: "alice".to_owned(),
        password_hash: auth.passwords().hash("new".to_owned()).await.unwrap(),
    });
    let root = Identity {
        user: "root".into(),
        revision: state.revision(),
    };
    let changed = state.apply(Some(&root), &command).unwrap();
    auth.tokens().follow(&changed.effect);
    auth.publish(state);
    let old = auth.check_password("alice", "alice").await;
    assert_eq!(
        old,
        Err(AuthError::AuthFailed.into()),
        "though it was remembered"
    );
    assert!(auth.check_password("alice", "new").await.is_ok());
}

#[test]
fn flags_that_cannot_be_used_are_refused() {
    let config = AuthConfig {
        token: "jwt".to_owned(),
        ..AuthConfig::default()
    };
    let error = Auth::new(&config, AuthState::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "auth: invalid auth options: sign-method is missing: add one, such as sign-method=RS256"
    );
}

#[tokio::test]
async fn nothing_secret_is_formatted() {
    let auth = auth(enabled().await);
    let issued = auth.tokens().issue("alice", 1).unwrap();
    let Issued::ToPropose(token) = issued else {
        panic!("simple tokens are proposed");
    };
    let shown = [
        format!("{token:?}"),
        format!("{:?}", with_token("hidden")),
        format!("{:?}", Issued::Done("hidden".to_owned())),
        format!("{auth:?}"),
    ];
    let digest = format!("{:?}", token.to_grant("alice", 1).digest);
    let secret = token.at(APPLIED);
    let secret = secret.split('.').next().unwrap().to_owned();
    for text in shown {
        for hidden in ["hidden", &secret, "$2b$", "key:"] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
    }
    assert!(!digest.contains(&secret));
}
