//! Sends every request with its arguments at their limits. `borders.txt` has stock etcd's answers,
//! and ours must be the same. To rewrite the file, run the test on one node of stock etcd with
//! `SYNOD_BLESS=1`.

use std::time::Duration;

use anyhow::{Context, Result};
use etcd_client::DeleteOptions;

use super::Case;
use crate::support::compare_recorded;
use crate::support::proto::{bytes, bytes_of, number, number_of};
use crate::support::raw;

const SOON: Duration = Duration::from_secs(30);

/// How a method is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unary,
    /// One message on a stream, and its first answer.
    Stream,
}

/// A method, with the fields of its responses that are compared.
struct Method {
    path: &'static str,
    kind: Kind,
    fields: &'static [(u64, &'static str)],
}

const fn unary(path: &'static str, fields: &'static [(u64, &'static str)]) -> Method {
    let kind = Kind::Unary;
    Method { path, kind, fields }
}

const RANGE: Method = unary(
    "/etcdserverpb.KV/Range",
    &[(2, "kvs"), (3, "more"), (4, "count")],
);
const PUT: Method = unary("/etcdserverpb.KV/Put", &[(2, "prev_kv")]);
const DELETE: Method = unary(
    "/etcdserverpb.KV/DeleteRange",
    &[(2, "deleted"), (3, "prev_kvs")],
);
const TXN: Method = unary(
    "/etcdserverpb.KV/Txn",
    &[(2, "succeeded"), (3, "responses")],
);
const COMPACT: Method = unary("/etcdserverpb.KV/Compact", &[]);
const GRANT: Method = unary("/etcdserverpb.Lease/LeaseGrant", &[(2, "id"), (3, "ttl")]);
const REVOKE: Method = unary("/etcdserverpb.Lease/LeaseRevoke", &[]);
const TIME_TO_LIVE: Method = unary(
    "/etcdserverpb.Lease/LeaseTimeToLive",
    &[(2, "id"), (4, "granted"), (5, "keys")],
);
const KEEP_ALIVE: Method = Method {
    path: "/etcdserverpb.Lease/LeaseKeepAlive",
    kind: Kind::Stream,
    fields: &[(2, "id"), (3, "ttl")],
};
const WATCH: Method = Method {
    path: "/etcdserverpb.Watch/Watch",
    kind: Kind::Stream,
    fields: &[
        (2, "id"),
        (3, "created"),
        (4, "canceled"),
        (5, "compact_revision"),
        (6, "reason"),
        (11, "events"),
    ],
};
const ALARM: Method = unary("/etcdserverpb.Maintenance/Alarm", &[(2, "alarms")]);
const HASH_KV: Method = unary("/etcdserverpb.Maintenance/HashKV", &[]);
const DOWNGRADE: Method = unary("/etcdserverpb.Maintenance/Downgrade", &[]);
const MEMBER_ADD: Method = unary("/etcdserverpb.Cluster/MemberAdd", &[]);
const MEMBER_PROMOTE: Method = unary("/etcdserverpb.Cluster/MemberPromote", &[]);

/// A request: description, method and message.
struct Row(String, &'static Method, Vec<u8>);

const NUMBERS: [(&str, i64); 4] = [("-1", -1), ("min", i64::MIN), ("max", i64::MAX), ("1", 1)];

fn join(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

/// Requests with one numeric field at each of its limits.
fn numbers(
    rows: &mut Vec<Row>,
    name: &str,
    method: &'static Method,
    rest: &[u8],
    fields: &[(u64, &str)],
) {
    for (field, field_name) in fields {
        for (shown, value) in NUMBERS {
            let message = [rest.to_vec(), number(*field, value)].concat();
            rows.push(Row(format!("{name} {field_name}={shown}"), method, message));
        }
    }
}

fn key_rows(rows: &mut Vec<Row>, case: &Case) {
    let key = |name: &str| bytes(1, case.key(name).as_bytes());
    let end = |name: &str| bytes(2, case.key(name).as_bytes());
    let spans: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("no key but an end", end("z")),
        ("equal ends", join(&[key("a"), end("a")])),
        ("end before key", join(&[key("b"), end("a")])),
        ("key", key("a")),
        ("span", join(&[key("a"), end("c")])),
    ];
    for (what, span) in &spans {
        rows.push(Row(format!("range {what}"), &RANGE, span.clone()));
    }
    let all = join(&[key(""), end("\u{7f}")]);
    numbers(
        rows,
        "range",
        &RANGE,
        &all,
        &[
            (3, "limit"),
            (4, "revision"),
            (5, "sort_order"),
            (6, "sort_target"),
            (10, "min_mod_revision"),
            (11, "max_mod_revision"),
            (12, "min_create_revision"),
            (13, "max_create_revision"),
        ],
    );
    for (what, span) in &spans {
        rows.push(Row(format!("delete {what}"), &DELETE, span.clone()));
        let put = join(&[span.clone(), bytes(2, b"")]);
        if !what.contains("end") && *what != "span" {
            rows.push(Row(format!("put {what}"), &PUT, put));
        }
    }
    numbers(rows, "put", &PUT, &key("a"), &[(3, "lease")]);
    numbers(
        rows,
        "compact",
        &COMPACT,
        &[],
        // One of them is below the revision that the case compacted earlier.
        &[(1, "revision")],
    );
    rows.push(Row("compact empty".to_owned(), &COMPACT, Vec::new()));
}

fn txn_rows(rows: &mut Vec<Row>, case: &Case) {
    let key = bytes(1, case.key("a").as_bytes());
    rows.push(Row("txn empty".to_owned(), &TXN, Vec::new()));
    for (what, op) in [
        ("without a request", Vec::new()),
        ("range without a key", bytes(1, b"")),
        ("put without a key", bytes(2, b"")),
        ("delete without a key", bytes(3, b"")),
        ("empty txn", bytes(4, b"")),
    ] {
        rows.push(Row(format!("txn {what}"), &TXN, bytes(2, &op)));
    }
    for (shown, value) in NUMBERS {
        let range = join(&[key.clone(), number(4, value)]);
        let range = bytes(2, &bytes(1, &range));
        rows.push(Row(format!("txn range revision={shown}"), &TXN, range));
        let range = join(&[key.clone(), number(3, value)]);
        let range = bytes(2, &bytes(1, &range));
        rows.push(Row(format!("txn range limit={shown}"), &TXN, range));
        let put = join(&[key.clone(), number(3, value)]);
        let put = bytes(2, &bytes(2, &put));
        rows.push(Row(format!("txn put lease={shown}"), &TXN, put));
        let key = bytes(3, case.key("a").as_bytes());
        for (target, field, name) in [
            (0, 4, "version"),
            (1, 5, "create_revision"),
            (2, 6, "mod_revision"),
            (4, 8, "lease"),
        ] {
            // Greater than the operand.
            let compare = [number(1, 1), number(2, target), key.clone()];
            let compare = join(&[join(&compare), number(field, value)]);
            let row = bytes(1, &compare);
            rows.push(Row(format!("txn compare {name}>{shown}"), &TXN, row));
        }
    }
    let key = |name: &str| bytes(3, case.key(name).as_bytes());
    let end = |name: &str| bytes(64, case.key(name).as_bytes());
    for (what, compare) in [
        ("without a key", Vec::new()),
        ("equal ends", join(&[key("a"), end("a"), number(4, 1)])),
        ("end before key", join(&[key("b"), end("a"), number(4, 1)])),
        ("without an operand", key("a")),
        ("another operand", join(&[key("a"), number(8, 1)])),
    ] {
        let row = bytes(1, &compare);
        rows.push(Row(format!("txn compare {what}"), &TXN, row));
    }
}

fn lease_rows(rows: &mut Vec<Row>) {
    let numbers = NUMBERS.into_iter().chain([("0", 0)]);
    for (shown, value) in numbers {
        let grant = join(&[number(1, value), number(2, 77)]);
        rows.push(Row(format!("grant ttl={shown}"), &GRANT, grant));
        rows.push(Row(format!("revoke 77 of {shown}"), &REVOKE, number(1, 77)));
    }
    for (shown, value) in [("9000000000", 9_000_000_000), ("9000000001", 9_000_000_001)] {
        let grant = join(&[number(1, value), number(2, 77)]);
        rows.push(Row(format!("grant ttl={shown}"), &GRANT, grant));
        rows.push(Row(format!("revoke 77 of {shown}"), &REVOKE, number(1, 77)));
    }
    for (shown, value) in [("-1", -1), ("min", i64::MIN), ("max", i64::MAX)] {
        let grant = join(&[number(1, 60), number(2, value)]);
        rows.push(Row(format!("grant id={shown}"), &GRANT, grant));
    }
    for (shown, value) in [("0", 0), ("-1", -1), ("min", i64::MIN), ("max", i64::MAX)] {
        let id = number(1, value);
        rows.push(Row(format!("keep alive {shown}"), &KEEP_ALIVE, id.clone()));
        if value <= 0 {
            rows.push(Row(
                format!("time to live {shown}"),
                &TIME_TO_LIVE,
                id.clone(),
            ));
        }
        rows.push(Row(format!("revoke {shown}"), &REVOKE, id.clone()));
        rows.push(Row(format!("revoke {shown} again"), &REVOKE, id));
    }
}

fn watch_rows(rows: &mut Vec<Row>, case: &Case) {
    let key = |name: &str| bytes(1, case.key(name).as_bytes());
    let end = |name: &str| bytes(2, case.key(name).as_bytes());
    let create = |parts: &[Vec<u8>]| bytes(1, &join(parts));
    for (what, span) in [
        ("empty", vec![]),
        ("equal ends", vec![key("a"), end("a")]),
        ("end before key", vec![key("b"), end("a")]),
        ("no key but an end", vec![end("z")]),
    ] {
        rows.push(Row(format!("watch {what}"), &WATCH, create(&span)));
    }
    for (shown, value) in NUMBERS {
        let start = create(&[key("none"), number(3, value)]);
        if value != 1 {
            rows.push(Row(format!("watch start_revision={shown}"), &WATCH, start));
        }
        let id = create(&[key("none"), number(7, value)]);
        rows.push(Row(format!("watch watch_id={shown}"), &WATCH, id));
        let filter = create(&[key("none"), number(5, value)]);
        rows.push(Row(format!("watch filter={shown}"), &WATCH, filter));
    }
}

fn operator_rows(rows: &mut Vec<Row>) {
    // Stock etcd panics on an unknown action.
    numbers(rows, "alarms", &ALARM, &[], &[(3, "alarm")]);
    let disarm = number(1, 2);
    numbers(rows, "disarm", &ALARM, &disarm, &[(2, "member")]);
    for (shown, value) in NUMBERS.into_iter().filter(|(_, value)| *value != 1) {
        let at = number(1, value);
        rows.push(Row(format!("hash revision={shown}"), &HASH_KV, at));
    }
    rows.push(Row("downgrade empty".to_owned(), &DOWNGRADE, Vec::new()));
    numbers(rows, "downgrade", &DOWNGRADE, &[], &[(1, "action")]);
    rows.push(Row("member add empty".to_owned(), &MEMBER_ADD, Vec::new()));
    let empty_url = bytes(1, b"");
    rows.push(Row("member add \"\"".to_owned(), &MEMBER_ADD, empty_url));
    for (shown, value) in [("0", 0), ("max", -1)] {
        let id = number(1, value);
        rows.push(Row(format!("promote {shown}"), &MEMBER_PROMOTE, id));
    }
}

/// The non-zero fields of a response, or the refusal.
async fn outcome(case: &Case, row: &Row) -> Result<String> {
    let Row(_, method, message) = row;
    let answer = match method.kind {
        Kind::Unary => {
            let call = raw::call(&case.endpoint, method.path, message.clone());
            match tokio::time::timeout(SOON, call)
                .await
                .context("silence")??
            {
                Ok(answer) => answer,
                Err(refused) => return Ok(format!("{}: {}", refused.code, refused.message)),
            }
        }
        Kind::Stream => {
            let call = raw::exchange(&case.endpoint, method.path, vec![message.clone()]);
            match tokio::time::timeout(SOON, call).await.context("silence")? {
                Ok(answers) => answers.into_iter().next().context("an answer")?,
                Err(error) => return Ok(format!("the stream ended: {error:#}")),
            }
        }
    };
    let mut shown = "ok".to_owned();
    for (field, name) in method.fields {
        let parts = bytes_of(&answer, *field);
        match (number_of(&answer, *field), parts.as_slice()) {
            (0, []) => {}
            (0, [text]) if *name == "reason" => {
                shown += &format!(" {name}={}", String::from_utf8_lossy(text));
            }
            (0, parts) => shown += &format!(" {} {name}", parts.len()),
            (value, _) => shown += &format!(" {name}={value}"),
        }
    }
    Ok(shown)
}

pub(crate) async fn of_every_request(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    case.fill(&["a", "b", "c"]).await?;
    client.compact(case.base + 1, None).await?;
    let mut rows = Vec::new();
    key_rows(&mut rows, &case);
    txn_rows(&mut rows, &case);
    lease_rows(&mut rows);
    watch_rows(&mut rows, &case);
    operator_rows(&mut rows);
    let mut told = String::new();
    for row in &rows {
        let outcome = outcome(&case, row).await;
        let outcome = outcome.with_context(|| row.0.clone())?;
        told += &format!("{} | {outcome}\n", row.0);
    }
    let all = DeleteOptions::new().with_prefix();
    client.delete(case.prefix.clone(), Some(all)).await?;
    compare_recorded(case.server, "suite/api/borders.txt", &told, |_, _| false)
}
