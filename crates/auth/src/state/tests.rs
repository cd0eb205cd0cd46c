use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use synod_proto::consensus::v1::auth_command::Command;
use synod_proto::consensus::v1::{GrantToken, UserAdd, UserChangePassword, UserRecord};
use synod_proto::etcd::authpb::permission::Type;
use synod_proto::etcd::etcdserverpb as pb;

use super::intervals::Intervals;
use super::*;
use crate::Identity;

/// A state, and the rows that a host would have kept of it.
#[derive(Clone, Debug, Default)]
struct Kept {
    state: AuthState,
    rows: BTreeMap<Bytes, Bytes>,
}

impl Kept {
    fn apply_by(&mut self, by: Option<&Identity>, command: &Command) -> Result<Effect, AuthError> {
        let before = self.state.clone();
        let changed = self.state.apply(by, command);
        match &changed {
            Ok(changed) => {
                for Row { key, value } in &changed.rows {
                    assert!(key.starts_with(ROW_PREFIX), "{key:?}");
                    match value {
                        Some(value) => self.rows.insert(key.clone(), value.clone()),
                        None => self.rows.remove(key),
                    };
                }
            }
            Err(_) => assert_eq!(self.state, before, "a refusal changes nothing"),
        }
        let loaded = AuthState::load(self.rows.clone()).unwrap();
        assert_eq!(loaded, self.state, "the rows are the state");
        changed.map(|changed| changed.effect)
    }

    fn apply(&mut self, command: &Command) -> Result<Effect, AuthError> {
        self.apply_by(Some(&root(self.state.revision())), command)
    }

    /// A command that must be accepted.
    fn with(mut self, command: &Command) -> Self {
        self.apply(command).unwrap();
        self
    }
}

fn root(revision: u64) -> Identity {
    Identity {
        user: ROOT_USER.into(),
        revision,
    }
}

fn enable() -> Command {
    Command::Enable(pb::AuthEnableRequest {})
}

fn disable() -> Command {
    Command::Disable(pb::AuthDisableRequest {})
}

fn user_add(name: &str) -> Command {
    Command::UserAdd(UserAdd {
        name: name.to_owned(),
        password_hash: Bytes::from_static(b"hash"),
        no_password: false,
    })
}

fn user_add_without_password(name: &str) -> Command {
    Command::UserAdd(UserAdd {
        name: name.to_owned(),
        password_hash: Bytes::from_static(b"ignored"),
        no_password: true,
    })
}

fn user_delete(name: &str) -> Command {
    let name = name.to_owned();
    Command::UserDelete(pb::AuthUserDeleteRequest { name })
}

fn change_password(name: &str, hash: &'static str) -> Command {
    Command::UserChangePassword(UserChangePassword {
        name: name.to_owned(),
        password_hash: Bytes::from_static(hash.as_bytes()),
    })
}

fn grant_role(user: &str, role: &str) -> Command {
    Command::UserGrantRole(pb::AuthUserGrantRoleRequest {
        user: user.to_owned(),
        role: role.to_owned(),
    })
}

fn revoke_role(user: &str, role: &str) -> Command {
    Command::UserRevokeRole(pb::AuthUserRevokeRoleRequest {
        name: user.to_owned(),
        role: role.to_owned(),
    })
}

fn role_add(name: &str) -> Command {
    let name = name.to_owned();
    Command::RoleAdd(pb::AuthRoleAddRequest { name })
}

fn role_delete(role: &str) -> Command {
    let role = role.to_owned();
    Command::RoleDelete(pb::AuthRoleDeleteRequest { role })
}

fn permission(kind: Type, key: &str, range_end: &str) -> Permission {
    Permission {
        perm_type: kind.into(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::copy_from_slice(range_end.as_bytes()),
    }
}

fn grant(role: &str, kind: Type, key: &str, range_end: &str) -> Command {
    Command::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest {
        name: role.to_owned(),
        perm: Some(permission(kind, key, range_end)),
    })
}

