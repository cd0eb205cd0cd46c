use std::time::Duration;

use anyhow::{Result, ensure};
use synod_jute as jute;
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::files_client::FilesClient;
use synod_proto::coordination::v1::keep_request::Request as Asked;
use synod_runtime::clock;
use synod_testkit::zookeeper::ZkClient;
use tonic::{Code, Request};

use crate::service::{
    LONG_MS, SHORT_MS, Session, channel, contenders, failure, holds, list, until_contenders,
    with_pods,
};

#[test]
fn a_lock_has_one_holder_and_serves_who_asks_first() -> Result<()> {
    with_pods(2, async |pods| {
        let mut sessions = Vec::new();
        for pod in [&pods[0], &pods[1], &pods[0], &pods[1]] {
            sessions.push(Session::open(pod, LONG_MS).await?);
        }
        let mut last = sessions[0].acquire(sessions[0].request("a", "r")).await?;
        let mut waiting = Vec::new();
        for (session, before) in sessions[1..].iter().zip(1..) {
            waiting.push(session.acquiring(session.request("a", "r")));
            until_contenders(&pods[0], "a", before + 1).await?;
        }
        for (next, session) in waiting.into_iter().zip(&sessions) {
            ensure!(holds(&pods[1], "a", last).await?);
            let held = contenders(&pods[1], "a").await?;
            ensure!(held.iter().filter(|(_, holds)| *holds).count() == 1);
            ensure!(next.is_waiting());
            ensure!(session.release("a", "r").await?);
            ensure!(!session.release("a", "r").await?, "it is released already");
            let token = next.token().await?;
            ensure!(token > last, "tokens rise");
            ensure!(
                !holds(&pods[0], "a", last).await?,
                "the old token is not valid"
            );
            last = token;
        }
        Ok(())
    })
}

#[test]
fn shared_holders_exclude_exclusive_ones_only() -> Result<()> {
    with_pods(1, async |pods| {
        let session = Session::open(&pods[0], LONG_MS).await?;
        let shared = |id: &str| pb::AcquireRequest {
            mode: pb::LockMode::Shared.into(),
            ..session.request("a", id)
        };
        let first = session.acquire(shared("s1")).await?;
        let second = session.acquire(shared("s2")).await?;
        ensure!(second > first);
        let exclusive = session.acquiring(session.request("a", "x"));
        until_contenders(&pods[0], "a", 3).await?;
        // Fair: it does not overtake the exclusive one.
        let third = session.acquiring(shared("s3"));
        until_contenders(&pods[0], "a", 4).await?;
        ensure!(holds(&pods[0], "a", first).await? && holds(&pods[0], "a", second).await?);
        ensure!(session.release("a", "s1").await?);
        ensure!(exclusive.is_waiting() && third.is_waiting());
        let held = contenders(&pods[0], "a").await?;
        let held: Vec<bool> = held.iter().map(|(_, holds)| *holds).collect();
        ensure!(held == [true, false, false]);
        ensure!(session.release("a", "s2").await?);
        let token = exclusive.token().await?;
        ensure!(holds(&pods[0], "a", token).await? && third.is_waiting());
        ensure!(session.release("a", "x").await?);
        ensure!(third.token().await? > token);
        Ok(())
    })
}

#[test]
fn who_gives_up_leaves_the_queue() -> Result<()> {
    with_pods(1, async |pods| {
        let session = Session::open(&pods[0], LONG_MS).await?;
        session.acquire(session.request("a", "holder")).await?;
        let waits = |id: &str, wait_ms| pb::AcquireRequest {
            wait_ms: Some(wait_ms),
            ..session.request("a", id)
        };
        ensure!(session.acquire(waits("try", 0)).await? == 0);
        ensure!(contenders(&pods[0], "a").await?.len() == 1);
        let began = clock::now();
        ensure!(session.acquire(waits("short", 300)).await? == 0);
        ensure!(began.elapsed() >= Duration::from_millis(300));
        ensure!(contenders(&pods[0], "a").await?.len() == 1);
        // The deadline of the call. The client looks at its clock, too.
        let mut request = Request::new(session.request("a", "deadline"));
        request
            .metadata_mut()
            .insert("grpc-timeout", "300m".parse()?);
        let failed = session.acquire_with(request).await;
        let code = failure(failed)?.0;
        ensure!(
            matches!(code, Code::DeadlineExceeded | Code::Cancelled),
            "{code}"
        );
        until_contenders(&pods[0], "a", 1).await?;
        // The client cancels the call.
        let cancelled = session.acquiring(session.request("a", "cancel"));
        until_contenders(&pods[0], "a", 2).await?;
        drop(cancelled);
        until_contenders(&pods[0], "a", 1).await?;
        // A free lock is acquired without waiting.
        ensure!(session.release("a", "holder").await?);
        ensure!(session.acquire(waits("again", 0)).await? > 0);
        Ok(())
    })
}

