//! Quotas: limits of the number of nodes and bytes below a path, under `/zookeeper/quota`.
//!
//! The data of `/zookeeper/quota<path>/zookeeper_limits` has the limits, that of `zookeeper_stats`
//! beside it what is used. As in ZooKeeper, only the deepest path with a quota counts for a node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::path::{self, QUOTA_PATH};

/// The name of the node with the limits.
pub(crate) const LIMITS: &str = "zookeeper_limits";
/// The name of the node with what is used.
const STATS: &str = "zookeeper_stats";

/// The paths that have a node with limits.
#[derive(Debug, Default)]
pub(crate) struct Quotas(BTreeSet<Box<str>>);

/// A node under `/zookeeper/quota` that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuotaNode<'a> {
    /// The limits of this path.
    Limits(&'a str),
    /// What is used below this path.
    Stats(&'a str),
}

impl Quotas {
    pub(crate) fn insert(&mut self, path: &str) {
        self.0.insert(path.into());
    }

    pub(crate) fn remove(&mut self, path: &str) {
        self.0.remove(path);
    }

    /// The deepest path with limits that contains this one.
    pub(crate) fn of<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        path::ancestors(path).find(|ancestor| self.0.contains(*ancestor))
    }
}

impl<'a> QuotaNode<'a> {
    pub(crate) fn of(path: &'a str) -> Option<Self> {
        let (parent, name) = path.rsplit_once('/')?;
        if name != LIMITS && name != STATS {
            return None;
        }
        let target = parent.strip_prefix(QUOTA_PATH)?;
        if !target.starts_with('/') {
            return None;
        }
        Some(if name == LIMITS {
            Self::Limits(target)
        } else {
            Self::Stats(target)
        })
    }
}

pub(crate) fn limits_path(path: &str) -> String {
    format!("{QUOTA_PATH}{path}/{LIMITS}")
}

pub(crate) fn stats_path(path: &str) -> String {
    format!("{QUOTA_PATH}{path}/{STATS}")
}

/// The numbers of a node with limits or with what is used. -1 is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) count: i64,
    pub(crate) bytes: i64,
    /// `countHardLimit`, `byteHardLimit`, and whatever else is there.
    others: BTreeMap<String, i64>,
}

impl Numbers {
    pub(crate) fn used(count: i64, bytes: i64) -> Self {
        Self {
            count,
            bytes,
            others: BTreeMap::new(),
        }
    }

    /// Reads `name=number` pairs, separated by commas or semicolons. What is no number is no limit.
    pub(crate) fn parse(data: Option<&[u8]>) -> Self {
        let mut numbers = Self::used(-1, -1);
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
                name => {
                    numbers.others.insert(name.to_owned(), value);
                }
            }
        }
        numbers
    }

    /// The text in ZooKeeper's format. The second `=` makes old versions ignore what follows.
    pub(crate) fn render(&self) -> String {
        let mut text = format!("count={},bytes={}", self.count, self.bytes);
        for (index, (name, value)) in self.others.iter().enumerate() {
            let separator = if index == 0 { "=;" } else { ";" };
            write!(text, "{separator}{name}={value}").expect("text grows");
        }
        text
    }

    fn hard(&self, name: &str) -> i64 {
        self.others.get(name).copied().unwrap_or(-1)
    }

    /// Whether adding this to what is used exceeds a hard limit. Soft limits never refuse anything.
    pub(crate) fn refuses(&self, used: &Self, count: i64, bytes: i64) -> bool {
        let exceeds = |limit: i64, used: i64, more: i64| {
            limit > -1 && more != 0 && used.saturating_add(more) > limit
        };
        exceeds(self.hard("countHardLimit"), used.count, count)
            || exceeds(self.hard("byteHardLimit"), used.bytes, bytes)
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
        assert_eq!(numbers.hard("byteHardLimit"), 7);
        assert_eq!(numbers.hard("countHardLimit"), 9);
        assert_eq!(numbers.render(), text);
        assert_eq!(Numbers::used(1, 2).render(), "count=1,bytes=2");
        for text in ["", "count", "count=x,bytes=", "=,;="] {
            let numbers = Numbers::parse(Some(text.as_bytes()));
            assert_eq!((numbers.count, numbers.bytes), (-1, -1), "{text}");
        }
    }

    #[test]
    fn the_deepest_quota_counts() {
        let mut quotas = Quotas::default();
        assert_eq!(quotas.of("/a/b"), None);
        quotas.insert("/a");
        quotas.insert("/a/b/c");
        assert_eq!(quotas.of("/a/b"), Some("/a"));
        assert_eq!(quotas.of("/a/b/c"), Some("/a/b/c"));
        assert_eq!(quotas.of("/a/b/c/d"), Some("/a/b/c"));
        assert_eq!(quotas.of("/ab"), None);
        quotas.remove("/a");
        assert_eq!(quotas.of("/a/b"), None);
    }

    #[test]
    fn quota_nodes_are_recognized() {
        let of = QuotaNode::of;
        assert_eq!(
            of("/zookeeper/quota/a/b/zookeeper_limits"),
            Some(QuotaNode::Limits("/a/b"))
        );
        assert_eq!(
            of("/zookeeper/quota/a/zookeeper_stats"),
            Some(QuotaNode::Stats("/a"))
        );
        assert_eq!(of("/zookeeper/quota/zookeeper_limits"), None);
        assert_eq!(of("/zookeeper/quotas/a/zookeeper_limits"), None);
        assert_eq!(of("/zookeeper/quota/a/other"), None);
        assert_eq!(of("/a/zookeeper_limits"), None);
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
