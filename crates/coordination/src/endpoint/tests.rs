//! The calls of the log against real servers: stock etcd and ours.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use synod_coordination_core::{Action, Found, LogNumber, Outcome};
use synod_testkit::{Cluster, Server, Share, Topology, run};

use super::probe::MIN_REQUEST_BYTES;
use super::*;
use crate::leadership::{Candidate, Leader, Leadership};

const SERVERS: [Server; 2] = [Server::Etcd, Server::SYNOD];

/// Runs a test against an endpoint of each kind.
fn with_endpoint(test: impl AsyncFn(&Cluster, &Endpoint) -> Result<()>) -> Result<()> {
    with_flags(&[], test)
}

fn with_flags(flags: &[&str], test: impl AsyncFn(&Cluster, &Endpoint) -> Result<()>) -> Result<()> {
    for server in SERVERS {
        run(Share::Small, async |lab| {
            let mut topology = Topology::of(1);
            for flag in flags {
                topology = topology.flag(flag);
            }
            let cluster = Cluster::start(lab, server, topology).await?;
            let endpoint = Endpoint::connect(&Servers::plain(&cluster.endpoints()), "/zk").await?;
            test(&cluster, &endpoint).await
        })
        .with_context(|| format!("{server:?}"))?;
    }
    Ok(())
}

fn candidate(endpoint: &Endpoint, pod: u64) -> Candidate {
    let own = Leader::new(format!("http://pod-{pod}"));
    let mut candidate = Candidate::new(endpoint.clone(), own);
    // Nobody keeps the lease alive.
    candidate.ttl_s = 300;
    candidate
}

fn append(number: u64, batch: &[u8]) -> Action {
    Action::Append {
        number: LogNumber::new(number),
        batch: batch.to_vec(),
    }
}

fn read(number: u64) -> Action {
    Action::Read {
        number: LogNumber::new(number),
    }
}

fn found(batch: Option<&[u8]>, leads: bool) -> Outcome {
    Outcome::Found(Found {
        batch: batch.map(<[u8]>::to_vec),
        leads,
    })
}

async fn fill(endpoint: &Endpoint, leadership: &Leadership, batches: u64) -> Result<()> {
    for number in 1..=batches {
        let action = append(number, &number.to_le_bytes());
        let outcome = endpoint.execute(leadership.epoch(), action).await?;
        ensure!(outcome == Outcome::Appended, "{outcome:?}");
    }
    Ok(())
}

#[test]
fn an_append_requires_a_new_key_and_the_leadership() -> Result<()> {
    with_endpoint(async |_, endpoint| {
        let first = candidate(endpoint, 1).win().await;
        let epoch = first.epoch();
        let execute = async |epoch, action| endpoint.execute(epoch, action).await;
        ensure!(execute(epoch, append(1, b"a")).await? == Outcome::Appended);
        // Its own batch, as after an answer that was lost, or another one.
        ensure!(execute(epoch, append(1, b"a")).await? == found(Some(b"a"), true));
        ensure!(execute(epoch, append(1, b"b")).await? == found(Some(b"a"), true));
        ensure!(execute(epoch, read(1)).await? == found(Some(b"a"), true));
        ensure!(execute(epoch, read(2)).await? == found(None, true));
        first.resign().await;
        ensure!(execute(epoch, append(2, b"b")).await? == found(None, false));
        let second = candidate(endpoint, 2).win().await;
        ensure!(second.epoch() != epoch);
        ensure!(execute(epoch, append(2, b"b")).await? == found(None, false));
        ensure!(execute(epoch, read(2)).await? == found(None, false));
        ensure!(execute(second.epoch(), append(2, b"c")).await? == Outcome::Appended);
        ensure!(execute(epoch, append(2, b"b")).await? == found(Some(b"c"), false));
        Ok(())
    })
}

#[test]
fn a_write_of_a_former_leader_does_nothing() -> Result<()> {
    with_endpoint(async |_, endpoint| {
        let first = candidate(endpoint, 1).win().await;
        let epoch = first.epoch();
        let put = || vec![TxnOp::put("/zk/page/x/0", "page", None)];
        let write = async |epoch| endpoint.write_fenced("write", epoch, put()).await;
        let manifest = async |epoch, expected| {
            let manifest = "manifest".to_owned();
            endpoint.replace_manifest(epoch, expected, manifest).await
        };
        ensure!(write(epoch).await? == Fenced::Done);
        let Replaced::Done(revision) = manifest(epoch, 0).await? else {
            anyhow::bail!("there was no manifest");
        };
        ensure!(manifest(epoch, 0).await? == Replaced::Changed);
        first.resign().await;
        let second = candidate(endpoint, 2).win().await;
        ensure!(write(epoch).await? == Fenced::NotLeading);
        ensure!(manifest(epoch, revision).await? == Replaced::NotLeading);
        let replaced = manifest(second.epoch(), revision).await?;
        ensure!(matches!(replaced, Replaced::Done(later) if later > revision));
        Ok(())
    })
}