#[test]
fn a_request_that_is_repeated_has_one_place() -> Result<()> {
    with_pods(1, async |pods| {
        let session = Session::open(&pods[0], LONG_MS).await?;
        let holder = session.acquire(session.request("a", "holder")).await?;
        ensure!(session.acquire(session.request("a", "holder")).await? == holder);
        let first = session.acquiring(session.request("a", "waits"));
        until_contenders(&pods[0], "a", 2).await?;
        let other = session.acquiring(session.request("a", "other"));
        until_contenders(&pods[0], "a", 3).await?;
        // The place is not lost with a second call about it.
        let tried = pb::AcquireRequest {
            wait_ms: Some(0),
            ..session.request("a", "waits")
        };
        ensure!(session.acquire(tried).await? == 0);
        ensure!(contenders(&pods[0], "a").await?.len() == 3);
        ensure!(session.release("a", "holder").await?);
        let token = first.token().await?;
        ensure!(holds(&pods[0], "a", token).await?);
        ensure!(session.acquire(session.request("a", "waits")).await? == token);
        ensure!(other.is_waiting());
        // Nor can another mode take it.
        let shared = pb::AcquireRequest {
            mode: pb::LockMode::Shared.into(),
            ..session.request("a", "waits")
        };
        ensure!(failure(session.acquire(shared).await)?.0 == Code::InvalidArgument);
        ensure!(holds(&pods[0], "a", token).await?);
        // Requests of another session are others, whatever their ids.
        let stranger = Session::open(&pods[0], LONG_MS).await?;
        ensure!(!stranger.release("a", "waits").await?);
        Ok(())
    })
}

#[test]
fn the_lock_of_a_dead_holder_is_free_after_its_delay() -> Result<()> {
    with_pods(2, async |pods| {
        let delay_ms = 3_000;
        let living = Session::open(&pods[1], LONG_MS).await?;
        let dying = Session::open(&pods[0], SHORT_MS).await?;
        for (name, lock_delay_ms) in [("plain", 0), ("delayed", delay_ms), ("released", delay_ms)] {
            let request = pb::AcquireRequest {
                lock_delay_ms,
                ..dying.request(name, "r")
            };
            dying.acquire(request).await?;
        }
        let plain = living.acquiring(living.request("plain", "r"));
        let delayed = living.acquiring(living.request("delayed", "r"));
        let released = living.acquiring(living.request("released", "r"));
        for name in ["plain", "delayed", "released"] {
            until_contenders(&pods[0], name, 2).await?;
        }
        // Not after a release.
        ensure!(dying.release("released", "r").await?);
        let began = clock::now();
        released.token().await?;
        ensure!(began.elapsed() < Duration::from_millis((delay_ms / 2).into()));
        drop(dying);
        plain.token().await?;
        let free = clock::now();
        let all = list(&pods[0], pb::ListLocksRequest::default()).await?;
        let found: Vec<_> = all
            .locks
            .iter()
            .map(|lock| (&*lock.name, lock.delayed))
            .collect();
        ensure!(found == [("delayed", true), ("plain", false), ("released", false)]);
        let tried = pb::AcquireRequest {
            wait_ms: Some(0),
            ..living.request("delayed", "try")
        };
        ensure!(living.acquire(tried.clone()).await? == 0);
        let token = delayed.token().await?;
        // Sessions end together; the pod may have seen the end of this one a moment earlier.
        ensure!(free.elapsed() >= Duration::from_millis((delay_ms - 500).into()));
        ensure!(holds(&pods[0], "delayed", token).await?);
        Ok(())
    })
}

#[test]
fn a_session_that_is_closed_leaves_no_delay() -> Result<()> {
    with_pods(2, async |pods| {
        let mut holder = Session::open(&pods[0], LONG_MS).await?;
        let next = Session::open(&pods[1], LONG_MS).await?;
        let request = pb::AcquireRequest {
            lock_delay_ms: 60_000,
            ..holder.request("a", "r")
        };
        holder.acquire(request).await?;
        holder.ask(Asked::Close(pb::CloseSession {})).await?;
        ensure!(holder.next().await? == Some((pb::SessionState::Closed, None)));
        let all = list(&pods[0], pb::ListLocksRequest::default()).await?;
        ensure!(all.locks.is_empty(), "{all:?}");
        let tried = pb::AcquireRequest {
            wait_ms: Some(0),
            ..next.request("a", "r")
        };
        ensure!(next.acquire(tried).await? > 0);
        Ok(())
    })
}

