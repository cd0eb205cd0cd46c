//! Service discovery.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result, ensure};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use synod_coordination::{Config, Networks, Pod};
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::check::Kind;
use synod_proto::coordination::v1::discovery_client::DiscoveryClient;
use synod_proto::coordination::v1::keep_request::Request as Asked;
use synod_proto::status::NOT_DONE;
use synod_testkit::{Cluster, Server, Share, Topology, run_within, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::service::{LONG_MS, SHORT_MS, SOON, Session, channel, config, failure};

/// Runs a test with pods that check what is on this machine.
fn with_pods(count: usize, test: impl AsyncFnOnce(&[Pod]) -> Result<()>) -> Result<()> {
    run_within(Share::Small, 3 * SOON, async |lab| {
        let cluster = Cluster::start(lab, Server::SYNOD, Topology::of(1)).await?;
        let mut pods = Vec::new();
        for _ in 0..count {
            let pod = Pod::start(Config {
                check_allow: Networks::default().and_loopback(),
                listen_dns: vec!["127.0.0.1:0".to_owned()],
                ..config(&cluster.endpoints())
            });
            let pod = pod.await?;
            pod.ready(SOON).await?;
            pods.push(pod);
        }
        test(&pods).await?;
        for pod in pods {
            pod.shutdown().await;
        }
        Ok(())
    })
}

fn client(pod: &Pod) -> Result<DiscoveryClient<Channel>> {
    Ok(DiscoveryClient::new(channel(pod)?))
}

fn instance(id: &str, port: u16) -> pb::Instance {
    pb::Instance {
        service: "web".to_owned(),
        id: id.to_owned(),
        address: "127.0.0.1".to_owned(),
        port: port.into(),
        tags: vec!["blue".to_owned()],
        ..pb::Instance::default()
    }
}

fn checked(id: &str, port: u16, kind: Kind, failures: u32) -> pb::Instance {
    let check = pb::Check {
        kind: Some(kind),
        interval_ms: 500,
        timeout_ms: 1_000,
        failures,
        successes: 0,
    };
    pb::Instance {
        checks: vec![check],
        ..instance(id, port)
    }
}

fn request(session: &Session, instance: &pb::Instance) -> pb::RegisterRequest {
    pb::RegisterRequest {
        session: Some(session.reference.clone()),
        instance: Some(instance.clone()),
    }
}

async fn register(pod: &Pod, session: &Session, instance: &pb::Instance) -> Result<u64> {
    let registered = client(pod)?.register(request(session, instance)).await?;
    Ok(registered.into_inner().token)
}

fn deregistration(session: &Session, id: &str, token: u64) -> pb::DeregisterRequest {
    pb::DeregisterRequest {
        session: Some(session.reference.clone()),
        service: "web".to_owned(),
        id: id.to_owned(),
        token,
    }
}

/// The ids and health of the instances.
async fn all(pod: &Pod) -> Result<Vec<(String, pb::Health)>> {
    let request = pb::GetInstancesRequest {
        service: "web".to_owned(),
        selection: pb::Selection::All.into(),
        ..pb::GetInstancesRequest::default()
    };
    let found = client(pod)?.get_instances(request).await?.into_inner();
    let instances = found.instances.into_iter();
    Ok(instances
        .map(|instance| (instance.id.clone(), instance.health()))
        .collect())
}

async fn until_all(pod: &Pod, expected: &[(&str, pb::Health)]) -> Result<()> {
    until(&format!("{expected:?}"), SOON, async || {
        let found = all(pod).await?;
        let found: Vec<_> = found.iter().map(|(id, health)| (&**id, *health)).collect();
        ensure!(found == expected, "{found:?}");
        Ok(Some(()))
    })
    .await
}

async fn watch(
    pod: &Pod,
    selection: pb::Selection,
) -> Result<Streaming<pb::WatchInstancesResponse>> {
    let request = pb::WatchInstancesRequest {
        service: "web".to_owned(),
        selection: selection.into(),
        tags: Vec::new(),
    };
    Ok(client(pod)?.watch_instances(request).await?.into_inner())
}

/// The next change: the ids that changed, and those that were removed.
async fn next(
    stream: &mut Streaming<pb::WatchInstancesResponse>,
) -> Result<(Vec<String>, Vec<String>)> {
    let change = timeout(SOON, stream.message()).await??;
    let change = change.context("the stream has ended")?;
    ensure!(change.complete, "{change:?}");
    let changed = change.changed.into_iter().map(|instance| instance.id);
    Ok((changed.collect(), change.removed))
}

#[test]
fn instances_live_by_their_session_and_are_seen_through_all_pods() -> Result<()> {
    with_pods(2, async |pods| {
        let mut changes = watch(&pods[1], pb::Selection::Passing).await?;
        assert_eq!(next(&mut changes).await?, (vec![], vec![]));
        let session = Session::open(&pods[0], LONG_MS).await?;
        let one = instance("one", 80);
        let token = register(&pods[0], &session, &one).await?;
        assert_eq!(next(&mut changes).await?, (vec!["one".to_owned()], vec![]));
        assert_eq!(register(&pods[0], &session, &one).await?, token, "repeated");

        let mut green = one.clone();
        green.tags = vec!["green".to_owned()];
        let updated = client(&pods[0])?.update(request(&session, &green)).await?;
        assert_eq!(updated.into_inner().token, token);
        assert_eq!(next(&mut changes).await?, (vec!["one".to_owned()], vec![]));
        for (tag, count) in [("blue", 0), ("green", 1)] {
            let tagged = pb::GetInstancesRequest {
                service: "web".to_owned(),
                tags: vec![tag.to_owned()],
                ..pb::GetInstancesRequest::default()
            };
            let found = client(&pods[1])?.get_instances(tagged).await?.into_inner();
            assert_eq!(found.instances.len(), count, "{tag}");
        }
        let services = pb::ListServicesRequest::default();
        let services = client(&pods[1])?
            .list_services(services)
            .await?
            .into_inner();
        assert_eq!(
            (services.services, services.more),
            (vec!["web".to_owned()], false)
        );

        // The instance is its session's alone.
        let other = Session::open(&pods[1], LONG_MS).await?;
        let refused = client(&pods[1])?.register(request(&other, &one)).await;
        assert_eq!(failure(refused)?, (Code::AlreadyExists, None));
        let missing = client(&pods[1])?
            .update(request(&other, &instance("two", 80)))
            .await;
        assert_eq!(failure(missing)?, (Code::NotFound, None));
        for (token, expected) in [
            (0, false),
            (token + 1, false),
            (token, true),
            (token, false),
        ] {
            let asked = deregistration(&other, "one", token);
            let answer = client(&pods[1])?.deregister(asked).await?.into_inner();
            assert_eq!(answer.deregistered, expected);
        }
        assert_eq!(next(&mut changes).await?, (vec![], vec!["one".to_owned()]));

        let again = register(&pods[0], &session, &one).await?;
        assert!(again > token);
        assert_eq!(next(&mut changes).await?.0, ["one"]);
        session.ask(Asked::Close(pb::CloseSession {})).await?;
        assert_eq!(next(&mut changes).await?, (vec![], vec!["one".to_owned()]));
        Ok(())
    })
}

#[test]
fn pages_have_the_instances_in_order() -> Result<()> {
    with_pods(1, async |pods| {
        let session = Session::open(&pods[0], LONG_MS).await?;
        for id in ["a", "b", "c"] {
            register(&pods[0], &session, &instance(id, 80)).await?;
        }
        let mut request = pb::GetInstancesRequest {
            service: "web".to_owned(),
            limit: 2,
            ..pb::GetInstancesRequest::default()
        };
        for (after, expected, more) in [("", vec!["a", "b"], true), ("b", vec!["c"], false)] {
            request.after = after.to_owned();
            let page = client(&pods[0])?
                .get_instances(request.clone())
                .await?
                .into_inner();
            let ids: Vec<&str> = page.instances.iter().map(|found| &*found.id).collect();
            assert_eq!((ids, page.more), (expected, more));
        }
        Ok(())
    })
}

/// An HTTP server that answers each connection with this status, until it is dropped.
async fn http(status: &Arc<AtomicU16>) -> Result<(u16, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let status = Arc::clone(status);
    let serving = synod_runtime::task::spawn("http", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1_024];
            let read = stream.read(&mut request).await.unwrap_or_default();
            if !request[..read].starts_with(b"GET /health HTTP/1.1\r\n") {
                continue;
            }
            let status = status.load(Ordering::Relaxed);
            let head =
                format!("HTTP/1.1 {status} X\r\nlocation: /health\r\ncontent-length: 0\r\n\r\n");
            // The pod may be gone.
            drop(stream.write_all(head.as_bytes()).await);
        }
    });
    Ok((port, serving))
}

