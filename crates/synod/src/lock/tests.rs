//! Against a pod of the coordination service and a member of the consensus service, both in this
//! process.

use std::fs;
use std::path::Path;

use clap::Parser as _;
use synod_consensus::{InitialCluster, Node};
use synod_coordination::Pod;
use synod_rpc::Listener;
use tempfile::TempDir;

use super::*;
use crate::cli::Arguments;
use crate::connect::TlsFiles;
use crate::login::LoginFlags;

const SOON: Duration = Duration::from_secs(60);

struct World {
    node: Node,
    pod: Option<Pod>,
    urls: Vec<String>,
    dir: TempDir,
}

impl World {
    async fn start() -> Self {
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
        let urls = pod.urls().to_vec();
        Self {
            node,
            pod: Some(pod),
            urls,
            dir,
        }
    }

    fn pods(&self) -> Pods {
        Pods {
            coordination: self.urls.clone(),
        }
    }

    fn target() -> Target {
        Target {
            endpoints: Vec::new(),
            timeout: SOON,
            tls: TlsFiles::default(),
            login: LoginFlags::default(),
        }
    }

    /// Runs `synod lock` with these words.
    async fn lock(&self, words: &[&str]) -> anyhow::Result<ExitCode> {
        let url = &self.urls[0];
        let (verb, rest) = words.split_first().unwrap();
        let flag = format!("--coordination={url}");
        let line = [&["synod", "lock", verb, &flag], rest].concat();
        let arguments = Arguments::try_parse_from(line).unwrap();
        run(arguments.lock_command(), &Self::target(), Format::Json).await
    }

    async fn locks(&self) -> Vec<pb::LockInfo> {
        let (pods, target) = (self.pods(), Self::target());
        let listed = pods.ask(&target, async |mut locks| {
            Ok(locks
                .list(pb::ListLocksRequest::default())
                .await?
                .into_inner())
        });
        listed.await.unwrap().locks
    }

