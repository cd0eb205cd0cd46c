//! TLS and sockets in the file system, between a server and channels.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail loudly"
)]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_proto::etcd::v3lockpb::lock_client::LockClient;
use synod_proto::etcd::v3lockpb::lock_server::{Lock, LockServer};
use synod_proto::etcd::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use synod_rpc::{
    CertificateFiles, ChannelConfig, ClientCertificate, ClientTls, ClientTlsConfig, Listener,
    Protocol, Running, Server, ServerConfig, ServerTls, ServerTlsConfig, ServerTrust, ServerUrl,
    TlsError, TlsVersion, Trust,
};
use synod_runtime::clock;
use synod_runtime::executor::Executor;
use synod_testkit::certificates::{Authority, Issued, Subject};
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// Longer than a change of files may take to be seen.
const LONG: Duration = Duration::from_secs(30);

/// `lock` answers with the common name of the client's certificate.
#[derive(Clone)]
struct WhoAmI;

#[tonic::async_trait]
impl Lock for WhoAmI {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let client = request.extensions().get::<Arc<ClientCertificate>>();
        let name = client.and_then(|client| client.common_name.clone());
        Ok(Response::new(LockResponse {
            header: None,
            key: Bytes::copy_from_slice(name.unwrap_or_default().as_bytes()),
        }))
    }

    async fn unlock(
        &self,
        _request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        Ok(Response::new(UnlockResponse::default()))
    }
}

struct Fixture {
    running: Running,
    _executor: Executor,
}

impl Fixture {
    fn start(listener: Listener) -> Self {
        let executor = Executor::start("serve", NonZeroUsize::MIN).unwrap();
        let server = Server::new(ServerConfig::default()).add_service(LockServer::new(WhoAmI));
        Self {
            running: server.start(listener, &executor).unwrap(),
            _executor: executor,
        }
    }

    fn with_tls(config: ServerTlsConfig) -> Self {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        Self::start(listener.with_tls(ServerTls::load(config).unwrap()))
    }

    /// A connection as this client.
    async fn connect(&self, client: ClientTlsConfig) -> Result<LockClient<Channel>, String> {
        let tls = ClientTls::load(client).unwrap();
        connect(&self.running.url(), Some(tls)).await
    }

    /// Who the server says that this client is. TLS 1.3 refuses a client only after it is
    /// connected.
    async fn name_of(&self, client: ClientTlsConfig) -> Result<Bytes, String> {
        whoami(&mut self.connect(client).await?).await
    }
}

async fn connect(url: &str, tls: Option<ClientTls>) -> Result<LockClient<Channel>, String> {
    let config = ChannelConfig {
        tls,
        ..ChannelConfig::default()
    };
    let channel = config.connect(url).await;
    channel
        .map(LockClient::new)
        .map_err(|error| error.to_string())
}

async fn whoami(client: &mut LockClient<Channel>) -> Result<Bytes, String> {
    let answer = client.lock(LockRequest::default()).await;
    let answer = answer.map_err(|status| status.to_string())?;
    Ok(answer.into_inner().key)
}

fn files(issued: &Issued) -> CertificateFiles {
    CertificateFiles {
        certificate: issued.certificate.clone(),
        key: issued.key.clone(),
    }
}

fn server(issued: &Issued, clients: Option<Trust>) -> ServerTlsConfig {
    ServerTlsConfig {
        certificate: files(issued),
        clients,
        protocol: Protocol::default(),
    }
}

fn client(ca: PathBuf, issued: Option<&Issued>) -> ClientTlsConfig {
    ClientTlsConfig {
        certificate: issued.map(files),
        servers: ServerTrust::Verified(Trust::new(ca)),
        protocol: Protocol::default(),
    }
}

fn authority() -> (TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path()).unwrap();
    (dir, authority)
}

