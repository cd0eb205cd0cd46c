//! Members and clients that know each other by certificates, and sockets in the file system.

use std::path::Path;

use bytes::Bytes;
use synod_consensus::{Algorithm, Config, Listeners, Node};
use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::etcd::etcdserverpb::cluster_client::ClusterClient;
use synod_proto::etcd::etcdserverpb::kv_client::KvClient;
use synod_proto::etcd::etcdserverpb::lease_client::LeaseClient;
use synod_rpc::{
    CertificateFiles, ChannelConfig, ClientTls, ClientTlsConfig, Protocol, ServerTrust, Trust,
};
use synod_service::config::TlsFlags;
use synod_testkit::certificates::{Authority, Issued, Subject};
use tonic::transport::Channel;

use crate::support::{SOON, configs, eventually, join};

on_both! {
    certificates_let_members_and_clients_in,
}

pub(crate) fn serve_with(flags: &mut TlsFlags, issued: &Issued, authority: &Authority) {
    flags.cert_file = Some(issued.certificate.clone());
    flags.key_file = Some(issued.key.clone());
    flags.trusted_ca_file = Some(authority.ca_file());
    flags.client_cert_auth = true;
}

/// The URLs of all listeners are changed, and bound when the nodes start.
pub(crate) fn readdressed(
    count: usize,
    dir: &Path,
    change: impl Fn(&str, &Config) -> Vec<String>,
) -> Vec<Config> {
    let mut configs = configs(count, dir);
    for config in &mut configs {
        // The ports are free again, and likely to stay so for as long as it takes.
        config.listeners = Listeners::default();
        config.listen_client_urls = change(&config.listen_client_urls[0], config);
        config
            .advertise_client_urls
            .clone_from(&config.listen_client_urls);
        config.listen_peer_urls = change(&config.listen_peer_urls[0], config);
        config.listen_peer_urls.sort();
        config
            .initial_advertise_peer_urls
            .clone_from(&config.listen_peer_urls);
    }
    join(&mut configs);
    configs
}

pub(crate) async fn start(configs: Vec<Config>) -> Vec<Node> {
    let starts = configs.into_iter().map(Node::start);
    let nodes = futures::future::try_join_all(starts).await.unwrap();
    for node in &nodes {
        node.ready(SOON).await.unwrap();
    }
    nodes
}

pub(crate) async fn stop(nodes: Vec<Node>) {
    futures::future::join_all(nodes.into_iter().map(Node::shutdown)).await;
}

pub(crate) fn as_client(authority: &Authority, shown: Option<&Issued>) -> ChannelConfig {
    let certificate = shown.map(|issued| CertificateFiles {
        certificate: issued.certificate.clone(),
        key: issued.key.clone(),
    });
    let tls = ClientTls::load(ClientTlsConfig {
        certificate,
        servers: ServerTrust::Verified(Trust::new(authority.ca_file())),
        protocol: Protocol::default(),
    });
    ChannelConfig {
        tls: Some(tls.unwrap()),
        ..ChannelConfig::default()
    }
}

async fn put(channel: Channel, key: &'static str) -> Result<(), String> {
    let request = pb::PutRequest {
        key: Bytes::from(key),
        value: Bytes::from("v"),
        ..Default::default()
    };
    let put = KvClient::new(channel).put(request).await;
    put.map(drop).map_err(|status| status.to_string())
}

/// Renews a lease through this member, whoever leads.
async fn renew(channel: Channel, id: i64) -> Option<i64> {
    let request = pb::LeaseKeepAliveRequest { id };
    let requests = tokio_stream::iter([request]);
    let answers = LeaseClient::new(channel)
        .lease_keep_alive(requests)
        .await
        .ok()?;
    Some(answers.into_inner().message().await.ok()??.ttl)
}

