use anyhow::{Context, Result, ensure};
use synod_jute as jute;
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::files_client::FilesClient;
use synod_proto::coordination::v1::keep_request::Request as Asked;
use synod_testkit::zookeeper::ZkClient;
use tokio::time::timeout;
use tonic::{Code, Streaming};

use crate::service::{LONG_MS, SOON, Session, channel, failure, with_pods};

fn create(session: &Session, path: &str) -> pb::CreateFileRequest {
    pb::CreateFileRequest {
        session: Some(session.reference.clone()),
        path: path.to_owned(),
        data: "first".into(),
        ..pb::CreateFileRequest::default()
    }
}

fn set(session: &Session, path: &str, generation: Option<i32>) -> pb::SetFileRequest {
    pb::SetFileRequest {
        session: Some(session.reference.clone()),
        path: path.to_owned(),
        data: "second".into(),
        generation,
    }
}

fn delete(session: &Session, path: &str, generation: Option<i32>) -> pb::DeleteFileRequest {
    pb::DeleteFileRequest {
        session: Some(session.reference.clone()),
        path: path.to_owned(),
        generation,
    }
}

fn get(path: &str) -> pb::GetFileRequest {
    pb::GetFileRequest {
        session: None,
        path: path.to_owned(),
    }
}

async fn next(stream: &mut Streaming<pb::WatchFileResponse>) -> Result<Option<pb::File>> {
    let told = timeout(SOON, stream.message()).await??;
    Ok(told.context("the stream goes on")?.file)
}

#[test]
fn files_are_set_by_generation_and_seen_everywhere() -> Result<()> {
    with_pods(2, async |pods| {
        let session = Session::open(&pods[0], LONG_MS).await?;
        let mut here = FilesClient::new(channel(&pods[0])?);
        let mut there = FilesClient::new(channel(&pods[1])?);
        let created = here.create(create(&session, "/f")).await?.into_inner();
        ensure!(created.generation == 0 && created.instance > 0);
        ensure!(failure(here.create(create(&session, "/f")).await)?.0 == Code::AlreadyExists);
        ensure!(failure(here.create(create(&session, "/no/f")).await)?.0 == Code::NotFound);
        ensure!(failure(here.create(create(&session, "f")).await)?.0 == Code::InvalidArgument);
        // A read through another pod sees what was acknowledged.
        for generation in 0..20 {
            let file = here
                .set(set(&session, "/f", Some(generation)))
                .await?
                .into_inner();
            ensure!(there.get(get("/f")).await?.into_inner() == file);
            ensure!(file.generation == generation + 1 && file.data == "second");
            ensure!(file.instance == created.instance && file.changed > created.changed);
        }
        let refused = here.set(set(&session, "/f", Some(3))).await;
        ensure!(failure(refused)? == (Code::FailedPrecondition, None));
        let refused = here.set(set(&session, "/f", Some(-1))).await;
        ensure!(failure(refused)? == (Code::InvalidArgument, None));
        here.set(set(&session, "/f", None)).await?;
        let refused = here.delete(delete(&session, "/f", Some(3))).await;
        ensure!(failure(refused)? == (Code::FailedPrecondition, None));
        here.create(create(&session, "/f/child")).await?;
        let refused = here.delete(delete(&session, "/f", None)).await;
        ensure!(failure(refused)?.0 == Code::FailedPrecondition);
        here.delete(delete(&session, "/f/child", None)).await?;
        here.delete(delete(&session, "/f", Some(21))).await?;
        ensure!(failure(there.get(get("/f")).await)?.0 == Code::NotFound);
        let again = here.create(create(&session, "/f")).await?.into_inner();
        ensure!(again.instance > created.instance, "another file");
        Ok(())
    })
}

#[test]
fn a_watch_tells_of_the_file_now_and_of_each_change() -> Result<()> {
    with_pods(2, async |pods| {
        let session = Session::open(&pods[0], LONG_MS).await?;
        let mut here = FilesClient::new(channel(&pods[0])?);
        let mut there = FilesClient::new(channel(&pods[1])?);
        let mut watched = there.watch(get("/f")).await?.into_inner();
        ensure!(next(&mut watched).await?.is_none());
        let request = pb::CreateFileRequest {
            ephemeral: true,
            ..create(&session, "/f")
        };
        let created = here.create(request).await?.into_inner();
        ensure!(created.session_id == session.reference.id);
        ensure!(next(&mut watched).await?.as_ref() == Some(&created));
        for generation in 0..20 {
            let file = here
                .set(set(&session, "/f", Some(generation)))
                .await?
                .into_inner();
            ensure!(next(&mut watched).await? == Some(file));
        }
        // It goes with its session.
        let mut session = session;
        session.ask(Asked::Close(pb::CloseSession {})).await?;
        ensure!(session.next().await? == Some((pb::SessionState::Closed, None)));
        ensure!(next(&mut watched).await?.is_none());
        Ok(())
    })
}

