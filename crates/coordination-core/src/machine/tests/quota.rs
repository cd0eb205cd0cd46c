//! Limits below a path.

use super::*;
use crate::OpError::QuotaExceeded;
use crate::limits::{MAX_QUOTA_BYTES, MAX_RECOUNTED_NODES};

const STATS: &str = "/zookeeper/quota/a/zookeeper_stats";
const LIMITS: &str = "/zookeeper/quota/a/zookeeper_limits";

impl World {
    fn with_quota(limits: &str) -> Self {
        let mut world = Self::new();
        world.create("/a", "12345").unwrap();
        world.create("/a/b", "678").unwrap();
        world.create("/other", "").unwrap();
        world.create("/zookeeper/quota/a", "").unwrap();
        world.create(LIMITS, limits).unwrap();
        world.create(STATS, "").unwrap();
        world
    }
}

#[test]
fn use_is_counted() {
    let mut world = World::with_quota("count=-1,bytes=-1");
    assert_eq!(world.data(STATS), "count=2,bytes=8", "what there was");
    let before = world.stat(STATS);
    world.create("/a/b/c", "xx").unwrap();
    world.create("/other/x", "xx").unwrap();
    assert_eq!(world.data(STATS), "count=3,bytes=10");
    world.set("/a/b/c", "xxxx", -1).unwrap();
    assert_eq!(world.data(STATS), "count=3,bytes=12");
    world.set("/a/b", "", -1).unwrap();
    assert_eq!(world.data(STATS), "count=3,bytes=9");
    world.delete("/a/b/c", -1).unwrap();
    world
        .create_as("/a/e", "zz", CreateMode::Ephemeral)
        .unwrap();
    assert_eq!(world.data(STATS), "count=3,bytes=7");
    world.run(Kind::CloseSession).unwrap();
    assert_eq!(world.data(STATS), "count=2,bytes=5");
    let after = world.stat(STATS);
    assert_eq!(
        after,
        Stat {
            data_length: 15,
            ..before
        },
        "but it is no change"
    );
}

#[test]
fn hard_limits_refuse() {
    let mut world = World::with_quota("count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=3");
    assert_eq!(world.create("/a/c", "xxx"), Err(QuotaExceeded), "bytes");
    world.create("/a/c", "xx").unwrap();
    assert_eq!(world.create("/a/d", ""), Err(QuotaExceeded), "count");
    assert_eq!(world.set("/a/c", "xxx", -1), Err(QuotaExceeded));
    assert_eq!(
        world.set("/a/c", "xxx", 9),
        Err(QuotaExceeded),
        "before the version"
    );
    assert_eq!(
        world.create("/a/c", ""),
        Err(OpError::NodeExists),
        "after everything else"
    );
    world.set("/a/c", "x", -1).unwrap();
    world.create("/other/x", "xxxxxxxxxxxxxxxxxxxxxxx").unwrap();
    world.delete(LIMITS, -1).unwrap();
    world.create("/a/d", "xxxxxxxxxxxx").unwrap();
    assert_eq!(world.data(STATS), "count=3,bytes=9", "no longer counted");
}

#[test]
fn operations_of_a_multi_add_up() {
    let mut world = World::with_quota("count=-1,bytes=-1=;countHardLimit=3");
    let refused = world.run(Kind::Multi(vec![create("/a/c"), create("/a/d")]));
    assert_eq!(
        refused,
        Err(Refused::Multi {
            index: 1,
            error: QuotaExceeded
        })
    );
    assert_eq!(world.data(STATS), "count=2,bytes=8");
}

#[test]
fn soft_limits_are_reported() {
    let mut world = World::with_quota("count=3,bytes=-1");
    world.create("/a/c", "").unwrap();
    assert!(world.applied.last().unwrap().over_quota.is_empty());
    world.create("/a/d", "").unwrap();
    assert_eq!(world.applied.last().unwrap().over_quota, ["/a"]);
    world.delete("/a/c", -1).unwrap();
    assert!(world.applied.last().unwrap().over_quota.is_empty());
}

#[test]
fn a_quota_without_its_stats_counts_nothing() {
    let mut world = World::with_quota("count=-1,bytes=-1=;countHardLimit=2");
    world.delete(STATS, -1).unwrap();
    world.create("/a/c", "").unwrap();
    world.create(STATS, "").unwrap();
    assert_eq!(world.data(STATS), "count=3,bytes=8");
    assert_eq!(world.create("/a/d", ""), Err(QuotaExceeded));
}

#[test]
fn a_quota_may_precede_its_path() {
    let mut world = World::new();
    world.create("/zookeeper/quota/a", "").unwrap();
    world.create(LIMITS, "").unwrap();
    world.create(STATS, "").unwrap();
    assert_eq!(world.data(STATS), "count=0,bytes=0");
    world.create("/a", "xy").unwrap();
    assert_eq!(world.data(STATS), "count=1,bytes=2");
}

