//! Users and roles as the log has them.

use synod_auth::{AuthError, Credentials, Identity, Issued, Origin, TokenError};
use synod_proto::consensus::v1::auth_command::Command as Change;
use synod_proto::consensus::v1::{
    AuthCommand, LeaseCheckpoint, LeaseClaim, LeaseRevoke, Publish, Requester, UpdatePeerUrls,
    UserAdd, UserChangePassword,
};
use synod_proto::etcd::authpb;
use tonic::metadata::MetadataMap;

use super::*;
use crate::state::create::create;
use crate::version::USERS;
use crate::{Error, backup};

/// The auth revision that [`enforcing`] ends with.
const REVISION: u64 = 8;

impl Fixture {
    fn asked(&mut self, by: Option<(&str, u64)>, kind: Kind) -> Entry {
        let requester = by.map(|(user, auth_revision)| Requester {
            user: user.to_owned(),
            auth_revision,
            member: false,
        });
        self.stamped(requester, kind)
    }

    fn stamped(&mut self, requester: Option<Requester>, kind: Kind) -> Entry {
        let command = Command {
            command: Some(kind),
            requester,
        };
        self.entry(EntryKind::Normal, command.encode_to_vec())
    }

    /// Applies a command that a member proposes itself.
    fn own(&mut self, kind: Kind) -> Result<Reply, Error> {
        let entry = self.stamped(Some(Origin::member_requester()), kind);
        self.apply_all(vec![entry]).remove(0)
    }

    /// Applies entries in as many batches as they need.
    fn apply_all(&mut self, mut entries: Vec<Entry>) -> Vec<Result<Reply, Error>> {
        let mut results = Vec::new();
        while !entries.is_empty() {
            let (rest, outcomes) = self.apply(entries).unwrap();
            assert!(!outcomes.is_empty(), "a call applies something");
            results.extend(outcomes.into_iter().map(|outcome| outcome.result));
            entries = rest;
        }
        results
    }

    /// Applies a command that somebody asked for.
    fn ask(&mut self, by: Option<(&str, u64)>, kind: Kind) -> Result<Reply, Error> {
        let entry = self.asked(by, kind);
        self.apply_all(vec![entry]).remove(0)
    }

    /// Applies what root, or nobody while users are not enforced, changes.
    fn change(&mut self, change: Change) -> Result<Reply, Error> {
        self.ask(Some(("root", REVISION)), auth(change))
    }

    fn auth(&self) -> Arc<Auth> {
        Arc::clone(&self.machine.auth)
    }
}

fn auth(change: Change) -> Kind {
    Kind::Auth(AuthCommand {
        command: Some(change),
    })
}

fn user_add(name: &str) -> Change {
    Change::UserAdd(UserAdd {
        name: name.to_owned(),
        password_hash: Bytes::from_static(b"hash"),
        no_password: false,
    })
}

fn grant_role(user: &str, role: &str) -> Change {
    Change::UserGrantRole(pb::AuthUserGrantRoleRequest {
        user: user.to_owned(),
        role: role.to_owned(),
    })
}

/// Root, and alice, who may write what begins with `w`.
fn enforcing() -> Fixture {
    let mut fixture = Fixture::new();
    raise_level(&mut fixture, USERS);
    let permission = authpb::Permission {
        perm_type: authpb::permission::Type::Write.into(),
        key: "w".into(),
        range_end: "x".into(),
    };
    for change in [
        user_add("root"),
        grant_role("root", "root"),
        user_add("alice"),
        Change::RoleAdd(pb::AuthRoleAddRequest {
            name: "writer".to_owned(),
        }),
        Change::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest {
            name: "writer".to_owned(),
            perm: Some(permission),
        }),
        grant_role("alice", "writer"),
        user_add("bob"),
        Change::Enable(pb::AuthEnableRequest {}),
    ] {
        fixture.change(change).unwrap();
    }
    assert!(fixture.auth().is_enabled());
    assert_eq!(fixture.auth().state().revision(), REVISION);
    fixture
}

fn lease_put(key: &str, lease: i64) -> Kind {
    Kind::Put(pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        lease,
        ..Default::default()
    })
}

fn grant_lease(id: i64) -> Kind {
    Kind::LeaseGrant(pb::LeaseGrantRequest { ttl: 60, id })
}