fn revoke(role: &str, key: &str, range_end: &str) -> Command {
    Command::RoleRevokePermission(pb::AuthRoleRevokePermissionRequest {
        role: role.to_owned(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::copy_from_slice(range_end.as_bytes()),
    })
}

fn grant_token(user: &str, auth_revision: u64) -> Command {
    Command::GrantToken(GrantToken {
        user: user.to_owned(),
        digest: Bytes::from_static(&[7; 32]),
        auth_revision,
    })
}

/// Root with its role, alice with role `reader`, carol without password; not enforced.
fn prepared() -> Kept {
    Kept::default()
        .with(&user_add("root"))
        .with(&grant_role("root", "root"))
        .with(&role_add("root"))
        .with(&role_add("reader"))
        .with(&grant("reader", Type::Read, "r", ""))
        .with(&user_add("alice"))
        .with(&grant_role("alice", "reader"))
        .with(&user_add_without_password("carol"))
}

fn enabled() -> Kept {
    prepared().with(&enable())
}

#[test]
fn a_new_cluster_knows_nobody_and_starts_at_one() {
    let state = AuthState::default();
    assert_eq!((state.is_enabled(), state.revision()), (false, 1));
    assert!(state.users().is_empty() && state.roles().is_empty());
    assert_eq!(AuthState::load([]).unwrap(), state);
}

#[test]
fn permissions_and_records_are_bounded() {
    let long = "k".repeat(32_000);
    let mut kept = prepared();
    assert_eq!(
        kept.apply(&grant("reader", Type::Read, &long, ""))
            .map(drop),
        Ok(())
    );
    let longer = format!("{long}k");
    for (key, range_end) in [(&*longer, ""), ("a", &*longer)] {
        let refused = kept.apply(&grant("reader", Type::Read, key, range_end));
        assert_eq!(refused, Err(AuthError::PermissionTooLong));
    }
    let grant = |number: u32| grant("reader", Type::Read, &format!("{number}{}", &long[5..]), "");
    let granted = (100..200).take_while(|number| kept.apply(&grant(*number)).is_ok());
    assert_eq!(granted.count(), 31, "a record of 1 MiB");
    assert_eq!(kept.apply(&grant(999)), Err(AuthError::RecordTooLarge));

    let role = |number: u32| format!("{number:01024}");
    let roles = (0..1100).take_while(|number| {
        kept.state
            .roles
            .insert(role(*number).into(), Arc::default());
        kept.state
            .apply(
                Some(&root(kept.state.revision())),
                &grant_role("alice", &role(*number)),
            )
            .is_ok()
    });
    assert_eq!(roles.count(), 1020, "a record of 1 MiB");
}

#[test]
fn refusals() {
    use AuthError as E;
    let off = [
        (user_add(""), E::NameEmpty),
        (user_add("alice"), E::UserAlreadyExist),
        (user_delete("nobody"), E::UserNotFound),
        (change_password("nobody", "x"), E::UserNotFound),
        (grant_role("nobody", "reader"), E::UserNotFound),
        (grant_role("alice", "nothing"), E::RoleNotFound),
        (revoke_role("nobody", "reader"), E::UserNotFound),
        (revoke_role("alice", "root"), E::RoleNotGranted),
        (revoke_role("alice", "nothing"), E::RoleNotGranted),
        (role_add(""), E::RoleEmpty),
        (role_add(&"r".repeat(1025)), E::NameTooLong),
        (role_add("reader"), E::RoleAlreadyExist),
        (role_delete("nothing"), E::RoleNotFound),
        (grant("nothing", Type::Read, "a", ""), E::RoleNotFound),
        (grant("reader", Type::Read, "", ""), E::InvalidManagement),
        (grant("reader", Type::Read, "", "\0"), E::InvalidManagement),
        (grant("reader", Type::Read, "b", "a"), E::InvalidManagement),
        (grant("reader", Type::Read, "b", "b"), E::InvalidManagement),
        (grant("nothing", Type::Read, "b", "a"), E::InvalidManagement),
        (
            Command::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest {
                name: "reader".to_owned(),
                perm: None,
            }),
            E::PermissionNotGiven,
        ),
        (revoke("nothing", "r", ""), E::RoleNotFound),
        (revoke("reader", "r", "s"), E::PermissionNotGranted),
        (revoke("reader", "q", ""), E::PermissionNotGranted),
        (grant_token("alice", 9), E::NotEnabled),
    ];
    for (command, error) in &off {
        assert_eq!(prepared().apply(command), Err(*error), "{command:?}");
    }
    for (command, error) in &off[..off.len() - 1] {
        assert_eq!(
            enabled().apply(command),
            Err(*error),
            "enforced: {command:?}"
        );
    }
    let on = [
        (user_delete("root"), E::InvalidManagement),
        (revoke_role("root", "root"), E::InvalidManagement),
        (role_delete("root"), E::InvalidManagement),
        (grant_token("nobody", 9), E::AuthFailed),
        (grant_token("carol", 9), E::AuthFailed),
        (grant_token("alice", 8), E::OldRevision),
        (grant_token("alice", 10), E::OldRevision),
    ];
    for (command, error) in &on {
        assert_eq!(enabled().state.revision(), 9);
        assert_eq!(enabled().apply(command), Err(*error), "{command:?}");
    }
    // While users aren't enforced, root can be taken apart.
    for (command, _) in &on[..3] {
        assert!(prepared().apply(command).is_ok(), "{command:?}");
    }
}