#[test]
fn the_log_ends_where_its_last_batch_is() -> Result<()> {
    with_endpoint(async |cluster, endpoint| {
        let end = async |applied| endpoint.log_end(LogNumber::new(applied)).await;
        ensure!(end(0).await? == LogNumber::default());
        let shortened = |applied| {
            let applied = LogNumber::new(applied);
            Err(LogLost::Shortened { applied })
        };
        ensure!(end(1).await == shortened(1));
        let leadership = candidate(endpoint, 1).win().await;
        fill(endpoint, &leadership, 7).await?;
        for deleted in 0..7 {
            let range = endpoint.keys.batches_before(LogNumber::new(deleted + 1));
            let options = etcd_client::DeleteOptions::new().with_range(range.end);
            let mut client = cluster.client(0).await?;
            client.delete(range.start, Some(options)).await?;
            for applied in 0..=7 {
                ensure!(end(applied).await? == LogNumber::new(7), "from {applied}");
            }
        }
        ensure!(end(8).await == shortened(8));
        Ok(())
    })
}

#[test]
fn the_log_is_read_in_pieces_and_then_followed() -> Result<()> {
    with_endpoint(async |cluster, endpoint| {
        let leadership = candidate(endpoint, 1).win().await;
        fill(endpoint, &leadership, 40).await?;
        let mut reader = BatchReader::new(endpoint);
        let (mut applied, mut reads) = (LogNumber::default(), 0);
        let revision = loop {
            let read = reader.after(applied).await?;
            reads += 1;
            for (number, batch) in &read.batches {
                ensure!(*batch == number.get().to_le_bytes());
                ensure!(*number <= applied.next(), "{number} after {applied}");
                applied = applied.max(*number);
            }
            if !read.more {
                break read.revision;
            }
        };
        ensure!(applied == LogNumber::new(40) && reads > 1, "{reads} reads");
        let mut events = endpoint.follow_log(revision + 1).await?;
        let next = append(41, b"next");
        endpoint.execute(leadership.epoch(), next).await?;
        let expected = [(LogNumber::new(41), b"next".to_vec())];
        loop {
            let batches = events.next().await?;
            if !batches.is_empty() {
                ensure!(batches == expected, "{batches:?}");
                break;
            }
        }
        // The history before a compaction can't be followed, but the log can be read.
        cluster.client(0).await?.compact(revision, None).await?;
        let mut events = endpoint.follow_log(revision - 5).await?;
        let ended = async {
            loop {
                if let Err(error) = events.next().await {
                    break error;
                }
            }
        };
        let error = clock::timeout(Duration::from_secs(20), ended).await?;
        ensure!(error.to_string().contains("compacted"), "{error}");
        let read = reader.after(LogNumber::new(35)).await?;
        ensure!(read.batches.len() == 7 && !read.more);
        let lost = reader.after(LogNumber::new(50)).await;
        ensure!(matches!(lost, Err(LogLost::Shortened { .. })));
        Ok(())
    })
}

#[test]
fn the_limit_of_requests_is_found_and_a_larger_batch_is_refused() -> Result<()> {
    for (flag, largest) in [
        ("--max-request-bytes=1572864", (3 << 19) - (8 << 10)),
        ("--max-request-bytes=600000", MIN_REQUEST_BYTES),
        ("--max-request-bytes=8388608", 4 << 20),
    ] {
        with_flags(&[flag], async |_, endpoint| {
            let bytes = endpoint.request_bytes().await?;
            ensure!(bytes == largest, "{flag}: {bytes}");
            let leadership = candidate(endpoint, 1).win().await;
            let execute = async |action| endpoint.execute(leadership.epoch(), action).await;
            let too_large = execute(append(1, &vec![7; largest * 3])).await?;
            ensure!(too_large == Outcome::TooLarge, "{too_large:?}");
            ensure!(execute(read(1)).await? == found(None, true));
            let fits = execute(append(1, &vec![7; largest])).await?;
            ensure!(fits == Outcome::Appended, "{fits:?}");
            Ok(())
        })?;
    }
    with_flags(&["--max-request-bytes=100000"], async |_, endpoint| {
        let refused = endpoint.request_bytes().await;
        ensure!(
            matches!(refused, Err(EndpointError::Refused { .. })),
            "{refused:?}"
        );
        Ok(())
    })
}

#[test]
fn an_endpoint_that_does_not_answer_leaves_the_outcome_unknown() -> Result<()> {
    with_endpoint(async |_, endpoint| {
        let leadership = candidate(endpoint, 1).win().await;
        let nobody =
            Endpoint::connect(&Servers::plain(&["http://127.0.0.1:9".to_owned()]), "/zk").await?;
        let outcome = nobody.execute(leadership.epoch(), append(1, b"a")).await?;
        ensure!(outcome == Outcome::Unknown);
        let outcome = nobody.execute(leadership.epoch(), read(1)).await?;
        ensure!(outcome == Outcome::Unknown);
        Ok(())
    })
}
