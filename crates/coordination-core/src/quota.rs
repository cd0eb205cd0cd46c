//! Quotas: limits of the number of nodes and bytes below a path, under `/zookeeper/quota`.
//!
//! The data of `/zookeeper/quota<path>/zookeeper_limits` has the limits, that of `zookeeper_stats`
//! beside it what is used. As in ZooKeeper, only the deepest path with a quota counts for a node.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::limits::MAX_QUOTA_BYTES;
use crate::path::QUOTA_PATH;
use crate::tree::NodeId;

/// The name of the node with the limits.
pub(crate) const LIMITS: &str = "zookeeper_limits";
/// The name of the node with what is used.
pub(crate) const STATS: &str = "zookeeper_stats";

/// The limits that there are, by the parents of the nodes that have them. They are parsed when they
/// are set, not for every operation that they limit.
#[derive(Debug, Default)]
pub(crate) struct Quotas(BTreeMap<NodeId, Numbers>);

impl Quotas {
    pub(crate) fn set(&mut self, parent: NodeId, limits: Numbers) {
        self.0.insert(parent, limits);
    }

    pub(crate) fn remove(&mut self, parent: NodeId) {
        self.0.remove(&parent);
    }

    pub(crate) fn get(&self, parent: NodeId) -> Option<&Numbers> {
        self.0.get(&parent)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The path whose use a node with this path says, if it is such a node.
pub(crate) fn stats_target(path: &str) -> Option<&str> {
    let (parent, name) = path.rsplit_once('/')?;
    let target = parent.strip_prefix(QUOTA_PATH)?;
    (name == STATS && target.starts_with('/')).then_some(target)
}

/// The numbers of a node with limits or with what is used. -1 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) count: i64,
    pub(crate) bytes: i64,
    /// `byteHardLimit`, if the text has it.
    hard_bytes: Option<i64>,
    /// `countHardLimit`, if the text has it.
    hard_count: Option<i64>,
}

impl Numbers {
    pub(crate) fn used(count: i64, bytes: i64) -> Self {
        Self {
            count,
            bytes,
            hard_bytes: None,
            hard_count: None,
        }
    }

    /// Reads `name=number` pairs, separated by commas or semicolons. What is no number is no limit,
    /// and other names mean nothing.
    pub(crate) fn parse(data: Option<&[u8]>) -> Self {
        let mut numbers = Self::used(-1, -1);
        let data = data.filter(|data| data.len() <= MAX_QUOTA_BYTES);
        let text = String::from_utf8_lossy(data.unwrap_or_default());
        for pair in text.split([',', ';']) {
            let mut parts = pair.split('=');
            let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
                continue;
            };
            let value = value.parse().unwrap_or(-1);
            match name {
                "count" => numbers.count = value,
                "bytes" => numbers.bytes = value,
                "byteHardLimit" => numbers.hard_bytes = Some(value),
                "countHardLimit" => numbers.hard_count = Some(value),
                _ => {}
            }
        }
        numbers
    }

    /// The text in ZooKeeper's format. The second `=` makes old versions ignore what follows.
    pub(crate) fn render(&self) -> String {
        let mut text = format!("count={},bytes={}", self.count, self.bytes);
        let hard = [
            ("byteHardLimit", self.hard_bytes),
            ("countHardLimit", self.hard_count),
        ];
        let mut separator = "=;";
        for (name, value) in hard {
            if let Some(value) = value {
                write!(text, "{separator}{name}={value}").expect("text grows");
                separator = ";";
            }
        }
        text
    }

    /// Whether adding this to what is used exceeds a hard limit. Soft limits never refuse anything.
    pub(crate) fn refuses(&self, used: &Self, count: i64, bytes: i64) -> bool {
        let exceeds = |limit: Option<i64>, used: i64, more: i64| {
            let limit = limit.unwrap_or(-1);
            limit > -1 && more != 0 && used.saturating_add(more) > limit
        };
        exceeds(self.hard_count, used.count, count) || exceeds(self.hard_bytes, used.bytes, bytes)
    }

    /// Whether what is used is more than a soft limit.
    pub(crate) fn is_exceeded_by(&self, used: &Self) -> bool {
        (self.count > -1 && used.count > self.count) || (self.bytes > -1 && used.bytes > self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_zookeepers_format() {
        let text = "count=5,bytes=-1=;byteHardLimit=7;countHardLimit=9";
        let numbers = Numbers::parse(Some(text.as_bytes()));
        assert_eq!((numbers.count, numbers.bytes), (5, -1));
        assert_eq!(numbers.hard_bytes, Some(7));
        assert_eq!(numbers.hard_count, Some(9));
        assert_eq!(numbers.render(), text);
        assert_eq!(Numbers::used(1, 2).render(), "count=1,bytes=2");
        let one = Numbers::parse(Some(b"countHardLimit=x;other=7"));
        assert_eq!(one.render(), "count=-1,bytes=-1=;countHardLimit=-1");
        for text in ["", "count", "count=x,bytes=", "=,;="] {
            let numbers = Numbers::parse(Some(text.as_bytes()));
            assert_eq!((numbers.count, numbers.bytes), (-1, -1), "{text}");
        }
    }

    #[test]
    fn long_data_has_no_numbers() {
        let padded = |bytes| {
            let text = format!("{:bytes$}", "count=5,");
            Numbers::parse(Some(text.as_bytes())).count
        };
        assert_eq!(padded(MAX_QUOTA_BYTES), 5);
        assert_eq!(padded(MAX_QUOTA_BYTES + 1), -1);
    }

    #[test]
    fn nodes_with_what_is_used_are_recognized() {
        let target = stats_target;
        assert_eq!(target("/zookeeper/quota/a/b/zookeeper_stats"), Some("/a/b"));
        assert_eq!(target("/zookeeper/quota/zookeeper_stats"), None);
        assert_eq!(target("/zookeeper/quotas/a/zookeeper_stats"), None);
        assert_eq!(target("/zookeeper/quota/a/zookeeper_limits"), None);
        assert_eq!(target("/a/zookeeper_stats"), None);
    }

    #[test]
    fn only_hard_limits_refuse() {
        let limits = Numbers::parse(Some(b"count=1,bytes=1=;byteHardLimit=10;countHardLimit=3"));
        let used = Numbers::used(3, 9);
        assert!(limits.is_exceeded_by(&used));
        assert!(limits.refuses(&used, 1, 0));
        assert!(!limits.refuses(&used, 0, 1));
        assert!(limits.refuses(&used, 0, 2));
        assert!(!limits.refuses(&used, 0, -2));
        let over = Numbers::used(9, 99);
        assert!(
            !limits.refuses(&over, 0, 0),
            "what adds nothing is not refused"
        );
        let soft = Numbers::parse(Some(b"count=1,bytes=1"));
        assert!(!soft.refuses(&over, 1, 1));
    }
}
