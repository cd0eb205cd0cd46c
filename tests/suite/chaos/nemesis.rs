//! Kills and stops members while the clients work.

use std::time::Duration;

use anyhow::Result;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use synod_testkit::{Cluster, Lab};
use tokio::time::{Instant, sleep};

#[derive(Debug, Default)]
struct Report {
    kills: usize,
    of_leaders: usize,
    of_all: usize,
    pauses: usize,
}

/// Kills random members until the time is over: the leader more often than the others, sometimes
/// two or all of them. Also stops leaders for a while. Every member is restarted and serves again.
pub(super) async fn kill(
    lab: &Lab,
    cluster: &mut Cluster,
    random: &mut ChaCha8Rng,
    load: Duration,
) -> Result<String> {
    let end = Instant::now() + load;
    let mut report = Report::default();
    while Instant::now() < end {
        pause(random, 300..1500).await;
        let leader = cluster.leader().await?;
        let mut others: Vec<usize> = (0..cluster.nodes().len())
            .filter(|index| *index != leader)
            .collect();
        others.shuffle(random);
        let victims = match random.random_range(0..10) {
            0..4 => vec![leader],
            4..6 => vec![others[0]],
            6 => vec![leader, others[0]],
            7 => vec![others[0], leader, others[1]],
            _ => {
                report.pauses += 1;
                let process = cluster.node(leader).process()?;
                process.pause()?;
                pause(random, 500..3500).await;
                cluster.node(leader).process()?.resume()?;
                continue;
            }
        };
        for victim in &victims {
            cluster.kill(*victim)?;
            report.kills += 1;
            report.of_leaders += usize::from(*victim == leader);
        }
        report.of_all += usize::from(victims.len() == cluster.nodes().len());
        pause(random, 50..1500).await;
        for victim in &victims {
            cluster.launch(lab, *victim)?;
        }
        for victim in &victims {
            cluster.node_ready(*victim).await?;
        }
    }
    Ok(format!("{report:?}"))
}

async fn pause(random: &mut ChaCha8Rng, milliseconds: std::ops::Range<u64>) {
    sleep(Duration::from_millis(random.random_range(milliseconds))).await;
}