    /// Waits until a lock has so many holders and waiters, and returns the tokens.
    async fn tokens(&self, count: usize) -> Vec<u64> {
        let looked = synod_runtime::clock::timeout(SOON, async {
            loop {
                let locks = self.locks().await;
                let contenders = locks.iter().flat_map(|lock| &lock.contenders);
                let tokens: Vec<u64> = contenders.map(|found| found.token).collect();
                if tokens.len() == count {
                    return tokens;
                }
                synod_runtime::clock::sleep(Duration::from_millis(20)).await;
            }
        });
        looked.await.unwrap()
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    async fn stop(self) {
        if let Some(pod) = self.pod {
            pod.shutdown().await;
        }
        self.node.shutdown().await;
    }
}

async fn until_file(path: &str) -> String {
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

fn code(code: u8) -> String {
    format!("{:?}", ExitCode::from(code))
}

#[tokio::test]
async fn a_command_runs_with_the_lock_and_gives_its_exit_code() {
    let world = World::start().await;
    let out = world.file("out");
    let script = format!("echo $SYNOD_LOCK_NAME $SYNOD_LOCK_TOKEN > {out}; exit 7");
    let ended = world.lock(&["run", "a", "--", "sh", "-c", &script]).await;
    assert_eq!(format!("{:?}", ended.unwrap()), code(7));
    let told = until_file(&out).await;
    let (name, token) = told.trim().split_once(' ').unwrap();
    assert_eq!(name, "a");
    assert!(token.parse::<u64>().unwrap() > 0);
    assert!(world.locks().await.is_empty(), "it is released");
    // By a signal.
    let ended = world
        .lock(&["run", "a", "--", "sh", "-c", "kill -9 $$"])
        .await;
    assert_eq!(format!("{:?}", ended.unwrap()), code(137));
    let missing = world.lock(&["run", "a", "--", "/does/not/exist"]).await;
    assert!(format!("{:#}", missing.unwrap_err()).contains("/does/not/exist"));
    assert!(world.locks().await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_command_waits_for_the_lock() {
    let world = World::start().await;
    let (first, second) = (world.file("first"), world.file("second"));
    let go = world.file("go");
    let script = format!("echo > {first}; while ! test -e {go}; do sleep 0.05; done");
    let words = ["run", "a", "--", "sh", "-c", &script];
    let holding = world.lock(&words);
    let others = async {
        until_file(&first).await;
        let refused = world.lock(&["run", "--wait=0", "a", "--", "true"]).await;
        assert!(format!("{:#}", refused.unwrap_err()).contains("was not free in time"));
        let script = format!("echo > {second}");
        let words = ["run", "a", "--", "sh", "-c", &script];
        let waiting = world.lock(&words);
        let release = async {
            world.tokens(2).await;
            assert!(!Path::new(&second).exists());
            world.lock(&["ls"]).await.unwrap();
            fs::write(&go, "").unwrap();
        };
        let (waited, ()) = tokio::join!(waiting, release);
        waited.unwrap();
        assert!(Path::new(&second).exists());
    };
    let (held, ()) = tokio::join!(holding, others);
    held.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn a_lost_lock_ends_the_command() {
    let mut world = World::start().await;
    let pod = world.pod.take().unwrap();
    let (began, ended) = (world.file("began"), world.file("ended"));
    let script = format!(
        "trap 'echo > {ended}; exit 0' TERM; echo > {began}; while true; do sleep 0.05; done"
    );
    let words = ["run", "--session-timeout=2", "a", "--", "sh", "-c", &script];
    let holding = world.lock(&words);
    let stop = async {
        until_file(&began).await;
        // Nobody serves the session any more.
        pod.shutdown().await;
        until_file(&ended).await;
    };
    let (held, ()) = tokio::join!(holding, stop);
    let error = format!("{:#}", held.unwrap_err());
    assert!(
        error.contains("was lost, and the command was ended"),
        "{error}"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_broken_lock_goes_to_the_next() {
    let world = World::start().await;
    let session = Session::open(&World::target(), &world.pods(), SOON)
        .await
        .unwrap();
    let request = pb::AcquireRequest {
        session: Some(session.reference()),
        name: "a".to_owned(),
        mode: pb::LockMode::Exclusive.into(),
        request_id: "r".to_owned(),
        ..pb::AcquireRequest::default()
    };
    let acquired = session
        .call(async |mut locks| Ok(locks.acquire(request.clone()).await?.into_inner().token));
    let token = acquired.await.unwrap();
    let waiting = world.lock(&["run", "a", "--", "true"]);
    let breaking = async {
        assert_eq!(world.tokens(2).await[0], token);
        world
            .lock(&["break", "a", &token.to_string()])
            .await
            .unwrap();
        let again = world.lock(&["break", "a", &token.to_string()]).await;
        assert!(format!("{:#}", again.unwrap_err()).contains("nobody has the token"));
    };
    let (waited, ()) = tokio::join!(waiting, breaking);
    waited.unwrap();
    session.close().await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn a_broken_lock_ends_the_command() {
    let world = World::start().await;
    let (began, ended) = (world.file("began"), world.file("ended"));
    let script = format!(
        "trap 'echo > {ended}; exit 0' TERM; echo > {began}; while true; do sleep 0.05; done"
    );
    let words = ["run", "--session-timeout=2", "a", "--", "sh", "-c", &script];
    let holding = world.lock(&words);
    let breaking = async {
        until_file(&began).await;
        let token = world.tokens(1).await[0].to_string();
        world.lock(&["break", "a", &token]).await.unwrap();
        until_file(&ended).await;
    };
    let (held, ()) = tokio::join!(holding, breaking);
    let error = format!("{:#}", held.unwrap_err());
    assert!(error.contains("somebody broke the lock"), "{error}");
    world.stop().await;
}

#[tokio::test]
async fn a_command_that_ends_leaves_no_lock_delay() {
    let world = World::start().await;
    let words = ["run", "--lock-delay=60", "a", "--", "true"];
    world.lock(&words).await.unwrap();
    assert!(world.locks().await.is_empty());
    let words = ["run", "--wait=0", "a", "--", "true"];
    world.lock(&words).await.unwrap();
    world.stop().await;
}
