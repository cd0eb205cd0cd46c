//! The workloads that are compared.

/// What is compared in one section of docs/benchmarks.md.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workloads {
    /// The section's name.
    pub(super) section: &'static str,
    /// A sentence about all of them.
    pub(super) note: &'static str,
    pub(super) rows: &'static [Row],
}

/// One workload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// The arguments for `synod bench`.
    pub(super) words: &'static [&'static str],
    pub(super) access: Access,
}

/// How the clients reach the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Without TLS and users.
    Open,
    /// Over TLS; the clients show certificates.
    Tls,
    /// As a user with a role for the keys. From then on the members refuse clients without a user,
    /// so these workloads must be the last ones.
    User,
}

const fn row(name: &'static str, words: &'static [&'static str]) -> Row {
    with(Access::Open, name, words)
}

const fn with(access: Access, name: &'static str, words: &'static [&'static str]) -> Row {
    Row {
        name,
        words,
        access,
    }
}

/// The requests that most clients make.
pub(super) const REQUESTS: Workloads = Workloads {
    section: "etcd",
    note: "Values are 128 bytes.",
    rows: &[
        row("put, 1 client", &["put", "--clients", "1"]),
        row("put, 16 clients", &["put", "--clients", "16"]),
        row("put, 64 clients", &["put", "--clients", "64"]),
        row("put, 256 clients", &["put", "--clients", "256"]),
        row("get linearizable, 64 clients", &["get", "--clients", "64"]),
        row(
            "get serializable, 64 clients",
            &["get", "--serializable", "--clients", "64"],
        ),
        row(
            "txn (compare mod revision, put), 64 clients",
            &["txn", "--clients", "64"],
        ),
        row(
            "range of 100 of 10,000, 16 clients",
            &["range", "--limit", "100", "--clients", "16"],
        ),
        row(
            "watch events, 100 watchers, 16 writers",
            &["watch", "--watchers", "100", "--clients", "16"],
        ),
        row(
            "lease grant + keep-alive + revoke, 64 clients",
            &["lease", "--clients", "64"],
        ),
    ],
};

/// Locks.
pub(super) const LOCKS: Workloads = Workloads {
    section: "locks",
    note: "An operation is a Lock and its Unlock, through the Lock service. The clients keep their leases. With one lock, each \
           operation is a hand-over from one client to the next.",
    rows: &[
        row("own lock, 1 client", &["lock", "--clients", "1"]),
        row("own lock, 8 clients", &["lock", "--clients", "8"]),
        row("one lock, 8 clients", &["lock", "--same", "--clients", "8"]),
    ],
};

/// TLS, JSON, users, and other ways of asking.
pub(super) const SECURED: Workloads = Workloads {
    section: "secured",
    note: "Values are 128 bytes. Over TLS, clients and members show certificates.",
    rows: &[
        with(
            Access::Tls,
            "put over TLS, 64 clients",
            &["put", "--clients", "64"],
        ),
        with(
            Access::Tls,
            "get linearizable over TLS, 64 clients",
            &["get", "--clients", "64"],
        ),
        row("put as JSON, 64 clients", &["json-put", "--clients", "64"]),
        row(
            "watch events with previous pairs, 100 watchers, 16 writers",
            &["watch", "--prev-kv", "--watchers", "100", "--clients", "16"],
        ),
        row(
            "keep-alive of 10,000 leases, 64 clients",
            &["keep-alive", "--leases", "10000", "--clients", "64"],
        ),
        with(
            Access::User,
            "put by a user, 64 clients",
            &["put", "--clients", "64"],
        ),
        with(
            Access::User,
            "get linearizable by a user, 64 clients",
            &["get", "--clients", "64"],
        ),
    ],
};