#[test]
fn checks_change_the_health_at_their_thresholds_only() -> Result<()> {
    with_pods(1, async |pods| {
        let status = Arc::new(AtomicU16::new(200));
        let (port, serving) = http(&status).await?;
        let session = Session::open(&pods[0], LONG_MS).await?;
        let kind = Kind::Http(pb::HttpCheck {
            port: 0,
            path: "/health".to_owned(),
        });
        let mut changes = watch(&pods[0], pb::Selection::Passing).await?;
        assert_eq!(next(&mut changes).await?, (vec![], vec![]));
        register(&pods[0], &session, &checked("one", port, kind, 2)).await?;
        let (passing, failing) = (pb::Health::Passing, pb::Health::Failing);
        assert_eq!(next(&mut changes).await?.0, ["one"]);
        // A redirect is not followed.
        for code in [302, 500] {
            status.store(code, Ordering::Relaxed);
            assert_eq!(next(&mut changes).await?.1, ["one"], "{code}");
            assert_eq!(all(&pods[0]).await?, [("one".to_owned(), failing)]);
            status.store(204, Ordering::Relaxed);
            assert_eq!(next(&mut changes).await?.0, ["one"]);
        }
        serving.abort();
        until_all(&pods[0], &[("one", failing)]).await?;
        // Without checks it passes.
        let update = request(&session, &instance("one", port));
        client(&pods[0])?.update(update).await?;
        until_all(&pods[0], &[("one", passing)]).await
    })
}