fn revoke_lease(id: i64) -> Kind {
    Kind::LeaseRevoke(LeaseRevoke {
        ids: vec![id],
        ..Default::default()
    })
}

fn refused(reply: Result<Reply, Error>) -> Result<(), Error> {
    reply.map(drop)
}

#[test]
fn every_command_is_checked_when_it_is_applied() {
    let mut fixture = enforcing();
    fixture
        .ask(Some(("root", REVISION)), grant_lease(7))
        .unwrap();
    fixture
        .ask(Some(("root", REVISION)), lease_put("other", 7))
        .unwrap();
    let delete = |key: &str| {
        Kind::DeleteRange(pb::DeleteRangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..Default::default()
        })
    };
    let txn = |key: &str| {
        let Kind::Put(put) = put(key, 1) else {
            unreachable!("a put");
        };
        Kind::Txn(pb::TxnRequest {
            success: vec![pb::RequestOp {
                request: Some(pb::request_op::Request::RequestPut(put)),
            }],
            ..Default::default()
        })
    };
    let alice = Some(("alice", REVISION));
    let denied = || Err(Error::Auth(AuthError::PermissionDenied));
    for (kind, expected) in [
        (put("w1", 1), Ok(())),
        (put("other", 1), denied()),
        (lease_put("w1", 7), denied()),
        (delete("w1"), Ok(())),
        (delete("other"), denied()),
        (txn("w1"), Ok(())),
        (txn("other"), denied()),
        (compact(2), denied()),
        (grant_lease(8), Ok(())),
        (lease_put("w1", 8), Ok(())),
        (revoke_lease(8), Ok(())),
        (revoke_lease(7), denied()),
        (auth(user_add("new")), denied()),
    ] {
        let name = format!("{kind:?}");
        let nobodys = refused(fixture.ask(None, kind.clone()));
        assert_eq!(nobodys, Err(Error::Auth(AuthError::UserEmpty)), "{name}");
        assert_eq!(refused(fixture.ask(alice, kind)), expected, "{name}");
    }
    let root = Some(("root", REVISION));
    for kind in [
        put("other", 1),
        delete("other"),
        txn("other"),
        compact(2),
        revoke_lease(7),
    ] {
        let name = format!("{kind:?}");
        assert_eq!(refused(fixture.ask(root, kind)), Ok(()), "{name}");
    }
}

fn alarm(action: pb::alarm_request::AlarmAction) -> Kind {
    Kind::Alarm(pb::AlarmRequest {
        action: action.into(),
        member_id: MEMBER.get(),
        alarm: pb::AlarmType::Nospace.into(),
    })
}

fn compact(revision: i64) -> Kind {
    Kind::Compact(pb::CompactionRequest {
        revision,
        ..Default::default()
    })
}

#[test]
fn what_members_propose_themselves_needs_no_permission() {
    use pb::alarm_request::AlarmAction::{Activate, Deactivate};

    let mut fixture = enforcing();
    let root = Some(("root", REVISION));
    fixture.ask(root, grant_lease(7)).unwrap();
    fixture.ask(root, lease_put("w1", 7)).unwrap();
    let (term, member) = (1, MEMBER.get());
    for kind in [
        Kind::LeaseClaim(LeaseClaim { term, member }),
        Kind::LeaseCheckpoint(LeaseCheckpoint {
            checkpoints: Vec::new(),
            term,
            member,
        }),
        Kind::LeaseRevoke(LeaseRevoke {
            ids: vec![7],
            expired_in_term: term,
            expired_by: member,
        }),
        alarm(Activate),
        alarm(Deactivate),
        compact(2),
        Kind::Publish(Publish {
            member_id: member,
            name: "a".to_owned(),
            client_urls: Vec::new(),
        }),
        Kind::SetClusterVersion(SetClusterVersion {
            version: "3.7.0".to_owned(),
            feature_level: LEVEL,
        }),
    ] {
        let name = format!("{kind:?}");
        let nobodys = refused(fixture.ask(None, kind.clone()));
        assert_eq!(nobodys, Err(Error::Auth(AuthError::UserEmpty)), "{name}");
        let alices = refused(fixture.ask(Some(("alice", REVISION)), kind.clone()));
        let denied = AuthError::PermissionDenied;
        assert_eq!(alices, Err(Error::Auth(denied)), "{name}");
        assert_eq!(refused(fixture.own(kind)), Ok(()), "{name}");
    }
    let view = fixture.machine.store.view();
    assert_eq!(view.key_count(), 0, "the lease's key went with it");
}

