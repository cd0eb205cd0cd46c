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

pub(crate) const LATER_SERVICES: Difference = Difference {
    what: "Lock and Election",
    etcd: "implemented",
    synod: "`UNIMPLEMENTED`",
    why: "Planned for a later release; the protos exist already.",
};

pub(crate) const TOKEN_AFTER_RESTART: Difference = Difference {
    what: "A simple token, on a member that has restarted",
    etcd: "valid again if the login is in the part of the log that is replayed",
    synod: "invalid; etcd's clients log in again by themselves",
    why: "The member can't know whether the token ended meanwhile.",
};

pub(crate) const REFLECTION: Difference = Difference {
    what: "gRPC reflection",
    etcd: "none",
    synod: "`grpc.reflection.v1`",
    why: "Tools such as grpcurl work without our proto files.",
};

const ALL: [&Difference; 7] = [
    &LATER_SERVICES,
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
