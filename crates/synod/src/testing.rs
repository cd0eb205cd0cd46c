//! A member of the consensus service and pods of the coordination service, all in this process.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use synod_consensus::{InitialCluster, Node};
use synod_coordination::Pod;
use synod_rpc::Listener;
use tempfile::TempDir;

use crate::cli::Arguments;
use crate::connect::{Target, TlsFiles};
use crate::coordination::Pods;
use crate::login::LoginFlags;

/// Longer than anything takes.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A member, and pods over it.
pub(crate) struct World {
    node: Node,
    pub(crate) pods: Vec<Pod>,
    pub(crate) urls: Vec<String>,
    dir: TempDir,
}

impl World {
    pub(crate) async fn start(count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let client = Listener::bind("127.0.0.1:0").unwrap();
        let peer = Listener::bind("127.0.0.1:0").unwrap();
        let url = |listener: &Listener| vec![listener.url()];
        let mut config = synod_consensus::Config::new("n1");
        config.data_dir = dir.path().join("n1");
        config.advertise_client_urls = url(&client);
        config.initial_advertise_peer_urls = url(&peer);
        config.listen_client_urls = url(&client);
        config.listen_peer_urls = url(&peer);
        config.initial_cluster = InitialCluster::from([("n1".to_owned(), url(&peer))]);
        config.listeners.client = vec![client];
        config.listeners.peer = vec![peer];
        let node = Node::start(config).await.unwrap();
        node.ready(SOON).await.unwrap();
        let mut pods = Vec::new();
        for _ in 0..count {
            let pod = Pod::start(synod_coordination::Config {
                endpoints: node.client_urls().to_vec(),
                listen_zookeeper: vec!["127.0.0.1:0".to_owned()],
                listen_urls: vec!["http://127.0.0.1:0".to_owned()],
                listen_metrics_urls: Vec::new(),
                tick_ms: 1_000,
                io_threads: 1,
                ..synod_coordination::Config::default()
            });
            let pod = pod.await.unwrap();
            pod.ready(SOON).await.unwrap();
            pods.push(pod);
        }
        let urls = pods.iter().map(|pod| pod.urls()[0].clone()).collect();
        Self {
            node,
            pods,
            urls,
            dir,
        }
    }

    pub(crate) fn all_pods(&self) -> Pods {
        Pods {
            coordination: self.urls.clone(),
        }
    }

    pub(crate) fn target() -> Target {
        Target {
            endpoints: Vec::new(),
            timeout: SOON,
            tls: TlsFiles::default(),
            login: LoginFlags::default(),
        }
    }

    /// Parses a command of `synod` that needs the pods with these URLs.
    pub(crate) fn arguments(urls: &[String], words: &[&str]) -> Arguments {
        let (noun, verb) = (words[0], words[1]);
        let flag = format!("--coordination={}", urls.join(","));
        let line = [&["synod", noun, verb, &flag], &words[2..]].concat();
        Arguments::try_parse_from(line).unwrap()
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub(crate) async fn stop(self) {
        for pod in self.pods {
            pod.shutdown().await;
        }
        self.node.shutdown().await;
    }
}

/// Waits until a file has a line.
pub(crate) async fn until_file(path: &str) -> String {
    let written = synod_runtime::clock::timeout(SOON, async {
        loop {
            match fs::read_to_string(Path::new(path)) {
                Ok(text) if text.ends_with('\n') => return text,
                Ok(_) | Err(_) => synod_runtime::clock::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    written.await.unwrap()
}

/// An exit code, which can't be compared itself.
pub(crate) fn code(code: u8) -> String {
    format!("{:?}", ExitCode::from(code))
}