#[test]
fn the_revision_grows_with_changes_alone() {
    let steps = [
        (user_add("root"), 2),
        (grant_role("root", "root"), 3),
        (grant_role("root", "root"), 3),
        (enable(), 3),
        (enable(), 3),
        (role_add("x"), 4),
        (grant("x", Type::Read, "a", ""), 5),
        (grant("x", Type::Read, "a", ""), 6),
        (revoke("x", "a", ""), 7),
        (user_add("alice"), 8),
        (change_password("alice", "other"), 9),
        (grant_role("alice", "x"), 10),
        (grant_token("alice", 10), 10),
        (revoke_role("alice", "x"), 11),
        (role_delete("x"), 12),
        (user_delete("alice"), 13),
        (disable(), 14),
        (disable(), 14),
    ];
    let mut kept = Kept::default();
    for (command, revision) in steps {
        kept.apply(&command).unwrap();
        assert_eq!(kept.state.revision(), revision, "{command:?}");
    }
}

#[test]
fn nobody_but_root_changes_anything_while_users_are_enforced() {
    let commands = [
        enable(),
        disable(),
        user_add("new"),
        user_delete("alice"),
        change_password("alice", "x"),
        grant_role("alice", "reader"),
        revoke_role("alice", "reader"),
        role_add("new"),
        role_delete("reader"),
        grant("reader", Type::Read, "x", ""),
        revoke("reader", "r", ""),
    ];
    let by = |user: &str| Identity {
        user: user.into(),
        revision: 9,
    };
    for command in &commands {
        for (by, error) in [
            (None, AuthError::UserEmpty),
            (Some(by("alice")), AuthError::PermissionDenied),
            (Some(by("nobody")), AuthError::UserNotFound),
        ] {
            let applied = enabled().apply_by(by.as_ref(), command);
            assert_eq!(applied, Err(error), "{command:?} by {by:?}");
            assert!(
                prepared().apply_by(by.as_ref(), command).is_ok(),
                "{command:?}"
            );
        }
        assert!(
            enabled().apply_by(Some(&by("root")), command).is_ok(),
            "{command:?}"
        );
        // As in etcd, an administrator's token stays valid after changes, except after one of its
        // own password.
        let old = enabled().apply_by(Some(&root(2)), command);
        assert!(old.is_ok(), "{command:?}");
        let void = enabled().apply_by(Some(&root(1)), command);
        assert_eq!(void, Err(AuthError::OldRevision), "{command:?}");
    }
    // Logging in needs nobody.
    assert!(enabled().apply_by(None, &grant_token("alice", 9)).is_ok());
}

#[test]
fn another_user_with_the_root_role_is_as_good() {
    let kept = enabled()
        .with(&user_add("admin"))
        .with(&grant_role("admin", "root"));
    let admin = Identity {
        user: "admin".into(),
        revision: 10,
    };
    let mut ended = kept.clone();
    assert!(
        ended.apply_by(Some(&admin), &user_delete("admin")).is_ok(),
        "even of itself"
    );
    let refused = ended.apply_by(Some(&admin), &disable());
    assert_eq!(refused, Err(AuthError::UserNotFound));
    let mut kept = kept;
    assert!(
        kept.apply_by(Some(&admin), &revoke_role("admin", "root"))
            .is_ok()
    );
    assert_eq!(
        kept.apply_by(Some(&admin), &disable()),
        Err(AuthError::PermissionDenied)
    );
}

#[test]
fn enabling_needs_root_with_its_role() {
    let mut kept = Kept::default();
    assert_eq!(kept.apply(&enable()), Err(AuthError::RootUserNotExist));
    kept.apply(&user_add("root")).unwrap();
    assert_eq!(kept.apply(&enable()), Err(AuthError::RootRoleNotExist));
    kept.apply(&grant_role("root", "root")).unwrap();
    assert_eq!(
        kept.state.roles_of("root"),
        Ok(&["root".to_owned()][..]),
        "though there is no such role"
    );
    assert_eq!(kept.apply(&enable()), Ok(Effect::None));
    assert!(kept.state.is_enabled());
    assert_eq!(kept.apply(&disable()), Ok(Effect::AllEnded));
    assert!(!kept.state.is_enabled());
    assert_eq!(kept.apply(&disable()), Ok(Effect::None), "already");
}