#[test]
fn tcp_and_grpc_are_checked() -> Result<()> {
    with_pods(1, async |pods| {
        let session = Session::open(&pods[0], LONG_MS).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let tcp = checked("tcp", port, Kind::Tcp(pb::TcpCheck::default()), 1);
        // A pod serves grpc.health.v1.
        let url = &pods[0].urls()[0];
        let port = url.rsplit(':').next().unwrap_or_default().parse()?;
        let grpc = |service: &str| {
            Kind::Grpc(pb::GrpcCheck {
                port,
                service: service.to_owned(),
            })
        };
        let known = checked("grpc", 1, grpc(""), 1);
        let unknown = checked("none", 1, grpc("no.Such"), 1);
        for instance in [&tcp, &known, &unknown] {
            register(&pods[0], &session, instance).await?;
        }
        let (passing, failing) = (pb::Health::Passing, pb::Health::Failing);
        let expected = [("grpc", passing), ("none", failing), ("tcp", passing)];
        until_all(&pods[0], &expected).await?;
        drop(listener);
        let expected = [("grpc", passing), ("none", failing), ("tcp", failing)];
        until_all(&pods[0], &expected).await
    })
}

#[test]
fn heartbeats_keep_a_ttl_check_passing() -> Result<()> {
    with_pods(1, async |pods| {
        let session = Session::open(&pods[0], LONG_MS).await?;
        let mut one = checked("one", 80, Kind::Ttl(pb::TtlCheck {}), 0);
        one.checks[0].interval_ms = 2_000;
        let (passing, failing) = (pb::Health::Passing, pb::Health::Failing);
        register(&pods[0], &session, &one).await?;
        assert_eq!(all(&pods[0]).await?, [("one".to_owned(), failing)]);
        let beat = |id: &str, health: pb::Health| pb::HeartbeatRequest {
            session: Some(session.reference.clone()),
            service: "web".to_owned(),
            id: id.to_owned(),
            health: health.into(),
        };
        let mut discovery = client(&pods[0])?;
        discovery.heartbeat(beat("one", passing)).await?;
        until_all(&pods[0], &[("one", passing)]).await?;
        discovery.heartbeat(beat("one", failing)).await?;
        until_all(&pods[0], &[("one", failing)]).await?;
        discovery.heartbeat(beat("one", passing)).await?;
        until_all(&pods[0], &[("one", passing)]).await?;
        // Without a further one.
        until_all(&pods[0], &[("one", failing)]).await?;
        let missing = discovery.heartbeat(beat("two", passing)).await;
        assert_eq!(failure(missing)?, (Code::NotFound, None));
        register(&pods[0], &session, &instance("three", 80)).await?;
        let refused = discovery.heartbeat(beat("three", passing)).await;
        assert_eq!(failure(refused)?, (Code::InvalidArgument, None));
        Ok(())
    })
}

#[test]
fn a_session_that_moves_takes_its_checks_along_and_nothing_fails() -> Result<()> {
    with_pods(2, async |pods| {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let session = Session::open(&pods[0], LONG_MS).await?;
        let one = checked("one", port, Kind::Tcp(pb::TcpCheck::default()), 1);
        register(&pods[0], &session, &one).await?;
        let (passing, failing) = (pb::Health::Passing, pb::Health::Failing);
        until_all(&pods[1], &[("one", passing)]).await?;
        let mut changes = watch(&pods[1], pb::Selection::All).await?;
        assert_eq!(next(&mut changes).await?.0, ["one"]);
        let reference = session.leave().await?;
        let moved = Session::resume(&pods[1], &reference).await?;
        // What comes next is of the pod that has the session now.
        drop(listener);
        assert_eq!(next(&mut changes).await?.0, ["one"]);
        assert_eq!(all(&pods[1]).await?, [("one".to_owned(), failing)]);
        drop(moved);
        Ok(())
    })
}

