//! Clients that ask for too much, or do not speak properly.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use synod_testkit::{Cluster, Fault, Lab, Proxy, Server, Topology, connect, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(60);

on_both!(Small => large_values_by_etcdctl, silent_and_rude_connections, half_open_client);

async fn large_values_by_etcdctl(lab: &Lab, server: Server) -> Result<()> {
    let cluster = Cluster::start(lab, server, Topology::of(1)).await?;
    let etcdctl = cluster.etcdctl(0)?;
    let put = async |bytes: usize| -> Result<String> {
        let output = etcdctl
            .run_with_input(&["put", "large"], &"v".repeat(bytes))
            .await?;
        ensure!(!output.success, "{bytes} bytes went in");
        Ok(output
            .stderr
            .trim()
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned())
    };
    let said = put(1_600 * 1024).await?;
    ensure!(said == "Error: etcdserver: request is too large", "{said}");
    // From 2 MiB on etcdctl itself refuses to send.
    let said = put(2 * 1024 * 1024).await?;
    ensure!(said.contains("larger than max"), "{said}");
    etcdctl.ok(&["put", "small", "v"]).await?;
    Ok(())
}

async fn silent_and_rude_connections(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Cluster::start(lab, server, Topology::of(1)).await?;
    let address = cluster.node(0).spec.client.address();
    let mut held = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(&address).await?;
        // Nothing; half a preface; garbage; a preface and then silence.
        let said: &[u8] = match number % 4 {
            0 => b"",
            1 => b"PRI * HT",
            2 => b"\xff\xfe\xfd garbage \xff\xff\r\n\r\n",
            _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        };
        stream.write_all(said).await?;
        held.push(stream);
    }
    cluster.node_ready(0).await?;
    cluster.client(0).await?.put("k", "v", None).await?;
    // Garbage isn't answered with a crash but with an end.
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(SOON, held[2].read_to_end(&mut rest)).await;
    ensure!(ended.is_ok(), "a connection full of garbage stays open");
    Ok(())
}

/// A client that vanished without a word: its watch and its lease must not disturb the others, and
/// the lease runs out.
async fn half_open_client(lab: &Lab, server: Server) -> Result<()> {
    let cluster = Cluster::start(lab, server, Topology::of(1)).await?;
    let target = cluster
        .endpoint(0)
        .strip_prefix("http://")
        .context("an address")?
        .to_owned();
    let proxy = Proxy::start(target).await?;
    let mut lost = connect(&[proxy.port().url()]).await?;
    let lease = lost.lease_grant(3, None).await?.id();
    let options = etcd_client::PutOptions::new().with_lease(lease);
    lost.put("owned", "v", Some(options)).await?;
    let mut stream = lost.watch("k", None).await?;
    stream.message().await?.context("created")?;
    proxy.set(Fault::Stall);
    let mut client = cluster.client(0).await?;
    // More than the buffers on the way hold: the server must not wait for this reader.
    for _ in 0..100 {
        client.put("k", vec![b'v'; 200 * 1024], None).await?;
    }
    until("the lost client's key to expire", SOON, async || {
        Ok(client
            .get("owned", None)
            .await?
            .kvs()
            .is_empty()
            .then_some(()))
    })
    .await?;
    // Back again, it gets everything in order.
    proxy.heal();
    let mut versions = Vec::new();
    while versions.len() < 100 {
        let answer = tokio::time::timeout(SOON, stream.message())
            .await??
            .context("an end")?;
        versions.extend(
            answer
                .events()
                .iter()
                .filter_map(|event| Some(event.kv()?.version())),
        );
    }
    ensure!(versions.iter().copied().eq(1..=100), "{versions:?}");
    Ok(())
}
