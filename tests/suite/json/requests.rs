//! The requests whose answers are compared.

use std::fmt;

use anyhow::Result;
use serde_json::Value;

use super::curl::{Answer, curl, lines};

/// A request, and what of its answer is compared.
pub(super) struct Request {
    args: &'static [&'static str],
    path: &'static str,
    json: String,
    compared: Compared,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    /// Everything but ids and terms.
    All,
    /// The names of fields and the types of their values.
    Shape,
    /// So many lines of a stream, which goes on.
    Lines(usize),
    /// The status alone.
    Status,
}

use Compared::{All, Lines, Shape, Status};

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args = self.args.join(" ");
        let json: String = self.json.chars().take(100).collect();
        write!(formatter, "{args} {} {json}", self.path)
    }
}

impl Request {
    pub(super) async fn send(&self, endpoint: &str) -> Result<Answer> {
        let url = format!("{endpoint}{}", self.path);
        let body = ["--data-binary", "@-"];
        let sends_body = !self.args.contains(&"-I");
        let body: &[&str] = if sends_body { &body } else { &[] };
        let args = [self.args, body, &["--path-as-is", &url]].concat();
        if let Lines(count) = self.compared {
            let args = [self.args, &["-N", "-d", &self.json, &url]].concat();
            return Ok(Answer::of_lines(&lines(&args, count).await?));
        }
        curl(&args, &self.json).await
    }

    pub(super) fn shown(&self, answer: &Answer) -> String {
        if self.compared == Status {
            return answer.status.to_string();
        }
        let lines = answer.body.lines().map(|line| {
            let parsed = serde_json::from_str::<Value>(line);
            parsed.map_or_else(
                |_| line.to_owned(),
                |mut value| {
                    normalize(&mut value, self.compared);
                    value.to_string()
                },
            )
        });
        let body = lines.collect::<Vec<_>>().join(" ");
        let kind = answer.header("content-type");
        let origin = answer.header("access-control-allow-origin");
        format!("{} {kind} {origin} {body}", answer.status)
            .trim_end()
            .to_owned()
    }
}

/// Leaves what two clusters have in common.
fn normalize(value: &mut Value, compared: Compared) {
    match value {
        Value::Object(fields) => {
            // The messages about wrong JSON have other words.
            let code = fields.get("code").and_then(Value::as_i64);
            if let Some(Value::String(message)) = fields.get_mut("message")
                && code == Some(3)
                && !message.starts_with("etcdserver")
            {
                "*".clone_into(message);
            }
            for name in ["cluster_id", "member_id", "raft_term", "details"] {
                fields.remove(name);
            }
            for (_, field) in fields.iter_mut() {
                normalize(field, compared);
            }
        }
        Value::Array(items) => {
            for item in items {
                normalize(item, compared);
            }
        }
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {
            if compared == Shape {
                *value = match value {
                    Value::String(text) if text.parse::<i128>().is_ok() => "number as text".into(),
                    Value::String(_) => "text".into(),
                    Value::Number(_) => "number".into(),
                    Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => {
                        value.take()
                    }
                };
            }
        }
    }
}

fn request(path: &'static str, json: &str, compared: Compared) -> Request {
    Request {
        args: &[],
        path,
        json: json.to_owned(),
        compared,
    }
}

fn with(args: &'static [&'static str], path: &'static str, json: &str) -> Request {
    Request {
        args,
        ..request(path, json, All)
    }
}

/// All requests, in order: they change the store.
pub(super) fn all() -> Vec<Request> {
    let mut rows = Vec::new();
    keys(&mut rows);
    spellings(&mut rows);
    http(&mut rows);
    leases(&mut rows);
    watches(&mut rows);
    operations(&mut rows);
    users_and_locks(&mut rows);
    rows
}