#[test]
fn each_lease_of_a_revocation_is_checked() {
    let mut fixture = enforcing();
    let root = Some(("root", REVISION));
    for id in [7, 8] {
        fixture.ask(root, grant_lease(id)).unwrap();
    }
    fixture.ask(root, lease_put("other", 7)).unwrap();
    let both = Kind::LeaseRevoke(LeaseRevoke {
        ids: vec![8, 7],
        ..Default::default()
    });
    let refused = refused(fixture.ask(Some(("alice", REVISION)), both));
    assert_eq!(refused, Err(Error::Auth(AuthError::PermissionDenied)));
    assert_eq!(fixture.machine.store.view().key_count(), 1);
}

#[test]
fn only_root_changes_alarms_and_peer_urls() {
    use pb::alarm_request::AlarmAction::{Activate, Deactivate, Get};

    let mut fixture = enforcing();
    let urls = || {
        Kind::UpdatePeerUrls(UpdatePeerUrls {
            member_id: MEMBER.get(),
            peer_urls: vec!["http://a:1".to_owned()],
        })
    };
    let denied = || Err(Error::Auth(AuthError::PermissionDenied));
    for (kind, expected) in [
        (alarm(Get), Ok(())),
        (alarm(Activate), denied()),
        (alarm(Deactivate), denied()),
        (urls(), denied()),
    ] {
        let name = format!("{kind:?}");
        let nobodys = refused(fixture.ask(None, kind.clone()));
        assert_eq!(nobodys, Err(Error::Auth(AuthError::UserEmpty)), "{name}");
        let alices = refused(fixture.ask(Some(("alice", REVISION)), kind.clone()));
        assert_eq!(alices, expected, "{name}");
        let roots = refused(fixture.ask(Some(("root", REVISION)), kind));
        assert_eq!(roots, Ok(()), "{name}");
    }
}

#[test]
fn each_entry_sees_the_ones_before() {
    let mut fixture = enforcing();
    let root = Some(("root", REVISION));
    let alice = Some(("alice", REVISION));
    let entries = vec![
        fixture.asked(alice, grant_lease(7)),
        fixture.asked(root, lease_put("other", 7)),
        fixture.asked(alice, revoke_lease(7)),
        fixture.asked(alice, put("w1", 1)),
        fixture.asked(
            root,
            auth(Change::UserRevokeRole(pb::AuthUserRevokeRoleRequest {
                name: "alice".to_owned(),
                role: "writer".to_owned(),
            })),
        ),
        fixture.asked(alice, put("w1", 1)),
        fixture.asked(Some(("alice", REVISION + 1)), put("w1", 1)),
        fixture.asked(root, put("w1", 1)),
        fixture.asked(Some(("root", REVISION + 1)), put("w1", 1)),
    ];
    let results: Vec<_> = fixture
        .apply_all(entries)
        .into_iter()
        .map(refused)
        .collect();
    let (denied, old) = (
        Err(Error::Auth(AuthError::PermissionDenied)),
        Err(Error::Auth(AuthError::OldRevision)),
    );
    let done = Ok(());
    let expected = [
        done.clone(),
        done.clone(),
        denied.clone(),
        done.clone(),
        done.clone(),
        old.clone(),
        denied,
        old,
        done,
    ];
    assert_eq!(results, expected);
}

fn with_token(token: &str) -> Credentials {
    let mut metadata = MetadataMap::new();
    metadata.insert("token", token.parse().unwrap());
    Credentials::new(&metadata, None)
}

/// Lets the log know of a token.
fn log_in(fixture: &mut Fixture, user: &str, revision: u64) -> Result<String, Error> {
    let Issued::ToPropose(token) = fixture.auth().tokens().issue(user, revision).unwrap() else {
        panic!("simple tokens are proposed");
    };
    let grant = auth(Change::GrantToken(token.to_grant(user, revision)));
    let Reply::TokenGranted { index } = fixture.ask(None, grant)? else {
        panic!("a token is granted");
    };
    Ok(token.at(index))
}

