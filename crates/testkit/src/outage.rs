//! For how long a client gets no write acknowledged while something happens to a cluster.

use std::time::Duration;

use anyhow::{Result, bail};
use etcd_client::Client;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// A new write begins so often, whatever became of those before.
const WRITE_EVERY: Duration = Duration::from_millis(5);
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Writes under way at once; none begins while there are more.
const MAX_UNDER_WAY: usize = 2_000;
/// Writes go well when so many of the last 40 were acknowledged in their time.
const WELL: usize = 20;
const WELL_WITHIN: Duration = Duration::from_millis(200);
/// How long to watch at least.
const WATCHED: Duration = Duration::from_millis(500);
/// How long to wait for writes to go well.
const DEADLINE: Duration = Duration::from_secs(60);

/// Writes through a client, one write every 5 ms, and lets something happen. Returns the longest
/// time without an acknowledgement from then on, until writes go well again.
///
/// # Errors
/// `happens` fails, or writes don't go well within 60 s.
pub async fn outage(client: Client, happens: impl Future<Output = Result<()>>) -> Result<Duration> {
    let mut writer = Writer::new(client);
    writer.until_well(Instant::now()).await?;
    let began = Instant::now();
    let (well, happened) = tokio::join!(writer.until_well(began + WATCHED), happens);
    happened?;
    well?;
    Ok(writer.longest_pause(began))
}

struct Writer {
    client: Client,
    under_way: JoinSet<Option<Instant>>,
    acknowledged: Vec<Instant>,
    begun: u64,
}

impl Writer {
    fn new(client: Client) -> Self {
        Self {
            client,
            under_way: JoinSet::new(),
            acknowledged: Vec::new(),
            begun: 0,
        }
    }

    /// Writes until that goes well, and at least until `earliest`.
    async fn until_well(&mut self, earliest: Instant) -> Result<()> {
        let began = Instant::now();
        let mut ticks = interval(WRITE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.under_way.join_next() => {
                    self.acknowledged.extend(ended.ok().flatten());
                    continue;
                }
                _ = ticks.tick() => self.write(),
            }
            let now = Instant::now();
            let recent = self.acknowledged.iter().rev();
            let recent = recent.take_while(|at| now - **at < WELL_WITHIN).count();
            if now >= earliest && recent >= WELL {
                return Ok(());
            }
            if now - began > DEADLINE {
                bail!("writes don't go well again within {DEADLINE:?}");
            }
        }
    }

    fn write(&mut self) {
        if self.under_way.len() >= MAX_UNDER_WAY {
            return;
        }
        self.begun += 1;
        let (mut client, value) = (self.client.clone(), self.begun.to_string());
        self.under_way.spawn(async move {
            let put = client.put("outage", value, None);
            let answer = timeout(PATIENCE, put).await;
            matches!(answer, Ok(Ok(_))).then(Instant::now)
        });
    }

    fn longest_pause(&self, from: Instant) -> Duration {
        let pairs = self.acknowledged.windows(2);
        let pauses = pairs.filter_map(|pair| match pair {
            [before, after] if *after >= from => Some(after.saturating_duration_since(*before)),
            _ => None,
        });
        pauses.max().unwrap_or_default()
    }
}
