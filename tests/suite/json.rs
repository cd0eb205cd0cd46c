//! JSON over HTTP, with curl. `json/answers.txt` has stock etcd's answers, and ours must be the
//! same. To rewrite the file, run the test on stock etcd with `SYNOD_BLESS=1`.

mod curl;
mod requests;

use anyhow::{Context, Result, ensure};
use synod_testkit::certificates::{Authority, Subject};
use synod_testkit::{Cluster, Lab, Port, Process, Server, Topology, until};

use crate::support::compare_recorded;
use curl::{Answer, SOON, curl};

on_both! {
    Small => answers_are_etcds, tls_with_http1_and_http2, access_is_controlled,
        a_port_for_http_only, the_mapping_can_be_turned_off,
}

async fn answers_are_etcds(lab: &Lab, server: Server) -> Result<()> {
    let cluster = Cluster::start(lab, server, Topology::of(1)).await?;
    let endpoint = cluster.endpoint(0);
    let mut told = String::new();
    for request in requests::all() {
        let answer = request.send(&endpoint).await?;
        told += &format!("{request} | {}\n", request.shown(&answer));
    }
    compare_recorded(server, "suite/json/answers.txt", &told, |told, _| {
        is_intended(server, told)
    })
}

/// Requests of a stream that can't be read: stock etcd ends the stream without an error, and Synod
/// answers with one.
fn is_intended(server: Server, told: &str) -> bool {
    let explained = told.contains("{\"error\":{\"code\":3,\"message\":\"*\"}}");
    crate::differences::BAD_JSON_IN_A_STREAM.expect(server, false, explained)
}

/// A member with flags of its own.
struct Member {
    process: Process,
    url: String,
    http: String,
    _ports: [Port; 3],
}

impl Member {
    /// `flags` may contain `{http}` for a port of its own.
    async fn start(lab: &Lab, server: Server, tls: Option<&Tls>, flags: &[&str]) -> Result<Self> {
        let ports = [Port::reserve()?, Port::reserve()?, Port::reserve()?];
        let [client, peer, http] = &ports;
        let url = match tls {
            Some(_) => format!("https://{}", client.address()),
            None => client.url(),
        };
        let data = lab.folder().join("data");
        let mut args = vec![
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={}", peer.url()),
            format!("--initial-advertise-peer-urls={}", peer.url()),
            format!("--initial-cluster=default={}", peer.url()),
        ];
        args.extend(tls.iter().flat_map(|tls| tls.flags.clone()));
        args.extend(flags.iter().map(|flag| flag.replace("{http}", &http.url())));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut process = Process::run(lab, "member", &server.program()?, &args)?;
        until("the member to serve", SOON, async || {
            ensure!(process.is_running(), "it ended:\n{}", process.log_text());
            let ready = process
                .log_text()
                .contains("ready to serve client requests");
            Ok(ready.then_some(()))
        })
        .await?;
        let http = http.url();
        Ok(Self {
            process,
            url,
            http,
            _ports: ports,
        })
    }

    /// Sends a request until there is a leader to answer it.
    async fn answer(&self, args: &[&str]) -> Result<Answer> {
        until("an answer", SOON, async || {
            let answer = curl(args, "").await?;
            Ok(Some(answer).filter(|answer| answer.status != 503))
        })
        .await
    }
}

/// The files of a server and a client.
struct Tls {
    flags: Vec<String>,
    client: Vec<String>,
}

impl Tls {
    fn new(lab: &Lab) -> Result<Self> {
        let authority = Authority::new(&lab.folder().join("authority"))?;
        let server = authority.issue("server", &Subject::new("server"))?;
        let client = authority.issue("client", &Subject::new("somebody"))?;
        let ca = authority.ca_file().display().to_string();
        Ok(Self {
            flags: vec![
                format!("--cert-file={}", server.certificate.display()),
                format!("--key-file={}", server.key.display()),
                format!("--trusted-ca-file={ca}"),
                "--client-cert-auth".to_owned(),
            ],
            client: vec![
                format!("--cacert={ca}"),
                format!("--cert={}", client.certificate.display()),
                format!("--key={}", client.key.display()),
            ],
        })
    }
}