#[test]
fn a_login_is_an_entry_and_ends_with_the_password() {
    let mut fixture = enforcing();
    let token = log_in(&mut fixture, "alice", REVISION).unwrap();
    let applied = fixture.machine.applied().last.index.get();
    assert!(token.ends_with(&format!(".{applied}")), "{token}");
    let identity = fixture
        .auth()
        .identify(&with_token(&token), applied)
        .unwrap();
    assert_eq!(&*identity.unwrap().user, "alice");
    let change = Change::UserChangePassword(UserChangePassword {
        name: "alice".to_owned(),
        password_hash: Bytes::from_static(b"other"),
    });
    fixture.change(change).unwrap();
    let found = fixture.auth().identify(&with_token(&token), applied);
    assert_eq!(found, Err(TokenError::Invalid));
    let late = log_in(&mut fixture, "alice", REVISION);
    assert_eq!(
        late,
        Err(Error::Auth(AuthError::OldRevision)),
        "checked before the change"
    );
}

#[test]
fn users_are_there_after_a_restart() {
    let mut fixture = enforcing();
    fixture.change(user_add("carol")).unwrap();
    let delete = pb::AuthUserDeleteRequest {
        name: "bob".to_owned(),
    };
    fixture.change(Change::UserDelete(delete)).unwrap();
    let users = fixture.auth().state();
    fixture.machine.persister().persist().unwrap();
    let config = fixture.machine.config.clone();
    let Fixture {
        machine,
        _hub,
        _temp,
        ..
    } = fixture;
    drop((machine, _hub));
    let opened = OpenState::open(config).unwrap();
    assert_eq!(opened.users(), &*users);
}

#[test]
fn users_come_with_a_snapshot_and_tokens_end() {
    let mut fixture = enforcing();
    fixture.change(user_add("carol")).unwrap();
    let users = fixture.auth().state();
    let rows = fixture.machine.store.view().meta_rows(ROW_PREFIX).unwrap();
    assert_eq!(AuthState::load(rows).unwrap(), *users);
    let source = fixture.machine.snapshot().unwrap();

    let mut other = enforcing();
    let token = log_in(&mut other, "bob", REVISION).unwrap();
    assert!(other.auth().identify(&with_token(&token), 100).is_ok());
    other.install(&*source);
    assert_eq!(other.auth().state(), users);
    let found = other.auth().identify(&with_token(&token), 100);
    assert_eq!(found, Err(TokenError::Invalid), "bob may be gone meanwhile");
    other.next = fixture.next;
    assert_eq!(refused(other.ask(Some(("root", 9)), put("k", 1))), Ok(()));
}

#[test]
fn a_change_of_users_ends_its_batch() {
    let mut fixture = enforcing();
    let entries = vec![
        fixture.asked(Some(("root", REVISION)), put("w1", 1)),
        fixture.asked(Some(("root", REVISION)), auth(user_add("carol"))),
        fixture.asked(Some(("root", REVISION)), put("secret", 1)),
    ];
    let (rest, outcomes) = fixture.apply(entries).unwrap();
    assert_eq!((rest.len(), outcomes.len()), (1, 2));
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
    assert_eq!(
        fixture.auth().state().revision(),
        REVISION + 1,
        "published with its batch"
    );
}

#[test]
fn a_name_that_no_key_can_hold_is_refused_and_stops_nobody() {
    let mut fixture = Fixture::new();
    raise_level(&mut fixture, USERS);
    let long = "n".repeat(70_000);
    for change in [
        user_add(&long),
        Change::RoleAdd(pb::AuthRoleAddRequest { name: long.clone() }),
    ] {
        let refused = fixture.ask(None, auth(change));
        assert!(
            matches!(refused, Err(Error::Auth(AuthError::NameTooLong))),
            "{refused:?}"
        );
    }
    // The longest name that is taken is stored by the disk engine.
    fixture.ask(None, auth(user_add(&long[..1024]))).unwrap();
}