#[test]
fn checks_stay_in_the_allowed_networks() -> Result<()> {
    with_pods(1, async |pods| {
        let session = Session::open(&pods[0], LONG_MS).await?;
        let mut outside = checked("one", 80, Kind::Tcp(pb::TcpCheck::default()), 1);
        outside.address = "169.254.169.254".to_owned();
        let refused = client(&pods[0])?
            .register(request(&session, &outside))
            .await;
        let status = refused.err().context("it was registered")?;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("--check-allow"), "{status}");
        // Nobody connects to it.
        outside.checks = vec![pb::Check {
            kind: Some(Kind::Ttl(pb::TtlCheck {})),
            ..pb::Check::default()
        }];
        register(&pods[0], &session, &outside).await?;
        Ok(())
    })
}

#[test]
fn a_session_that_expires_takes_its_instances_along() -> Result<()> {
    with_pods(1, async |pods| {
        let session = Session::open(&pods[0], SHORT_MS).await?;
        register(&pods[0], &session, &instance("one", 80)).await?;
        let mut changes = watch(&pods[0], pb::Selection::Passing).await?;
        assert_eq!(next(&mut changes).await?.0, ["one"]);
        drop(session);
        assert_eq!(next(&mut changes).await?.1, ["one"]);
        let wrong = pb::GetInstancesRequest {
            service: "a/b".to_owned(),
            ..pb::GetInstancesRequest::default()
        };
        let refused = client(&pods[0])?.get_instances(wrong).await;
        let (code, reason) = failure(refused)?;
        assert_eq!(code, Code::InvalidArgument);
        assert_ne!(reason.as_deref(), Some(NOT_DONE));
        Ok(())
    })
}

fn query(name: &str, record_type: RecordType) -> Result<Vec<u8>> {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name)?, record_type));
    Ok(query.to_vec()?)
}

/// An answer over UDP: its code and records.
async fn over_udp(pod: &Pod, query: &[u8]) -> Result<(ResponseCode, Vec<String>)> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(&pod.dns_addresses()[0]).await?;
    socket.send(query).await?;
    let mut answer = [0; 4_096];
    let length = timeout(SOON, socket.recv(&mut answer)).await??;
    records(&answer[..length])
}

/// Answers over one TCP connection.
async fn over_tcp(pod: &Pod, queries: &[Vec<u8>]) -> Result<Vec<(ResponseCode, Vec<String>)>> {
    let mut stream = TcpStream::connect(&pod.dns_addresses()[0]).await?;
    let mut answers = Vec::new();
    for query in queries {
        stream.write_u16(u16::try_from(query.len())?).await?;
        stream.write_all(query).await?;
        let length = timeout(SOON, stream.read_u16()).await??;
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await?;
        answers.push(records(&answer)?);
    }
    Ok(answers)
}

fn records(answer: &[u8]) -> Result<(ResponseCode, Vec<String>)> {
    let answer = Message::from_vec(answer)?;
    let data = answer.answers.iter().map(|record| record.data.to_string());
    Ok((answer.metadata.response_code, data.collect()))
}

#[test]
fn resolvers_find_what_passes() -> Result<()> {
    with_pods(1, async |pods| {
        let session = Session::open(&pods[0], LONG_MS).await?;
        let token = register(&pods[0], &session, &instance("one", 8_080)).await?;
        let failing = checked("two", 80, Kind::Ttl(pb::TtlCheck {}), 0);
        register(&pods[0], &session, &failing).await?;
        let address = query("web.service.synod.", RecordType::A)?;
        let ports = query("_web._tcp.service.synod.", RecordType::SRV)?;
        let found = (ResponseCode::NoError, vec!["127.0.0.1".to_owned()]);
        assert_eq!(over_udp(&pods[0], &address).await?, found);
        let both = over_tcp(&pods[0], &[address.clone(), ports]).await?;
        assert_eq!(both[0], found);
        assert_eq!(both[1].1, ["0 1 8080 one.web.service.synod."]);
        let two = query("two.web.service.synod.", RecordType::A)?;
        let missing = (ResponseCode::NXDomain, vec![]);
        assert_eq!(over_udp(&pods[0], &two).await?, missing);
        let asked = deregistration(&session, "one", token);
        client(&pods[0])?.deregister(asked).await?;
        let empty = (ResponseCode::NoError, vec![]);
        assert_eq!(over_udp(&pods[0], &address).await?, empty);
        Ok(())
    })
}