fn keys(rows: &mut Vec<Request>) {
    for (path, json) in [
        ("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
        (
            "/v3/kv/put",
            r#"{"key":"Zm9v","value":"YmF6","prev_kv":true}"#,
        ),
        ("/v3/kv/put", r#"{"key":"Zm9x"}"#),
        ("/v3/kv/put", "{}"),
        ("/v3/kv/put", ""),
        ("/v3/kv/put", r#"{"key":"YQ==","lease":"77"}"#),
        ("/v3/kv/put", r#"{"key":"YQ==","ignore_value":true}"#),
        ("/v3/kv/range", r#"{"key":"Zm9v"}"#),
        ("/v3/kv/range", r#"{"key":"Zg==","range_end":"AA=="}"#),
        (
            "/v3/kv/range",
            r#"{"key":"Zg==","range_end":"AA==","limit":1}"#,
        ),
        (
            "/v3/kv/range",
            r#"{"key":"Zg==","range_end":"AA==","count_only":true}"#,
        ),
        (
            "/v3/kv/range",
            r#"{"key":"Zg==","range_end":"AA==","keys_only":true,"sort_order":"DESCEND"}"#,
        ),
        ("/v3/kv/range", r#"{"key":"bm9uZQ=="}"#),
        ("/v3/kv/range", r#"{"key":"Zm9v","revision":"2"}"#),
        ("/v3/kv/range", r#"{"key":"Zm9v","revision":"9999"}"#),
        (
            "/v3/kv/txn",
            r#"{"compare":[{"key":"Zm9v","target":"VERSION","version":2}],"success":[{"request_range":{"key":"Zm9v"}},{"request_put":{"key":"dHhu","value":"MQ=="}}]}"#,
        ),
        (
            "/v3/kv/txn",
            r#"{"compare":[{"key":"Zm9v","target":"VALUE","value":"bm8="}],"failure":[{"request_delete_range":{"key":"dHhu","prev_kv":true}},{"request_txn":{}}]}"#,
        ),
        ("/v3/kv/txn", r#"{"success":[{}]}"#),
        (
            "/v3/kv/txn",
            r#"{"success":[{"request_put":{"key":"YQ=="}},{"request_put":{"key":"YQ=="}}]}"#,
        ),
        (
            "/v3/kv/txn",
            r#"{"compare":[{"key":"YQ==","version":1,"value":"YQ=="}]}"#,
        ),
        ("/v3/kv/txn", "{}"),
        ("/v3/kv/deleterange", r#"{"key":"Zm9x","prev_kv":true}"#),
        ("/v3/kv/deleterange", r#"{"key":"bm9uZQ=="}"#),
        ("/v3/kv/compaction", r#"{"revision":"2"}"#),
        ("/v3/kv/compaction", r#"{"revision":"2"}"#),
        ("/v3/kv/compaction", r#"{"revision":"9999"}"#),
        ("/v3/kv/range", r#"{"key":"Zm9v","revision":1}"#),
    ] {
        rows.push(request(path, json, All));
    }
    let value = "A".repeat(2_200_000);
    let large = format!(r#"{{"key":"YQ==","value":"{value}"}}"#);
    rows.push(request("/v3/kv/put", &large, All));
}

/// Requests that read the same key, or that are no requests.
fn spellings(rows: &mut Vec<Request>) {
    for json in [
        r#"{"key":"Zm9v","rangeEnd":"Zm9w"}"#,
        r#" { "limit" : "0", "key" : "Zm9v" } "#,
        r#"{"key":"Zm9v"} and more"#,
        r#"{"key":"Zm9v"}}"#,
        r#"{"key":"Zm9v","unknown":{"a":[1,null,"x"]}}"#,
        r#"{"key":"Zm9v","range_end":null,"limit":null}"#,
        r#"{"key":"Zm9v","sort_order":1,"sort_target":"MOD"}"#,
        r#"{"key":"Zm9v","sort_order":"NOPE"}"#,
        r#"{"key":"Zm9v","sort_order":77}"#,
        r#"{"key":"Zm9v","limit":1e0}"#,
        r#"{"key":"Zm9v","limit":"1.0"}"#,
        r#"{"key":"Zm9v","limit":10e-1}"#,
        r#"{"key":"Zm9v","limit":"9223372036854775807"}"#,
        r#"{"key":"Zm9v","limit":9223372036854775808}"#,
        r#"{"key":"Zm9v","limit":1.5}"#,
        r#"{"key":"Zm9v","limit":" 1"}"#,
        r#"{"key":"Zm9v","limit":""}"#,
        r#"{"key":"Zm9v","limit":"0x1"}"#,
        r#"{"key":"Zm9v","limit":01}"#,
        r#"{"key":"Zm9v","limit":true}"#,
        r#"{"key":"Zm9v","limit":-0}"#,
        r#"{"key":"Zm9v","serializable":"true"}"#,
        r#"{"key":"Zm9v","serializable":1}"#,
        r#"{"key":"Zm8"}"#,
        r#"{"key":"Zm8="}"#,
        r#"{"key":"Zm9"}"#,
        r#"{"key":"Z"}"#,
        r#"{"key":"Zg="}"#,
        r#"{"key":"Zg==="}"#,
        r#"{"key":"===="}"#,
        r#"{"key":"Zm9v\nZm9v"}"#,
        r#"{"key":"Zm9v\n"}"#,
        r#"{"key":"_-_-"}"#,
        r#"{"key":"/+/+"}"#,
        r#"{"key":"/-_+"}"#,
        r#"{"key":"Zm9\u0076"}"#,
        r#"{"key":"\ud800"}"#,
        r#"{"key":"%%"}"#,
        r#"{"key":1}"#,
        r#"{"key":["Zm9v"]}"#,
        r#"{"key":{}}"#,
        r#"{"key":"Zm9v","key":"Zm9v"}"#,
        r#"{"key":null,"key":"Zm9v"}"#,
        r#"{"range_end":"Zm9w","rangeEnd":"Zm9w","key":"Zm9v"}"#,
        r#"{"Key":"Zm9v"}"#,
        "null",
        "[]",
        "7",
        "true",
        r#""text""#,
        "{",
        "}",
        "nul",
        "{]",
        "{,}",
        r#"{"key":"Zm9v""#,
        r#"{"key":"Zm9v",}"#,
        r#"{"key" "Zm9v"}"#,
        "{key:1}",
        "{'key':1}",
        "  \n ",
    ] {
        rows.push(request("/v3/kv/range", json, All));
    }
    // Text is for the services to judge.
    for json in [
        r#"{"peerURLs":"http://a:1"}"#,
        r#"{"peerURLs":[null]}"#,
        r#"{"peerURLs":[1]}"#,
        r#"{"peerURLs":["\ud800"]}"#,
    ] {
        rows.push(request("/v3/cluster/member/add", json, All));
    }
    for (json, times) in [("{\"x\":", 100), ("[", 100)] {
        let close = if json == "[" { "]" } else { "}" };
        let nested = format!("{}1{}", json.repeat(times), close.repeat(times));
        let text = format!(r#"{{"key":"Zm9v","unknown":{nested}}}"#);
        rows.push(request("/v3/kv/range", &text, All));
    }
}

fn http(rows: &mut Vec<Request>) {
    const RANGE: &str = r#"{"key":"Zm9v"}"#;
    for path in [
        "/v3beta/kv/range",
        "/v3/kv/range?x=y",
        "/v3/kv/range/",
        "/v3/kv/",
        "/v3/kv",
        "/v3/",
        "/v3/kv/nope",
        "/v3/watch/",
        "/v3/KV/range",
        "/v3alpha/kv/range",
    ] {
        let compared = if path.starts_with("/v3alpha") {
            Status
        } else {
            All
        };
        rows.push(request(path, RANGE, compared));
    }
    for args in [
        &["-X", "GET"][..],
        &["-X", "PUT"],
        &["-X", "DELETE"],
        &["-X", "PATCH"],
        &["-X", "OPTIONS"],
        &["-I"],
        &["-H", "Content-Type: application/json"],
        &["-H", "Content-Type: text/plain"],
        &["-H", "Content-Type: application/grpc"],
        &["-H", "Content-Type:"],
        &["-H", "Accept: text/html"],
        &["-H", "Transfer-Encoding: chunked"],
        &["-H", "Origin: http://a"],
        &["-H", "TE: trailers"],
        &["-H", "Grpc-Timeout: 30S"],
        &["-H", "Grpc-Timeout: 0S"],
        &["-H", "Grpc-Timeout: -1S"],
        &["-H", "Grpc-Timeout: 1n"],
        &["-H", "Grpc-Timeout: 5"],
        &["-H", "Grpc-Timeout: S"],
        &["-H", "Grpc-Timeout: x5S"],
        &["-H", "Grpc-Metadata-X: y"],
        &["-H", "Grpc-Metadata-X-Bin: AQI="],
        &["-H", "Grpc-Metadata-X-Bin: AQI"],
        &["-H", "Grpc-Metadata-X-Bin: %%%"],
        &["-H", "Grpc-Metadata-Hasleader: true"],
        &["-H", "Authorization: of-nobody"],
    ] {
        rows.push(with(args, "/v3/kv/range", RANGE));
    }
    rows.push(with(&["-X", "OPTIONS"], "/nothing", ""));
    rows.push(with(&["-X", "OPTIONS"], "/v3/kv/nope", ""));
}

fn leases(rows: &mut Vec<Request>) {
    for (path, json) in [
        ("/v3/lease/grant", r#"{"TTL":1000,"ID":123}"#),
        ("/v3/lease/grant", r#"{"TTL":"1000","ID":"123"}"#),
        (
            "/v3/kv/put",
            r#"{"key":"bGVhc2Vk","value":"MQ==","lease":"123"}"#,
        ),
        ("/v3/lease/keepalive", r#"{"ID":123}"#),
        ("/v3/lease/keepalive", r#"{"ID":"123"} {"ID":"124"}"#),
        ("/v3/lease/keepalive", ""),
        ("/v3/lease/keepalive", r#"{"ID":"x"}"#),
        ("/v3/lease/keepalive", r#"{"ID":123}{"ID":"x"}"#),
        ("/v3/lease/keepalive", r#"{"ID":123}["#),
        ("/v3/lease/leases", "{}"),
        ("/v3/kv/lease/leases", ""),
        ("/v3/lease/revoke", r#"{"ID":"124"}"#),
        ("/v3/kv/lease/revoke", r#"{"ID":"123"}"#),
        ("/v3/lease/timetolive", r#"{"ID":"123"}"#),
        ("/v3/kv/lease/timetolive", r#"{"ID":"123","keys":true}"#),
    ] {
        rows.push(request(path, json, All));
    }
}

fn watches(rows: &mut Vec<Request>) {
    for (json, count) in [
        (r#"{"create_request":{"key":"Zm9v"}}"#, 1),
        (
            r#"{"create_request":{"key":"Zm9v","start_revision":"3","prev_kv":true}}"#,
            2,
        ),
        (
            r#"{"createRequest":{"key":"Zg==","rangeEnd":"AA==","startRevision":3,"filters":["NODELETE"]}}"#,
            2,
        ),
        (
            r#"{"create_request":{"key":"YQ==","watch_id":7}} {"cancel_request":{"watch_id":7}}"#,
            2,
        ),
        (r#"{"create_request":{"key":"Yg==","range_end":"YQ=="}}"#, 1),
        (r#"{"create_request":{"key":"Zm9v","start_revision":1}}"#, 2),
        (
            r#"{"create_request":{"key":"Zm9v","start_revision":-1}}"#,
            1,
        ),
    ] {
        rows.push(request("/v3/watch", json, Lines(count)));
    }
}

fn operations(rows: &mut Vec<Request>) {
    for (path, json, compared) in [
        ("/v3/cluster/member/list", "{}", Shape),
        ("/v3/cluster/member/list", r#"{"linearizable":true}"#, Shape),
        ("/v3/cluster/member/add", r#"{"peerURLs":[]}"#, All),
        ("/v3/cluster/member/remove", r#"{"ID":"7"}"#, All),
        (
            "/v3/cluster/member/update",
            r#"{"ID":"7","peerURLs":["http://a:1"]}"#,
            All,
        ),
        ("/v3/cluster/member/promote", r#"{"ID":"7"}"#, All),
        ("/v3/maintenance/alarm", "{}", All),
        (
            "/v3/maintenance/alarm",
            r#"{"action":"ACTIVATE","alarm":"CORRUPT"}"#,
            Shape,
        ),
        ("/v3/maintenance/alarm", r#"{"action":"GET"}"#, Shape),
        ("/v3/kv/put", r#"{"key":"YQ=="}"#, All),
        (
            "/v3/maintenance/alarm",
            r#"{"action":"DEACTIVATE","alarm":"CORRUPT"}"#,
            Shape,
        ),
        ("/v3/maintenance/defragment", "{}", All),
        ("/v3/maintenance/hash", "{}", Shape),
        ("/v3/maintenance/hashkv", "{}", Shape),
        ("/v3/maintenance/hashkv", r#"{"revision":"9999"}"#, All),
        (
            "/v3/maintenance/transfer-leadership",
            r#"{"targetID":"7"}"#,
            All,
        ),
        ("/v3/maintenance/snapshot", "[]", All),
    ] {
        rows.push(request(path, json, compared));
    }
}

/// Users, locks and elections.
fn users_and_locks(rows: &mut Vec<Request>) {
    for (path, json) in [
        ("/v3/auth/status", "{}"),
        ("/v3/auth/user/get", r#"{"name":"nobody"}"#),
        ("/v3/auth/role/list", "{}"),
        (
            "/v3/auth/authenticate",
            r#"{"name":"nobody","password":"x"}"#,
        ),
        ("/v3/auth/enable", "{}"),
        ("/v3/election/leader", r#"{"name":"bm9uZQ=="}"#),
        ("/v3/election/observe", "[]"),
        ("/v3/lock/unlock", r#"{"key":"bm9uZQ=="}"#),
    ] {
        rows.push(request(path, json, All));
    }
}