#[tokio::test]
async fn a_client_verifies_the_server() {
    let (_dir, ours) = authority();
    let (_other_dir, other) = authority();
    let shown = ours.issue("server", &Subject::new("server")).unwrap();
    let fixture = Fixture::with_tls(server(&shown, None));
    assert!(fixture.running.url().starts_with("https://"));
    assert_eq!(
        fixture.name_of(client(ours.ca_file(), None)).await,
        Ok(Bytes::new())
    );

    let unknown = fixture.name_of(client(other.ca_file(), None)).await;
    let unknown = unknown.unwrap_err();
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
    let unverified = ClientTlsConfig {
        servers: ServerTrust::Unverified,
        ..client(other.ca_file(), None)
    };
    assert!(fixture.name_of(unverified).await.is_ok());

    let elsewhere = Subject {
        hosts: &["elsewhere.example"],
        ..Subject::new("server")
    };
    let shown = ours.issue("elsewhere", &elsewhere).unwrap();
    let fixture = Fixture::with_tls(server(&shown, None));
    let wrong_host = fixture.name_of(client(ours.ca_file(), None)).await;
    let wrong_host = wrong_host.unwrap_err();
    assert!(wrong_host.contains("not valid for name"), "{wrong_host}");

    let expired = Subject {
        is_expired: true,
        ..Subject::new("server")
    };
    let shown = ours.issue("expired", &expired).unwrap();
    let fixture = Fixture::with_tls(server(&shown, None));
    let late = fixture.name_of(client(ours.ca_file(), None)).await;
    let late = late.unwrap_err();
    assert!(late.contains("expired"), "{late}");
}

