//! What each RPC asks of its caller while users are enforced.

/// What is required before a call does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing, and nobody looks at a token: the call is how one gets it, or says nothing about the
    /// data.
    Nothing,
    /// What the request says decides: the `check_` functions. A token must be good all the same.
    ByRequest,
    /// Any user.
    Authenticated,
    /// A user with the root role.
    Root,
}

use Requirement::{Authenticated, ByRequest, Nothing, Root};

/// The services and their methods.
const TABLE: &[(&str, &[(&str, Requirement)])] = &[
    (
        "etcdserverpb.KV",
        &[
            ("Range", ByRequest),
            ("RangeStream", ByRequest),
            ("Put", ByRequest),
            ("DeleteRange", ByRequest),
            ("Txn", ByRequest),
            ("Compact", Root),
        ],
    ),
    ("etcdserverpb.Watch", &[("Watch", ByRequest)]),
    (
        "etcdserverpb.Lease",
        &[
            ("LeaseGrant", Authenticated),
            ("LeaseRevoke", ByRequest),
            ("LeaseKeepAlive", ByRequest),
            ("LeaseTimeToLive", ByRequest),
            ("LeaseLeases", ByRequest),
        ],
    ),
    (
        "etcdserverpb.Cluster",
        &[
            ("MemberAdd", Root),
            ("MemberRemove", Root),
            ("MemberUpdate", Root),
            ("MemberList", Authenticated),
            ("MemberPromote", Root),
        ],
    ),
    (
        "etcdserverpb.Maintenance",
        &[
            ("Alarm", ByRequest),
            ("Status", Authenticated),
            ("Defragment", Root),
            ("Hash", Root),
            ("HashKV", Root),
            ("Snapshot", Root),
            ("MoveLeader", Root),
            ("Downgrade", Root),
        ],
    ),
    (
        "etcdserverpb.Auth",
        &[
            ("AuthEnable", Root),
            ("AuthDisable", Root),
            // Clients ask before they know whether they need to log in.
            ("AuthStatus", ByRequest),
            ("Authenticate", Nothing),
            ("UserAdd", Root),
            ("UserGet", ByRequest),
            ("UserList", Root),
            ("UserDelete", Root),
            ("UserChangePassword", Root),
            ("UserGrantRole", Root),
            ("UserRevokeRole", Root),
            ("RoleAdd", Root),
            ("RoleGet", ByRequest),
            ("RoleList", Root),
            ("RoleDelete", Root),
            ("RoleGrantPermission", Root),
            ("RoleRevokePermission", Root),
        ],
    ),
    // Made of puts, deletions, ranges and watches, which are checked.
    (
        "v3lockpb.Lock",
        &[("Lock", ByRequest), ("Unlock", ByRequest)],
    ),
    (
        "v3electionpb.Election",
        &[
            ("Campaign", ByRequest),
            ("Proclaim", ByRequest),
            ("Leader", ByRequest),
            ("Observe", ByRequest),
            ("Resign", ByRequest),
        ],
    ),
    (
        "grpc.health.v1.Health",
        &[("Check", Nothing), ("List", Nothing), ("Watch", Nothing)],
    ),
    (
        "grpc.reflection.v1.ServerReflection",
        &[("ServerReflectionInfo", Nothing)],
    ),
    (
        "grpc.reflection.v1alpha.ServerReflection",
        &[("ServerReflectionInfo", Nothing)],
    ),
];

/// What the method with this path, such as `/etcdserverpb.KV/Put`, requires; none for one that
/// isn't known, which must be refused.
#[must_use]
pub fn requirement(path: &str) -> Option<Requirement> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let (_, methods) = TABLE.iter().find(|(name, _)| *name == service)?;
    let (_, requirement) = methods.iter().find(|(name, _)| *name == method)?;
    Some(*requirement)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// The packages that clients reach.
    const PACKAGES: [&str; 3] = ["etcdserverpb", "v3lockpb", "v3electionpb"];

    #[test]
    fn every_rpc_of_etcds_api_has_a_row() {
        let descriptors = FileDescriptorSet::decode(synod_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut found = 0;
        for file in descriptors
            .file
            .iter()
            .filter(|file| PACKAGES.contains(&file.package()))
        {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert!(requirement(&path).is_some(), "{path} has no row");
                    found += 1;
                }
            }
        }
        let rows = TABLE.iter().filter(|(name, _)| !name.starts_with("grpc."));
        let rows: usize = rows.map(|(_, methods)| methods.len()).sum();
        assert_eq!(rows, found, "a row of no RPC");
        assert_eq!(found, 49);
    }

    #[test]
    fn what_is_not_known_has_none() {
        for path in [
            "",
            "/",
            "etcdserverpb.KV/Put",
            "/etcdserverpb.KV",
            "/etcdserverpb.KV/Get",
            "/x.Y/Put",
        ] {
            assert_eq!(requirement(path), None, "{path}");
        }
        assert_eq!(requirement("/etcdserverpb.KV/Put"), Some(ByRequest));
        assert_eq!(
            requirement("/etcdserverpb.Maintenance/Snapshot"),
            Some(Root)
        );
        assert_eq!(
            requirement("/etcdserverpb.Auth/Authenticate"),
            Some(Nothing)
        );
    }

    /// The rows that etcd's sources give; the others are checked by what the request says.
    #[test]
    fn root_and_users_are_asked_for_where_etcd_does() {
        let with = |wanted| {
            let methods = TABLE.iter().flat_map(|(_, methods)| *methods);
            methods
                .filter(|(_, found)| *found == wanted)
                .map(|(method, _)| *method)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(with(Authenticated), "LeaseGrant MemberList Status");
        assert_eq!(
            with(Root),
            "Compact MemberAdd MemberRemove MemberUpdate MemberPromote Defragment Hash HashKV Snapshot \
             MoveLeader Downgrade AuthEnable AuthDisable UserAdd UserList UserDelete UserChangePassword \
             UserGrantRole UserRevokeRole RoleAdd RoleList RoleDelete RoleGrantPermission \
             RoleRevokePermission"
        );
    }
}
