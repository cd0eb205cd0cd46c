//! Against servers that answer as a test says.

use std::process::ExitCode;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::Parser as _;
use synod_jute::{
    ConnectRequest, ConnectResponse, Decode as _, Encode as _, ErrorCode, FrameDecoder, OpCode,
    Request, Response, SyncResponse, decode_request, encode_reply, frame,
};
use synod_runtime::task;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::cli::Arguments;
use crate::connect::TlsFiles;
use crate::failure::{self, Missing, UnknownOutcome};
use crate::login::LoginFlags;

/// What a server does with a request.
type Answer = Option<Result<Response, ErrorCode>>;

/// A server that answers requests; `None` closes the connection.
struct Fake {
    stream: TcpStream,
    frames: FrameDecoder,
}

impl Fake {
    async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.frames.next_frame().unwrap() {
                return Some(frame);
            }
            if self.stream.read_buf(self.frames.buffer()).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn serve(mut self, answer: fn(&Request) -> Answer) {
        let mut frame_in = self.frame().await.unwrap();
        ConnectRequest::decode(&mut frame_in).unwrap();
        let connected = ConnectResponse {
            session_id: 7,
            timeout_ms: 10_000,
            password: Some(Bytes::from_static(&[0; 16])),
            read_only: Some(false),
            ..ConnectResponse::default()
        };
        let mut out = BytesMut::new();
        frame(&mut out, |out| connected.encode(out)).unwrap();
        while self.stream.write_all_buf(&mut out).await.is_ok() {
            let Some(bytes) = self.frame().await else {
                return;
            };
            let (header, request) = decode_request(bytes).unwrap();
            let Some(outcome) = answer(&request.unwrap()) else {
                return;
            };
            let outcome = outcome.as_ref().map_err(|code| *code);
            encode_reply(&mut out, header.xid, 1, outcome).unwrap();
        }
    }
}

/// Starts a server, and returns its address.
async fn server(answer: fn(&Request) -> Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    task::spawn("fake", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let frames = FrameDecoder::new(1 << 20);
            Fake { stream, frames }.serve(answer).await;
        }
    });
    address
}

/// Runs `synod zk` with these words.
async fn zk(address: &str, words: &[&str]) -> anyhow::Result<()> {
    let line = [&["synod", "zk", "--server", address], words].concat();
    let arguments = Arguments::try_parse_from(line).unwrap();
    let target = Target {
        endpoints: Vec::new(),
        timeout: Duration::from_secs(2),
        tls: TlsFiles::default(),
        login: LoginFlags::default(),
    };
    run(arguments.zk_arguments(), &target, Format::Json).await
}

/// Reads are answered, writes are not.
fn forgetful(request: &Request) -> Answer {
    let answers = [
        (
            OpCode::Sync,
            Ok(Response::Sync(SyncResponse { path: "/".into() })),
        ),
        (OpCode::CloseSession, Ok(Response::CloseSession)),
        (OpCode::Exists, Err(ErrorCode::NoNode)),
        (OpCode::Auth, Err(ErrorCode::AuthFailed)),
        (OpCode::SetAcl, Err(ErrorCode::OperationTimeout)),
    ];
    let answer = answers.into_iter().find(|(op, _)| *op == request.op());
    answer.map(|(_, answer)| answer)
}

#[tokio::test]
async fn the_outcome_of_a_write_without_an_answer_is_unknown() {
    let address = server(forgetful).await;
    for words in [
        &["create", "/a"][..],
        &["create", "--container", "/a"],
        &["create", "--ttl=1", "/a"],
        &["set", "/a", "x"],
        &["setacl", "/a", "world:anyone:r"],
        &["rm", "/a"],
        &["rm", "-r", "/a"],
    ] {
        let error = zk(&address, words).await.unwrap_err();
        assert!(error.is::<UnknownOutcome>(), "{words:?}: {error:#}");
        assert_eq!(
            format!("{:?}", failure::report(&error)),
            format!("{:?}", ExitCode::from(3))
        );
    }
    // A read has no outcome.
    let error = zk(&address, &["get", "/a"]).await.unwrap_err();
    assert!(!error.is::<UnknownOutcome>(), "{error:#}");
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let address = server(forgetful).await;
    let error = zk(&address, &["stat", "/a"]).await.unwrap_err();
    assert!(error.is::<Missing>());
    assert_eq!(
        format!("{:?}", failure::report(&error)),
        format!("{:?}", ExitCode::from(4))
    );
    let words = ["--auth=digest:joe:secret", "stat", "/a"];
    let error = format!("{:#}", zk(&address, &words).await.unwrap_err());
    assert!(
        error.contains("--auth") && !error.contains("secret"),
        "{error}"
    );
    let error = format!("{:#}", zk(&address, &["rm", "/"]).await.unwrap_err());
    assert!(error.contains("the root"), "{error}");
}

#[tokio::test]
async fn a_server_that_refuses_or_is_silent_is_left_for_the_next() {
    let refuses = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = refuses.local_addr().unwrap();
    drop(refuses);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_at = silent.local_addr().unwrap();
    let address = server(forgetful).await;
    let servers = format!("{refused},{silent_at},{address}");
    let error = zk(&servers, &["stat", "/a"]).await.unwrap_err();
    assert!(error.is::<Missing>(), "{error:#}");
    let error = zk(&refused.to_string(), &["stat", "/a"]).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("no ZooKeeper server"), "{error}");
}

#[tokio::test]
async fn a_word_that_is_not_allowed_is_explained() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answers = task::spawn("fake", async move {
        let text = "mntr is not executed because it is not in the whitelist.\n";
        for text in [text, ""] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"mntr");
            stream.write_all(text.as_bytes()).await.unwrap();
        }
    });
    let error = format!("{:#}", zk(&address, &["mntr"]).await.unwrap_err());
    assert!(error.contains("4lw.commands.whitelist"), "{error}");
    let error = format!("{:#}", zk(&address, &["mntr"]).await.unwrap_err());
    assert!(error.contains("without an answer"), "{error}");
    answers.await.unwrap();
}
