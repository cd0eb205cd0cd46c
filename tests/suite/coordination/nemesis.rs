//! Kills and stops pods and members while the clients work.

use std::time::Duration;

use anyhow::Result;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use synod_testkit::{Cluster, Lab, Pods};
use tokio::time::{Instant, sleep};

const PODS: usize = 3;

#[derive(Debug, Default)]
struct Report {
    pods_killed: usize,
    all_pods_killed: usize,
    pods_stopped: usize,
    members_killed: usize,
}

/// Kills and stops random processes until the time is over. Every one is restarted and serves
/// again.
pub(super) async fn run(
    lab: &Lab,
    cluster: &mut Cluster,
    pods: &mut Pods,
    random: &mut ChaCha8Rng,
    load: Duration,
) -> Result<String> {
    let end = Instant::now() + load;
    let mut report = Report::default();
    while Instant::now() < end {
        pause(random, 300..1500).await;
        match random.random_range(0..10) {
            0..4 => {
                let victim = random.random_range(0..PODS);
                pods.kill(victim)?;
                report.pods_killed += 1;
                pause(random, 50..1500).await;
                pods.launch(lab, victim)?;
                pods.ready(victim).await?;
            }
            4 => {
                for victim in 0..PODS {
                    pods.kill(victim)?;
                }
                report.all_pods_killed += 1;
                for victim in 0..PODS {
                    pods.launch(lab, victim)?;
                }
                for victim in 0..PODS {
                    pods.ready(victim).await?;
                }
            }
            5..7 => {
                let victim = random.random_range(0..PODS);
                pods.process(victim)?.pause()?;
                report.pods_stopped += 1;
                // Sometimes for longer than the sessions' timeout.
                pause(random, 500..8000).await;
                pods.process(victim)?.resume()?;
            }
            _ => {
                let victim = match random.random_range(0..2) {
                    0 => cluster.leader().await?,
                    _ => cluster.follower().await?,
                };
                cluster.kill(victim)?;
                report.members_killed += 1;
                pause(random, 50..1500).await;
                cluster.launch(lab, victim)?;
                cluster.node_ready(victim).await?;
            }
        }
    }
    Ok(format!("{report:?}"))
}

async fn pause(random: &mut ChaCha8Rng, milliseconds: std::ops::Range<u64>) {
    sleep(Duration::from_millis(random.random_range(milliseconds))).await;
}