/// Clients choose the lists of their nodes: Curator's can be unreadable for all others.
#[test]
fn a_contender_that_nobody_may_read_has_its_place() -> Result<()> {
    with_pods(1, async |pods| {
        let open = pb::OpenSession {
            timeout_ms: LONG_MS,
            digests: vec!["alice:secret".to_owned()],
        };
        let alice = Session::start(&pods[0], Asked::Open(open)).await?;
        let bob = Session::open(&pods[0], LONG_MS).await?;
        let held = bob.acquire(bob.request("a", "first")).await?;
        let mut files = FilesClient::new(channel(&pods[0])?);
        let path = "/synod/locks/a/_c_1234-__WRIT__0000000009";
        let create = pb::CreateFileRequest {
            session: Some(alice.reference.clone()),
            path: path.to_owned(),
            data: "hers".into(),
            acl: vec![pb::AclEntry {
                permissions: 31,
                scheme: "auth".to_owned(),
                id: String::new(),
            }],
            ephemeral: true,
        };
        let created = files.create(create).await?.into_inner();
        let waiting = bob.acquiring(bob.request("a", "second"));
        until_contenders(&pods[0], "a", 3).await?;
        ensure!(bob.release("a", "first").await?);
        ensure!(!holds(&pods[0], "a", held).await?);
        let hers = u64::try_from(created.instance)?;
        ensure!(contenders(&pods[0], "a").await?[0] == (hers, true));
        ensure!(waiting.is_waiting());
        // Who may not read it learns of its end nevertheless.
        let delete = pb::DeleteFileRequest {
            session: Some(alice.reference.clone()),
            path: path.to_owned(),
            generation: None,
        };
        files.delete(delete).await?;
        ensure!(waiting.token().await? > hers);
        Ok(())
    })
}

/// Nobody waits when the holder dies, and callers only try.
#[test]
fn a_delay_ends_for_who_only_tries() -> Result<()> {
    with_pods(1, async |pods| {
        let living = Session::open(&pods[0], LONG_MS).await?;
        let dying = Session::open(&pods[0], SHORT_MS).await?;
        let request = pb::AcquireRequest {
            lock_delay_ms: 500,
            ..dying.request("a", "r")
        };
        dying.acquire(request).await?;
        drop(dying);
        until_contenders(&pods[0], "a", 0).await?;
        let began = clock::now();
        let tried = pb::AcquireRequest {
            wait_ms: Some(0),
            ..living.request("a", "r")
        };
        synod_testkit::until("a try to succeed", crate::service::SOON, async || {
            Ok((living.acquire(tried.clone()).await? > 0).then_some(()))
        })
        .await?;
        ensure!(began.elapsed() >= Duration::from_millis(500));
        Ok(())
    })
}

#[test]
fn a_broken_lock_goes_to_the_next() -> Result<()> {
    with_pods(2, async |pods| {
        let holder = Session::open(&pods[0], LONG_MS).await?;
        let admin = Session::open(&pods[1], LONG_MS).await?;
        let request = pb::AcquireRequest {
            lock_delay_ms: 60_000,
            ..holder.request("a", "r")
        };
        let token = holder.acquire(request).await?;
        let broken = holder.acquiring(holder.request("a", "broken"));
        until_contenders(&pods[0], "a", 2).await?;
        let next = holder.acquiring(holder.request("a", "next"));
        until_contenders(&pods[0], "a", 3).await?;
        let second = contenders(&pods[0], "a").await?[1].0;
        ensure!(admin.break_lock("a", second).await?);
        ensure!(failure(broken.token().await)? == (Code::Aborted, None));
        ensure!(admin.break_lock("a", token).await?);
        ensure!(!admin.break_lock("a", token).await?);
        ensure!(next.token().await? > second);
        ensure!(!holds(&pods[0], "a", token).await?);
        Ok(())
    })
}

#[test]
fn locks_are_listed_in_pages() -> Result<()> {
    with_pods(1, async |pods| {
        let empty = list(&pods[0], pb::ListLocksRequest::default()).await?;
        ensure!(empty == pb::ListLocksResponse::default());
        let session = Session::open(&pods[0], LONG_MS).await?;
        for name in ["c", "a", "b"] {
            session.acquire(session.request(name, "r")).await?;
        }
        let mut after = String::new();
        let mut pages = Vec::new();
        loop {
            let request = pb::ListLocksRequest {
                after: after.clone(),
                limit: 2,
                ..pb::ListLocksRequest::default()
            };
            let page = list(&pods[0], request).await?;
            let names: Vec<String> = page.locks.iter().map(|lock| lock.name.clone()).collect();
            after = names.last().cloned().unwrap_or_default();
            pages.push(names.join(" "));
            if !page.more {
                break;
            }
        }
        ensure!(pages == ["a b", "c"]);
        let one = pb::ListLocksRequest {
            name: "b".to_owned(),
            ..pb::ListLocksRequest::default()
        };
        let found = list(&pods[0], one)
            .await?
            .locks
            .remove(0)
            .contenders
            .remove(0);
        ensure!(found.session_id == session.reference.id && found.owner == "owner of r");
        ensure!(found.holds && found.mode() == pb::LockMode::Exclusive && found.since_ms > 0);
        Ok(())
    })
}