#[test]
fn children_are_listed_in_pages() -> Result<()> {
    with_pods(1, async |pods| {
        let session = Session::open(&pods[0], LONG_MS).await?;
        let mut files = FilesClient::new(channel(&pods[0])?);
        files.create(create(&session, "/d")).await?;
        for name in ["c", "a", "b"] {
            files
                .create(create(&session, &format!("/d/{name}")))
                .await?;
        }
        let mut request = pb::ListFilesRequest {
            path: "/d".to_owned(),
            limit: 2,
            ..pb::ListFilesRequest::default()
        };
        let page = files.list(request.clone()).await?.into_inner();
        ensure!(page.names == ["a", "b"] && page.more);
        request.after = "b".to_owned();
        let page = files.list(request.clone()).await?.into_inner();
        ensure!(page.names == ["c"] && !page.more);
        request.path = "/no".to_owned();
        ensure!(failure(files.list(request).await)?.0 == Code::NotFound);
        Ok(())
    })
}

#[test]
fn access_control_lists_are_zookeepers() -> Result<()> {
    with_pods(1, async |pods| {
        let open = pb::OpenSession {
            timeout_ms: LONG_MS,
            digests: vec!["alice:secret".to_owned()],
        };
        let alice = Session::start(&pods[0], Asked::Open(open)).await?;
        let bob = Session::open(&pods[0], LONG_MS).await?;
        let mut files = FilesClient::new(channel(&pods[0])?);
        let own = pb::AclEntry {
            permissions: 31,
            scheme: "auth".to_owned(),
            id: String::new(),
        };
        let request = pb::CreateFileRequest {
            acl: vec![own],
            ..create(&alice, "/secret")
        };
        files.create(request).await?;
        let of = |session: &Session| pb::GetFileRequest {
            session: Some(session.reference.clone()),
            path: "/secret".to_owned(),
        };
        ensure!(files.get(of(&alice)).await?.into_inner().data == "first");
        for stranger in [of(&bob), get("/secret")] {
            ensure!(failure(files.get(stranger.clone()).await)?.0 == Code::PermissionDenied);
            let mut watched = files.watch(stranger).await?.into_inner();
            let told = watched.message().await;
            ensure!(failure(told)?.0 == Code::PermissionDenied);
        }
        let refused = files.set(set(&bob, "/secret", None)).await;
        ensure!(failure(refused)? == (Code::PermissionDenied, None));
        let acl = files.get_acl(of(&alice)).await?.into_inner();
        ensure!(acl.acl[0].scheme == "digest" && acl.acl[0].id.starts_with("alice:"));
        let readable = pb::AclEntry {
            permissions: 1,
            scheme: "world".to_owned(),
            id: "anyone".to_owned(),
        };
        let request = pb::SetFileAclRequest {
            session: Some(alice.reference.clone()),
            path: "/secret".to_owned(),
            acl: vec![readable],
            generation: Some(acl.generation),
        };
        files.set_acl(request.clone()).await?;
        let refused = files.set_acl(request).await;
        ensure!(
            failure(refused)?.0 == Code::PermissionDenied,
            "nobody may set it now"
        );
        ensure!(files.get(of(&bob)).await?.into_inner().data == "first");
        // ZooKeeper's clients see the same file.
        let mut client = ZkClient::open(&pods[0].zookeeper_addresses()[0]).await?;
        let request = jute::Request::GetData(jute::GetDataRequest {
            path: "/secret".into(),
            watch: false,
        });
        let (_, reply) = client.call(&request).await?;
        let Ok(jute::Response::GetData(found)) = reply.outcome else {
            anyhow::bail!("{reply:?}");
        };
        ensure!(found.data.as_deref() == Some(&b"first"[..]));
        Ok(())
    })
}

#[test]
fn a_watch_goes_on_while_the_file_may_not_be_read() -> Result<()> {
    with_pods(1, async |pods| {
        let session = Session::open(&pods[0], LONG_MS).await?;
        let mut files = FilesClient::new(channel(&pods[0])?);
        files.create(create(&session, "/f")).await?;
        let mut watched = files.watch(get("/f")).await?.into_inner();
        ensure!(next(&mut watched).await?.is_some());
        // All but READ.
        let request = pb::SetFileAclRequest {
            session: Some(session.reference.clone()),
            path: "/f".to_owned(),
            acl: vec![pb::AclEntry {
                permissions: 30,
                scheme: "world".to_owned(),
                id: "anyone".to_owned(),
            }],
            generation: None,
        };
        files.set_acl(request).await?;
        files.delete(delete(&session, "/f", None)).await?;
        ensure!(next(&mut watched).await?.is_none());
        ensure!(failure(files.watch(get("")).await)?.0 == Code::InvalidArgument);
        Ok(())
    })
}