#[test]
fn commands_on_users_need_all_members_upgraded() {
    let mut fixture = Fixture::new();
    raise_level(&mut fixture, USERS - 1);
    let refused = fixture.ask(None, auth(user_add("root")));
    let expected = Error::UsersUnsupported { level: USERS - 1 };
    assert_eq!(refused.unwrap_err(), expected);
    assert_eq!(fixture.machine.view().roster().check_users(), Err(expected));
    assert!(fixture.auth().state().users().is_empty());
    raise_level(&mut fixture, USERS);
    assert_eq!(fixture.machine.view().roster().check_users(), Ok(()));
    fixture.ask(None, auth(user_add("root"))).unwrap();
}

/// What a member sees that reads while its data and its users are replaced.
#[test]
fn new_data_is_never_read_under_the_old_users() {
    let mut source = enforcing();
    source.change(user_add("carol")).unwrap();
    source
        .ask(Some(("root", REVISION + 1)), put("new", 1))
        .unwrap();
    let snapshot = source.machine.snapshot().unwrap();
    for _ in 0..4 {
        let mut fixture = enforcing();
        let (auth, view) = (fixture.auth(), fixture.machine.view());
        let reader = std::thread::spawn(move || {
            loop {
                let is_new = view.reader().view().get(b"new").unwrap().is_some();
                // As a read does: it is refused if the users changed before it ended.
                let revision = auth.state().revision();
                if is_new {
                    return revision;
                }
            }
        });
        fixture.install(&*snapshot);
        assert_eq!(reader.join().unwrap(), REVISION + 1);
    }
}

#[test]
fn an_unfinished_snapshot_is_not_installed() {
    let mut fixture = enforcing();
    let meta = fixture.machine.applied();
    let sink = fixture.machine.begin_install(meta).unwrap();
    let refused = fixture.machine.install(sink).unwrap_err();
    assert!(refused.to_string().contains("unfinished"), "{refused}");
    assert!(fixture.auth().is_enabled());
}

/// Starts a state with a backup of another one.
fn restored(from: &mut Fixture, feature_level: u32) -> Result<(OpenState, TempDir), MachineError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup");
    let source = from.machine.snapshot().unwrap();
    let mut file = synod_service::BackupWriter::new(&backup::FORMAT, 1 << 20);
    let mut resume = Some(Bytes::new());
    while let Some(after) = resume {
        let chunk = source.read(&after, 1 << 20).unwrap();
        file.write(&chunk.data);
        resume = chunk.resume;
    }
    file.finish();
    let bytes: Vec<u8> = file.take_pieces().flatten().collect();
    std::fs::write(&path, bytes).unwrap();
    let config = MachineConfig {
        dir: dir.path().join("engine"),
        feature_level,
        ..from.machine.config.clone()
    };
    let start = SnapshotMeta {
        membership: Membership::of([MEMBER]),
        ..Default::default()
    };
    let backup = synod_service::Backup::open(&path, &backup::FORMAT).unwrap();
    create(&config, &Roster::of([]), &start, Some(backup))?;
    Ok((OpenState::open(config)?, dir))
}

#[test]
fn a_restored_cluster_has_the_backups_users_and_the_level_that_they_need() {
    let mut fixture = enforcing();
    let (opened, _dir) = restored(&mut fixture, LEVEL).unwrap();
    let before = fixture.auth().state();
    let users = opened.users();
    assert!(users.is_enabled());
    assert_eq!(
        (users.users(), users.roles()),
        (before.users(), before.roles())
    );
    // A token that the lost cluster signed after the backup is refused.
    assert_eq!(users.revision(), REVISION + (1 << 32));
    let by = |revision| Identity {
        user: "root".into(),
        revision,
    };
    let lost = users.check_root(Some(&by(REVISION + 1000)));
    assert_eq!(lost, Err(AuthError::OldRevision));
    assert_eq!(users.check_root(Some(&by(users.revision()))), Ok(()));
    assert_eq!(opened.roster().feature_level(), USERS);
    // A member that may not use the level refuses to start: it would not enforce users.
    let refused = restored(&mut fixture, USERS - 1).map(drop);
    assert!(
        matches!(
            refused,
            Err(MachineError::NewerLevel {
                required: USERS,
                ..
            })
        ),
        "{refused:?}"
    );
    // Without users nothing needs a level.
    let (opened, _dir) = restored(&mut Fixture::new(), 0).unwrap();
    assert_eq!(opened.roster().feature_level(), 0);
}
