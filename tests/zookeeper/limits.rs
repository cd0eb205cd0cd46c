//! What a client may not do to a pod and to others.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use synod_jute::{Acl, CreateRequest, ErrorCode, GetDataRequest, OpCode, Request, SetDataRequest};
use synod_testkit::zookeeper::{Received, ZkClient, four_letter_word};
use synod_testkit::{Server, Share, run, until};

use crate::pod;

/// More bytes than a pod keeps for a client that does not read.
const READS: usize = 120;
const DATA_BYTES: usize = 900_000;

/// How soon a pod notices that a connection has ended.
const SOON: std::time::Duration = std::time::Duration::from_secs(20);

#[test]
fn an_address_has_a_limited_number_of_connections() -> Result<()> {
    run(Share::Small, async |lab| {
        let flags = vec!["--max-connections-per-address=2".to_owned()];
        let (pods, _cluster) = pod(lab, Server::SYNOD, flags).await?;
        let address = pods.address(0);
        let new = ZkClient::new_session();
        let open = async || ZkClient::connect(&address, &new).await.ok().flatten();
        // Probes of the pod's readiness may not have ended yet.
        let first = until("a first connection", SOON, async || Ok(open().await)).await?;
        let mut second = until("a second connection", SOON, async || Ok(open().await)).await?;
        ensure!(open().await.is_none(), "a third connection");
        second.ok(&Request::Ping).await?;
        drop(first);
        until("another connection", SOON, async || Ok(open().await)).await?;
        Ok(())
    })
}

#[test]
fn a_request_that_is_too_large_is_answered() -> Result<()> {
    run(Share::Small, async |lab| {
        let flags = vec!["--max-request-bytes=2000".to_owned()];
        let (pods, _cluster) = pod(lab, Server::SYNOD, flags).await?;
        let mut client = ZkClient::open(&pods.address(0)).await?;
        let set = |bytes: usize| {
            Request::SetData(SetDataRequest {
                path: "/".into(),
                data: Some(vec![b'x'; bytes].into()),
                version: -1,
            })
        };
        client.ok(&set(1_900)).await?;
        let (_, reply) = client.call(&set(100_000)).await?;
        ensure!(reply.outcome == Err(ErrorCode::BadArguments), "{reply:?}");
        client.ok(&set(1_900)).await?;
        // What is hardly a request ends the connection.
        client.send(&set(200_000)).await?;
        ensure!(client.receive().await? == Received::Closed);
        let mntr = four_letter_word(&pods.address(0), "mntr").await?;
        ensure!(mntr.contains("zk_large_requests_rejected\t1\n"), "{mntr}");
        Ok(())
    })
}

/// A client asks for 100 MiB and reads nothing for a while. The pod stops to read its requests
/// instead of keeping all replies, other clients notice nothing, and no reply is lost.
#[test]
fn a_client_that_does_not_read_is_not_read_from() -> Result<()> {
    run(Share::Small, async |lab| {
        let (pods, _cluster) = pod(lab, Server::SYNOD, Vec::new()).await?;
        let address = pods.address(0);
        let mut slow = ZkClient::open(&address).await?;
        let create = CreateRequest {
            path: "/large".into(),
            data: Some(Bytes::from(vec![b'x'; DATA_BYTES])),
            acl: Some(vec![Acl::open()]),
            flags: 0,
        };
        slow.ok(&Request::Create(create)).await?;
        let (path, watch) = ("/large".into(), false);
        let read = Request::GetData(GetDataRequest { path, watch });
        for _ in 0..READS {
            slow.send(&read).await?;
        }
        let id = format!("sid=0x{:x},", slow.session().session_id);
        let mut other = ZkClient::open(&address).await?;
        let mut received = 0;
        for _ in 0..20 {
            other.ok(&read).await?;
            let cons = four_letter_word(&address, "cons").await?;
            let line = cons.lines().find(|line| line.contains(&id));
            let line = line.context("the pod has disconnected the slow client")?;
            received = number(line, "recved=").context("recved")?;
        }
        ensure!(received < READS / 2, "the pod has read {received} requests");
        for _ in 0..READS {
            match slow.receive().await? {
                Received::Reply(reply) => {
                    ensure!(reply.op == OpCode::GetData && reply.outcome.is_ok());
                }
                other @ (Received::Event { .. } | Received::Closed) => anyhow::bail!("{other:?}"),
            }
        }
        Ok(())
    })
}

fn number(line: &str, name: &str) -> Option<usize> {
    let (_, rest) = line.split_once(name)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}
