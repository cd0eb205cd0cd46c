//! Against pods and a member in this process.

use std::fs;
use std::path::Path;

use synod_testkit::{Fault, Proxy};

use super::*;
use crate::testing::{SOON, World, code, until_file};

impl World {
    /// Runs `synod lock` with these words.
    async fn lock(&self, words: &[&str]) -> anyhow::Result<ExitCode> {
        self.lock_through(&self.urls, words).await
    }

    /// The same through the pods with these URLs.
    async fn lock_through(&self, urls: &[String], words: &[&str]) -> anyhow::Result<ExitCode> {
        let arguments = Self::arguments(urls, &[&["lock"], words].concat());
        run(arguments.lock_command(), &Self::target(), Format::Json).await
    }

    async fn locks(&self) -> Vec<pb::LockInfo> {
        let (pods, target) = (self.all_pods(), Self::target());
        let listed = pods.ask(&target, async |channel| {
            Ok(LocksClient::new(channel)
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
}

#[tokio::test]
async fn a_command_runs_with_the_lock_and_gives_its_exit_code() {
    let world = World::start(1).await;
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
    let world = World::start(1).await;
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
    let mut world = World::start(1).await;
    let pod = world.pods.remove(0);
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
    let world = World::start(1).await;
    let session = Session::open(&World::target(), &world.all_pods(), SOON)
        .await
        .unwrap();
    let request = pb::AcquireRequest {
        session: Some(session.reference()),
        name: "a".to_owned(),
        mode: pb::LockMode::Exclusive.into(),
        request_id: "r".to_owned(),
        ..pb::AcquireRequest::default()
    };
    let acquired = session.call(async |channel| {
        let mut locks = LocksClient::new(channel);
        Ok(locks.acquire(request.clone()).await?.into_inner().token)
    });
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
    let world = World::start(1).await;
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
    let world = World::start(1).await;
    let words = ["run", "--lock-delay=60", "a", "--", "true"];
    world.lock(&words).await.unwrap();
    assert!(world.locks().await.is_empty());
    let words = ["run", "--wait=0", "a", "--", "true"];
    world.lock(&words).await.unwrap();
    world.stop().await;
}

/// A proxy in front of the first of two pods, and the URLs of that and of the second pod.
async fn proxied(world: &World) -> (Proxy, Vec<String>) {
    let address = world.urls[0].trim_start_matches("http://").to_owned();
    let proxy = Proxy::start(address).await.unwrap();
    let urls = vec![proxy.port().url(), world.urls[1].clone()];
    (proxy, urls)
}

#[tokio::test]
async fn a_silent_pod_is_left_before_the_lock_is_lost() {
    let world = World::start(2).await;
    let (proxy, urls) = proxied(&world).await;
    let (began, go) = (world.file("began"), world.file("go"));
    let script = format!("echo > {began}; while ! test -e {go}; do sleep 0.05; done; exit 5");
    let timeout = Duration::from_secs(6);
    let words = ["run", "--session-timeout=6", "a", "--", "sh", "-c", &script];
    let holding = world.lock_through(&urls, &words);
    let stall = async {
        until_file(&began).await;
        let token = world.tokens(1).await[0];
        proxy.set(Fault::Stall);
        // A session that stayed with that pod would have expired.
        synod_runtime::clock::sleep(timeout + Duration::from_secs(2)).await;
        assert_eq!(world.tokens(1).await, [token]);
        fs::write(&go, "").unwrap();
    };
    let (held, ()) = tokio::join!(holding, stall);
    assert_eq!(format!("{:?}", held.unwrap()), code(5));
    assert!(world.locks().await.is_empty(), "it is released");
    world.stop().await;
}

#[tokio::test]
async fn a_waiter_that_moves_asks_the_new_pod() {
    let world = World::start(2).await;
    let (proxy, urls) = proxied(&world).await;
    let go = world.file("go");
    let script = format!("while ! test -e {go}; do sleep 0.05; done");
    let words = ["run", "a", "--", "sh", "-c", &script];
    let holding = world.lock(&words);
    let waiting = async {
        world.tokens(1).await;
        let words = ["run", "--session-timeout=6", "a", "--", "true"];
        // The former connection is given up after 15 seconds, which is too late.
        let within = Duration::from_secs(12);
        synod_runtime::clock::timeout(within, world.lock_through(&urls, &words))
            .await
            .expect("the new pod was asked")
            .unwrap();
    };
    let stall = async {
        world.tokens(2).await;
        proxy.set(Fault::Stall);
        fs::write(&go, "").unwrap();
    };
    let (held, (), ()) = tokio::join!(holding, waiting, stall);
    held.unwrap();
    assert!(world.locks().await.is_empty());
    world.stop().await;
}
