//! What the four-letter words and the metrics tell of traffic.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use synod_jute::OpCode;
use synod_runtime::clock;

use super::Hub;
use crate::metrics::Traffic;

/// Requests, replies and the time between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// Requests that were received.
    pub(crate) received: u64,
    /// Replies and events that were sent.
    pub(crate) sent: u64,
    /// Replies.
    replies: u64,
    /// The time of all replies, in microseconds.
    total_us: u64,
    min_ms: u64,
    max_ms: u64,
}

impl Statistics {
    fn replied(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let ms = us / 1_000;
        self.min_ms = match self.replies {
            0 => ms,
            _ => self.min_ms.min(ms),
        };
        self.max_ms = self.max_ms.max(ms);
        self.total_us = self.total_us.saturating_add(us);
        self.replies += 1;
        self.sent += 1;
    }

    /// The shortest time of a reply, in milliseconds; zero without replies.
    pub(crate) fn min_ms(&self) -> u64 {
        self.min_ms
    }

    /// The longest time of a reply, in milliseconds; zero without replies.
    pub(crate) fn max_ms(&self) -> u64 {
        self.max_ms
    }

    /// The average time of a reply, in milliseconds with four decimals; zero without replies.
    pub(crate) fn average_ms(&self) -> String {
        let us = self.total_us.checked_div(self.replies).unwrap_or(0);
        let tenths = us % 1_000 * 10;
        format!("{}.{tenths:04}", us / 1_000)
    }
}

/// The last reply on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastReply {
    pub(crate) op: &'static str,
    pub(crate) xid: i32,
    pub(crate) zxid: i64,
    pub(crate) at: Instant,
    pub(crate) latency: Duration,
}

/// Traffic on a connection.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) statistics: Statistics,
    pub(super) last: Option<LastReply>,
    /// The requests without a reply, oldest first.
    asked: VecDeque<Asked>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    op: i32,
    at: Instant,
}

/// Stands for the connect request, which has no number of its own.
pub(super) const CONNECT: i32 = OpCode::CreateSession.code();

impl Account {
    /// A request of this operation was received.
    pub(super) fn received(&mut self, op: i32) {
        self.statistics.received += 1;
        self.asked.push_back(Asked {
            op,
            at: clock::now(),
        });
    }

    /// The first request without a reply gets it. Returns its operation and how long it took.
    pub(super) fn replied(&mut self, xid: i32, zxid: i64) -> Option<(i32, Duration)> {
        let asked = self.asked.pop_front()?;
        let at = clock::now();
        let latency = at.saturating_duration_since(asked.at);
        self.statistics.replied(latency);
        self.last = Some(LastReply {
            op: short_name(asked.op),
            xid,
            zxid,
            at,
            latency,
        });
        Some((asked.op, latency))
    }

    pub(super) fn reset(&mut self) {
        self.statistics = Statistics::default();
        self.last = None;
    }
}

/// All connections of this pod.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) statistics: Statistics,
    pub(super) traffic: Option<Traffic>,
}

impl Totals {
    pub(super) fn received(&mut self) {
        self.statistics.received += 1;
        if let Some(traffic) = &self.traffic {
            traffic.received.inc();
        }
    }

    pub(super) fn replied(&mut self, op: i32, latency: Duration) {
        self.statistics.replied(latency);
        if let Some(traffic) = &self.traffic {
            traffic.sent.inc();
            let latencies = match is_update(op) {
                true => &traffic.updates,
                false => &traffic.reads,
            };
            latencies.observe(latency.as_secs_f64() * 1_000.0);
        }
    }

    pub(super) fn notified(&mut self) {
        self.statistics.sent += 1;
        if let Some(traffic) = &self.traffic {
            traffic.sent.inc();
        }
    }
}

impl Hub {
    /// Counts traffic in these metrics from now on.
    pub(crate) fn count_in(&self, traffic: Traffic) {
        self.state.lock().totals.traffic = Some(traffic);
    }

    /// What was received and sent since the last reset.
    pub(crate) fn statistics(&self) -> Statistics {
        self.state.lock().totals.statistics
    }

    /// Forgets what was received and sent by all connections together.
    pub(crate) fn reset_statistics(&self) {
        self.state.lock().totals.statistics = Statistics::default();
    }

    /// Forgets what was received and sent by each connection.
    pub(crate) fn reset_connection_statistics(&self) {
        for connection in self.state.lock().connections.values_mut() {
            connection.account.reset();
        }
    }
}

/// Whether it takes a transaction.
fn is_update(op: i32) -> bool {
    matches!(
        OpCode::try_from(op),
        Ok(OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl
            | OpCode::Delete
            | OpCode::SetData
            | OpCode::SetAcl
            | OpCode::Multi
            | OpCode::Reconfig
            | OpCode::CreateSession
            | OpCode::CloseSession)
    )
}

/// What ZooKeeper calls the operation in a connection's statistics.
fn short_name(op: i32) -> &'static str {
    let Ok(op) = OpCode::try_from(op) else {
        return "NA";
    };
    match op {
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => "CREA",
        OpCode::Delete | OpCode::DeleteContainer => "DELE",
        OpCode::Exists => "EXIS",
        OpCode::GetData => "GETD",
        OpCode::SetData => "SETD",
        OpCode::GetAcl => "GETA",
        OpCode::SetAcl => "SETA",
        OpCode::GetChildren | OpCode::GetChildren2 => "GETC",
        OpCode::Sync => "SYNC",
        OpCode::Ping => "PING",
        OpCode::Check => "CHEC",
        OpCode::Multi => "MULT",
        OpCode::Reconfig => "RECO",
        OpCode::CheckWatches => "CHKW",
        OpCode::RemoveWatches => "REMW",
        OpCode::MultiRead => "MLTR",
        OpCode::Auth => "AUTH",
        OpCode::SetWatches => "SETW",
        OpCode::Sasl => "SASL",
        OpCode::GetEphemerals => "GETE",
        OpCode::GetAllChildrenNumber => "GETACN",
        OpCode::SetWatches2 => "STW2",
        OpCode::AddWatch => "ADDW",
        OpCode::WhoAmI => "HOMI",
        OpCode::CreateSession => "SESS",
        OpCode::CloseSession => "CLOS",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_a_minimum_a_maximum_and_an_average() {
        let mut statistics = Statistics::default();
        assert_eq!(statistics.average_ms(), "0.0000");
        for us in [2_500, 1_000, 4_123] {
            statistics.replied(Duration::from_micros(us));
        }
        assert_eq!((statistics.min_ms(), statistics.max_ms()), (1, 4));
        assert_eq!(statistics.average_ms(), "2.5410");
        assert_eq!(statistics.sent, 3);
    }

    #[test]
    fn each_reply_belongs_to_the_oldest_request() {
        let mut account = Account::default();
        account.received(OpCode::GetData.code());
        account.received(OpCode::Create.code());
        let (op, _) = account.replied(1, 7).unwrap();
        assert_eq!(op, OpCode::GetData.code());
        assert_eq!(account.last.unwrap().op, "GETD");
        let (op, _) = account.replied(2, 8).unwrap();
        assert!(is_update(op));
        assert_eq!(account.last.unwrap().zxid, 8);
        assert_eq!(account.replied(3, 9), None);
        account.reset();
        assert_eq!(account.statistics, Statistics::default());
    }
}