#[tokio::test]
async fn a_server_lets_in_only_whom_it_trusts_and_knows_their_names() {
    let (_dir, ours) = authority();
    let (_other_dir, other) = authority();
    let shown = ours.issue("server", &Subject::new("server")).unwrap();
    let fixture = Fixture::with_tls(server(&shown, Some(Trust::new(ours.ca_file()))));
    let alice = ours.issue("alice", &Subject::new("alice")).unwrap();
    let named = fixture.name_of(client(ours.ca_file(), Some(&alice))).await;
    assert_eq!(named.unwrap(), "alice");

    let stranger = other.issue("alice", &Subject::new("alice")).unwrap();
    for refused in [None, Some(&stranger)] {
        let answer = fixture.name_of(client(ours.ca_file(), refused)).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    let plain = fixture.running.url().replace("https", "http");
    let answer = async { whoami(&mut connect(&plain, None).await?).await };
    assert!(answer.await.is_err(), "no TLS at all");
}

#[tokio::test]
async fn names_and_revocations_narrow_the_trust() {
    let (_dir, ours) = authority();
    let shown = ours.issue("server", &Subject::new("server")).unwrap();
    let alice = ours
        .issue(
            "alice",
            &Subject {
                serial: 7,
                ..Subject::new("alice")
            },
        )
        .unwrap();
    let bob = Subject {
        serial: 8,
        hosts: &["bob.example"],
        ..Subject::new("bob")
    };
    let bob = ours.issue("bob", &bob).unwrap();
    let trust = || Trust::new(ours.ca_file());
    let by_common_name = Trust {
        allowed_common_names: vec!["carol".to_owned(), "alice".to_owned()],
        ..trust()
    };
    let by_host = Trust {
        allowed_hostnames: vec!["127.0.0.1".to_owned()],
        ..trust()
    };
    let not_revoked = Trust {
        crl_file: Some(ours.revoke(&[8]).unwrap()),
        ..trust()
    };
    for narrow in [by_common_name, by_host, not_revoked] {
        let fixture = Fixture::with_tls(server(&shown, Some(narrow.clone())));
        let let_in = fixture.name_of(client(ours.ca_file(), Some(&alice))).await;
        assert!(let_in.is_ok(), "{narrow:?}: {let_in:?}");
        let refused = fixture.name_of(client(ours.ca_file(), Some(&bob))).await;
        assert!(refused.is_err(), "{narrow:?}");
    }

    // The same rules, as a client has them.
    let careful = ClientTlsConfig {
        servers: ServerTrust::Verified(Trust {
            allowed_common_names: vec!["alice".to_owned()],
            ..trust()
        }),
        ..client(ours.ca_file(), None)
    };
    let fixture = Fixture::with_tls(server(&alice, None));
    assert!(fixture.name_of(careful.clone()).await.is_ok());
    let fixture = Fixture::with_tls(server(&shown, None));
    assert!(fixture.name_of(careful).await.is_err());
}

#[tokio::test]
async fn changed_files_are_used_by_new_connections_and_cut_no_old_ones() {
    let (_dir, ours) = authority();
    let shown = ours.issue("server", &Subject::new("server")).unwrap();
    let clients = Trust {
        crl_file: Some(ours.revoke(&[]).unwrap()),
        ..Trust::new(ours.ca_file())
    };
    let fixture = Fixture::with_tls(server(&shown, Some(clients)));
    let me = ours
        .issue(
            "me",
            &Subject {
                serial: 7,
                ..Subject::new("before")
            },
        )
        .unwrap();
    let tls = ClientTls::load(client(ours.ca_file(), Some(&me))).unwrap();
    let url = fixture.running.url();
    let mut open = connect(&url, Some(tls.clone())).await.unwrap();
    assert_eq!(whoami(&mut open).await.unwrap(), "before");

    // The client's own certificate changes.
    ours.issue(
        "me",
        &Subject {
            serial: 8,
            ..Subject::new("after")
        },
    )
    .unwrap();
    let deadline = clock::now() + LONG;
    let mut name = Bytes::new();
    while name != "after" {
        assert!(clock::now() < deadline, "still {name:?}");
        let mut client = connect(&url, Some(tls.clone())).await.unwrap();
        name = whoami(&mut client).await.unwrap();
    }

    // The server revokes it.
    ours.revoke(&[7, 8]).unwrap();
    while let Ok(mut client) = connect(&url, Some(tls.clone())).await {
        if whoami(&mut client).await.is_err() {
            break;
        }
        assert!(clock::now() < deadline, "the revoked one is let in");
    }
    assert_eq!(
        whoami(&mut open).await.unwrap(),
        "before",
        "it stays connected"
    );
}

#[tokio::test]
async fn files_that_became_unusable_are_reported_and_the_old_ones_stay() {
    let (_dir, ours) = authority();
    let shown = ours.issue("server", &Subject::new("server")).unwrap();
    let tls = ServerTls::load(server(&shown, None)).unwrap();
    let listener = Listener::bind("127.0.0.1:0").unwrap().with_tls(tls.clone());
    let fixture = Fixture::start(listener);
    let before = tls.status().unwrap();
    assert_eq!(before.failed_reloads, 0);
    std::fs::write(&shown.certificate, "nothing").unwrap();
    let deadline = clock::now() + LONG;
    while tls.status().unwrap().failed_reloads == 0 {
        assert!(clock::now() < deadline, "nobody noticed");
        fixture.name_of(client(ours.ca_file(), None)).await.unwrap();
    }
    assert_eq!(tls.status().unwrap().expires, before.expires);
    fixture.name_of(client(ours.ca_file(), None)).await.unwrap();
}

#[test]
fn unusable_files_are_named() {
    let (dir, ours) = authority();
    let one = ours.issue("one", &Subject::new("one")).unwrap();
    let two = ours.issue("two", &Subject::new("two")).unwrap();
    let refused = |config: ServerTlsConfig| ServerTls::load(config).unwrap_err();

    let mut mixed = server(&one, None);
    mixed.certificate.key = two.key;
    assert!(matches!(refused(mixed), TlsError::Mismatch { .. }));

    let mut absent = server(&one, None);
    absent.certificate.certificate = dir.path().join("nowhere");
    let error = refused(absent);
    assert!(matches!(error, TlsError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("nowhere"));

    let mut swapped = server(&one, None);
    std::mem::swap(
        &mut swapped.certificate.certificate,
        &mut swapped.certificate.key,
    );
    assert!(matches!(refused(swapped), TlsError::Malformed { .. }));

    let trusts_a_key = Trust::new(one.key.clone());
    let error = refused(server(&one, Some(trusts_a_key)));
    assert!(matches!(error, TlsError::Malformed { .. }), "{error}");

    let bad_list = Trust {
        crl_file: Some(one.certificate.clone()),
        ..Trust::new(ours.ca_file())
    };
    let error = refused(server(&one, Some(bad_list)));
    assert!(error.to_string().contains("revocation list"), "{error}");
}

#[tokio::test]
async fn versions_and_cipher_suites_are_as_configured() {
    let (_dir, ours) = authority();
    let shown = ours.issue("server", &Subject::new("server")).unwrap();
    let only = |min, max, suites: &[&str]| Protocol {
        min,
        max,
        cipher_suites: suites.iter().map(|name| name.parse().unwrap()).collect(),
    };
    let (v12, v13) = (TlsVersion::Tls12, TlsVersion::Tls13);
    let aes = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let chacha = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305";
    for (theirs, mine, works) in [
        (only(v13, v13, &[]), only(v12, v12, &[]), false),
        (only(v12, v12, &[]), only(v12, v13, &[]), true),
        (only(v12, v12, &[aes]), only(v12, v12, &[chacha]), false),
        (only(v12, v12, &[aes]), only(v12, v12, &[chacha, aes]), true),
        (only(v12, v13, &[aes]), only(v13, v13, &[]), true),
    ] {
        let fixture = Fixture::with_tls(ServerTlsConfig {
            protocol: theirs.clone(),
            ..server(&shown, None)
        });
        let answer = fixture
            .name_of(ClientTlsConfig {
                protocol: mine.clone(),
                ..client(ours.ca_file(), None)
            })
            .await;
        assert_eq!(answer.is_ok(), works, "{theirs:?}, {mine:?}: {answer:?}");
    }
    for nothing in [
        only(v13, v12, &[]),
        only(v13, v13, &[aes]),
        only(v12, v12, &["TLS_AES_128_GCM_SHA256"]),
    ] {
        assert!(nothing.check().is_err(), "{nothing:?}");
    }
    let unknown = "TLS_RSA_WITH_AES_128_CBC_SHA".parse::<synod_rpc::CipherName>();
    assert!(unknown.unwrap_err().contains(aes));
}

#[tokio::test]
async fn a_self_signed_certificate_encrypts_and_vouches_for_nobody() {
    let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let tls = ServerTls::self_signed(&hosts, 365, &Protocol::default()).unwrap();
    let left = tls.status().unwrap().expires.duration_since(clock::wall());
    assert!(left.unwrap() > Duration::from_secs(364 * 24 * 3600));
    let listener = Listener::bind("127.0.0.1:0").unwrap().with_tls(tls);
    let fixture = Fixture::start(listener);
    let (_dir, other) = authority();
    let verifies = client(other.ca_file(), None);
    let accepts = ClientTlsConfig {
        servers: ServerTrust::Unverified,
        ..verifies.clone()
    };
    assert!(fixture.name_of(verifies).await.is_err());
    assert!(fixture.name_of(accepts).await.is_ok());
}

#[tokio::test]
async fn a_socket_in_the_file_system_serves_with_and_without_tls() {
    let (dir, ours) = authority();
    let shown = ours.issue("server", &Subject::new("server")).unwrap();
    let bind = |scheme: &str| {
        let url = format!("{scheme}://{}/{scheme}.sock", dir.path().display());
        Listener::bind_url(&ServerUrl::parse(&url).unwrap()).unwrap()
    };
    let plain = Fixture::start(bind("unix"));
    let mut client_of_plain = connect(&plain.running.url(), None).await.unwrap();
    assert_eq!(whoami(&mut client_of_plain).await.unwrap(), "");

    let tls = ServerTls::load(server(&shown, None)).unwrap();
    let secured = Fixture::start(bind("unixs").with_tls(tls));
    assert!(secured.running.url().starts_with("unixs://"));
    let name = secured.name_of(client(ours.ca_file(), None)).await;
    assert_eq!(name.unwrap(), "");
    let path = dir.path().join("unix.sock");
    assert!(path.exists());
    drop(plain);
    let deadline = clock::now() + LONG;
    while path.exists() {
        assert!(clock::now() < deadline, "the file stays");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_shakes_no_hands_is_closed_in_time() {
    use std::io::Read as _;
    let (_dir, ours) = authority();
    let shown = ours.issue("server", &Subject::new("server")).unwrap();
    let executor = Executor::start("serve", NonZeroUsize::MIN).unwrap();
    let config = ServerConfig {
        handshake_timeout: Duration::from_millis(100),
        ..ServerConfig::default()
    };
    let tls = ServerTls::load(server(&shown, None)).unwrap();
    let listener = Listener::bind("127.0.0.1:0").unwrap().with_tls(tls);
    let running = Server::new(config).start(listener, &executor).unwrap();
    let address = running.bound_to().tcp().unwrap();
    let closed = synod_runtime::task::spawn_blocking(move || {
        let mut silent = std::net::TcpStream::connect(address).unwrap();
        silent.set_read_timeout(Some(LONG)).unwrap();
        silent.read(&mut [0; 1])
    });
    assert_eq!(closed.await.unwrap().unwrap(), 0);
}