async fn certificates_let_members_and_clients_in(algorithm: Algorithm) {
    let dir = tempfile::tempdir().unwrap();
    let (peers, clients) = (
        Authority::new(&dir.path().join("peers")).unwrap(),
        Authority::new(&dir.path().join("clients")).unwrap(),
    );
    let member = peers.issue("member", &Subject::new("member")).unwrap();
    let other = peers.issue("other", &Subject::new("other")).unwrap();
    let server = clients.issue("server", &Subject::new("server")).unwrap();
    let alice = clients.issue("alice", &Subject::new("alice")).unwrap();
    let mut configs = readdressed(3, dir.path(), |url, _| vec![url.replace("http:", "https:")]);
    for config in &mut configs {
        config.algorithm = Some(algorithm);
        serve_with(&mut config.client_tls, &server, &clients);
        serve_with(&mut config.peer_tls, &member, &peers);
        config.peer_tls.allowed_common_names = vec!["member".to_owned()];
    }
    let nodes = start(configs).await;
    let dial = as_client(&clients, Some(&alice));
    let mut channels = Vec::new();
    for node in &nodes {
        assert!(node.client_urls()[0].starts_with("https://"));
        let channel = dial.connect(&node.client_urls()[0]).await.unwrap();
        put(channel.clone(), "k").await.unwrap();
        channels.push(channel);
    }
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 7 };
    LeaseClient::new(channels[0].clone())
        .lease_grant(grant)
        .await
        .unwrap();
    for channel in &channels {
        // Those that don't lead ask the leader as members.
        let renewed = eventually("the renewal", || renew(channel.clone(), 7)).await;
        assert_eq!(renewed, 60);
    }

    let client_url = &nodes[0].client_urls()[0];
    let stranger = peers.issue("stranger", &Subject::new("alice")).unwrap();
    for shown in [None, Some(&stranger)] {
        let refused = match as_client(&clients, shown).connect(client_url).await {
            Ok(channel) => put(channel, "refused").await,
            Err(error) => Err(error.to_string()),
        };
        assert!(refused.is_err());
    }
    let peer_url = &nodes[0].peer_urls()[0];
    for (shown, is_let_in) in [(&member, true), (&other, false), (&alice, false)] {
        let listed = match as_client(&peers, Some(shown)).connect(peer_url).await {
            Ok(channel) => {
                let request = pb::MemberListRequest::default();
                ClusterClient::new(channel)
                    .member_list(request)
                    .await
                    .is_ok()
            }
            Err(_) => false,
        };
        assert_eq!(listed, is_let_in, "{shown:?}");
    }
    stop(nodes).await;
}

#[tokio::test]
async fn certificates_that_nobody_vouches_for_encrypt() {
    let dir = tempfile::tempdir().unwrap();
    let mut configs = readdressed(3, dir.path(), |url, _| vec![url.replace("http:", "https:")]);
    for config in &mut configs {
        config.client_tls.auto = true;
        config.peer_tls.auto = true;
    }
    let nodes = start(configs).await;
    let tls = ClientTls::load(ClientTlsConfig {
        certificate: None,
        servers: ServerTrust::Unverified,
        protocol: Protocol::default(),
    });
    let dial = ChannelConfig {
        tls: Some(tls.unwrap()),
        ..ChannelConfig::default()
    };
    let channel = dial.connect(&nodes[1].client_urls()[0]).await.unwrap();
    put(channel, "k").await.unwrap();
    stop(nodes).await;
}

#[tokio::test]
async fn sockets_in_the_file_system_and_several_peer_urls_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let configs = readdressed(3, dir.path(), |url, config| {
        let (folder, port) = (dir.path().display(), url.rsplit(':').next().unwrap());
        let socket = format!("unix://{folder}/{}-{port}.sock", config.name);
        vec![url.to_owned(), socket]
    });
    let mut nodes = start(configs).await;
    for node in &nodes {
        let urls = node.client_urls();
        assert!(urls[0].starts_with("http://") && urls[1].starts_with("unix://"));
        assert_eq!(node.peer_urls().len(), 2);
        let channel = ChannelConfig::default().connect(&urls[1]).await.unwrap();
        put(channel, "k").await.unwrap();
    }
    // The files go with their servers, and nothing of the others.
    let gone = nodes.remove(0);
    let sockets: Vec<_> = [gone.client_urls().to_vec(), gone.peer_urls()]
        .concat()
        .into_iter()
        .filter_map(|url| url.strip_prefix("unix://").map(str::to_owned))
        .collect();
    assert_eq!(sockets.len(), 2);
    gone.shutdown().await;
    for socket in sockets {
        assert!(!Path::new(&socket).exists(), "{socket}");
    }
    stop(nodes).await;
}
