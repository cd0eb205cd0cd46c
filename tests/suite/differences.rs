//! The intentional differences between our server and stock etcd. The tests expect them, and
//! `docs/compatibility.md` lists them. `SYNOD_BLESS=1 cargo test` rewrites that table.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use synod_testkit::Server;

/// An intentional difference.
pub(crate) struct Difference {
    what: &'static str,
    etcd: &'static str,
    synod: &'static str,
    why: &'static str,
}

impl Difference {
    /// The expectation for a server: stock etcd's behaviour or ours.
    pub(crate) fn expect<T>(&self, server: Server, etcd: T, synod: T) -> T {
        if server.is_etcd() { etcd } else { synod }
    }
}

pub(crate) const MESSAGE_LIMIT: Difference = Difference {
    what: "A request of more than max-request-bytes + 512 KiB",
    etcd: "`ResourceExhausted`, with a message of grpc-go",
    synod: "`InvalidArgument`, `etcdserver: request is too large`, like every request over the limit",
    why: "The same error for the same cause; etcd's own clients refuse to send such a request anyway.",
};

pub(crate) const LEASE_AFTER_FAIL_OVER: Difference = Difference {
    what: "A lease's remaining time after a change of leader",
    etcd: "the full TTL again, unless the feature gate LeaseCheckpoint is on",
    synod: "the remaining time, from replicated checkpoints",
    why: "Leases that fail-overs extend keep the locks of dead owners.",
};

pub(crate) const CHANGE_AFTER_CHANGE: Difference = Difference {
    what: "A membership change that reaches the leader before it has applied the previous one",
    etcd: "dropped and never answered (`ignoring conf change` in the leader's log)",
    synod: "executed after the previous one, and answered",
    why: "Without an answer the outcome is unknown, and the caller has to find out.",
};

pub(crate) const SIGTERM_STATUS: Difference = Difference {
    what: "Exit status after SIGTERM",
    etcd: "killed by signal 15 (it raises the signal again)",
    synod: "0, after leadership was handed over",
    why: "A requested stop is a success for process managers.",
};

pub(crate) const LOCK_CODES: Difference = Difference {
    what: "The gRPC code of an error of the keyspace or of leases, in Lock and Election",
    etcd: "`Unknown`, with the usual text",
    synod: "the code that other services give with that text",
    why: "Clients that look at codes can tell what to do. Those that compare texts see no difference.",
};

pub(crate) const LOCK_AGAIN: Difference = Difference {
    what: "Lock, or Campaign with the same value, with a lease that has a key in the queue already",
    etcd: "writes nothing",
    synod: "writes the key again, so that the revision grows by one",
    why: "A cancelled call removes the key only if no later call has written it. A call that found the key removes it only \
          while an older key exists. In etcd, a client that gives up and tries again can lose a lock that it was told to have.",
};

pub(crate) const LOCK_LEASE_ENDS: Difference = Difference {
    what: "A waiting Lock or Campaign whose lease ends, or whose key is deleted",
    etcd: "is answered when its turn would have come",
    synod: "fails at once",
    why: "It can't succeed any more.",
};

pub(crate) const CAMPAIGN_LEASE_ENDS: Difference = Difference {
    what: "The answer to a Campaign whose lease ended while it waited",
    etcd: "success, although somebody else leads",
    synod: "`election: session is expired`",
    why: "Two processes must not both be told that they lead.",
};

pub(crate) const BAD_JSON_IN_A_STREAM: Difference = Difference {
    what: "JSON that can't be read, in a stream of requests (watch, lease keep-alive)",
    etcd: "the stream of requests ends there without an error; a watch waits for ever",
    synod: "`{\"error\":{\"code\":3,...}}`, with HTTP status 400 if it is the first answer",
    why: "The client learns what is wrong.",
};

pub(crate) const TOKEN_AFTER_RESTART: Difference = Difference {
    what: "A simple token, on a member that has restarted",
    etcd: "valid again if the login is in the part of the log that is replayed",
    synod: "invalid, unless the login is applied again from the log (after a power failure); etcd's Go client logs in again by itself",
    why: "The member can't know whether the token ended meanwhile.",
};

pub(crate) const REFLECTION: Difference = Difference {
    what: "gRPC reflection",
    etcd: "none",
    synod: "`grpc.reflection.v1`",
    why: "Tools such as grpcurl work without our proto files.",
};

const ALL: [&Difference; 11] = [
    &LOCK_CODES,
    &LOCK_AGAIN,
    &LOCK_LEASE_ENDS,
    &CAMPAIGN_LEASE_ENDS,
    &BAD_JSON_IN_A_STREAM,
    &TOKEN_AFTER_RESTART,
    &REFLECTION,
    &MESSAGE_LIMIT,
    &LEASE_AFTER_FAIL_OVER,
    &CHANGE_AFTER_CHANGE,
    &SIGTERM_STATUS,
];

const BEGIN: &str = "<!-- begin: written by tests/suite/differences.rs -->\n";
const END: &str = "<!-- end -->\n";

fn table() -> String {
    let mut lines = vec![
        "| What | Stock etcd | Synod | Why |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    for one in ALL {
        lines.push(format!(
            "| {} | {} | {} | {} |",
            one.what, one.etcd, one.synod, one.why
        ));
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_document_lists_every_difference() -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    let text = std::fs::read_to_string(&file)?;
    let (before, rest) = text
        .split_once(BEGIN)
        .context("docs/compatibility.md has no table")?;
    let (shown, after) = rest.split_once(END).context("the table has no end")?;
    if std::env::var_os("SYNOD_BLESS").is_some() {
        std::fs::write(&file, format!("{before}{BEGIN}{}{END}{after}", table()))?;
        return Ok(());
    }
    ensure!(
        shown == table(),
        "docs/compatibility.md does not match the expected differences: run this test with SYNOD_BLESS=1"
    );
    Ok(())
}