async fn tls_with_http1_and_http2(lab: &Lab, server: Server) -> Result<()> {
    let tls = Tls::new(lab)?;
    let member = Member::start(lab, server, Some(&tls), &["--host-whitelist=nobody"]).await?;
    let credentials: Vec<String> = tls
        .client
        .iter()
        .flat_map(|flag| {
            flag.split_once('=')
                .map(|(name, value)| [name.to_owned(), value.to_owned()])
        })
        .flatten()
        .collect();
    let credentials: Vec<&str> = credentials.iter().map(String::as_str).collect();
    let put = format!("{}/v3/kv/put", member.url);
    for (version, shown) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let data = r#"{"key":"Zm9v","value":"YmFy"}"#;
        let args = [&credentials[..], &[version, "-d", data, &put]].concat();
        let answer = member.answer(&args).await?;
        // The Host is not compared when there is TLS.
        assert_eq!(
            (answer.status, answer.version.as_str()),
            (200, shown),
            "{answer:?}"
        );
        let watch = format!("{}/v3/watch", member.url);
        let data = r#"{"create_request":{"key":"Zm9v","start_revision":1}}"#;
        let args = [&credentials[..], &[version, "-N", "-d", data, &watch]].concat();
        let lines = curl::lines(&args, 2).await?;
        ensure!(lines[1].contains(r#""value":"YmFy""#), "{lines:?}");
    }
    // Without its certificate a client gets no answer.
    let ca = &credentials[..2];
    let refused = curl(&[ca, &["-d", "{}", &put]].concat(), "").await;
    ensure!(refused.is_err(), "{refused:?}");
    drop(member.process);
    Ok(())
}

async fn access_is_controlled(lab: &Lab, server: Server) -> Result<()> {
    let flags = [
        "--cors=http://a.example:80,https://b.example:8443",
        "--host-whitelist=localhost",
    ];
    let member = Member::start(lab, server, None, &flags).await?;
    let range = format!("{}/v3/kv/range", member.url);
    let health = format!("{}/health", member.url);
    let host = |host: &str| format!("Host: {host}");
    for (name, status) in [
        ("localhost", 200),
        ("localhost:7", 200),
        ("evil.example", 421),
    ] {
        let name = host(name);
        for (url, more) in [(&range, &["-d", r#"{"key":"YQ=="}"#][..]), (&health, &[])] {
            let args = [&["-H", &name], more, &[url]].concat();
            let answer = member.answer(&args).await?;
            assert_eq!(answer.status, status, "{name} {url}: {answer:?}");
            if status == 421 {
                assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
                let advice = "etcd received your request, but the Host header was unrecognized.";
                ensure!(answer.body.contains(advice), "{answer:?}");
                ensure!(
                    answer.body.contains("--host-whitelist \"evil.example\""),
                    "{answer:?}"
                );
            }
        }
    }
    for (origin, shown) in [
        ("https://b.example:8443", "https://b.example:8443"),
        ("https://c.example", ""),
    ] {
        let origin = format!("Origin: {origin}");
        for more in [&["-X", "OPTIONS"][..], &["-d", r#"{"key":"YQ=="}"#]] {
            let name = host("localhost");
            let args = [&["-H", &name, "-H", &origin], more, &[&range]].concat();
            let answer = member.answer(&args).await?;
            assert_eq!(answer.status, 200, "{args:?}: {answer:?}");
            assert_eq!(
                answer.header("access-control-allow-origin"),
                shown,
                "{args:?}"
            );
        }
    }
    Ok(())
}

async fn a_port_for_http_only(lab: &Lab, server: Server) -> Result<()> {
    let member = Member::start(lab, server, None, &["--listen-client-http-urls={http}"]).await?;
    let data = r#"{"key":"Zm9v","value":"YmFy"}"#;
    let url = format!("{}/v3/kv/put", member.http);
    let answer = member.answer(&["-d", data, &url]).await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    Ok(())
}

async fn the_mapping_can_be_turned_off(lab: &Lab, server: Server) -> Result<()> {
    let member = Member::start(lab, server, None, &["--enable-grpc-gateway=false"]).await?;
    let url = format!("{}/v3/kv/range", member.url);
    let answer = member.answer(&["-d", r#"{"key":"YQ=="}"#, &url]).await?;
    assert_eq!(answer.status, 404, "{answer:?}");
    let health = format!("{}/health", member.url);
    assert_eq!(member.answer(&[&health]).await?.status, 200);
    Ok(())
}

/// Ours speaks HTTP/2 without TLS too.
#[test]
fn http2_without_tls() -> Result<()> {
    synod_testkit::run(synod_testkit::Share::Small, async |lab| {
        let cluster = Cluster::start(lab, Server::SYNOD, Topology::of(1)).await?;
        let url = format!("{}/v3/kv/put", cluster.endpoint(0));
        let args = ["--http2-prior-knowledge", "-d", r#"{"key":"Zm9v"}"#, &url];
        let answer = curl(&args, "").await?;
        assert_eq!(
            (answer.status, answer.version.as_str()),
            (200, "2"),
            "{answer:?}"
        );
        let header = serde_json::from_str::<serde_json::Value>(&answer.body)?;
        header["header"]["revision"]
            .as_str()
            .context("a revision")?;
        Ok(())
    })
}
