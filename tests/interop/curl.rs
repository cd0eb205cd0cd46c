//! curl against `/v3`, as scripts do: stock etcd and our server must answer the same JSON.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use synod_testkit::{Lab, Server, Topology};
use tokio::process::Command;

use crate::clusters::Deployment;
use crate::output::Names;

/// Requests: a path, and a body unless it is a GET. Keys and values are base64.
const REQUESTS: &[(&str, &str)] = &[
    ("/v3/kv/put", r#"{"key": "YQ==", "value": "MQ=="}"#),
    (
        "/v3/kv/put",
        r#"{"key": "YQ==", "value": "Mg==", "prev_kv": true}"#,
    ),
    (
        "/v3/kv/put",
        r#"{"key": "YQ==", "value": "Mw==", "prevKv": true}"#,
    ),
    ("/v3/kv/range", r#"{"key": "YQ=="}"#),
    (
        "/v3/kv/range",
        r#"{"key": "YQ==", "range_end": "Yg==", "limit": "1"}"#,
    ),
    (
        "/v3/kv/range",
        r#"{"key": "YQ==", "sort_order": "DESCEND", "sort_target": 3}"#,
    ),
    ("/v3/kv/range", r#"{"key": "YQ==", "revision": 1000}"#),
    ("/v3/kv/range", r#"{"key": "YQ==", "count_only": true}"#),
    (
        "/v3/kv/txn",
        r#"{"compare": [{"key": "YQ==", "target": "VALUE", "result": "EQUAL", "value": "Mw=="}], "success": [{"requestRange": {"key": "YQ=="}}], "failure": []}"#,
    ),
    (
        "/v3/kv/txn",
        r#"{"compare": [{"key": "YQ==", "target": "MOD", "mod_revision": "1"}], "failure": [{"request_put": {"key": "Yg==", "value": "MQ=="}}]}"#,
    ),
    ("/v3/kv/deleterange", r#"{"key": "Yg==", "prev_kv": true}"#),
    ("/v3/kv/put", r#"{"value": "MQ=="}"#),
    ("/v3/kv/put", r#"{"key": "YQ==", "unknown": 1}"#),
    ("/v3/kv/put", ""),
    ("/v3/kv/none", "{}"),
    ("/v3/lease/grant", r#"{"TTL": 60, "ID": 4242}"#),
    ("/v3/lease/grant", r#"{"TTL": 60, "ID": 4242}"#),
    ("/v3/lease/timetolive", r#"{"ID": "4242", "keys": true}"#),
    ("/v3/kv/lease/timetolive", r#"{"ID": 1}"#),
    ("/v3/lease/keepalive", r#"{"ID": 4242}"#),
    ("/v3/lease/leases", "{}"),
    ("/v3/lease/revoke", r#"{"ID": 4242}"#),
    ("/v3/kv/lease/revoke", r#"{"ID": 4242}"#),
    ("/v3/cluster/member/list", "{}"),
    ("/v3/maintenance/alarm", r#"{"action": "GET"}"#),
    ("/v3/maintenance/defragment", "{}"),
    ("/v3/auth/status", "{}"),
    (
        "/v3/kv/compaction",
        r#"{"revision": "3", "physical": true}"#,
    ),
    ("/v3/kv/compaction", r#"{"revision": "3"}"#),
    // The key's name has the lease's id.
    ("/v3/lease/grant", r#"{"TTL": 60, "ID": 4343}"#),
    ("/v3/lock/lock", r#"{"name": "bA==", "lease": "4343"}"#),
    ("/v3/election/leader", r#"{"name": "bA=="}"#),
    ("/v3/kv/range", ""),
];

/// Bodies that can't be read: status and code must be the same; the messages differ.
const MALFORMED: &[(&str, &str)] = &[
    ("/v3/kv/put", r#"{"key": "not base64"}"#),
    ("/v3/kv/put", "{"),
];

/// A watch is a stream of lines that ends with the request.
const WATCH: &str = r#"{"create_request": {"key": "YQ==", "start_revision": "2"}}"#;

const CURL_TIMEOUT: Duration = Duration::from_secs(20);

mod json {
    #[test]
    fn raft() -> anyhow::Result<()> {
        synod_testkit::run(synod_testkit::Share::Whole, async |lab| {
            super::json(lab, synod_testkit::Server::SYNOD).await
        })
    }

    #[test]
    fn multi_paxos() -> anyhow::Result<()> {
        synod_testkit::run(synod_testkit::Share::Whole, async |lab| {
            super::json(lab, synod_testkit::Server::PAXOS).await
        })
    }
}

async fn json(lab: &Lab, server: Server) -> Result<()> {
    let stock = Deployment::labelled(lab, Server::Etcd, Topology::of(1), "etcd").await?;
    let want = transcript(&stock).await?;
    let puts = want.first().context("answers")?;
    ensure!(puts.starts_with("200 "), "stock etcd answered {puts}");
    let ours = Deployment::labelled(lab, server, Topology::of(1), "ours").await?;
    let got = transcript(&ours).await?;
    let differences: Vec<String> = REQUESTS
        .iter()
        .chain(MALFORMED)
        .chain([&("/v3/watch", WATCH)])
        .zip(want.iter().zip(&got))
        .filter(|(_, (want, got))| want != got)
        .map(|((path, body), (want, got))| format!("{path} {body}\n- {want}\n+ {got}"))
        .collect();
    ensure!(
        differences.is_empty(),
        "stock etcd (-) and ours (+) differ:\n{}",
        differences.join("\n")
    );
    Ok(())
}

async fn transcript(deployment: &Deployment) -> Result<Vec<String>> {
    let spec = &deployment.cluster.nodes()[0].spec;
    let mut names = Names::new(vec![(spec.client.url(), "URL"), (spec.peer.url(), "PEER")]);
    let url = &deployment.endpoints[0];
    let mut answers = Vec::new();
    for (path, body) in REQUESTS {
        let (status, text) = curl(&format!("{url}{path}"), body, &[]).await?;
        answers.push(format!("{status} {}", names.name(&sorted(&text), false)));
    }
    for (path, body) in MALFORMED {
        let (status, text) = curl(&format!("{url}{path}"), body, &[]).await?;
        let answer: serde_json::Value = serde_json::from_str(&text)?;
        answers.push(format!("{status} {}", answer["code"]));
    }
    // The history was compacted at revision 3: the stream has two messages and ends with curl.
    let (_, text) = curl(&format!("{url}/v3/watch"), WATCH, &["--max-time", "2"]).await?;
    answers.push(names.name(&sorted(&text), false));
    Ok(answers)
}

/// The status and the body of an answer.
async fn curl(url: &str, body: &str, flags: &[&str]) -> Result<(String, String)> {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--no-buffer", "--write-out", "\n%{http_code}"])
        .args(flags)
        .arg(url)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if !body.is_empty() {
        command.args(["--data", body]);
    }
    let output = tokio::time::timeout(CURL_TIMEOUT, command.output()).await?;
    let text = String::from_utf8(output.context("start curl")?.stdout)?;
    let (body, status) = text.rsplit_once('\n').context("a status")?;
    Ok((status.to_owned(), body.to_owned()))
}

/// Each line of JSON with its fields in one order; the raft term, which differs, is left out.
fn sorted(text: &str) -> String {
    let one = |line: &str| match serde_json::from_str::<serde_json::Value>(line) {
        Ok(mut value) => {
            for header in ["/header", "/result/header"] {
                if let Some(header) = value.pointer_mut(header).and_then(|it| it.as_object_mut()) {
                    header.remove("raft_term");
                }
            }
            value.to_string()
        }
        Err(_) => line.to_owned(),
    };
    text.lines().map(one).collect::<Vec<_>>().join("\n")
}
