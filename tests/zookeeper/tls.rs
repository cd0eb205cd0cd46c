//! ZooKeeper's clients over TLS: their certificates are identities.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use synod_jute::{Acl, CreateRequest, ErrorCode, GetDataRequest, Request, Response, permission};
use synod_testkit::certificates::{Authority, Issued, Subject};
use synod_testkit::zookeeper::ZkClient;
use synod_testkit::{Port, Server, Share, run, until};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pod;

/// How soon a changed file is used.
const RELOADED_WITHIN: Duration = Duration::from_secs(30);

/// Connects, and shows a certificate if there is one.
async fn shake_hands(
    address: &str,
    ca_file: &Path,
    shown: Option<&Issued>,
) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca_file)?)?;
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match shown {
        Some(shown) => builder.with_client_auth_cert(
            vec![CertificateDer::from_pem_file(&shown.certificate)?],
            PrivateKeyDer::from_pem_file(&shown.key)?,
        )?,
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("127.0.0.1")?;
    let connector = TlsConnector::from(Arc::new(config));
    Ok(connector.connect(name, stream).await?)
}

async fn open(stream: TlsStream<TcpStream>) -> Result<ZkClient> {
    let client = ZkClient::connect_over(Box::new(stream), &ZkClient::new_session()).await?;
    client.context("the pod closed the connection")
}

#[test]
fn a_certificate_is_an_identity() -> Result<()> {
    run(Share::Small, async |lab| {
        let authority = Authority::new(&lab.folder().join("authority"))?;
        let server = authority.issue("server", &Subject::new("pod"))?;
        let alice = authority.issue("alice", &Subject::new("alice"))?;
        let (port, ca_file) = (Port::reserve()?, authority.ca_file());
        let address = port.address();
        let flags = vec![
            format!("--listen-zookeeper-tls={address}"),
            format!("--cert-file={}", server.certificate.display()),
            format!("--key-file={}", server.key.display()),
            format!("--trusted-ca-file={}", ca_file.display()),
        ];
        let (pods, _cluster) = pod(lab, Server::SYNOD, flags).await?;

        let mut client = open(shake_hands(&address, &ca_file, Some(&alice)).await?).await?;
        let Response::WhoAmI(who) = client.ok(&Request::WhoAmI).await? else {
            anyhow::bail!("no identities");
        };
        let mut who = who.client_info.iter();
        let x509 = who.find(|info| info.auth_scheme == "x509");
        let name = x509.context("no x509 identity")?.user.clone();
        ensure!(name.starts_with("CN=alice"), "{name}");

        // What only she may read.
        let path = || "/hers".into();
        let create = CreateRequest {
            path: path(),
            data: Some("secret".into()),
            acl: Some(vec![Acl::new(permission::ALL, "x509", &*name)]),
            flags: 0,
        };
        client.ok(&Request::Create(create)).await?;
        let read = Request::GetData(GetDataRequest {
            path: path(),
            watch: false,
        });
        client.ok(&read).await?;
        let mut plain = ZkClient::open(&pods.address(0)).await?;
        let (_, refused) = plain.call(&read).await?;
        ensure!(refused.outcome == Err(ErrorCode::NoAuth), "{refused:?}");
        Ok(())
    })
}

#[test]
fn a_client_needs_a_certificate_and_sees_the_renewed_one_of_the_server() -> Result<()> {
    run(Share::Small, async |lab| {
        let authority = Authority::new(&lab.folder().join("authority"))?;
        let server = authority.issue("server", &Subject::new("pod"))?;
        let alice = authority.issue("alice", &Subject::new("alice"))?;
        let (port, ca_file) = (Port::reserve()?, authority.ca_file());
        let address = port.address();
        let flags = vec![
            format!("--listen-zookeeper-tls={address}"),
            format!("--cert-file={}", server.certificate.display()),
            format!("--key-file={}", server.key.display()),
            format!("--trusted-ca-file={}", ca_file.display()),
        ];
        let (_pods, _cluster) = pod(lab, Server::SYNOD, flags).await?;

        // With TLS 1.3 the client learns of the refusal after its own part of the handshake.
        let nobody = async || open(shake_hands(&address, &ca_file, None).await?).await;
        ensure!(nobody().await.is_err(), "a client without a certificate");
        let stranger = Authority::new(&lab.folder().join("stranger"))?;
        let mallory = stranger.issue("mallory", &Subject::new("alice"))?;
        let unknown = async || open(shake_hands(&address, &ca_file, Some(&mallory)).await?).await;
        ensure!(
            unknown().await.is_err(),
            "a certificate of another authority"
        );

        let shown = async || -> Result<Vec<u8>> {
            let stream = shake_hands(&address, &ca_file, Some(&alice)).await?;
            let chain = stream.get_ref().1.peer_certificates();
            let first = chain.and_then(|chain| chain.first());
            Ok(first.context("no certificate")?.to_vec())
        };
        let before = shown().await?;
        authority.issue("server", &Subject::new("pod"))?;
        until("the renewed certificate", RELOADED_WITHIN, async || {
            Ok((shown().await? != before).then_some(()))
        })
        .await
    })
}