#[test]
fn what_a_change_means_for_tokens() {
    let ended = |user: &str| Effect::UserEnded { user: user.into() };
    for (command, effect) in [
        (user_delete("alice"), ended("alice")),
        (change_password("alice", "x"), ended("alice")),
        (disable(), Effect::AllEnded),
        (grant_role("alice", "root"), Effect::None),
        (revoke_role("alice", "reader"), Effect::None),
        (role_delete("reader"), Effect::None),
        (
            grant_token("alice", 9),
            Effect::Granted {
                user: "alice".into(),
                digest: Bytes::from_static(&[7; 32]),
            },
        ),
    ] {
        assert_eq!(enabled().apply(&command), Ok(effect), "{command:?}");
    }
}

#[test]
fn passwords() {
    let mut kept = enabled();
    let hash = |kept: &Kept, user: &str| kept.state.password_of(user).cloned();
    assert_eq!(hash(&kept, "alice"), Ok(Bytes::from_static(b"hash")));
    kept.apply(&change_password("alice", "other")).unwrap();
    assert_eq!(hash(&kept, "alice"), Ok(Bytes::from_static(b"other")));
    assert_eq!(
        kept.state.roles_of("alice"),
        Ok(&["reader".to_owned()][..]),
        "kept"
    );
    kept.apply(&change_password("carol", "x")).unwrap();
    assert_eq!(
        hash(&kept, "carol"),
        Err(AuthError::NoPasswordUser),
        "still"
    );
    let row = &kept.rows[&b"auth/user/carol"[..]];
    assert!(
        !row.windows(1).any(|byte| byte == b"x"),
        "nothing of it is kept"
    );
    assert_eq!(hash(&kept, "nobody"), Err(AuthError::AuthFailed));
    // Nor of one that came with a user who is to have none.
    kept.apply(&user_add_without_password("dave")).unwrap();
    let dave = UserRecord::decode(kept.rows[&b"auth/user/dave"[..]].clone()).unwrap();
    assert!(dave.no_password && dave.password_hash.is_empty());
}

#[test]
fn lists_are_in_order() {
    let kept = prepared()
        .with(&role_add("a"))
        .with(&role_add("z"))
        .with(&grant_role("alice", "z"))
        .with(&grant_role("alice", "root"))
        .with(&grant_role("alice", "a"));
    assert_eq!(kept.state.users(), ["alice", "carol", "root"]);
    assert_eq!(kept.state.roles(), ["a", "reader", "root", "z"]);
    assert_eq!(
        kept.state.roles_of("alice").unwrap(),
        ["a", "reader", "root", "z"]
    );
    let kept = kept.with(&role_delete("reader"));
    assert_eq!(
        kept.state.roles_of("alice").unwrap(),
        ["a", "root", "z"],
        "gone with the role"
    );
    assert_eq!(kept.state.roles_of("nobody"), Err(AuthError::UserNotFound));
}

#[test]
fn one_permission_a_range_in_order() {
    let kept = Kept::default()
        .with(&role_add("x"))
        .with(&grant("x", Type::Read, "b", ""))
        .with(&grant("x", Type::Read, "a", "c"))
        .with(&grant("x", Type::Read, "a", ""))
        .with(&grant("x", Type::Write, "b", "\0"))
        .with(&grant("x", Type::Readwrite, "a", "c"));
    let expected = [
        permission(Type::Read, "a", ""),
        permission(Type::Readwrite, "a", "c"),
        permission(Type::Read, "b", ""),
        permission(Type::Write, "b", "\0"),
    ];
    assert_eq!(kept.state.permissions_of("x").unwrap(), expected);
    let kept = kept.with(&revoke("x", "a", ""));
    assert_eq!(kept.state.permissions_of("x").unwrap(), expected[1..]);
    assert_eq!(kept.state.permissions_of("y"), Err(AuthError::RoleNotFound));
}

#[test]
fn the_root_role_shows_what_it_may() {
    let kept = prepared().with(&grant("root", Type::Read, "a", ""));
    let everything = permission(Type::Readwrite, "", "\0");
    assert_eq!(kept.state.permissions_of("root").unwrap(), [everything]);
    let without = Kept::default().state;
    assert_eq!(without.permissions_of("root"), Err(AuthError::RoleNotFound));
}