#[test]
fn wrong_requests_are_refused() -> Result<()> {
    with_pods(1, async |pods| {
        let session = Session::open(&pods[0], LONG_MS).await?;
        let good = session.request("a", "r");
        let long = "x".repeat(1025);
        for (what, wrong) in [
            (
                "no session",
                pb::AcquireRequest {
                    session: None,
                    ..good.clone()
                },
            ),
            (
                "name",
                pb::AcquireRequest {
                    name: "a/b".to_owned(),
                    ..good.clone()
                },
            ),
            (
                "id",
                pb::AcquireRequest {
                    request_id: String::new(),
                    ..good.clone()
                },
            ),
            (
                "mode",
                pb::AcquireRequest {
                    mode: 0,
                    ..good.clone()
                },
            ),
            (
                "delay",
                pb::AcquireRequest {
                    lock_delay_ms: 60_001,
                    ..good.clone()
                },
            ),
            (
                "owner",
                pb::AcquireRequest {
                    owner: long,
                    ..good.clone()
                },
            ),
        ] {
            let failed = failure(session.acquire(wrong).await)?;
            ensure!(
                failed == (Code::InvalidArgument, None),
                "{what}: {failed:?}"
            );
        }
        ensure!(contenders(&pods[0], "a").await?.is_empty());
        Ok(())
    })
}

#[test]
fn zookeepers_clients_see_the_queue_and_take_part() -> Result<()> {
    with_pods(1, async |pods| {
        let address = &pods[0].zookeeper_addresses()[0];
        let mut client = ZkClient::open(address).await?;
        let session = Session::open(&pods[0], LONG_MS).await?;
        let token = session.acquire(session.request("a", "r")).await?;
        let path = "/synod/locks/a";
        let names = children(&mut client, path).await?;
        ensure!(names.len() == 1);
        let expected = format!("_c_{:016x}.r-__WRIT__0000000000", session.reference.id);
        ensure!(names[0] == expected, "{names:?}");
        let get = jute::Request::GetData(jute::GetDataRequest {
            path: format!("{path}/{expected}").into(),
            watch: false,
        });
        let (_, reply) = client.call(&get).await?;
        let Ok(jute::Response::GetData(found)) = reply.outcome else {
            anyhow::bail!("{reply:?}");
        };
        ensure!(found.stat.ephemeral_owner == session.reference.id);
        ensure!(found.stat.czxid == i64::try_from(token)?);
        ensure!(found.data.as_deref() == Some(&b"owner of r"[..]));
        // A contender as Curator creates it.
        let create = jute::Request::Create2(jute::CreateRequest {
            path: format!("{path}/_c_1234-__WRIT__").into(),
            data: None,
            acl: Some(vec![jute::Acl::new(31, "world", "anyone")]),
            flags: jute::CreateMode::EphemeralSequential.code(),
        });
        let (_, reply) = client.call(&create).await?;
        let Ok(jute::Response::Create2(created)) = reply.outcome else {
            anyhow::bail!("{reply:?}");
        };
        let next = session.acquiring(session.request("a", "next"));
        until_contenders(&pods[0], "a", 3).await?;
        ensure!(session.release("a", "r").await?);
        let held = contenders(&pods[0], "a").await?;
        ensure!(
            held[0] == (u64::try_from(created.stat.czxid)?, true),
            "{held:?}"
        );
        ensure!(next.is_waiting());
        let delete = jute::Request::Delete(jute::DeleteRequest {
            path: created.path,
            version: -1,
        });
        let (_, reply) = client.call(&delete).await?;
        ensure!(reply.outcome.is_ok(), "{reply:?}");
        ensure!(next.token().await? > u64::try_from(created.stat.czxid)?);
        Ok(())
    })
}

async fn children(client: &mut ZkClient, path: &str) -> Result<Vec<String>> {
    let request = jute::Request::GetChildren(jute::GetChildrenRequest {
        path: path.into(),
        watch: false,
    });
    let (_, reply) = client.call(&request).await?;
    let Ok(jute::Response::GetChildren(found)) = reply.outcome else {
        anyhow::bail!("{reply:?}");
    };
    Ok(found.children.iter().map(ToString::to_string).collect())
}
