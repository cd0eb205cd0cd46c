//! Against a pod and a member in this process.

use std::fs;

use synod_proto::coordination::v1::files_client::FilesClient;
use synod_runtime::clock;

use super::*;
use crate::coordination::Session;
use crate::testing::{SOON, World, code, until_file};

impl World {
    /// Runs `synod elect` with these words.
    async fn elect(&self, words: &[&str]) -> anyhow::Result<ExitCode> {
        let arguments = Self::arguments(&self.urls, &[&["elect"], words].concat());
        run(arguments.elect_command(), &Self::target(), Format::Json).await
    }

    async fn leader(&self) -> Option<pb::Leader> {
        let (pods, target) = (self.all_pods(), Self::target());
        let request = pb::LeaderRequest {
            name: "e".to_owned(),
        };
        let asked = pods.ask(&target, async |channel| {
            let mut elections = ElectionsClient::new(channel);
            Ok(elections.leader(request.clone()).await?.into_inner())
        });
        asked.await.unwrap().leader
    }

    /// The nodes of the candidates.
    async fn candidates(&self) -> Vec<String> {
        let (pods, target) = (self.all_pods(), Self::target());
        let request = pb::ListFilesRequest {
            path: "/synod/elections/e".to_owned(),
            ..pb::ListFilesRequest::default()
        };
        let asked = pods.ask(&target, async |channel| {
            let mut files = FilesClient::new(channel);
            Ok(files.list(request.clone()).await?.into_inner().names)
        });
        asked.await.unwrap()
    }

    async fn until_candidates(&self, count: usize) {
        let looked = clock::timeout(SOON, async {
            while self.candidates().await.len() != count {
                clock::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        looked.await.unwrap();
    }
}

#[tokio::test]
async fn candidates_lead_one_after_the_other() {
    let world = World::start(1).await;
    let (first, second, go) = (world.file("first"), world.file("second"), world.file("go"));
    let told = "echo $SYNOD_ELECTION_NAME $SYNOD_ELECTION_TOKEN";
    let script = format!("{told} > {first}; while ! test -e {go}; do sleep 0.05; done; exit 7");
    let words = ["run", "e", "--value", "one", "--", "sh", "-c", &script];
    let leading = world.elect(&words);
    let others = async {
        let text = until_file(&first).await;
        let leader = world.leader().await.unwrap();
        assert_eq!(text, format!("e {}\n", leader.token));
        assert_eq!(leader.value, "one".as_bytes());
        world.elect(&["leader", "e"]).await.unwrap();
        let script = format!("{told} > {second}");
        let words = ["run", "e", "--", "sh", "-c", &script];
        let waiting = world.elect(&words);
        let resign = async {
            world.until_candidates(2).await;
            assert!(fs::metadata(&second).is_err());
            fs::write(&go, "").unwrap();
        };
        let (waited, ()) = tokio::join!(waiting, resign);
        waited.unwrap();
        let next: u64 = until_file(&second).await[2..].trim().parse().unwrap();
        assert!(next > leader.token);
    };
    let (led, ()) = tokio::join!(leading, others);
    assert_eq!(format!("{:?}", led.unwrap()), code(7));
    assert!(world.leader().await.is_none(), "it has resigned");
    let nobody = world.elect(&["leader", "e"]).await.unwrap_err();
    assert!(nobody.is::<Missing>(), "{nobody:#}");
    world.stop().await;
}

#[tokio::test]
async fn a_leader_that_is_removed_ends_the_command() {
    let world = World::start(1).await;
    let (began, ended) = (world.file("began"), world.file("ended"));
    let script = format!(
        "trap 'echo > {ended}; exit 0' TERM; echo > {began}; while true; do sleep 0.05; done"
    );
    let words = ["run", "e", "--session-timeout=2", "--", "sh", "-c", &script];
    let leading = world.elect(&words);
    let remove = async {
        until_file(&began).await;
        let (target, pods) = (World::target(), world.all_pods());
        let session = Session::open(&target, &pods, SOON).await.unwrap();
        let request = pb::DeleteFileRequest {
            session: Some(session.reference()),
            path: format!("/synod/elections/e/{}", world.candidates().await[0]),
            generation: None,
        };
        let deleted = session.call(async |channel| {
            FilesClient::new(channel)
                .delete(request.clone())
                .await
                .map(drop)
        });
        deleted.await.unwrap();
        until_file(&ended).await;
        session.close().await.unwrap();
    };
    let (led, ()) = tokio::join!(leading, remove);
    let error = format!("{:#}", led.unwrap_err());
    assert!(error.contains("the leadership of e was lost"), "{error}");
    assert!(error.contains("somebody removed the leader"), "{error}");
    world.stop().await;
}