/// What alice may read is derived once: every change of it must be seen, and not by others.
#[test]
fn a_change_of_roles_or_permissions_counts_at_once() {
    let may_read = |kept: &Kept, key: &str| {
        let alice = kept.state.user("alice").unwrap();
        kept.state.allowed(alice).read.contain(key.as_bytes(), b"")
    };
    let mut kept = enabled().with(&role_add("more"));
    let published = kept.state.clone();
    let steps = [
        (grant("reader", Type::Read, "x", ""), "x", false, true),
        (revoke("reader", "x", ""), "x", true, false),
        (grant("reader", Type::Write, "r", ""), "r", true, false),
        (grant("reader", Type::Readwrite, "r", ""), "r", false, true),
        (grant("more", Type::Read, "m", ""), "m", false, false),
        (grant_role("alice", "more"), "m", false, true),
        (grant("more", Type::Read, "n", ""), "n", false, true),
        (revoke_role("alice", "more"), "n", true, false),
        (role_delete("reader"), "r", true, false),
        (role_add("reader"), "r", false, false),
    ];
    for (command, key, before, after) in steps {
        assert_eq!(may_read(&kept, key), before, "before {command:?}");
        kept.apply(&command).unwrap();
        assert_eq!(may_read(&kept, key), after, "after {command:?}");
    }
    let alice = published.user("alice").unwrap();
    assert!(
        published.allowed(alice).read.contain(b"r", b""),
        "what was published stays"
    );
}

/// A type of a later release.
#[test]
fn an_unknown_type_of_permission_allows_nothing() {
    let mut later = permission(Type::Read, "a", "\0");
    later.perm_type = 77;
    let command = Command::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest {
        name: "x".to_owned(),
        perm: Some(later),
    });
    let kept = Kept::default()
        .with(&role_add("x"))
        .with(&user_add("alice"))
        .with(&grant_role("alice", "x"))
        .with(&command);
    let allowed = kept.state.allowed(kept.state.user("alice").unwrap());
    assert_eq!(*allowed, Allowed::default());
}

fn names() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["", "root", "a", "b"]).prop_map(str::to_owned)
}

fn keys() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["", "\0", "k", "l", "m"]).prop_map(str::to_owned)
}

fn commands() -> impl Strategy<Value = Command> {
    let kinds = proptest::sample::select(vec![Type::Read, Type::Write, Type::Readwrite]);
    prop_oneof![
        Just(enable()),
        Just(disable()),
        names().prop_map(|name| user_add(&name)),
        names().prop_map(|name| user_add_without_password(&name)),
        names().prop_map(|name| user_delete(&name)),
        names().prop_map(|name| change_password(&name, "other")),
        (names(), names()).prop_map(|(user, role)| grant_role(&user, &role)),
        (names(), names()).prop_map(|(user, role)| revoke_role(&user, &role)),
        names().prop_map(|name| role_add(&name)),
        names().prop_map(|name| role_delete(&name)),
        (names(), kinds, keys(), keys())
            .prop_map(|(role, kind, key, end)| grant(&role, kind, &key, &end)),
        (names(), keys(), keys()).prop_map(|(role, key, end)| revoke(&role, &key, &end)),
        (names(), 0_u64..20).prop_map(|(user, revision)| grant_token(&user, revision)),
    ]
}

proptest! {
    /// Whatever was applied: rows and state agree (`Kept` checks), root stays in charge while users
    /// are enforced, and what is derived is what the permissions say one by one.
    #[test]
    fn any_commands_in_any_order(commands in proptest::collection::vec(commands(), 0..40)) {
        let mut kept = Kept::default();
        for command in &commands {
            let before = kept.state.revision();
            let applied = kept.apply(command);
            prop_assert!(kept.state.revision() - before <= u64::from(applied.is_ok()));
            if kept.state.is_enabled() {
                prop_assert!(kept.state.user(ROOT_USER).is_some_and(User::is_root));
            }
            for user in kept.state.users() {
                let user = kept.state.user(&user).unwrap();
                let roles = user.roles().iter().filter_map(|role| kept.state.roles.get(role.as_str()));
                let permissions: Vec<_> = roles.flat_map(|role| role.permissions()).collect();
                for key in ["\0", "k", "l", "m"] {
                    for (wanted, set) in [
                        (Type::Read, &kept.state.allowed(user).read),
                        (Type::Write, &kept.state.allowed(user).write),
                    ] {
                        let allowed = permissions.iter().any(|permission| {
                            let one = Intervals::new([(&permission.key, &permission.range_end)]);
                            (permission.perm_type() == wanted || permission.perm_type() == Type::Readwrite)
                                && one.contain(key.as_bytes(), b"")
                        });
                        prop_assert_eq!(set.contain(key.as_bytes(), b""), allowed);
                    }
                }
            }
        }
    }
}
