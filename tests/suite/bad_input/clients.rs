//! Clients that ask for too much or violate the protocol.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use synod_testkit::{Cluster, Fault, Lab, Proxy, Server, Topology, connect, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::proto;

const SOON: Duration = Duration::from_secs(60);

on_both!(Small => large_values_by_etcdctl, silent_and_invalid_connections, half_open_client);
on_both!(Small => strange_authorities);

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
    // From 2 MiB on, etcdctl itself refuses to send.
    let said = put(2 * 1024 * 1024).await?;
    ensure!(said.contains("larger than max"), "{said}");
    etcdctl.ok(&["put", "small", "v"]).await?;
    Ok(())
}

async fn silent_and_invalid_connections(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Cluster::start(lab, server, Topology::of(1)).await?;
    let address = cluster.node(0).spec.client.address();
    let mut held = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(&address).await?;
        // Nothing; half a preface; garbage; a preface followed by silence.
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
    // Garbage is answered by closing the connection, not by a crash.
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(SOON, held[2].read_to_end(&mut rest)).await;
    ensure!(ended.is_ok(), "a connection full of garbage stays open");
    Ok(())
}

/// A client that disappeared without closing its connection. Its watch and its lease must not
/// disturb others, and the lease must expire.
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
    // More than the buffers in between can hold: the server must not wait for this reader.
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
    // After it reconnects, it receives everything in order.
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

/// `#initially=[http://127.0.0.1:2379]` in HPACK encoding, as Go clients send it.
const CODED_TARGET: [u8; 27] = [
    0xff, 0xa3, 0x54, 0x64, 0x98, 0x74, 0x51, 0xea, 0x0f, 0xfd, 0xce, 0x94, 0xd7, 0x71, 0x86, 0x02,
    0x27, 0x57, 0x02, 0xe0, 0x5c, 0x37, 0x04, 0xcb, 0xaf, 0xff, 0xf3,
];

/// An HTTP/2 frame of a stream.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(payload.len())?.to_be_bytes();
    let header = [
        length[1], length[2], length[3], kind, flags, 0, 0, 0, stream,
    ];
    Ok([&header[..], payload].concat())
}

/// Clients of older releases use their target, or a socket's path, as the authority of each call.
async fn strange_authorities(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Cluster::start(lab, server, Topology::of(1)).await?;
    let address = cluster.node(0).spec.client.address();
    let plain = |text: &str| -> Result<Vec<u8>> {
        let length = u8::try_from(text.len())?;
        Ok([&[length][..], text.as_bytes()].concat())
    };
    let coded = u8::try_from(CODED_TARGET.len())? | 0x80;
    for (what, authority) in [
        ("an address", plain("127.0.0.1:2379")?),
        ("a target", plain("#initially=[http://127.0.0.1:2379]")?),
        ("a coded target", [&[coded][..], &CODED_TARGET].concat()),
        ("a path", plain("/var/run/etcd.sock")?),
        ("blanks", plain("a b")?),
    ] {
        let mut stream = TcpStream::connect(&address).await?;
        let path = plain("/etcdserverpb.KV/Range")?;
        let kind = plain("application/grpc")?;
        // POST and http, then :path, :authority, content-type and te, all added to the table.
        let first = [
            &[0x83, 0x86, 0x44][..],
            &path,
            &[0x41],
            &authority,
            &[0x5f],
            &kind,
            &[0x40, 2, b't', b'e', 8],
            b"trailers",
        ]
        .concat();
        // The same four from the table, newest first.
        let second = [0x83, 0x86, 0xc1, 0xc0, 0xbf, 0xbe];
        let message = proto::bytes(1, b"k");
        let length = u32::try_from(message.len())?.to_be_bytes();
        let message = [&[0][..], &length, &message].concat();
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        sent.extend(frame(4, 0, 0, &[])?);
        for (id, block) in [(1, &first[..]), (3, &second)] {
            sent.extend(frame(1, 4, id, block)?);
            sent.extend(frame(0, 1, id, &message)?);
        }
        stream.write_all(&sent).await?;
        let mut answered = Vec::new();
        while answered.len() < 2 {
            let mut header = [0; 9];
            let reading = stream.read_exact(&mut header);
            tokio::time::timeout(SOON, reading).await??;
            let length = usize::from(header[1]) << 8 | usize::from(header[2]);
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).await?;
            let (kind, id) = (header[3], header[8]);
            ensure!(kind != 3, "{what}: stream {id} was reset: {payload:?}");
            ensure!(kind != 7, "{what}: the connection ends: {payload:?}");
            if kind == 0 {
                answered.push(id);
            }
        }
        answered.sort_unstable();
        ensure!(answered == [1, 3], "{what}: {answered:?}");
    }
    Ok(())
}