#[test]
fn the_deepest_quota_counts() {
    let mut world = World::with_quota("count=-1,bytes=-1=;countHardLimit=3");
    let deep = "/zookeeper/quota/a/b/c";
    for path in ["/zookeeper/quota/a/b", deep, "/a/b/c"] {
        world.create(path, "").unwrap();
    }
    assert_eq!(world.create("/a/b/c/x", ""), Err(QuotaExceeded));
    for (name, text) in [("zookeeper_limits", ""), ("zookeeper_stats", "")] {
        world.create(&format!("{deep}/{name}"), text).unwrap();
    }
    world.create("/a/b/c/x", "").unwrap();
    assert_eq!(world.create("/a/b/d", ""), Err(QuotaExceeded));
    assert_eq!(world.create("/a/b/cc", ""), Err(QuotaExceeded));
    assert_eq!(world.data(STATS), "count=3,bytes=8");
    let deepest = format!("{deep}/zookeeper_stats");
    assert_eq!(world.data(&deepest), "count=2,bytes=0");
}

#[test]
fn limits_can_be_changed() {
    let mut world = World::with_quota("");
    let hard = |count: usize| format!("count=-1,bytes=-1=;countHardLimit={count}");
    world.set(LIMITS, &hard(2), -1).unwrap();
    assert_eq!(world.create("/a/c", ""), Err(QuotaExceeded));
    let undone = vec![set(LIMITS, &hard(9), -1), check("/none", -1)];
    world.run(Kind::Multi(undone)).unwrap_err();
    assert_eq!(world.create("/a/c", ""), Err(QuotaExceeded));
    let undone = vec![delete(LIMITS, -1), check("/none", -1)];
    world.run(Kind::Multi(undone)).unwrap_err();
    assert_eq!(world.create("/a/c", ""), Err(QuotaExceeded));
    world.set(LIMITS, &hard(3), -1).unwrap();
    world.create("/a/c", "").unwrap();
    let long = format!("{:bytes$}", hard(1), bytes = MAX_QUOTA_BYTES + 1);
    world.set(LIMITS, &long, -1).unwrap();
    world.create("/a/d", "").unwrap();
}

#[test]
fn only_nodes_below_that_of_the_quotas_have_limits() {
    let mut world = World::new();
    let limits = "count=-1,bytes=-1=;countHardLimit=0";
    world.create("/a", "").unwrap();
    for parent in ["/a", "/zookeeper", "/zookeeper/quota"] {
        let path = format!("{parent}/zookeeper_limits");
        world.create(&path, limits).unwrap();
        world
            .create(&format!("{parent}/zookeeper_stats"), "")
            .unwrap();
    }
    assert!(world.machine.quotas.is_empty());
    world.create("/a/b", "").unwrap();
}

#[test]
fn what_is_used_has_short_data() {
    let mut world = World::with_quota("count=-1,bytes=-1");
    let text = format!("{:bytes$}", "count=7,bytes=5;", bytes = MAX_QUOTA_BYTES + 1);
    world.set(STATS, &text, -1).unwrap();
    world.create("/a/c", "xy").unwrap();
    assert_eq!(world.data(STATS), "count=0,bytes=1", "no numbers in it");
    world.set(STATS, "count=7,bytes=5=;other=1", -1).unwrap();
    world.create("/a/d", "").unwrap();
    assert_eq!(world.data(STATS), "count=8,bytes=5");
}

#[test]
fn a_multi_counts_for_few_quotas() {
    let mut world = World::new();
    world.create("/a", "").unwrap();
    world.create("/zookeeper/quota/a", "").unwrap();
    let children = MAX_RECOUNTED_NODES - 2;
    for n in 0..children {
        world.create(&format!("/a/{n}"), "").unwrap();
    }
    let again = |times: usize| {
        let ops = std::iter::repeat_n([create(STATS), delete(STATS, -1)], times);
        Kind::Multi(ops.flatten().collect())
    };
    // After one count, there is room for one node.
    world.run(again(2)).unwrap();
    world.run(again(1)).unwrap();
    assert_eq!(
        world.run(again(3)),
        Err(Refused::Multi {
            index: 4,
            error: QuotaExceeded
        })
    );
    let mut ops = Vec::new();
    for n in 0..3 {
        let quota = format!("/zookeeper/quota/a/{n}");
        ops.extend([create(&quota), create(&format!("{quota}/zookeeper_stats"))]);
    }
    world.run(Kind::Multi(ops)).unwrap();
    world.create(STATS, "").unwrap();
    assert_eq!(world.data(STATS), format!("count={},bytes=0", children + 1));
}
