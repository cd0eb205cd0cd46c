//! Where our server answers otherwise than stock etcd on purpose: the tests expect it, and
//! `docs/compatibility.md` tells it. `SYNOD_BLESS=1 cargo test` rewrites that table.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use synod_testkit::Server;

/// One difference by design.
pub(crate) struct Difference {
    what: &'static str,
    etcd: &'static str,
    synod: &'static str,
    why: &'static str,
}

impl Difference {
    /// The expectation for a server: what stock etcd does, or what ours does.
    pub(crate) fn expect<T>(&self, server: Server, etcd: T, synod: T) -> T {
        if server.is_etcd() { etcd } else { synod }
    }
}

pub(crate) const MESSAGE_LIMIT: Difference = Difference {
    what: "A request of more than max-request-bytes + 512 KiB",
    etcd: "`ResourceExhausted`, a text of grpc-go",
    synod: "`InvalidArgument`, `etcdserver: request is too large`, like every request over the limit",
    why: "One error for one cause; etcd's own clients refuse to send such a request anyway.",
};

pub(crate) const LEASE_AFTER_FAIL_OVER: Difference = Difference {
    what: "What is left of a lease when the leader changes",
    etcd: "the whole granted time again, unless the feature gate LeaseCheckpoint is on",
    synod: "what was left, from replicated checkpoints",
    why: "A lease that outlives its time by fail-overs keeps dead owners' locks.",
};

pub(crate) const CHANGE_AFTER_CHANGE: Difference = Difference {
    what: "A change of members that reaches the leader before it has applied the one before",
    etcd: "dropped, and never answered (`ignoring conf change` in the leader's log)",
    synod: "made after it, and answered",
    why: "A request without an answer may have happened or not, and its caller has to find out.",
};

pub(crate) const SIGTERM_STATUS: Difference = Difference {
    what: "Exit status after SIGTERM",
    etcd: "killed by signal 15 (it raises the signal again)",
    synod: "0, after leadership was handed over",
    why: "A requested stop is a success for process managers.",
};

pub(crate) const LATER_SERVICES: Difference = Difference {
    what: "Auth, Lock and Election",
    etcd: "implemented",
    synod: "`UNIMPLEMENTED`",
    why: "They come in a later release; the proto is there already.",
};

pub(crate) const REFLECTION: Difference = Difference {
    what: "gRPC reflection",
    etcd: "none",
    synod: "`grpc.reflection.v1`",
    why: "grpcurl and its like work without our proto files.",
};

const ALL: [&Difference; 6] = [
    &LATER_SERVICES,
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
fn the_document_tells_every_difference() -> Result<()> {
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
        "docs/compatibility.md tells other differences than the tests expect: run them with SYNOD_BLESS=1"
    );
    Ok(())
}
